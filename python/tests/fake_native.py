"""LMCache's native contract in Python, with behaviour that no real connector shows on demand."""

import os
import weakref

from larder.lmcache import ConnectorClientBase


class FakeNative:
    """The native contract in Python over a dict. It holds no reference to a buffer, as native code
    does not. With `holds` its batches end when `finish()` is called."""

    def __init__(self, holds=False):
        self.values = {}
        self.holds = holds
        self.held = []
        self.completions = []
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.last = 0
        self.is_closed = False
        self.drain_error = None
        self.mask = lambda mask: mask

    def event_fd(self):
        return self.reader

    def _submit(self, work):
        self.last += 1
        future = self.last
        if self.holds:
            self.held.append((future, work))
        else:
            self.complete(future, *work())
        return future

    def finish(self):
        held, self.held = self.held, []
        for future, work in held:
            self.complete(future, *work())

    def complete(self, future, ok, error, results):
        self.completions.append((future, ok, error, results))
        os.write(self.writer, b"1")

    def submit_batch_get(self, keys, memoryviews):
        views = [weakref.ref(view) for view in memoryviews]

        def work():
            found = []
            for key, view in zip(keys, views):
                found.append(key in self.values)
                if found[-1]:
                    view()[:] = self.values[key]
            return True, "", self.mask(found)

        return self._submit(work)

    def submit_batch_set(self, keys, memoryviews):
        values = [bytes(view) for view in memoryviews]

        def work():
            if "bad" in keys:
                return False, "no room for bad", None
            self.values.update(zip(keys, values))
            return True, "", None

        return self._submit(work)

    def submit_batch_exists(self, keys):
        return self._submit(lambda: (True, "", self.mask([key in self.values for key in keys])))

    def drain_completions(self):
        if self.drain_error is not None:
            raise self.drain_error
        try:
            os.read(self.reader, 4096)
        except BlockingIOError:
            pass
        drained, self.completions = self.completions, []
        return drained

    def close(self):
        self.is_closed = True


class FakeClient(ConnectorClientBase[FakeNative]):
    """Like a user's client over LMCache's base."""

    def __init__(self, holds=False, loop=None):
        super().__init__(FakeNative(holds), loop)
