"""The tier's additions to vLLM's own metrics of tiers (`vllm:kv_offload_tiering_*`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import larder
from larder.vllm._tally import Tally

_PREFIX = "vllm:kv_offload_larder_"

# Name, its label or "", and its help text.
_COUNTERS = {
    "lookups": ("answer", "Lookups of a chunk by answer: hit, miss, retry (not known yet)."),
    "chunks": ("outcome", "Chunks of jobs that have ended, by what became of them."),
    "hints": ("answer", "Actions of requests' hints: taken, unsupported by the store, wrong."),
    "failures": ("reason", "Chunks that failed, by the store's operation and reason."),
    "errors": ("call", "Calls of vLLM that met an error in larder and were answered without it."),
}
_GAUGES = {
    "used_bytes": "Bytes that the store's values take.",
    "capacity_bytes": "Bytes that the store may take, 0 without a limit.",
    "down": "1 while the store cannot be used, and everything is a miss.",
    "promised_rows": "Rows of the host tier that are promised to requests that do not run yet.",
    "copying_rows": "Rows of the host tier that jobs under way read or write.",
}


def definitions(base: Any) -> dict[str, Any]:
    """For `build_metric_definitions`. `base`: the module vllm.v1.kv_offload.base."""
    counters = {
        f"{_PREFIX}{name}": base.OffloadingCounterMetadata(documentation=text, labelnames=(label,))
        for name, (label, text) in _COUNTERS.items()
    }
    gauges = {
        f"{_PREFIX}{name}": base.OffloadingGaugeMetadata(documentation=text)
        for name, text in _GAUGES.items()
    }
    return {**counters, **gauges}


class StatsSource:
    """Counts since vLLM's last call."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], int] = {}

    def fill(self, stats: Any, tally: Tally, gauges: Mapping[str, float]) -> Any:
        """`stats`: an empty OffloadingConnectorStats, which is returned."""
        for (name, label), count in tally.counts.items():
            more = count - self._told.get((name, label), 0)
            if more and name in _COUNTERS:
                stats.increase_counter(f"{_PREFIX}{name}", more, (label,))
                self._told[name, label] = count
        for name, value in gauges.items():
            stats.set_gauge(f"{_PREFIX}{name}", value)
        return stats


def gauges_of(report: larder.Report, promised: int, copying: int) -> dict[str, float]:
    return {
        "used_bytes": report.bytes_used,
        "capacity_bytes": report.capacity_bytes,
        "down": int(report.health == "down"),
        "promised_rows": promised,
        "copying_rows": copying,
    }
