"""A worker whose blocks the server copies, in a process of its own, for a test that kills it among
its stores: mp_victim.py '{"port": 5555, "instance": 1, "shape": {...}, "prompts": [[...], ...]}'.
It says "ready", sends a STORE of each prompt, says "sent", and waits."""

import json
import sys

from mp_wire import RawClient
from mp_worker import EVENT, LmcacheDrivenWorker, Prompt, Shape


def main():
    job = json.loads(sys.argv[1])
    worker = LmcacheDrivenWorker(RawClient(job["port"]), Shape(**job["shape"]), job["instance"])
    worker.register()
    first, stores = 1, []
    for number, tokens in enumerate(job["prompts"]):
        prompt = Prompt(tokens, 0, len(tokens) // worker.shape.chunk)
        ids = worker.block_ids(prompt, first)
        worker.fill(ids, prompt.cells(worker.shape, 0))
        stores.append(
            (prompt.key(worker.shape, f"victim-{number}", 0), job["instance"], ids, EVENT)
        )
        first += len(ids[0])
    print("ready", flush=True)
    for store in stores:
        worker.client.begin("store", *store)
    print("sent", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
