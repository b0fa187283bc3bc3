"""What python_conformance_test.cc opens: a dictionary behind each of the two forms."""

import os
import threading

from larder.connectors import PythonConnector


class Dictionary(PythonConnector):
    """By the base class, in the simplest way: it relies on nothing but what larder promises."""

    locality = "memory"

    def __init__(self, capacity_bytes="0", batches_max="4096", in_flight_bytes=str(4 << 30)):
        self.capacity_bytes = int(capacity_bytes)
        self.batches_max = int(batches_max)
        self.in_flight_bytes = int(in_flight_bytes)
        self.values = {}
        self.order = {}  # key -> number, by which a scan goes on
        self.bytes_used = 0
        self.lock = threading.Lock()

    def get_into(self, key, buffer):
        value = self.values.get(key)
        if value is None:
            return None
        if len(value) <= len(buffer):
            buffer[: len(value)] = value
        return len(value)

    def set(self, key, data):
        value = bytes(data)
        with self.lock:
            used = self.bytes_used + len(value) - len(self.values.get(key, b""))
            if self.capacity_bytes and used > self.capacity_bytes:
                raise MemoryError(f"{len(value)} bytes do not fit into {self.capacity_bytes}")
            self.bytes_used = used
            self.values[key] = value
            self.order.setdefault(key, max(self.order.values(), default=0) + 1)

    def size(self, key):
        value = self.values.get(key)
        return None if value is None else len(value)

    def delete(self, key):
        with self.lock:
            value = self.values.pop(key, None)
            if value is None:
                return False
            self.bytes_used -= len(value)
            del self.order[key]
            return True

    def scan(self, cursor, limit):
        with self.lock:
            left = sorted((n, key) for key, n in self.order.items() if n > cursor)
            page = left[:limit]
            entries = [(key, len(self.values[key])) for _, key in page]
        return entries, page[-1][0] if len(left) > limit else None

    def usage(self):
        return len(self.values), self.bytes_used


class Native:
    """LMCache's native contract with one worker thread, as its C++ base does it."""

    locality = "memory"

    def __init__(self, batches_max="4096", in_flight_bytes=str(4 << 30)):
        self.batches_max = int(batches_max)
        self.in_flight_bytes = int(in_flight_bytes)
        self.values = {}
        self.condition = threading.Condition()
        self.requests = []
        self.completions = []
        self.last_id = 0
        self.is_closed = False
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.worker = threading.Thread(target=self._work, daemon=True)
        self.worker.start()

    def event_fd(self):
        return self.fd

    def submit_batch_get(self, keys, memoryviews):
        return self._submit(self._get, keys, memoryviews)

    def submit_batch_set(self, keys, memoryviews):
        return self._submit(self._set, keys, memoryviews)

    def submit_batch_exists(self, keys):
        return self._submit(self.values.__contains__, keys)

    def submit_batch_delete(self, keys):
        return self._submit(lambda key: self.values.pop(key, None) is not None, keys)

    def drain_completions(self):
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass
        with self.condition:
            drained, self.completions = self.completions, []
        return drained

    def close(self):
        with self.condition:
            self.is_closed = True
            self.condition.notify()
        self.worker.join()
        os.close(self.fd)

    def _get(self, key, view):
        value = self.values.get(key)
        if value is None or len(value) != len(view):
            return False
        view[:] = value
        return True

    def _set(self, key, view):
        self.values[key] = bytes(view)

    def _submit(self, operation, *lists):
        with self.condition:
            self.last_id += 1
            self.requests.append((self.last_id, operation, lists))
            self.condition.notify()
            return self.last_id

    def _work(self):
        while True:
            with self.condition:
                while not self.requests and not self.is_closed:
                    self.condition.wait()
                if not self.requests:
                    return
                future_id, operation, lists = self.requests.pop(0)
            results = [operation(*one) for one in zip(*lists)]
            with self.condition:
                self.completions.append(
                    (future_id, True, "", None if None in results else results)
                )
            os.eventfd_write(self.fd, 1)
