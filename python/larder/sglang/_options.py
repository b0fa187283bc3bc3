"""The configuration of a `LarderHiCache`: SGLang's extra config without SGLang's own fields."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

from larder import _spec

# The variable that names the store of a process in which no configuration does.
VARIABLE = "LARDER"

# Fields of SGLang and its factory.
_OF_SGLANG = frozenset(
    {
        "allocator",
        "backend_name",
        "class_name",
        "hicache_storage_pass_prefix_keys",
        "interface_v1",
        "module_path",
        "prefetch_threshold",
        "prefetch_timeout_base",
        "prefetch_timeout_per_ki_token",
        "tp_lcm_size",
    }
)
_SECONDS = ("lookup_timeout", "load_timeout", "store_timeout")
_SECONDS_MAX = 1e9  # Of a client's time-outs.
_TEXTS = ("revision", "namespace")


@dataclasses.dataclass(frozen=True)
class Options:
    url: str | dict[str, Any]
    """The store: a URL, or a dict such as larder.open() takes. `{rank}` stands for the rank's name."""
    revision: str = ""
    """Of the weights: pages of another one are not found."""
    namespace: str = ""
    """Keeps pages apart that would be found otherwise, of tenants for instance."""
    lookup_timeout: float = 2.0
    load_timeout: float = 10.0
    store_timeout: float = 30.0
    in_pieces: bool = False
    """SGLang uses the interface that copies nothing (`interface_v1`)."""

    @property
    def names_rank(self) -> bool:
        return "{rank}" in str(self.url)

    def unfit(self, kind: str, ranks: int, sharing: int = 1) -> str:
        """Why a store of this type does not fit an engine of so many ranks, `sharing` of which have their
        pages in common, with the remedy; empty where it does."""
        if sharing > 1 and (self.names_rank or kind in ("log", "memory")):
            return (
                f"the {sharing} TP ranks of an MLA model share their pages, which the first stores for "
                "all: take a store that processes share, fs: or redis:, without {rank}"
            )
        if ranks > 1 and kind == "log" and not self.names_rank:
            return (
                f"the engine has {ranks} ranks, and a log is one process's: name a directory for each "
                "with {rank}, as in log:/data/kv/{rank}?capacity=100GiB (the capacity is each rank's), "
                "or take a store that processes share, fs: or redis:"
            )
        return ""

    def kind(self, rank: str) -> str:
        """The type of its store. Raises larder.OpenError."""
        return _spec.parts_of(self.spec(rank), {}, "url")[0]

    def spec(self, rank: str) -> str | dict[str, Any]:
        """The store of one rank."""
        spec: str | dict[str, Any] = _spec.replaced(self.url, "{rank}", rank)
        return spec


def options(extra: Mapping[str, Any] | None) -> Options:
    """Reads the extra config. Raises ValueError that names the fault and the remedy."""
    given = dict(extra or {})
    unknown = sorted(given.keys() - _OF_SGLANG - {"url", *_SECONDS, *_TEXTS})
    if unknown:
        raise ValueError(
            f"{', '.join(map(repr, unknown))} in the extra config: not known; larder's parts are "
            f"'url', {', '.join(map(repr, (*_TEXTS, *_SECONDS)))}, and a store's parameters belong "
            "into 'url'"
        )
    url = given.get("url") or os.environ.get(VARIABLE)
    if not url:
        raise ValueError(
            f"neither 'url' in the extra config nor {VARIABLE} in the environment; name a store, for "
            'instance "url": "log:/data/kv?capacity=500GiB"'
        )
    if not isinstance(url, (str, dict)):
        raise ValueError(
            f"'url' in the extra config: {url!r}, wanted a text such as "
            '"log:/data/kv?capacity=500GiB", or an object such as {"type": "log", "path": "/data/kv"}'
        )
    for name in _TEXTS:
        if not isinstance(given.get(name, ""), str):
            raise ValueError(f"{name!r} in the extra config: {given[name]!r}, wanted a text")
    for name in _SECONDS:
        if name in given:
            given[name] = _seconds(name, given[name])
    known = {name: given[name] for name in (*_TEXTS, *_SECONDS) if name in given}
    return Options(url, in_pieces=bool(given.get("interface_v1")), **known)


def _seconds(name: str, value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 < value <= _SECONDS_MAX:
        raise ValueError(f"{name!r} in the extra config: {value!r}, wanted seconds above 0")
    return float(value)
