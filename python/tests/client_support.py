"""The common parts of the tests of larder.Client."""

import time

from conftest import DEADLINE_S

import larder


def ended(client, *ids):
    """Waits for these batches; gives their completions in this order. Drops others."""
    found = {}
    deadline = time.monotonic() + DEADLINE_S
    while not found.keys() >= set(ids):
        assert time.monotonic() < deadline, "a batch did not end"
        client.wait(1)
        for completion in client.drain():
            assert completion.id not in found, "a completion came twice"
            found[completion.id] = completion
    return [found[id] for id in ids]


class AsStore:
    """`larder.Store`'s calls over a Client: each submits one batch and waits for it."""

    def __init__(self, spec):
        self.client = larder.Client(spec)

    def get_into(self, keys, buffers):
        return ended(self.client, self.client.submit_get(keys, buffers))[0].outcomes()

    def get(self, key):
        (found,) = ended(self.client, self.client.submit_exists([key]))
        if not found.hits[0]:
            return None
        buffer = bytearray(found.sizes[0])
        assert self.get_into([key], [buffer]).hits == [True]
        return bytes(buffer)

    def set_many(self, keys, values, mode="replace"):
        return ended(self.client, self.client.submit_set(keys, values, mode))[0].stored()

    def exists(self, keys):
        return ended(self.client, self.client.submit_exists(keys))[0].hits

    def delete(self, keys):
        return ended(self.client, self.client.submit_delete(keys))[0].hits

    def scan(self):
        return self.client.scan()

    def delete_prefix(self, prefix):
        return self.client.delete_prefix(prefix)

    def close(self):
        self.client.close()
