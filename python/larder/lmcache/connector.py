"""The door for LMCache: larder as its L2, by one line of configuration and no change to LMCache.

    --l2-adapter '{"type": "native_plugin", "module_path": "larder.lmcache", "class_name": "Connector",
                   "adapter_params": {"url": "log:/data/kv?capacity=500GiB"}}'

docs/lmcache.md covers sizing, migration and the meaning of the metrics. LMCache itself is not
imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from larder import _larder, _metrics, _spec
from larder._client import Completion, completions_of
from larder._spec import SpecLike
from larder._store import metrics_of, report_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from larder._larder import _Buffers as Buffers

__all__ = ["Connector"]


class Connector(_larder.Completions):
    """LMCache's contract for native connectors (0.5.6).

    Every submission returns a future id; `drain_completions()` returns `(id, ok, error, results)`
    once for each, after `event_fd()` was readable. Keys and buffers are kept alive until their
    completion was drained.

    LMCache's arguments can be followed by `id`, a future id that the caller has chosen: an int from
    0 on that is not in flight (else `ValueError`). So the caller knows the id before another thread
    gets the completion. None stands for the next id.

    Named by `url="log:/data/kv?capacity=500GiB"`, or by the parameters of a connector's type as
    LMCache spells them: `type="log", path="/data/kv", capacity="500GiB"`; parameters beside a url are
    added to it. `url` may also be any other form that `larder.open()` takes. LMCache's own types
    `fs`, `fs_native`, `mock` and `fault_inject` are among them, with their parameters:
    `type="fs_native", base_path="/data/kv", num_workers=8, use_odirect=True`.

    Loads and lookups that find no room wait for it; a store that finds none completes as failed.
    Time-outs are in seconds, above 0 (a number or its text), waiting included; None stands for 30,
    60 and 10. A late load is a miss, at the next lookup too.
    """

    def __init__(
        self,
        url: SpecLike | None = None,
        *,
        load_timeout: float | str | None = None,
        store_timeout: float | str | None = None,
        lookup_timeout: float | str | None = None,
        **parameters: Any,
    ) -> None:
        refuse_storage_plugin("Connector", parameters)
        text = _spec.text_of(url, parameters, "url")
        super().__init__(text, load_timeout, store_timeout, lookup_timeout)
        self._shown_spec = _larder.shown_spec(text)  # The other one may hold a password.
        register_metrics()
        _metrics.serve_if_asked()

    # Python's own checks of the number of arguments, and a place for the known ones.

    def event_fd(self) -> int:
        """An eventfd for poll(): readable while there is something to drain. -1 after close()."""
        return super().event_fd()

    def submit_batch_get(
        self, keys: Iterable[str | bytes], memoryviews: Buffers, id: int | None = None
    ) -> int:
        """Loads each key's value into its buffer; `results` tells which were hits."""
        return super().submit_batch_get(keys, memoryviews, id)

    def submit_batch_set(
        self, keys: Iterable[str | bytes], memoryviews: Buffers, id: int | None = None
    ) -> int:
        """Stores each value, if its key has none. `ok` is False when one of them failed."""
        return super().submit_batch_set(keys, memoryviews, id)

    def submit_batch_exists(
        self, keys: Iterable[str | bytes], id: int | None = None
    ) -> int:
        """Asks which keys have a value that can be loaded."""
        return super().submit_batch_exists(keys, id)

    def submit_batch_delete(
        self, keys: Iterable[str | bytes], id: int | None = None
    ) -> int:
        """Removes keys; `results` says which existed."""
        return super().submit_batch_delete(keys, id)

    def drain_completions(self) -> list[tuple[int, bool, str, list[Any] | None]]:
        """The operations that have ended since the last call. Never waits."""
        return super().drain_completions()

    # Calls that LMCache's contract does not have, and that L2Adapter and ConnectorClient need.

    def submit_batch_sizes(
        self, keys: Iterable[str | bytes], id: int | None = None
    ) -> int:
        """Like `submit_batch_exists()`; `results` has each value's size, or None if there is
        none."""
        return super().submit_batch_sizes(keys, id)

    def submit_batch_touch(
        self, keys: Iterable[str | bytes], id: int | None = None
    ) -> int:
        """Marks keys as used, for larder's eviction."""
        return super().submit_batch_touch(keys, id)

    def cancel(self, id: int) -> None:
        """Like `larder.Client.cancel()`, for a future id."""
        super().cancel(id)

    def drain(self) -> list[Completion]:  # type: ignore[override]  # The module's are plain tuples.
        """In place of drain_completions(), with the result of each key: like
        `larder.Client.drain()`."""
        return completions_of(super().drain())

    def events(
        self, position: int, events_max: int
    ) -> tuple[list[tuple[bool, bytes, int]], int, int] | None:
        """`([(was stored, key, bytes), ...], next position, lost)`; None where none are kept."""
        return super().events(position, events_max)

    def scan(
        self, first_word: int, second_word: int, keys_max: int
    ) -> tuple[list[tuple[bytes, int]], tuple[int, int], bool]:
        """A page of keys with their sizes, the next page's words, and whether this is the last. Raises
        `UnsupportedError` where the connector cannot list its keys."""
        return self._scan_page(first_word, second_word, keys_max, b"")

    # State, and the end.

    def report(self) -> dict[str, Any]:
        """State, capacity and counters, without I/O; the fields are those of `larder.Report`."""
        return super().report()

    def metrics(self) -> dict[str, int]:
        """The numbers of `report()` under one name each, `larder_...`."""
        return metrics_of(report_of(self.report()))

    def close(self, grace: float | None = 10.0, timeout: float | None = 30.0) -> None:
        """Lets pending operations end for `grace` seconds, then cancels them. Idempotent. Raises
        `StuckError` when the kernel or a peer still has something at `timeout`."""
        super().close(grace, timeout)

    def __repr__(self) -> str:
        return f"<larder.lmcache.Connector {self._shown_spec!r}{' closed' if self.closed else ''}>"


class _Collector:
    """Adds the numbers of the process's open stores to its Prometheus registry, which is the one
    that LMCache serves at /metrics. Without prometheus_client it does nothing."""

    def __init__(self) -> None:
        self._is_registered = False

    def register(self) -> None:
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
        from prometheus_client.parser import text_string_to_metric_families

        yield from text_string_to_metric_families(_larder.metrics_text())


_collector = _Collector()


def register_metrics() -> None:
    """Adds the stores of this process to the numbers that LMCache serves."""
    _collector.register()


def refuse_storage_plugin(name: str, parameters: Mapping[str, Any]) -> None:
    """Raises for the arguments that LMCache within the engine passes to the class of a
    `storage_plugin`."""
    if not {"dst_device", "local_cpu_backend"} & parameters.keys():
        return
    raise TypeError(
        f"larder.lmcache.{name} is no storage_plugin of LMCache within the engine. List it in "
        'remote_storage_plugins, with "class_name": "RemoteConnector" (docs/lmcache.md)'
    )
