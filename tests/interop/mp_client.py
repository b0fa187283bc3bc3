"""A serving engine without a model: LMCache's own scheduler and worker adapters for vLLM, or its
SDK, over KV tensors whose bytes follow from the tokens. Run it with the LMCache of either version:

    mp_client.py '{"port": 5555, "world": 2, "model": "m", "heartbeat": 1.0, "mq_timeout": 20}'

It reads steps from its input, a line of JSON each, and answers each with a line of JSON:
["store", seed, chunks], ["load", seed, chunks], ["sdk", seed, chunks], ["run", seconds], ["events"]
(of a job with "kv_events"), ["end"].
"""

import inspect
import json
import os
import sys
import threading
import time

import torch
import zmq
from lmcache.integration.vllm import vllm_multi_process_adapter as adapters

LAYERS, HEADS, HEAD, BLOCK, BLOCKS = 2, 2, 8, 4, 128


def packed(tokens):
    """As this version of LMCache takes them."""
    if "token_bytes" in adapters.LoadStoreOp.__dataclass_fields__:
        return b"".join(token.to_bytes(4, "big") for token in tokens)
    return list(tokens)


TOKENS = next(iter(adapters.LoadStoreOp.__dataclass_fields__))


def tokens_of(seed, count):
    return [(seed * 7_919 + 31 * i) % 151_000 for i in range(count)]


def block_values(tokens, block, rank, sizes=(LAYERS, 2, BLOCK, HEADS, HEAD)):
    """Of one block in all layers: from its tokens and those before."""
    seed = hash((tuple(tokens[: (block + 1) * BLOCK]), rank)) & 0xFFFF_FFFF
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(sizes, generator=generator).half()


