"""Connectors that a server under test imports: each value is a file, so that a test and the next
server find it. The server's environment has this folder on its PYTHONPATH."""

import os
import pathlib
import threading

from larder.connectors import PythonConnector


class Files(PythonConnector):
    """While the directory has a file `hold`, `set` waits."""

    survives_restart = True

    def __init__(self, directory, extra=None):
        assert extra in (None, {"nested": [1, 2.5, None]}), extra  # In the JSON's types.
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(exist_ok=True)
        self.never = threading.Event()

    def _path(self, key):
        return self.directory / key.hex()

    def get_into(self, key, buffer):
        try:
            value = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        if len(value) <= len(buffer):
            buffer[: len(value)] = value
        return len(value)

    def set(self, key, data):
        while (self.directory / "hold").exists():
            self.never.wait(0.01)
        self._path(key).write_bytes(data)

    def size(self, key):
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError:
            return None

    def delete(self, key):
        self._path(key).unlink(missing_ok=True)
        return True


class NativeFiles:
    """The same with LMCache's native contract, answered inside submit."""

    def __init__(self, directory):
        self.files = Files(directory)
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.completions = []
        self.last_id = 0

    def event_fd(self):
        return self.fd

    def _complete(self, results):
        self.last_id += 1
        self.completions.append((self.last_id, True, "", results))
        os.eventfd_write(self.fd, 1)
        return self.last_id

    def submit_batch_get(self, keys, memoryviews):
        pairs = zip(keys, memoryviews, strict=True)
        return self._complete(
            [self.files.get_into(key.encode(), view) == len(view) for key, view in pairs]
        )

    def submit_batch_set(self, keys, memoryviews):
        for key, view in zip(keys, memoryviews, strict=True):
            self.files.set(key.encode(), view)
        return self._complete(None)

    def submit_batch_exists(self, keys):
        return self._complete([self.files.size(key.encode()) is not None for key in keys])

    def submit_batch_delete(self, keys):
        return self._complete([self.files.delete(key.encode()) for key in keys])

    def drain_completions(self):
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass
        drained = self.completions[:]
        del self.completions[: len(drained)]
        return drained

    def close(self):
        os.close(self.fd)


class LmcacheAdapter:
    """The relevant part of LMCache's L2AdapterInterface."""

    def __init__(self, config):
        raise AssertionError("it is not made")

    def submit_store_task(self, keys, objects):
        raise NotImplementedError

    def submit_lookup_and_lock_task(self, keys):
        raise NotImplementedError

    def submit_load_task(self, keys, objects):
        raise NotImplementedError
