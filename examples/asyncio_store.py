"""Prompts that share prefixes, served at once by one asyncio loop with a store behind it.

    python examples/asyncio_store.py [SPEC]

Each prompt is cut into chunks of tokens. A chunk's key is a hash of its tokens and of all before
them, so equal prefixes have equal keys. What the store has of a prompt's chunks from the front is
loaded; the rest is computed and stored. Here "computing" makes bytes from the key, so that each
load can be checked.

Without a spec it uses a small log in a temporary directory.
"""

import asyncio
import hashlib
import random
import sys
import tempfile

import larder.aio

CHUNK_TOKENS = 256
CHUNK_BYTES = 128 * 1024


def chunk_keys(tokens):
    keys, parent = [], b"example-model/float16"
    for begin in range(0, len(tokens) - CHUNK_TOKENS + 1, CHUNK_TOKENS):
        chunk = ",".join(map(str, tokens[begin : begin + CHUNK_TOKENS])).encode()
        parent = hashlib.sha256(parent + chunk).digest()
        keys.append(parent)
    return keys


def compute(key):
    """In the place of a model's prefill of one chunk."""
    return random.Random(key).randbytes(CHUNK_BYTES)


async def load_prefix(store, keys):
    """The values of the chunks that are there, from the front."""
    there = await store.exists(keys)
    wanted = keys[: (there + [False]).index(False)]
    buffers = [bytearray(CHUNK_BYTES) for _ in wanted]
    try:
        outcomes = await store.get_into(wanted, buffers, timeout=5)
    except larder.StuckError:
        return []  # A cache that does not answer is no reason to wait: compute.
    # A chunk may have gone since the look-up; what lies behind it is of no use then.
    return buffers[: (outcomes.hits + [False]).index(False)]


async def serve(store, tokens):
    """One request; how many of its chunks came from the store, and how many it has."""
    keys = chunk_keys(tokens)
    values = await load_prefix(store, keys)
    loaded = len(values)
    for key, value in zip(keys, values):
        assert value == compute(key), "a hit is exactly what was stored"
    for key in keys[loaded:]:
        values.append(compute(key))
        await asyncio.sleep(0)  # Other requests go on meanwhile.
    # Another request may have stored the same chunk by now, and then nothing is written.
    await store.set_many(keys[loaded:], values[loaded:], mode="if_absent")
    return loaded, len(keys)


async def use(spec):
    chooser = random.Random(1)
    system_prompts = [[chooser.randrange(32_000) for _ in range(1024)] for _ in range(3)]

    def prompt():
        return chooser.choice(system_prompts) + [chooser.randrange(32_000) for _ in range(512)]

    async with larder.aio.open(spec) as store:
        for turn in range(3):
            served = await asyncio.gather(*(serve(store, prompt()) for _ in range(16)))
            loaded, chunks = (sum(column) for column in zip(*served))
            print(f"turn {turn + 1}: {loaded} of {chunks} chunks came from the store")
        report = await store.report()
        print(f"{report.keys} chunks are kept, {report.bytes_used} bytes")


async def main():
    if len(sys.argv) > 1:
        await use(sys.argv[1])
        return
    with tempfile.TemporaryDirectory() as directory:
        await use(f"log:{directory}/kv?capacity=256MiB&max_value=1MiB&segment=8MiB")


if __name__ == "__main__":
    asyncio.run(main())
