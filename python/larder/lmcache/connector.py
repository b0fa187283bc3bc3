"""The door for LMCache: larder as its L2, by one line of configuration and no change to LMCache.

    --l2-adapter '{"type": "native_plugin", "module_path": "larder.lmcache", "class_name": "Connector",
                   "adapter_params": {"url": "log:/data/kv?capacity=500GiB"}}'

docs/lmcache.md tells sizing, migration and what the metrics mean. LMCache itself is not imported.
"""

from __future__ import annotations

import json
import weakref
from typing import TYPE_CHECKING, Any

from larder import _larder
from larder._store import Report, metrics_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Connector"]


class Connector(_larder.Completions):
    """LMCache's contract for native connectors (0.5.6).

    `event_fd()`, `submit_batch_get/set(keys, memoryviews)`, `submit_batch_exists/delete(keys)` which
    return a future id, `drain_completions()` which gives `(id, ok, error, results)` once for each,
    and `close()`. Keys and buffers are kept alive until their completion was drained.

    Named by `url="log:/data/kv?capacity=500GiB"`, or by the parameters of a connector's type as
    LMCache spells them: `type="log", path="/data/kv", capacity="500GiB"`. LMCache's own types `fs`,
    `fs_native`, `mock` and `fault_inject` are among them, with their parameters:
    `type="fs_native", base_path="/data/kv", num_workers=8, use_odirect=True`.

    Loads and lookups that find no room wait for it; a store that finds none completes as failed.
    Time-outs are in seconds, the wait included: a load that is late is a miss, at the next lookup
    too.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        load_timeout: float = 30.0,
        store_timeout: float = 60.0,
        lookup_timeout: float = 10.0,
        **parameters: Any,
    ) -> None:
        super().__init__(_spec_of(url, parameters), load_timeout, store_timeout, lookup_timeout)
        _collector.add(self)

    def metrics(self) -> dict[str, int]:
        """The numbers of `report()` under one name each, `larder_...`."""
        return metrics_of(Report(**self.report()))


def _spec_of(url: str | None, parameters: dict[str, Any]) -> str:
    if url is not None:
        if parameters:
            raise TypeError(
                f"Connector: url and {', '.join(sorted(parameters))}; give either a url, with its "
                "parameters after '?', or type=... and parameters"
            )
        return url
    if "type" not in parameters:
        raise TypeError(
            "Connector: neither url nor type; wanted url='log:/data/kv?capacity=500GiB' or "
            "type='log', path='/data/kv', capacity='500GiB'"
        )
    # LMCache's own adapters take None for "not set".
    return json.dumps({name: value for name, value in parameters.items() if value is not None})


class _Collector:
    """Adds the open connectors' numbers to this process's Prometheus registry, which is the one
    that LMCache serves at /metrics. Without prometheus_client it does nothing."""

    def __init__(self) -> None:
        self._connectors: weakref.WeakSet[Connector] = weakref.WeakSet()
        self._is_registered = False

    def add(self, connector: Connector) -> None:
        self._connectors.add(connector)
        if self._is_registered:
            return
        try:
            from prometheus_client import REGISTRY
        except ImportError:
            return
        REGISTRY.register(self)
        self._is_registered = True

    def describe(self) -> list[Any]:
        return []  # Names depend on what is open; without this, collect() would run at once.

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        families: dict[str, Any] = {}
        for connector in list(self._connectors):
            try:
                report = Report(**connector.report())
            except _larder.Error:
                continue  # Closed since, or the parent process's.
            labels = [report.type, report.where]
            for name, value in metrics_of(report).items():
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                if name not in families:
                    families[name] = kind(
                        name, "See larder's docs/lmcache.md.", labels=["type", "where"]
                    )
                families[name].add_metric(labels, value)
        yield from families.values()


_collector = _Collector()
