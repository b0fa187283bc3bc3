"""What a connector in Python costs: one that does nothing, beside `memory:`, in microseconds a key.

    python bench/python_connector_bench.py [--pairs 7] [--keys 4096]

Values of 64 bytes, one thread that waits for each call. Prints what docs/benchmarks_lab.md quotes. Run
it with the python of an environment that has the package (scripts/python_env.sh test).
"""

import argparse
import os
import time

import larder
from larder import connectors
from quartiles import quartiles

VALUE_BYTES = 64


class Nothing(connectors.PythonConnector):
    """Has every key, and keeps none."""

    def get_into(self, key, buffer):
        return VALUE_BYTES

    def set(self, key, data):
        pass

    def size(self, key):
        return VALUE_BYTES

    def delete(self, key):
        return True


class NativeNothing:
    """The same by LMCache's native contract, answered at once."""

    def __init__(self):
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.completions = []
        self.last_id = 0

    def event_fd(self):
        return self.fd

    def answer(self, results):
        self.last_id += 1
        self.completions.append((self.last_id, True, "", results))
        os.eventfd_write(self.fd, 1)
        return self.last_id

    def submit_batch_get(self, keys, memoryviews):
        return self.answer([True])

    def submit_batch_set(self, keys, memoryviews):
        return self.answer(None)

    def submit_batch_exists(self, keys):
        return self.answer([True])

    def drain_completions(self):
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass
        drained, self.completions = self.completions, []
        return drained

    def close(self):
        os.close(self.fd)


def microseconds_a_key(batches, call):
    begin = time.perf_counter()
    for batch in batches:
        call(batch)
    return (time.perf_counter() - begin) / sum(map(len, batches)) * 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--keys", type=int, default=4096)
    given = parser.parse_args()
    connectors.register("nothing", Nothing)
    connectors.register("native-nothing", NativeNothing)
    keys = [f"key-{i:08}" for i in range(given.keys)]
    for batch in (1, 16, 256):
        batches = [keys[i : i + batch] for i in range(0, len(keys), batch)]
        values = [bytes(VALUE_BYTES)] * batch
        buffers = [bytearray(VALUE_BYTES) for _ in range(batch)]
        stores = {
            name: larder.open(spec)
            for name, spec in (
                ("memory:", "memory:"),
                ("PythonConnector", "nothing:"),
                ("native contract", "native-nothing:"),
            )
        }
        for store in stores.values():
            assert all(store.set_many(keys, [bytes(VALUE_BYTES)] * len(keys)).stored)
            assert all(store.get_into(keys, [bytearray(VALUE_BYTES) for _ in keys]).hits)
            assert all(store.exists(keys))
        figures = {}
        for _ in range(given.pairs):
            for name, store in stores.items():
                for operation, call in (
                    ("store", lambda some: store.set_many(some, values)),
                    ("load", lambda some: store.get_into(some, buffers)),
                    ("exists", store.exists),
                ):
                    figures.setdefault((operation, name), []).append(
                        microseconds_a_key(batches, call)
                    )
        for store in stores.values():
            store.close()
        print(
            f"batches of {batch}, {given.keys} keys, {given.pairs} rounds: us a key, median "
            "(quartiles)"
        )
        for (operation, name), numbers in figures.items():
            middle, low, high = quartiles(numbers)
            print(f"  {operation:<8} {name:<16} {middle:8.2f}  ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
