"""The KV hints that vLLM and SGLang carry with a request, as operations of a store.

vLLM (from 0.32 on) and SGLang (0.5.23) have the same envelope, and pass it on unread: a protocol
version, a message id and a list of actions, each with a type, a version and a payload. The one that
defines a type reads it; everything else ignores it. vLLM gives it to a secondary tier as
`ReqContext.kv_hints`, SGLang to a request as `Req.kv_hints`.

larder reads four types, version `1.0`, for the keys of the request that carries them:

    kv.prefetch   {}                       Store.prefetch()
    kv.pin        {"ttl_seconds": 60}      Store.pin()
    kv.retain     {"ttl_seconds": 3600}    Store.retain()
    kv.release    {}                       Store.release()

    hints = larder.hints.read(request_context.kv_hints)
    larder.hints.submit(client, hints, keys)

These types are larder's own. The one type that a released package reads is KVCR's `kv.fetch` 1.0, which
names a peer to fetch blocks from; larder has no peers and leaves it alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from larder._store import Hint, Key, Urgency

if TYPE_CHECKING:
    from larder._client import Client

__all__ = ["Action", "Hints", "read", "submit"]

_HINTS: dict[str, Hint] = {
    "kv.prefetch": "prefetch",
    "kv.pin": "pin",
    "kv.retain": "retain",
    "kv.release": "release",
}
_HELD = ("pin", "retain")
_TTL_MAX = 86_400


class Action(NamedTuple):
    """One operation of a store."""

    hint: Hint
    ttl: float | None
    """Seconds, of `pin` and `retain`."""
    id: str
    """The envelope's `action_id`."""


@dataclasses.dataclass(frozen=True)
class Hints:
    """The operations that an envelope asks of a store, in order."""

    actions: list[Action]
    problems: list[str]
    """Of actions that are larder's to carry out and cannot be: type, what is wrong, what was wanted."""


def read(envelope: Any) -> Hints:
    """Reads an envelope: vLLM's or SGLang's object, a mapping of the same names, or None.

    Never raises: hints are advice. Actions of other types are ignored here.
    """
    hints = Hints([], [])
    if envelope is None:
        return hints
    actions = _member(envelope, "actions")
    if not isinstance(actions, (list, tuple)):
        hints.problems.append(f"the envelope's actions are {actions!r:.80}, wanted a list")
        return hints
    for action in actions:
        kind = _member(action, "action_type")
        hint = _HINTS.get(kind) if isinstance(kind, str) else None
        if hint is None:
            continue
        problem, ttl = _check(action, hint)
        if problem:
            hints.problems.append(f"{kind}: {problem}")
        else:
            hints.actions.append(Action(hint, ttl, str(_member(action, "action_id"))))
    return hints


def submit(
    client: Client,
    hints: Hints,
    keys: Iterable[Key],
    *,
    timeout: float | None = 30.0,
    urgency: Urgency | None = None,
    tag: object = None,
) -> list[int]:
    """Submits every action for these keys; the batches' ids. Operations that the store does not
    support come back failed from `drain()`, like those of any batch."""
    keys = list(keys)
    submits: dict[Hint, Callable[..., int]] = {
        "prefetch": client.submit_prefetch,
        "pin": client.submit_pin,
        "retain": client.submit_retain,
        "release": client.submit_release,
    }
    ids = []
    for action in hints.actions:
        held = {} if action.ttl is None else {"ttl": action.ttl}
        ids.append(submits[action.hint](keys, timeout=timeout, urgency=urgency, tag=tag, **held))
    return ids


def _member(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _check(action: Any, hint: Hint) -> tuple[str, float | None]:
    """The error of the action, or its time to live."""
    version = _member(action, "action_version")
    if not isinstance(version, str) or version.split(".")[0] != "1":
        return f"version {version!r:.40}, wanted 1.0", None
    payload = _member(action, "payload")
    if not isinstance(payload, Mapping):
        return f"payload {payload!r:.40}, wanted an object", None
    if hint not in _HELD:
        return "", None
    ttl: Any = payload.get("ttl_seconds")
    is_number = isinstance(ttl, (int, float)) and not isinstance(ttl, bool)
    if is_number and 0 < ttl <= _TTL_MAX:
        return "", float(ttl)
    return f"ttl_seconds {ttl!r:.40}, wanted seconds above 0 and up to {_TTL_MAX}", None
