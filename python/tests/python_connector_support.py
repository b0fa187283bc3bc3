"""Connectors written in Python that the tests open, and how."""

import os
import threading
import time

import pytest

import larder
from larder import connectors
from larder.connectors import PythonConnector

PATIENCE = 60


def wait_for(condition, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


class Dictionary(PythonConnector):
    """A dictionary; `before` is called with each method's name and key."""

    locality = "memory"

    def __init__(self, before=lambda method, key: None, num_workers=4):
        self.before = before
        self.num_workers = num_workers
        self.values = {}
        self.is_closed = False

    def get_into(self, key, buffer):
        self.before("get_into", key)
        value = self.values.get(key)
        if value is None:
            return None
        if len(value) <= len(buffer):
            buffer[: len(value)] = value
        return len(value)

    def set(self, key, data):
        self.before("set", key)
        self.values[key] = bytes(data)

    def size(self, key):
        self.before("size", key)
        value = self.values.get(key)
        return None if value is None else len(value)

    def delete(self, key):
        self.before("delete", key)
        return self.values.pop(key, None) is not None

    def usage(self):
        self.before("usage", b"")
        return len(self.values), sum(map(len, list(self.values.values())))

    def scan(self, cursor, limit):
        self.before("scan", b"")
        keys = sorted(self.values)
        page = [(key, len(self.values[key])) for key in keys[cursor : cursor + limit]]
        return page, cursor + limit if cursor + limit < len(keys) else None

    def close(self):
        self.before("close", b"")
        self.is_closed = True


@pytest.fixture
def open_object():
    """Opens an object by its own type; closes it, and forgets the type."""
    opened = []

    def open_one(made, door=larder.open):
        name = f"object{len(opened)}"
        connectors.register(name, lambda: made)
        opened.append((name, door(f"{name}:")))
        return opened[-1][1]

    yield open_one
    for name, store in opened:
        store.close()
        connectors.unregister(name)


class Gate:
    """Blocks every caller until it is opened; counts them."""

    def __init__(self, method):
        self.method = method
        self.arrived = 0
        self.opened = threading.Event()

    def __call__(self, method, key):
        if method == self.method:
            self.arrived += 1
            assert self.opened.wait(PATIENCE)


class Raiser:
    """Raises in one method, for one key."""

    def __init__(self, method, error, key=b"bad"):
        self.method, self.error, self.key = method, error, key

    def __call__(self, method, key):
        if method == self.method and key == self.key:
            raise self.error


class Native:
    """LMCache's contract, answered inside submit; `answer` may give another completion."""

    def __init__(self, answer=lambda kind, *completion: [completion]):
        self.answer = answer
        self.values = {}
        self.completions = []
        self.last_id = 0
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.is_closed = False

    def event_fd(self):
        return self.fd

    def complete(self, kind, results):
        self.last_id += 1
        given = self.answer(kind, self.last_id, True, "", results)
        if given:
            self.completions += given
            os.eventfd_write(self.fd, 1)
        return self.last_id

    def submit_batch_get(self, keys, memoryviews):
        results = []
        for key, view in zip(keys, memoryviews):
            results.append(len(self.values.get(key, b"")) == len(view))
            if results[-1]:
                view[:] = self.values[key]
        return self.complete("get", results)

    def submit_batch_set(self, keys, memoryviews):
        self.values.update((key, bytes(view)) for key, view in zip(keys, memoryviews))
        return self.complete("set", None)

    def submit_batch_exists(self, keys):
        return self.complete("exists", [key in self.values for key in keys])

    def submit_batch_delete(self, keys):
        return self.complete("delete", [self.values.pop(key, None) is not None for key in keys])

    def drain_completions(self):
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass
        drained = self.completions[:]
        del self.completions[: len(drained)]
        return drained

    def close(self):
        assert not self.is_closed
        self.is_closed = True
        os.close(self.fd)