class Worker:
    def __init__(self, job, context, rank):
        self.rank = rank
        self.kv = {
            f"layer.{i}": torch.zeros((2, BLOCKS, BLOCK, HEADS, HEAD), dtype=torch.float16)
            for i in range(LAYERS)
        }
        self.adapter = adapters.LMCacheMPWorkerAdapter(
            f"tcp://localhost:{job['port']}",
            context,
            job["model"],
            BLOCK,
            strategy(job["world"], rank),
            mq_timeout=job.get("mq_timeout", 300.0),
            heartbeat_interval=job.get("heartbeat", 10.0),
            enable_kv_events=job.get("kv_events", False),
            **alignment(adapters.LMCacheMPWorkerAdapter),
        )
        self.adapter.register_kv_caches(self.kv, layout_hints={"kv_layout": "NHD"})

    def fill(self, tokens, start, end):
        for block in range(start // BLOCK, end // BLOCK):
            values = block_values(tokens, block, self.rank)
            for layer in range(LAYERS):
                self.kv[f"layer.{layer}"][:, block] = values[layer]

    def is_filled(self, tokens, start, end):
        return all(
            torch.equal(
                self.kv[f"layer.{layer}"][:, block],
                block_values(tokens, block, self.rank)[layer],
            )
            for block in range(start // BLOCK, end // BLOCK)
            for layer in range(LAYERS)
        )

    def operation(self, tokens, start, end):
        blocks = list(range(start // BLOCK, end // BLOCK))
        return adapters.LoadStoreOp(
            **{TOKENS: packed(tokens)}, block_ids=[blocks], start=start, end=end
        )

    def event(self):
        """What a transfer that the server drives waits for; None of one that the worker drives."""
        return self.adapter.create_recorded_event()

    def store(self, request, tokens, start, end):
        """Whether it was stored. An unhealthy adapter drops it."""
        self.fill(tokens, start, end)
        self.adapter.submit_store_request(request, self.operation(tokens, start, end), self.event())
        future = self.adapter.store_futures.pop(request, None)
        return future is not None and bool(future.result(timeout=300))

    def retrieve(self, request, tokens, start, end):
        for layer in self.kv.values():
            layer.zero_()
        self.adapter.submit_retrieve_request(request, self.operation(tokens, start, end), self.event())
        future, _ = self.adapter.retrieve_futures.pop(request, (None, None))
        if future is None or not future.result(timeout=300):
            return False
        assert self.is_filled(tokens, start, end), "other bytes"
        return True


def strategy(world, rank):
    return adapters.ParallelStrategy(
        mla_only=False,
        vllm_world_size=world,
        vllm_worker_id=rank,
        tp_size=world,
        pp_size=1,
        n_servers=1,
    )


def alignment(adapter):
    """0.5.7's connector gives it its block size."""
    has_one = "required_chunk_alignment" in inspect.signature(adapter.__init__).parameters
    return {"required_chunk_alignment": BLOCK} if has_one else {}


class Engine:
    def __init__(self, job):
        self.job = job
        self.context = zmq.Context()
        self.scheduler = adapters.LMCacheMPSchedulerAdapter(
            [f"tcp://localhost:{job['port']}"],
            self.context,
            job["model"],
            BLOCK,
            strategy(job["world"], 0),
            mq_timeout=job.get("mq_timeout", 300.0),
            heartbeat_interval=job.get("heartbeat", 10.0),
            **alignment(adapters.LMCacheMPSchedulerAdapter),
        )
        self.chunk = self.scheduler.lmcache_tokens_per_chunk
        self.workers = [Worker(job, self.context, rank) for rank in range(job["world"])]
        self.numbers = 0

    def _request(self):
        self.numbers += 1
        return f"{os.getpid()}-{self.numbers}"

    def store(self, seed, chunks):
        request, tokens = self._request(), tokens_of(seed, chunks * self.chunk + 3)
        done = [worker.store(request, tokens, 0, chunks * self.chunk) for worker in self.workers]
        self.scheduler.end_session(request)
        return all(done)

    def look_up(self, request, tokens):
        """Tokens found."""
        self.scheduler.maybe_submit_lookup_request(request, packed(tokens))
        while (found := self.scheduler.check_lookup_result(request)) is None:
            time.sleep(0.001)
        self.scheduler.cleanup_lookup_result(request)
        return found

    def load(self, seed, chunks):
        """Chunks that the server has, of which the bytes of all that were retrieved were compared.
        Of odd seeds the first chunk is freed instead, as if the engine had it."""
        request, tokens = self._request(), tokens_of(seed, chunks * self.chunk + 3)
        found = self.look_up(request, tokens)
        start = self.chunk if seed % 2 and found > self.chunk else 0
        if start:
            self.scheduler.free_lookup_locks(packed(tokens), 0, start, request)
        if found:
            for worker in self.workers:
                if not worker.retrieve(request, tokens, start, found):
                    found = 0
        self.scheduler.end_session(request)
        return found // self.chunk

    def events(self):
        """What the first worker has to tell its engine now: (kind, chunk hashes, token ids)."""
        return [
            (
                type(event).__name__,
                [bytes(each).hex() for each in event.block_hashes],
                getattr(event, "token_ids", []),
            )
            for event in self.workers[0].adapter.get_kv_events()
        ]

    def close(self):
        for worker in self.workers:
            worker.adapter.shutdown()
        self.scheduler.shutdown()


def sdk(job, seed, chunks):
    """Loads through LMCache's SDK what an engine stored, and stores what is not there."""
    from lmcache.sdk.context import LMCacheSDKContext

    context = LMCacheSDKContext(
        f"tcp://localhost:{job['port']}", f"http://127.0.0.1:{job['http_port']}", job["model"]
    )
    context.register_caches()
    tokens = tokens_of(seed, chunks * context.chunk_size)
    got = context.retrieve(tokens)
    if got is None:
        return {"found": 0}
    wanted = torch.cat(
        [block_values(tokens, block, 0) for block in range(len(tokens) // BLOCK)], dim=2
    )
    wanted = wanted.transpose(0, 1).reshape(2, LAYERS, len(tokens), HEADS * HEAD)
    own = [token + 1 for token in tokens]
    stored = context.store(got, own)
    again = context.retrieve(own)
    context.close()
    return {
        "found": got.shape[2] // context.chunk_size,
        "equal": torch.equal(got, wanted),
        "stored": bool(stored),
        "again": torch.equal(again, got),
    }


def run(engine, seconds):
    """Load for so long: the first worker stores without a pause, the last one, where there are
    several, every quarter of a second, and the scheduler looks up. Gives when each operation began,
    how long it took and what came of it."""
    events, stop = [], time.monotonic() + seconds

    def loop(name, pause, step):
        number = 0
        while time.monotonic() < stop:
            number += 1
            begin = time.time()
            try:
                result = step(number)
            except Exception as error:  # The test wants to see it.
                result = f"{type(error).__name__}: {error}"
            events.append((name, begin, time.time() - begin, result))
            time.sleep(pause)

    def storing(worker):
        def store(number):
            tokens = tokens_of(1_000_000 + number, 2 * engine.chunk)
            return worker.store(f"s-{worker.rank}-{number}", tokens, 0, 2 * engine.chunk)

        return store

    def look_up(number):
        request = f"l-{number}"
        found = engine.look_up(request, tokens_of(1, 4 * engine.chunk))
        engine.scheduler.end_session(request)
        return found

    loops = [("store", 0.002, storing(engine.workers[0])), ("look_up", 0.002, look_up)]
    if len(engine.workers) > 1:
        loops.append(("calm store", 0.25, storing(engine.workers[-1])))
    threads = [threading.Thread(target=loop, args=arguments) for arguments in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(events, key=lambda event: event[1])


def main(make_engine=Engine):
    job = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # LMCache's log goes with its errors.
    os.environ["LMCACHE_MP_TRANSFER_MODE"] = job.get("mode", "engine_driven")
    engine = make_engine({"world": 1, "model": "mp-client", **job})
    print(json.dumps({"chunk": engine.chunk}), file=answers, flush=True)
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        if what == "end":
            break
        if what == "sdk":
            answer = sdk(engine.job, *arguments)
        elif what == "run":
            answer = run(engine, *arguments)
        else:
            answer = getattr(engine, what)(*arguments)
        print(json.dumps(answer), file=answers, flush=True)
    engine.close()
    print(json.dumps("closed"), file=answers, flush=True)


if __name__ == "__main__":
    main()
