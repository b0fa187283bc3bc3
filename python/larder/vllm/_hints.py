"""The hints of requests (`ReqContext.kv_hints`, from vLLM 0.32 on), carried out for their chunks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import larder
import larder.hints
from larder.vllm._tally import Tally


class Wanted:
    """The actions of one request, and those of its chunks for which they were not submitted yet."""

    def __init__(self, actions: list[larder.hints.Action]) -> None:
        self.actions = actions
        self.new: list[bytes] = []
        self._known: set[bytes] = set()

    @property
    def needs_every_chunk(self) -> bool:
        """A prefetch is of chunks that a lookup finds in the store; the others are of all chunks, also
        those that vLLM still has in its own memory."""
        return any(action.hint != "prefetch" for action in self.actions)

    def add(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            if key not in self._known:
                self._known.add(key)
                self.new.append(key)


class RequestHints:
    """Submits each action of a request once for each of its chunks that is in the store.

    Threads: one at a time. Nothing raises for what an envelope says or the store does.
    """

    def __init__(self, client: larder.Client, timeout: float, tally: Tally) -> None:
        """`timeout`: seconds for each batch."""
        self._client = client
        self._timeout = timeout
        self._tally = tally
        self._wanted: dict[str, Wanted] = {}
        self._ready: dict[int, Wanted] = {}  # Those with new chunks, by identity.

    def begin(self, request: str, envelope: Any) -> bool:
        """Reads the envelope of a new request; whether every chunk of the request must be told."""
        if envelope is None:
            return False
        hints = larder.hints.read(envelope)
        if hints.problems:
            self._tally.add("hints", "wrong", len(hints.problems))
            self._tally.fail("hints", "hints that cannot be read are left out", hints.problems[0])
        known = self._client.hints
        # The last one of each kind: an envelope may have any number.
        actions = {action.hint: action for action in hints.actions if action.hint in known}
        self._tally.add("hints", "taken", len(actions))
        unknown = sorted({action.hint for action in hints.actions} - known)
        if unknown:
            self._tally.add("hints", "unsupported", len(unknown))
            reason = f"this store has no {', '.join(unknown)}; see docs/python.md#hints"
            self._tally.fail("hints unsupported", "hints are left out", reason)
        if not actions:
            return False
        wanted = self._wanted[request] = Wanted(list(actions.values()))
        return wanted.needs_every_chunk

    def of(self, request: str) -> Wanted | None:
        return self._wanted.get(request)

    def add(self, wanted: Wanted | None, keys: Iterable[bytes]) -> None:
        """These chunks of a request are in the store."""
        if wanted is not None:
            wanted.add(keys)
            if wanted.new:
                self._ready[id(wanted)] = wanted

    def end(self, request: str) -> None:
        """The request has ended; its stores may be under way."""
        self._wanted.pop(request, None)

    @property
    def is_waiting(self) -> bool:
        """Something is to be submitted at the end of the step."""
        return bool(self._ready)

    def submit(self, prefix: bytes) -> None:
        """At the end of a step. `prefix`: what the store's keys begin with."""
        ready, self._ready = self._ready, {}
        for wanted in ready.values():
            keys, wanted.new = [prefix + key for key in wanted.new], []
            hints = larder.hints.Hints(wanted.actions, [])
            larder.hints.submit(self._client, hints, keys, timeout=self._timeout)

    def ended(self, completion: larder.Completion) -> None:
        done = sum(completion.hits)
        self._tally.add("chunks", "hinted", done)
        self._tally.add("chunks", "not_hinted", len(completion.codes) - done)
        if completion.failures:
            self._tally.fail("hints", "hints were not carried out", completion.error)
        else:
            self._tally.succeed("hints")
