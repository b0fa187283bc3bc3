"""larder from plain Python: store values, find them, load them into memory of your own.

    python examples/plain.py [SPEC]

Without a spec it uses a small log in a temporary directory.
"""

import os
import sys
import tempfile

import larder


def use(spec):
    with larder.open(spec) as store:
        keys = [f"prompt-1/chunk-{i}" for i in range(4)]
        values = [os.urandom(256 * 1024) for _ in keys]

        stored = store.set_many(keys, values)
        for key, error in zip(keys, stored.errors):
            if error is not None:
                print(f"{key} is not kept: {error}")

        print("there:", store.exists([*keys, "prompt-2/chunk-0"]))

        # Loads go straight into these buffers; a miss leaves its buffer as it was.
        buffers = [bytearray(len(value)) for value in values]
        outcomes = store.get_into(keys, buffers)
        assert outcomes.hits == stored.stored
        assert all(buffer == value for buffer, value in zip(buffers, values))
        print(f"loaded {sum(outcomes.sizes)} bytes, every one as it was stored")

        store.delete(keys[:1])
        report = store.report()
        print(f"{report.type}: {report.health}, {report.keys} keys")


def main():
    if len(sys.argv) > 1:
        use(sys.argv[1])
        return
    with tempfile.TemporaryDirectory() as directory:
        spec = f"log:{directory}/kv?capacity=256MiB&max_value=1MiB&segment=8MiB"
        use(spec)
        use(spec)  # What was stored is there again.


if __name__ == "__main__":
    main()
