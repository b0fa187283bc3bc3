"""An engine's loop over larder.Client: nothing in it waits for the store.

    python examples/batches.py [SPEC]

Each step of the loop takes what has ended and submits what is next. A page of KV cache lies in two
pieces of memory, its keys and its values, and is one key of the store. Requests look up their
pages, load the ones that are there until a deadline, compute the others and store those.
"""

import dataclasses
import sys
import time

import larder

PAGE = 64 * 1024
LOOKUP_SECONDS, LOAD_SECONDS = 1.0, 5.0


@dataclasses.dataclass
class Request:
    name: str
    keys: list[str]
    pages: list[list[bytearray]]
    loaded: int = 0
    is_served: bool = False


def new_request(name, prompt):
    pages = [[bytearray(PAGE), bytearray(PAGE)] for _ in prompt]
    return Request(name, [f"demo-model/{page}" for page in prompt], pages)


def serve(client, requests):
    """A request is the tag of its own batches, so that none has to be looked for."""
    for request in requests:
        client.submit_exists(request.keys, timeout=LOOKUP_SECONDS, tag=request)
    stores_in_flight = 0
    while stores_in_flight or not all(request.is_served for request in requests):
        client.wait(10)  # An engine would compute here, and poll client.event_fd().
        for completion in client.drain():
            request = completion.tag
            if completion.operation == "exists" and completion.leading_hits > 0:
                count = completion.leading_hits
                deadline = time.monotonic() + LOAD_SECONDS
                client.submit_get(
                    request.keys[:count], request.pages[:count], deadline=deadline, tag=request
                )
            elif completion.operation == "set":
                stores_in_flight -= 1
                assert completion.ok, completion.error
            else:  # Nothing is there, or what was there has been loaded, or has failed.
                is_load = completion.operation == "get"
                request.loaded = completion.leading_hits if is_load else 0
                compute(request)
                rest = slice(request.loaded, None)
                if request.keys[rest]:
                    client.submit_set(
                        request.keys[rest], request.pages[rest], urgency="background", tag=request
                    )
                    stores_in_flight += 1
                request.is_served = True


def compute(request):
    """Fills the pages that were not loaded, and checks those that were."""
    for number, (key, page) in enumerate(zip(request.keys, request.pages)):
        wanted = [bytes([sum(key.encode()) % 256]) * PAGE, bytes([len(key)]) * PAGE]
        if number < request.loaded:
            assert page == wanted
        page[0][:], page[1][:] = wanted


def main(spec):
    with larder.Client(spec) as client:
        for turn in range(2):
            requests = [
                new_request(f"r{number}", [f"system-{i}" for i in range(4)] + [f"own-{number}"])
                for number in range(3)
            ]
            serve(client, requests)
            loaded = sum(request.loaded for request in requests)
            print(f"turn {turn + 1}: {loaded} of 15 pages came from the store")
        print(f"{client.delete_prefix('demo-model/')} pages were deleted")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory:?capacity=1GiB")
