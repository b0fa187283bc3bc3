"""HiCache's storage backend; SGLang calls it from its own threads."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, Union

from sglang.srt.mem_cache.hicache_storage import HiCacheStorage, PoolHitPolicy, PoolTransferResult

import larder
from larder.sglang import _identity, _options
from larder.sglang._calls import Calls
from larder.sglang._pages import Pages
from larder.sglang._trouble import Trouble

# Memory of pages.
Buffers = Union[larder.Addresses, list[larder.Addresses]]
_T = TypeVar("_T")
_KV = "kv"


class LarderHiCache(HiCacheStorage):  # type: ignore[misc]  # SGLang's own class.
    """Pages of KV cache in any larder store. One key for each page, whose pieces (keys and values,
    or those of each layer) are read and written in place in SGLang's host pool.

    SGLang makes it, in each rank's process, from `--hicache-storage-backend-extra-config`:

    - `url`: the store, a URL or an object as for `larder.open()`. In it `{rank}` stands for the name of
      the rank, such as `tp0`. Unless given, the environment's `LARDER`.
    - `revision`: of the weights; `namespace`: a text that keeps pages apart. Both are part of each
      name.
    - `lookup_timeout` (2), `load_timeout` (10), `store_timeout` (30): seconds for each call.
    - `interface_v1`, of SGLang: 1 for the interface that copies nothing.

    **Never wrong**: names cover the model, the arguments that say how weights are loaded and keys and
    values computed, `revision`, `namespace`, the kind, layout, type and sizes of the host pool, and the
    ranks. Ranks of MLA models share their pages (TP). A page that fails to load is a miss until it
    is stored again.

    **Errors**: only `clear()` raises, because it has no other way to report that something is left
    (SGLang catches it and answers the request with an error). A failure is a miss or a page that is
    not stored; it is counted, and logged once when it begins. An unusable configuration or store
    makes a backend that finds and stores nothing, and logs that once.

    **Waits** end at the deadline of the call, except for SGLang's memory that the kernel has:
    SGLang reuses it as soon as a call returns, so the call waits until the kernel returns it (a
    disk that hangs; `fs:` with `staged` has none of it). `batch_get()` has larder's or SGLang's own
    buffers, and always returns.

    **Threads**: any, all calls. None holds the GIL while it waits.
    """

    def __init__(self, storage_config: Any, kwargs: Mapping[str, Any] | None = None) -> None:
        self._config = storage_config
        self._trouble = Trouble()
        self._options = _options.Options("")
        self._client: larder.Client | None = None
        self._pools: dict[str, Pages] = {}
        # Pages and GB/s of each call, for SGLang's metrics; bounded, because they may never be
        # read.
        self._moved: dict[str, collections.deque[tuple[int, float]]] = {
            "load": collections.deque(maxlen=1000),
            "store": collections.deque(maxlen=1000),
        }
        try:
            self._options = _options.options(storage_config.extra_config)
            self._client = self._open()
            self._calls = Calls(self._client, self._trouble.say)
        except Exception as error:  # A constructor that raises ends the engine.
            self._trouble.give_up(f"larder's HiCache backend has no store: {error}")

    def _open(self) -> larder.Client:
        config, options = self._config, self._options
        ranks = _identity.ranks(config)
        sharing = config.tp_size if config.is_mla_model else 1
        rank = _identity.rank_name(config)
        why = options.unfit(options.kind(rank), ranks, sharing)
        if why:
            raise ValueError(why)
        return larder.Client(options.spec(rank))

    # --- Registration -----------------------------------------------------------------------------

    def register_mem_pool_host(self, mem_pool_host: Any) -> None:
        """The pool of keys and values; called once, before everything else."""
        super().register_mem_pool_host(mem_pool_host)
        self._register(_KV, mem_pool_host, self._options.in_pieces)

    def register_mem_host_pool_v2(self, host_pool: Any, host_pool_name: Any) -> None:
        """A pool of a hybrid model's state, and again that of keys and values."""
        super().register_mem_host_pool_v2(host_pool, host_pool_name)
        name = str(host_pool_name)
        if name != _KV:
            self._register(name, host_pool, True)

    def _register(self, name: str, pool: Any, in_pieces: bool) -> None:
        if self._client is None:
            return
        try:
            pages = Pages(pool, in_pieces)
            parts = _identity.identity(
                self._config,
                pool,
                name,
                given={"revision": self._options.revision, "namespace": self._options.namespace},
                server=_server_arguments(),
                order=pages.order,
            )
            pages.prefix = _identity.key_prefix(parts)
            self._pools[name] = pages
        except Exception as error:
            self._pools.pop(name, None)
            self._trouble.give_up(f"the host pool {name!r} cannot be kept: {error!r}")

    # --- Lookups ----------------------------------------------------------------------------------

    def exists(self, key: str) -> bool:
        return self.batch_exists([key]) == 1

    def batch_exists(self, keys: list[str], extra_info: Any = None) -> int:
        """How many pages from the first one on are there, and can be loaded."""
        return self._guard("a lookup", 0, lambda: _leading(self._found(_KV, keys)))

    def batch_exists_v2(
        self, keys: list[str], pool_transfers: Sequence[Any] | None = None, extra_info: Any = None
    ) -> Any:
        """The prefixes that can be restored in full: with each pool's pages, by its policy."""
        return self._guard(
            "a lookup",
            PoolTransferResult.empty(),
            lambda: self._restorable(keys, pool_transfers or []),
        )

    def _restorable(self, keys: list[str], transfers: Sequence[Any]) -> Any:
        pages = _leading(self._found(_KV, keys))
        hits: dict[Any, int] = {_KV: pages} if pages else {}
        restorable = list(range(1, pages + 1))
        for transfer in transfers:
            if not restorable:
                break
            if transfer.hit_policy not in (PoolHitPolicy.ALL_PAGES, PoolHitPolicy.TRAILING_PAGES):
                continue  # A second form of the pages that are there: no verdict, so not used.
            found = self._found(str(transfer.name), keys[:pages])
            if transfer.hit_policy == PoolHitPolicy.ALL_PAGES:
                usable = set(range(1, _leading(found) + 1))
            else:
                window = max(1, len(transfer.keys or []))
                usable = {
                    end
                    for end in range(1, pages + 1)
                    if all(found[max(0, end - window) : end])
                }
            if usable:
                hits[transfer.name] = max(usable)
            restorable = [end for end in restorable if end in usable]
        return PoolTransferResult(restorable[-1] if restorable else 0, hits, restorable)

    def _found(self, name: str, keys: list[str]) -> list[bool]:
        """For each key, whether its page exists, in the expected size."""
        pages = self._pools.get(name)
        client = self._client
        if pages is None or client is None or not keys:
            return [False] * len(keys)
        names = pages.names(keys)
        sizes: Sequence[int | None] | None = client.probe(names)
        if sizes is None:
            ended = self._ended(
                f"a lookup of {len(keys)} pages",
                lambda deadline, tag: client.submit_exists(
                    names, timeout=None, deadline=deadline, tag=tag
                ),
                self._options.lookup_timeout,
                may_leave=True,
            )
            if ended is None:
                return [False] * len(keys)
            sizes = [size if hit else None for size, hit in zip(ended.sizes, ended.hits)]
        return [size == pages.bytes for size in sizes]

    # --- Zero copy --------------------------------------------------------------------------------

    def batch_get_v1(self, keys: list[str], host_indices: Any, extra_info: Any = None) -> list[bool]:
        """Loads each page to where it belongs in the host pool."""
        return self._load(_KV, keys, host_indices)

    def batch_set_v1(self, keys: list[str], host_indices: Any, extra_info: Any = None) -> list[bool]:
        """Stores the pages that are not there yet, from where they are in the host pool."""
        return self._store(_KV, keys, host_indices)

    def batch_get_v2(
        self, transfers: Sequence[Any], extra_info: Any = None
    ) -> dict[Any, list[bool]]:
        return {
            one.name: self._load(str(one.name), list(one.keys or []), one.host_indices)
            for one in transfers
        }

    def batch_set_v2(
        self, transfers: Sequence[Any], extra_info: Any = None
    ) -> dict[Any, list[bool]]:
        return {
            one.name: self._store(str(one.name), list(one.keys or []), one.host_indices)
            for one in transfers
        }

    def _load(self, name: str, keys: list[str], host_indices: Any) -> list[bool]:
        def work() -> list[bool]:
            pages = self._pages_of(name, keys)
            if pages is None:
                return [False] * len(keys)
            buffers = pages.in_place(len(keys), host_indices)
            return self._get(pages, keys, buffers, may_leave=False)

        return self._guard("a load", [False] * len(keys), work)

    def _store(self, name: str, keys: list[str], host_indices: Any) -> list[bool]:
        def work() -> list[bool]:
            pages = self._pages_of(name, keys)
            if pages is None:
                return [False] * len(keys)
            return self._set(pages, keys, pages.in_place(len(keys), host_indices))

        return self._guard("a store", [False] * len(keys), work)

    # --- By page ----------------------------------------------------------------------------------

    def get(self, key: str, target_location: Any = None, target_sizes: Any = None) -> Any:
        """`target_location`, a contiguous tensor in host memory, filled; None for a miss."""
        found: list[Any] = self.batch_get([key], [target_location], target_sizes)
        return found[0]

    def batch_get(
        self, keys: list[str], target_locations: Any = None, target_sizes: Any = None
    ) -> list[Any]:
        """Loads each page into a tensor of its own, which is returned; None for a miss."""

        def work() -> list[Any]:
            pages = self._pages_of(_KV, keys)
            if pages is None:
                return [None] * len(keys)
            # These are not in the host pool: late data is written to memory that nothing else uses.
            hits = self._get(pages, keys, pages.flat(target_locations), may_leave=True)
            return [target if hit else None for target, hit in zip(target_locations, hits)]

        return self._guard("a load", [None] * len(keys), work)

    def set(
        self, key: str, value: Any = None, target_location: Any = None, target_sizes: Any = None
    ) -> bool:
        return self.batch_set([key], [value])

    def batch_set(
        self,
        keys: list[str],
        values: Any = None,
        target_locations: Any = None,
        target_sizes: Any = None,
    ) -> bool:
        """Stores the pages that are not there yet. False unless all are there then."""

        def work() -> bool:
            pages = self._pages_of(_KV, keys)
            if pages is None:
                return False
            return all(self._set(pages, keys, pages.flat([one.contiguous() for one in values])))

        return self._guard("a store", False, work)

    # --- The rest ---------------------------------------------------------------------------------

    def clear(self) -> None:
        """Removes every page of this model, configuration and rank; others stay in the store.
        Raises `larder.Error` if some may be left."""
        if self._client is None:
            return
        for pages in self._pools.values():
            self._client.delete_prefix(pages.prefix, timeout=self._options.store_timeout)

    def get_stats(self) -> Any:
        """Amounts moved since the last call, for SGLang's metrics; None if they were not
        requested."""
        if not self._config.enable_storage_metrics:
            return None
        from sglang.srt.observability.metrics_collector import StorageMetrics

        stats = StorageMetrics()
        for moved, pages, speeds in (
            (self._moved["load"], stats.prefetch_pgs, stats.prefetch_bandwidth),
            (self._moved["store"], stats.backup_pgs, stats.backup_bandwidth),
        ):
            while moved:
                count, speed = moved.popleft()
                pages.append(count)
                speeds.append(speed)
        return stats

    def close(self) -> None:
        """Ends pending operations and closes the store. Idempotent."""
        client = self._client
        if client is not None:
            self._guard("the end", None, lambda: client.close(grace=2, timeout=10))

    @property
    def client(self) -> larder.Client | None:
        """The store, for its `report()` and `metrics()`; None where there is none."""
        return self._client

    @property
    def failures(self) -> int:
        """Calls and pages that failed; misses are none."""
        return self._trouble.failures

    @property
    def last_failure(self) -> str:
        return self._trouble.last

    # --- Inside -----------------------------------------------------------------------------------

    def _pages_of(self, name: str, keys: list[str]) -> Pages | None:
        return self._pools.get(name) if self._client is not None and keys else None

    def _get(
        self, pages: Pages, keys: list[str], buffers: Buffers, *, may_leave: bool
    ) -> list[bool]:
        names, client = pages.names(keys), self._opened()
        begin = time.monotonic()
        ended = self._ended(
            f"a load of {len(keys)} pages",
            lambda deadline, tag: client.submit_get(
                names, buffers, timeout=None, deadline=deadline, urgency="demand", tag=tag
            ),
            self._options.load_timeout,
            may_leave=may_leave,
        )
        if ended is None:
            return [False] * len(keys)
        self._count("load", sum(ended.hits), pages, begin)
        return ended.hits

    def _set(self, pages: Pages, keys: list[str], buffers: Buffers) -> list[bool]:
        names, client = pages.names(keys), self._opened()
        begin = time.monotonic()
        ended = self._ended(
            f"a store of {len(keys)} pages",
            lambda deadline, tag: client.submit_set(
                names,
                buffers,
                "if_absent",
                timeout=None,
                deadline=deadline,
                urgency="store",
                tag=tag,
            ),
            self._options.store_timeout,
            may_leave=False,  # A page of the host pool that is reused would be stored as another.
        )
        if ended is None:
            return [False] * len(keys)
        self._count("store", sum(ended.hits), pages, begin)
        return [code in (larder.Code.DONE, larder.Code.EXISTED) for code in ended.codes]

    def _opened(self) -> larder.Client:
        assert self._client is not None  # A pool is registered only where there is a client.
        return self._client

    def _ended(
        self, what: str, submit: Callable[[float, object], int], seconds: float, *, may_leave: bool
    ) -> larder.Completion | None:
        """The batch when it has ended, or None; notes its failures."""
        ended = self._calls.run(submit, seconds, may_leave=may_leave)
        if ended is None:
            self._trouble.fail(f"{what} did not end in time")
        elif ended.ok:
            self._trouble.works()
        else:
            self._trouble.fail(f"{ended.operation}: {ended.error}")
        return ended

    def _count(self, kind: str, moved: int, pages: Pages, begin: float) -> None:
        if moved and self._config.enable_storage_metrics:
            seconds = max(time.monotonic() - begin, 1e-9)
            self._moved[kind].append((moved, moved * pages.bytes / seconds / 1e9))

    def _guard(self, what: str, otherwise: _T, work: Callable[[], _T]) -> _T:
        """SGLang catches a backend's exceptions in some places, and not in others."""
        try:
            return work()
        except Exception as error:
            self._trouble.fail(f"{what} failed: {error!r}")
            return otherwise


def _leading(found: list[bool]) -> int:
    return found.index(False) if False in found else len(found)


def _server_arguments() -> Any:
    """SGLang's arguments as they were given; None outside of an engine."""
    try:
        from sglang.srt.runtime_context import get_server_args

        return get_server_args()
    except Exception:  # ValueError before they are published; another release may have none.
        return None
