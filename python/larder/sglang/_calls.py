"""Calls that wait, over a `larder.Client`, which never does: SGLang's threads block in a backend."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import larder

# Operations that the client cancels at a deadline end at once; a longer wait is for the kernel or a
# peer.
_GRACE_S = 1.0
# How often a waiting thread checks whether the client was closed.
_LOOK_S = 1.0


class Calls:
    """Submits batches and waits for each. Threads: any, all at once; none holds the GIL while it waits.

    It has no thread of its own: one of the waiting threads drains the client for all of them.
    """

    def __init__(self, client: larder.Client, on_held: Callable[[str], None]) -> None:
        """`on_held` is called once for each call whose memory the kernel keeps for too long."""
        self._client = client
        self._on_held = on_held
        self._changed = threading.Condition()
        # Of waiting calls; results for others are dropped.
        self._ended: dict[object, larder.Completion | None] = {}
        self._is_draining = False

    def run(
        self,
        submit: Callable[[float, object], int],
        seconds: float,
        *,
        may_leave: bool,
    ) -> larder.Completion | None:
        """Calls `submit(deadline, tag)`, and waits for its batch. None: the result is unknown,
        because the client was closed, or because the kernel did not return.

        A batch ends at its deadline unless the kernel has some of it. With `may_leave` the wait
        ends a second later in any case: nothing else may use the batch's memory then, and the
        client keeps it alive. Without it, the memory is the caller's, and the wait lasts as long as
        the kernel has it.
        """
        tag = object()
        deadline = time.monotonic() + seconds
        with self._changed:
            self._ended[tag] = None
        try:
            submit(deadline, tag)
            ended = self._wait(tag, deadline + _GRACE_S)
            if ended is not None or may_leave:
                return ended
            if not self._client.closed:
                self._on_held(
                    f"the kernel has not returned what was given to it {seconds + _GRACE_S:g} s ago; "
                    "the call waits for it, because SGLang uses the same memory afterwards"
                )
            while ended is None and not self._client.closed:
                ended = self._wait(tag, time.monotonic() + 60)
            if ended is None:
                self._outlast()
            return ended
        finally:
            with self._changed:
                self._ended.pop(tag, None)

    def _wait(self, tag: object, until: float) -> larder.Completion | None:
        """None at `until`, and when the client is closed."""
        while True:
            with self._changed:
                while True:
                    ended = self._ended.get(tag)
                    left = until - time.monotonic()
                    if ended is not None or left <= 0 or self._client.closed:
                        return ended
                    if not self._is_draining:
                        break
                    self._changed.wait(left)
                self._is_draining = True
            completions: list[larder.Completion] = []
            try:
                if self._client.wait(min(left, _LOOK_S)):
                    completions = self._client.drain()
            finally:
                with self._changed:
                    self._is_draining = False
                    for completion in completions:
                        if completion.tag in self._ended:
                            self._ended[completion.tag] = completion
                    self._changed.notify_all()

    def _outlast(self) -> None:
        """Returns when no buffer of the closed client is in use any more."""
        while True:
            with contextlib.suppress(larder.StuckError):
                self._client.close(timeout=60)
                return
