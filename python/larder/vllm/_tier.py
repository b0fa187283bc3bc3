"""`LarderTier`: a larder store as a secondary tier of vLLM's KV offloading."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from vllm.v1.kv_offload import base as offload
from vllm.v1.kv_offload.tiering import base as tiering

import larder
from larder import _larder, _spec
from larder._doors import printable
from larder.vllm import _identity, _metrics
from larder.vllm._chunks import Answer, Chunks, Finished, Timeouts
from larder.vllm._tally import Tally, log

_Value = TypeVar("_Value")

_ANSWERS = {
    Answer.HIT: offload.LookupResult.HIT,
    Answer.MISS: offload.LookupResult.MISS,
    Answer.RETRY: offload.LookupResult.RETRY,
}
_MISS = offload.LookupResult.MISS

# The parts that this release of vLLM has. The classes of 0.28 to 0.33 differ by additions only.
_TAKES_DETECTOR = (
    "backpressure_detector" in inspect.signature(tiering.SecondaryTierManager.__init__).parameters
)
_RESULT_FIELDS = {field.name for field in dataclasses.fields(tiering.JobResult)}
_EVENT_FIELDS = {field.name for field in dataclasses.fields(offload.OffloadingEvent)}

_EVENTS_MAX = 65536
_REPORT_SECONDS = 1.0


def _never_raises(fallback: Callable[[], Any]) -> Callable[..., Any]:
    """An exception from a tier would end vLLM's engine. It is counted, logged once a method, and
    answered like a store that has nothing."""

    def decorate(method: Callable[..., _Value]) -> Callable[..., _Value]:
        @functools.wraps(method)
        def call(self: LarderTier, *arguments: Any, **named: Any) -> Any:
            try:
                return method(self, *arguments, **named)
            except Exception as error:
                self._tally.add("errors", method.__name__)
                self._tally.fail(method.__name__, f"{method.__name__} has failed", error)
                return fallback()

        return call

    return decorate


def _nothing() -> None:
    return None


class LarderTier(tiering.SecondaryTierManager):  # type: ignore[misc]
    """vLLM's secondary tier over any larder connector. docs/vllm.md tells its parameters.

    A store that cannot be opened is reported in vLLM's log, once, and the engine runs as without
    it: lookups are misses and stores fail at once. No method raises.

    Rows of vLLM's host memory are read and written where they are. A job past its deadline is
    returned when the kernel has released its rows, and not before.

    Threads: vLLM calls under its manager's lock. Ownership: owns the store until `shutdown()`.
    """

    medium = offload.Medium.STORAGE

    def __init__(
        self,
        offloading_spec: Any,
        primary_kv_view: memoryview,
        tier_type: str,
        backpressure_detector: Any = None,
        *,
        revision: str = "",
        lookup_timeout: float = Timeouts().lookup,
        load_timeout: float = Timeouts().load,
        store_timeout: float = Timeouts().store,
        room_timeout: float = Timeouts().room,
        enable_kv_events: bool = False,
        locality: str | None = None,
        **parameters: Any,
    ) -> None:
        """`revision` names the weights. The timeouts are in seconds. `parameters` name the store as
        the arguments of `larder.open()` do, `url` among them. Never raises."""
        base_arguments: dict[str, Any] = {}
        if _TAKES_DETECTOR:
            base_arguments["backpressure_detector"] = backpressure_detector
        super().__init__(offloading_spec, primary_kv_view, tier_type, **base_arguments)
        self._tally = Tally()
        self._stats = _metrics.StatsSource()
        self._chunks: Chunks | None = None
        self._events: list[Any] | None = None
        self._events_position = 0
        self._refused: list[int] = []
        self._gauges: dict[str, float] = {"down": 1}
        self._reported_at = float("-inf")
        self._shown = "none"
        try:
            self.locality = offload.Locality(locality) if locality is not None else None
            timeouts = Timeouts(
                *(
                    _larder.seconds(value, f"{name}_timeout")
                    for name, value in zip(
                        Timeouts._fields,
                        (lookup_timeout, load_timeout, store_timeout, room_timeout),
                    )
                )
            )
            self._events = self._events_wanted(enable_kv_events)
            self._open(revision, timeouts, parameters)
        except Exception as error:
            self._tally.add("errors", "open")
            log.error(
                "larder: the tier cannot be used, and the engine goes on without it: %s",
                printable(str(error) or repr(error)),
            )

    def _open(self, revision: str, timeouts: Timeouts, parameters: dict[str, Any]) -> None:
        spec, view = self._offloading_spec, self._primary_kv_view
        rank = spec.config.parallel.data_parallel_index
        parameters = _spec.replaced(parameters, "{dp_rank}", str(rank))
        if not isinstance(revision, str):
            raise TypeError(f"revision: {type(revision).__name__}, wanted a str")
        if float("inf") in timeouts:
            raise ValueError(f"{timeouts}: wanted seconds above 0")
        row_bytes = view.nbytes // max(1, (view.shape or (0,))[0])
        parts = _identity.parts_of(spec, row_bytes, revision)
        client = larder.Client(None, **parameters)
        try:
            self._chunks = Chunks(
                client,
                view,
                lambda: _identity.name_of(parts, _identity.root_hash()),
                timeouts,
                tally=self._tally,
            )
        except BaseException:
            client.close(0, 10)
            raise
        report = client.report()
        self._shown = f"{report.type}:{report.where}"
        log.info(
            "larder: %s is a tier for chunks of %d bytes, %d of which fit into the host's",
            printable(self._shown),
            row_bytes,
            view.shape[0] if view.shape else 0,
        )
        if not revision:
            log.info(
                "larder: no revision was given; give one, or clear the store, when other weights "
                "are served under the name %s",
                parts["model"],
            )

    def _events_wanted(self, asked: bool) -> list[Any] | None:
        if not asked:
            return None
        if self._offloading_spec.kv_events_config.enable_kv_cache_events:
            return []
        log.warning("larder: enable_kv_events without vLLM's kv_events_config: no events")
        return None

    # --- Requests and lookups ---------------------------------------------------------------------

    @_never_raises(offload.RequestOffloadingContext)
    def on_new_request(self, req_context: Any) -> Any:
        hints = getattr(req_context, "kv_hints", None)  # From 0.32 on.
        if self._chunks is None or not self._chunks.begin_request(req_context.req_id, hints):
            return offload.RequestOffloadingContext()
        return offload.RequestOffloadingContext(offload.OffloadPolicy.REQUEST_LEVEL)

    @_never_raises(lambda: _MISS)
    def lookup(self, key: Any, req_context: Any) -> Any:
        if self._chunks is None:
            return _MISS
        return _ANSWERS[self._chunks.lookup(key, req_context.req_id)]

    @_never_raises(_nothing)
    def touch(self, keys: Collection[Any], req_context: Any) -> None:
        if self._chunks is not None:
            self._chunks.touch(keys)

    @_never_raises(_nothing)
    def on_request_finished(self, req_context: Any) -> None:
        if self._chunks is not None:
            self._chunks.end_request(req_context.req_id)

    @_never_raises(_nothing)
    def on_schedule_end(self, context: Any) -> None:
        if self._chunks is not None:
            self._chunks.end_step(context.new_req_ids)

    @_never_raises(lambda: False)
    def has_pending_work(self) -> bool:
        return bool(self._refused) or (self._chunks is not None and self._chunks.is_asking)

    # --- Jobs -------------------------------------------------------------------------------------

    def submit_store(self, job_metadata: Any) -> None:
        self._submit(job_metadata)

    def submit_load(self, job_metadata: Any) -> None:
        self._submit(job_metadata)

    def _submit(self, job: Any) -> None:
        try:
            if self._chunks is None:
                self._refused.append(job.job_id)
                return
            rows = job.block_ids if hasattr(job, "block_ids") else job.chunk_ids  # Until 0.29.
            if job.is_promotion:
                self._chunks.submit_load(job.job_id, job.keys, rows, job.req_context.req_id)
            else:
                self._chunks.submit_store(job.job_id, job.keys, rows, job.req_context.req_id)
        except Exception as error:  # Before the first submission.
            self._tally.add("errors", "submit")
            self._tally.fail("submit", "a job could not be submitted", error)
            self._refused.append(job.job_id)

    @_never_raises(list)
    def get_finished_jobs(self) -> Iterable[Any]:
        refused, self._refused = self._refused, []
        results = [tiering.JobResult(job_id=id, success=False) for id in refused]
        if self._chunks is None:
            return results
        try:
            finished = self._chunks.finished()
        except Exception as error:
            self._tally.add("errors", "get_finished_jobs")
            self._tally.fail("get_finished_jobs", "ended jobs cannot be taken", error)
            return results
        results += [self._result_of(job) for job in finished]
        self._keep_events([job.added for job in finished if job.added])
        return results

    def _result_of(self, job: Finished) -> Any:
        assert self._chunks is not None
        is_whole = len(job.done) == len(job.keys)
        given: dict[str, Any] = {
            "job_id": job.id,
            "success": is_whole,
            "transfer_time": job.seconds,
            "transfer_bytes": job.moved * self._chunks.row_bytes,
        }
        if job.is_load and not is_whole and job.done:
            given["successful_keys"] = tuple(job.done)
        return tiering.JobResult(**{k: v for k, v in given.items() if k in _RESULT_FIELDS})

    def drain_jobs(self) -> None:
        """Waits until the store and the kernel have released every row."""
        try:
            if self._chunks is not None:
                self._chunks.drain()
        except Exception as error:
            self._tally.fail("drain_jobs", "waiting for jobs has failed", error)

    # --- What vLLM asks about the tier ------------------------------------------------------------

    @_never_raises(tuple)
    def take_events(self) -> Iterable[Any]:
        if self._events is None:
            return ()
        self._collect_removals()
        events, self._events = self._events, []
        return events

    def _collect_removals(self) -> None:
        """Evictions, where the store remembers them (its parameter `events`)."""
        assert self._events is not None
        if self._chunks is None:
            return
        told = self._chunks.client.events(self._events_position, _EVENTS_MAX)
        if told is None:
            return
        happened, self._events_position, _ = told
        prefix = self._chunks.prefix
        removed = [key for is_stored, key, _ in happened if not is_stored]
        gone = [key[len(prefix) :] for key in removed if key.startswith(prefix)]
        if gone:
            self._events.append(self._event(gone, removed=True))

    @_never_raises(_nothing)
    def _keep_events(self, added: list[list[bytes]]) -> None:
        if self._events is not None:
            self._events += [self._event(keys, removed=False) for keys in added]
            del self._events[:-_EVENTS_MAX]

    def _event(self, keys: list[bytes], removed: bool) -> Any:
        given = {"locality": self.locality}
        given = {name: value for name, value in given.items() if name in _EVENT_FIELDS}
        return offload.OffloadingEvent(keys=keys, medium=self.medium, removed=removed, **given)

    @classmethod
    def build_metric_definitions(cls, extra_config: dict[str, Any]) -> dict[str, Any]:
        return _metrics.definitions(offload)

    @_never_raises(_nothing)
    def get_stats(self) -> Any:
        from vllm.distributed.kv_transfer.kv_connector.v1.offloading.metrics import (
            OffloadingConnectorStats,
        )

        now = time.monotonic()
        if self._chunks is not None and now - self._reported_at >= _REPORT_SECONDS:
            self._reported_at = now
            room, report = self._chunks.room, self._chunks.client.report()
            self._gauges = _metrics.gauges_of(report, room.promised, room.copying)
        return self._stats.fill(OffloadingConnectorStats(), self._tally, self._gauges)

    @classmethod
    def config_info_keys(cls, tier_config: dict[str, Any]) -> tuple[str, ...]:
        return ("larder_version", "larder_store")

    def config_info(self) -> dict[str, str]:
        return {"larder_version": larder.__version__, "larder_store": printable(self._shown)}

    # --- The end ----------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Lets jobs end for some seconds, then cancels them, and drops every export of the host's
        memory, unless the kernel still has some of it."""
        chunks, self._chunks = self._chunks, None
        self._primary_kv_view = memoryview(b"")
        if chunks is None:
            return
        try:
            chunks.close()
        except Exception as error:
            log.error(
                "larder: the store was not closed, its memory is kept until the process ends: %s",
                printable(str(error)),
            )
