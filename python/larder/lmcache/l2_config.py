"""The configuration of `L2Adapter`: the content of `adapter_params`."""

from __future__ import annotations

from typing import Any

from lmcache.v1.distributed.l2_adapters.config import L2AdapterConfigBase

from larder import _spec

EVICTION_REFUSED = (
    "eviction: larder evicts by itself, at its capacity, and LMCache's policy would throw away "
    'what larder would keep. Remove the "eviction" block; or, to let LMCache choose what goes, add '
    '"evict": "lmcache" to adapter_params'
)

# For a log without the parameter: how far its readers may lag, some 10 MB.
_EVENTS = 65536
_DOORS_OWN = ("load_timeout", "store_timeout", "lookup_timeout")


class L2AdapterConfig(L2AdapterConfigBase):  # type: ignore[misc]
    """`connector_parameters` are those of `larder.lmcache.Connector`."""

    def __init__(
        self,
        connector_parameters: dict[str, Any],
        evict: str = "larder",
        lmcache_capacity_gb: float = 0,
    ) -> None:
        self.connector_parameters = _with_events(connector_parameters)
        self.evict = evict
        self.lmcache_capacity_gb = lmcache_capacity_gb

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> L2AdapterConfig:
        if not isinstance(d, dict):
            raise TypeError(
                f"adapter_params: {type(d).__name__}, wanted a dict such as "
                '{"url": "log:/data/kv?capacity=500GiB"}'
            )
        parameters = dict(d)
        evict = parameters.pop("evict", "larder")
        if evict not in ("larder", "lmcache"):
            raise ValueError(f"evict: {evict!r}, wanted 'larder' or 'lmcache'")
        capacity_gb = parameters.pop("lmcache_capacity_gb", 0)
        if (
            isinstance(capacity_gb, bool)
            or not isinstance(capacity_gb, (int, float))
            or not 0 <= capacity_gb < 1e9
        ):
            raise ValueError(f"lmcache_capacity_gb: {capacity_gb!r}, wanted GiB, 0 or more")
        if capacity_gb and evict != "lmcache":
            raise ValueError(
                'lmcache_capacity_gb: only LMCache\'s eviction asks for it; add "evict": "lmcache" '
                "or give larder's capacity in url or capacity"
            )
        if "eviction" in parameters:
            if evict != "lmcache":
                raise ValueError(EVICTION_REFUSED)
            raise ValueError(
                'eviction: LMCache reads it beside "adapter_params", not in it; move it there'
            )
        return cls(parameters, evict, float(capacity_gb))

    @classmethod
    def help(cls) -> str:
        return (
            "larder's L2 adapter:\n"
            "- url (str): where and how large, e.g. log:/data/kv?capacity=500GiB; or type and the "
            "parameters of that connector\n"
            "- load_timeout, store_timeout, lookup_timeout (seconds; 30, 60, 10)\n"
            "- evict (str): 'larder' (default), or 'lmcache' to let LMCache's eviction block "
            "choose what goes\n"
            "- lmcache_capacity_gb (float): with evict 'lmcache', the capacity that LMCache's "
            "watermark is a part of (default: the store's)\n"
            "docs/lmcache.md tells more."
        )


def _with_events(parameters: dict[str, Any]) -> dict[str, Any]:
    """A log keeps events only on request, and the adapter needs them."""
    named = {name: value for name, value in parameters.items() if name not in _DOORS_OWN}
    if not named:
        return parameters  # The connector reports what is missing.
    kind, given = _spec.parts_of(named.pop("url", None), named, "url")
    if kind == "log" and "events" not in given:
        return {**parameters, "events": _EVENTS}
    return parameters
