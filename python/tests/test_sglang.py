"""`larder.sglang.LarderHiCache`, as SGLang's threads use it, over real stores."""

import gc
import itertools
import logging
import os
import sys
import threading
import time

import pytest
from conftest import DEADLINE_S, exit_code_of, join_all, spec_of
from sglang_support import (
    PAGE,
    Config,
    Policy,
    Pool,
    Tensor,
    Transfer,
    indices,
    install,
    keys_of,
)

import larder
import larder.connectors

LAYOUTS = ["layer_first", "page_first"]


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.delenv("LARDER", raising=False)
    yield install(monkeypatch)
    sys.modules.pop("larder.sglang._backend", None)


@pytest.fixture
def opened():
    made = []
    yield made
    for backend in made:
        backend.close()


@pytest.fixture
def open_backend(opened):
    """Makes a backend of this configuration over a pool, which it has registered."""

    def make(url, pool=None, *, v1=1, config=None, **extra):
        import larder.sglang

        given = {"backend_name": "larder", "module_path": "larder.sglang", "interface_v1": v1}
        made = config or Config()
        made.extra_config = {**given, "url": url, **extra}
        backend = larder.sglang.LarderHiCache(made, {})
        opened.append(backend)
        if pool is not None:
            backend.register_mem_pool_host(pool)
        return backend

    return make


def store_all(backend, pool, keys, v1):
    if v1:
        assert backend.batch_set_v1(keys, indices(len(keys))) == [True] * len(keys)
    else:
        values = [pool.get_data_page(number * PAGE) for number in range(len(keys))]
        assert backend.batch_set(keys, values)


def load_all(backend, pool, keys, v1):
    """Like SGLang's controller; returns whether each page arrived."""
    if v1:
        return backend.batch_get_v1(keys, indices(len(keys)))
    found = backend.batch_get(keys, [pool.get_dummy_flat_data_page() for _ in keys])
    for number, page in enumerate(found):
        if page is not None:
            pool.set_from_flat_data_page(number * PAGE, page)
    return [page is not None for page in found]


# --- What is stored and found ---------------------------------------------------------------------


@pytest.mark.parametrize("v1", [1, 0], ids=["v1", "pages"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pages_are_the_same_after_a_restart(open_backend, tmp_path, layout, v1):
    url, keys = spec_of("log", tmp_path), keys_of(16)
    pool = Pool(layout)
    pool.fill()
    first = open_backend(url, pool, v1=v1)
    assert first.batch_exists(keys) == 0
    store_all(first, pool, keys, v1)
    assert first.batch_exists(keys) == 16
    assert first.client.metrics()["larder_keys"] == 16, "one key for each page"
    first.close()

    other = Pool(layout)
    second = open_backend(url, other, v1=v1)
    assert second.batch_exists(keys) == 16
    assert load_all(second, other, keys, v1) == [True] * 16
    assert (other.kv_buffer == pool.kv_buffer).all()
    assert second.failures == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_interfaces_read_each_other_or_find_nothing(open_backend, layout):
    """Values of the two have the same order in some layouts only."""
    url, pool = "memory:?capacity=64MiB", Pool(layout)
    pool.fill()
    both = open_backend(url, pool, v1=1)
    keys = keys_of(4)
    store_all(both, pool, keys, v1=1)
    found = both.batch_get(keys, [pool.get_dummy_flat_data_page() for _ in keys])
    if layout == "page_first":
        assert (found[2].array == pool.get_data_page(2 * PAGE).array).all()
    else:
        assert found == [None] * 4 and "interface_v1" in both.last_failure


def test_what_is_there_is_not_written_again(open_backend, tmp_path):
    pool = Pool()
    pool.fill()
    backend = open_backend(spec_of("log", tmp_path), pool)
    keys = keys_of(8)
    store_all(backend, pool, keys[:6], v1=1)
    before = backend.client.report().counters["bytes_stored_total"]
    store_all(backend, pool, keys, v1=1)
    page = pool.get_dummy_flat_data_page().numel()
    assert backend.client.report().counters["bytes_stored_total"] - before == 2 * page


@pytest.mark.parametrize("kind", ["memory", "log", "fs"])
def test_a_lookup_is_the_longest_prefix(open_backend, tmp_path, kind):
    pool = Pool()
    backend = open_backend(spec_of(kind, tmp_path), pool)
    keys = keys_of(8)
    store_all(backend, pool, keys[:3], v1=1)
    assert backend.batch_set_v1(keys[4:6], indices(2)) == [True, True]
    assert backend.batch_exists(keys) == 3
    assert backend.batch_exists(keys[3:]) == 0
    assert backend.batch_exists(keys[4:]) == 2
    assert backend.batch_exists([]) == 0
    assert [backend.exists(keys[number]) for number in (2, 3, 4)] == [True, False, True]


def test_a_load_tells_of_each_page(open_backend):
    pool = Pool()
    pool.fill()
    backend = open_backend("memory:?capacity=64MiB", pool)
    keys = keys_of(4)
    assert backend.batch_set_v1([keys[0], keys[2]], indices(2)) == [True, True]
    assert backend.batch_get_v1(keys, indices(4, 8)) == [True, False, True, False]
    assert backend.failures == 0, "misses are no failures"


def test_a_value_of_another_size_is_not_found_and_replaced(open_backend):
    """Whichever rank wrote it: a page is found only where it can be loaded."""
    pool = Pool()
    backend = open_backend("memory:?capacity=64MiB", pool)
    (name,) = backend._pools["kv"].names(["key"])
    backend.client.submit_set([name], [b"short"])
    assert backend.batch_exists(["key"]) == 0
    assert backend.batch_get_v1(["key"], indices(1)) == [False]
    assert backend.batch_set_v1(["key"], indices(1)) == [True]
    assert backend.batch_exists(["key"]) == 1


def test_one_page_at_a_time(open_backend):
    pool = Pool()
    pool.fill()
    backend = open_backend("memory:?capacity=64MiB", pool, v1=0)
    target = pool.get_dummy_flat_data_page()
    assert backend.get("key", target) is None
    assert backend.set("key", pool.get_data_page(PAGE))
    assert backend.get("key", target) is target
    assert (target.array == pool.get_data_page(PAGE).array).all()


# --- Names ----------------------------------------------------------------------------------------


def prefix_of(open_backend, pool=None, config=None, v1=1, name="kv", **extra):
    backend = open_backend("memory:", config=config, v1=v1, **extra)
    pool = pool or Pool()
    if name == "kv":
        backend.register_mem_pool_host(pool)
    else:
        backend.register_mem_host_pool_v2(pool, name)
    return backend._pools[name].prefix


@pytest.mark.parametrize(
    "change",
    [
        {"config": Config(model_name="another")},
        {"config": Config(tp_size=2, tp_rank=0)},
        {"config": Config(tp_size=2, tp_rank=1)},
        {"config": Config(pp_size=2, pp_rank=0)},
        {"config": Config(pp_size=2, pp_rank=1)},
        {"config": Config(attn_cp_size=2, attn_cp_rank=1)},
        {"config": Config(is_mla_model=True)},
        {"pool": Pool("layer_first")},
        {"pool": Pool(dtype="bfloat16")},
        {"pool": Pool(head_num=4)},
        {"pool": Pool(head_dim=16)},
        {"pool": Pool(layer_num=2, start_layer=2)},
        {"pool": Pool(storage_format_tag="another")},
        {"revision": "another"},
        {"namespace": "another"},
    ],
    ids=lambda change: repr(change)[:60],
)
def test_what_decides_a_pages_content_is_in_its_name(open_backend, change):
    assert prefix_of(open_backend, **change) != prefix_of(open_backend)


def test_names_are_the_same_in_another_process(open_backend):
    """The number is that of this format: other contents need another FORMAT."""
    assert prefix_of(open_backend) == prefix_of(open_backend, Pool(pages=99))
    assert prefix_of(open_backend) == "larder.sglang/76243197d23892ca3012f8456f03bca0/"


@pytest.mark.parametrize(
    "name", ["model_path", "revision", "quantization", "kv_cache_dtype", "json_model_override_args"]
)
def test_how_the_engine_loads_its_weights_is_in_the_name(open_backend, fakes, name):
    before = prefix_of(open_backend)
    for value in ("one", "other"):
        arguments = type("Arguments", (), {name: value})()
        fakes["sglang.srt.runtime_context"].get_server_args = lambda made=arguments: made
        after = prefix_of(open_backend)
        assert after != before
        before = after


def test_ranks_of_an_mla_model_share_their_pages(open_backend):
    def of(tp_size, tp_rank, **more):
        config = Config(is_mla_model=True, tp_size=tp_size, tp_rank=tp_rank, **more)
        from larder.sglang import _identity

        parts = {"given": {}, "server": None, "order": "one"}
        return lambda pool: _identity.key_prefix(
            _identity.identity(config, Pool(), pool, **parts)
        )

    assert of(1, 0)("kv") == of(4, 0)("kv") == of(4, 3)("kv") == of(8, 5)("kv")
    assert of(4, 0)("mamba") != of(4, 1)("mamba"), "the state of each rank is its own"
    assert of(4, 0)("kv") != of(4, 0, pp_size=2, pp_rank=1)("kv")


def test_the_interface_is_in_the_name_where_it_decides_the_order(open_backend):
    for layout, is_same in (("page_first", True), ("layer_first", False)):
        one, other = (prefix_of(open_backend, Pool(layout), v1=v1) for v1 in (0, 1))
        assert (one == other) == is_same


# --- Several ranks --------------------------------------------------------------------------------


def test_each_rank_has_a_directory_and_its_own_pages(open_backend, tmp_path):
    url = f"log:{tmp_path}/kv/{{rank}}?capacity=256MiB&max_value=1MiB&segment=8MiB&min_free=0"
    keys, pools = keys_of(4), [Pool(), Pool()]
    for turn in range(2):
        backends = [
            open_backend(url, pools[rank], config=Config(tp_rank=rank, tp_size=2))
            for rank in range(2)
        ]
        if turn == 0:
            for rank, backend in enumerate(backends):
                pools[rank].fill(seed=rank)
                store_all(backend, pools[rank], keys, v1=1)
        kept = [pool.kv_buffer.copy() for pool in pools]
        for rank, backend in enumerate(backends):
            pools[rank].kv_buffer[...] = 0
            assert load_all(backend, pools[rank], keys, v1=1) == [True] * 4
            page = slice(0, 4 * PAGE)
            assert (pools[rank].kv_buffer[:, page] == kept[rank][:, page]).all()
            pools[rank].kv_buffer[...] = kept[rank]
            backend.close()
    assert sorted(path.name for path in (tmp_path / "kv").iterdir()) == ["tp0", "tp1"]


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_on_one_log_are_refused_with_the_remedy(open_backend, tmp_path, rank, caplog):
    backend = open_backend(
        spec_of("log", tmp_path), Pool(), config=Config(tp_rank=rank, tp_size=2)
    )
    assert backend.client is None
    assert "log:/data/kv/{rank}" in backend.last_failure
    assert backend.batch_exists(keys_of(2)) == 0


def test_a_log_that_another_process_has_is_no_end_of_the_engine(open_backend, tmp_path, caplog):
    url = spec_of("log", tmp_path)
    first = open_backend(url, Pool())
    assert first.client is not None
    second = open_backend(url, Pool())
    assert second.client is None
    (record,) = [one for one in caplog.records if one.name == "larder.sglang"]
    assert "SGLang runs as without larder" in record.getMessage()


@pytest.mark.parametrize("url", ["log", "{rank}"])
def test_mla_ranks_need_a_store_that_they_share(open_backend, tmp_path, url):
    mla = Config(is_mla_model=True, tp_size=2)
    given = spec_of("log", tmp_path) if url == "log" else f"fs:{tmp_path}/{{rank}}?min_free=0"
    assert "redis:" in open_backend(given, Pool(), config=mla).last_failure


def test_mla_ranks_read_what_the_first_stored(open_backend, tmp_path):
    url, keys = spec_of("fs", tmp_path), keys_of(4)
    pools = [Pool(), Pool()]
    ranks = [
        open_backend(url, pools[rank], config=Config(is_mla_model=True, tp_size=2, tp_rank=rank))
        for rank in range(2)
    ]
    pools[0].fill()
    store_all(ranks[0], pools[0], keys, v1=1)
    assert ranks[1].batch_exists(keys) == 4
    assert load_all(ranks[1], pools[1], keys, v1=1) == [True] * 4
    assert (pools[1].kv_buffer[:, : 4 * PAGE] == pools[0].kv_buffer[:, : 4 * PAGE]).all()


# --- What goes wrong ------------------------------------------------------------------------------


def test_a_page_that_failed_to_load_is_a_miss_until_it_is_stored(open_backend):
    pool = Pool()
    inner = "fault:?inner=memory:&pattern=get:2&error_rate=1"
    backend = open_backend(inner, pool)
    keys = keys_of(3)
    store_all(backend, pool, keys, v1=1)
    assert backend.batch_get_v1(keys, indices(3)) == [True, False, True]
    assert backend.failures == 1 and "get" in backend.last_failure


@pytest.mark.parametrize("v1", [1, 0], ids=["v1", "pages"])
def test_a_stalled_store_ends_each_call_at_its_deadline(open_backend, v1):
    """The stall is far longer than the test may take."""
    pool = Pool()
    times = {"lookup_timeout": 0.05, "load_timeout": 0.05, "store_timeout": 0.05}
    stalled = "fault:?inner=memory:&stall_rate=1&stall=1h"
    backend = open_backend(stalled, pool, v1=v1, **times)
    keys = keys_of(4)
    assert backend.batch_exists(keys) == 0
    assert load_all(backend, pool, keys, v1) == [False] * 4
    if v1:
        assert backend.batch_set_v1(keys, indices(4)) == [False] * 4
    else:
        assert backend.batch_set(keys, [pool.get_data_page(0)] * 4) is False
    assert "time" in backend.last_failure or "deadline" in backend.last_failure


class Stuck(larder.connectors.PythonConnector):
    """Has every page, and loads it when the test says so: as a disk that does not return."""

    def __init__(self):
        self.entered, self.may_go_on = threading.Event(), threading.Event()
        self.has_pages = True

    def get_into(self, key, buffer):
        self.entered.set()
        assert self.may_go_on.wait(DEADLINE_S)
        buffer[:] = b"\1" * len(buffer)
        return len(buffer)

    def size(self, key):
        return 256 if self.has_pages else None

    def set(self, key, data):
        self.get_into(key, bytearray(len(data)))

    def delete(self, key):
        return True


@pytest.fixture
def stuck():
    made = Stuck()
    name = f"stuck{id(made)}"
    larder.connectors.register(name, lambda **_: made)
    yield made, f"{name}:"
    made.may_go_on.set()


@pytest.mark.parametrize("what", ["load", "store"])
def test_a_call_keeps_memory_of_the_host_pool_for_as_long_as_a_disk_has_it(
    open_backend, stuck, what, caplog, monkeypatch
):
    from larder.sglang import _calls

    monkeypatch.setattr(_calls, "_GRACE_S", 0.05)
    connector, url = stuck
    connector.has_pages = what == "load"
    backend = open_backend(url, Pool(), load_timeout=0.05, store_timeout=0.05)
    call = {"load": backend.batch_get_v1, "store": backend.batch_set_v1}[what]
    answers, said = [], threading.Event()
    monkeypatch.setattr(backend._calls, "_on_held", lambda text: said.set())

    def work():
        for key in map(str, itertools.count()):  # A key that was late is a miss for a while.
            if connector.entered.is_set():
                return  # On a busy machine a deadline may pass before that.
            answers[:] = [call([key], indices(1))]

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert said.wait(DEADLINE_S), "nobody was told"
    assert connector.entered.is_set() and thread.is_alive()
    connector.may_go_on.set()
    join_all([thread])
    assert len(answers[0]) == 1


def test_a_load_by_page_ends_though_the_disk_does_not(open_backend, stuck, monkeypatch):
    from larder.sglang import _calls

    monkeypatch.setattr(_calls, "_GRACE_S", 0.05)
    connector, url = stuck
    pool = Pool()
    backend = open_backend(url, pool, v1=0, load_timeout=0.05)
    for key in map(str, itertools.count()):  # A key that was late is a miss for a while.
        if connector.entered.is_set():
            break  # On a busy machine the deadline may pass before that.
        # The client keeps the page for as long as the disk may write to it.
        assert backend.batch_get([key], [pool.get_dummy_flat_data_page()]) == [None]
    gc.collect()
    connector.may_go_on.set()


def test_one_line_says_that_it_fails_until_it_works(open_backend, caplog):
    pool = Pool()
    backend = open_backend("fault:?inner=memory:&pattern=get:1-6,9&error_rate=1", pool)
    keys = keys_of(2)
    store_all(backend, pool, keys, v1=1)
    for _ in range(5):
        store_all(backend, pool, keys, v1=1)
        backend.batch_get_v1(keys, indices(2))
    records = [one for one in caplog.records if one.name == "larder.sglang"]
    assert all(one.levelno == logging.WARNING for one in records)
    assert 1 <= len(records) <= backend.failures


def test_nothing_is_raised_whatever_is_given(open_backend):
    pool = Pool()
    backend = open_backend("memory:", pool)
    keys = keys_of(2)
    assert backend.batch_get_v1(keys, indices(3)) == [False, False]
    assert backend.batch_set_v1(keys, None) == [False, False]
    assert backend.batch_get_v1(["k" * 2000], indices(1)) == [False]
    assert backend.batch_get(keys, [None, None]) == [None, None]
    assert backend.batch_get(keys) == [None, None]
    assert backend.batch_set(keys, None) is False
    strange = Tensor(pool.get_dummy_flat_data_page().array, is_contiguous=False)
    assert backend.batch_get(keys[:1], [strange]) == [None]
    on_gpu = Tensor(pool.get_dummy_flat_data_page().array, device="cuda")
    assert backend.batch_set(keys[:1], [on_gpu]) is False
    assert backend.batch_exists([None]) == 0
    assert backend.batch_get_v2([Transfer("unknown", keys, indices(2))]) == {
        "unknown": [False, False]
    }
    assert backend.failures > 0
    backend.close()
    backend.close()
    assert backend.batch_exists(keys) == 0
    assert backend.batch_get_v1(keys, indices(2)) == [False, False]
    assert backend.batch_set_v1(keys, indices(2)) == [False, False]


def test_a_forked_child_finds_nothing(open_backend):
    backend = open_backend("memory:", Pool())
    store_all(backend, Pool(), keys_of(2), v1=1)
    child = os.fork()
    if child == 0:
        good = backend.batch_exists(keys_of(2)) == 0
        good = good and backend.batch_get_v1(keys_of(2), indices(2)) == [False, False]
        os._exit(0 if good else 1)
    assert exit_code_of(child) == 0
    assert backend.batch_exists(keys_of(2)) == 2


def test_a_pool_without_pages_is_refused(open_backend, caplog):
    backend = open_backend("memory:")
    backend.register_mem_pool_host(object())
    assert backend.batch_exists(keys_of(1)) == 0
    assert "cannot be kept" in backend.last_failure


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"url": ""}, "neither 'url'"),
        ({"url": 5}, "wanted a text such as"),
        ({"url": "nothing:/data"}, "nothing"),
        ({"url": "log:/proc/kv?capacity=1GiB"}, "/proc/kv"),
        ({"url": "memory:", "revison": "a"}, "'revison' in the extra config: not known"),
        ({"url": "memory:", "revision": 5}, "'revision' in the extra config: 5"),
        ({"url": "memory:", "load_timeout": 0}, "wanted seconds above 0"),
        ({"url": "memory:", "load_timeout": True}, "wanted seconds above 0"),
        ({"url": "memory:", "load_timeout": float("inf")}, "wanted seconds above 0"),
    ],
)
def test_a_wrong_configuration_is_said_and_no_end_of_the_engine(
    open_backend, caplog, extra, says
):
    backend = open_backend(**extra)
    backend.register_mem_pool_host(Pool())
    assert says in backend.last_failure
    assert backend.batch_exists(keys_of(2)) == 0
    assert backend.batch_get_v1(keys_of(2), indices(2)) == [False, False]
    assert backend.batch_set_v1(keys_of(2), indices(2)) == [False, False]
    assert backend.batch_set(keys_of(2), [None, None]) is False
    backend.clear()
    assert backend.get_stats() is None
    backend.close()
    records = [one for one in caplog.records if one.name == "larder.sglang"]
    assert len(records) == 1 and says in records[0].getMessage()


def test_the_environment_names_the_store_where_no_configuration_does(open_backend, monkeypatch):
    monkeypatch.setenv("LARDER", "memory:?capacity=8MiB")
    assert open_backend(None).client.report().capacity_bytes == 8 << 20
    assert open_backend("memory:?capacity=16MiB").client.report().capacity_bytes == 16 << 20
    assert open_backend({"type": "memory", "capacity": "9MiB"}).client.report().type == "memory"


# --- The rest -------------------------------------------------------------------------------------


def test_clear_leaves_what_is_another_models(open_backend, tmp_path):
    url, keys = spec_of("fs", tmp_path), keys_of(4)
    pool = Pool()
    one = open_backend(url, pool)
    other = open_backend(url, Pool(), config=Config(model_name="another"))
    store_all(one, pool, keys, v1=1)
    store_all(other, pool, keys, v1=1)
    one.clear()
    assert (one.batch_exists(keys), other.batch_exists(keys)) == (0, 4)
    store_all(one, pool, keys, v1=1)
    assert one.batch_exists(keys) == 4


def test_a_clear_that_left_something_says_so(open_backend):
    backend = open_backend("fault:?inner=memory:&pattern=delete:*&error_rate=1", Pool())
    store_all(backend, Pool(), keys_of(2), v1=1)
    with pytest.raises(larder.Error):
        backend.clear()


def test_a_page_that_was_deleted_is_a_miss(open_backend):
    pool = Pool()
    backend = open_backend("memory:", pool)
    keys = keys_of(4)
    store_all(backend, pool, keys, v1=1)
    (name,) = backend._pools["kv"].names([keys[2]])
    assert backend.client.delete_prefix(name) == 1
    assert backend.batch_exists(keys) == 2
    assert backend.batch_get_v1(keys, indices(4)) == [True, True, False, True]


def test_statistics_are_each_told_once(open_backend):
    pool = Pool()
    backend = open_backend("memory:", pool, config=Config(enable_storage_metrics=True))
    keys = keys_of(4)
    store_all(backend, pool, keys, v1=1)
    load_all(backend, pool, keys[:3], v1=1)
    stats = backend.get_stats()
    assert (stats.prefetch_pgs, stats.backup_pgs) == ([3], [4])
    assert all(speed > 0 for speed in stats.prefetch_bandwidth + stats.backup_bandwidth)
    assert backend.get_stats().prefetch_pgs == []


def test_hybrid_models_restore_what_every_pool_has(open_backend):
    kv, state = Pool(), Pool(head_num=7)
    backend = open_backend("memory:", kv)
    backend.register_mem_host_pool_v2(kv, "kv")
    backend.register_mem_host_pool_v2(state, "mamba")
    keys = keys_of(6)
    store_all(backend, kv, keys, v1=1)
    state.fill(7)
    stored = backend.batch_set_v2([Transfer("mamba", [keys[1], keys[3]], indices(2))])
    assert stored == {"mamba": [True, True]}

    def found(policy, count=1):
        return backend.batch_exists_v2(keys, [Transfer("mamba", keys[:count], None, policy)])

    trailing = found(Policy.TRAILING_PAGES)
    assert trailing.kv_hit_pages == 4
    assert trailing.restorable_prefix_pages == [2, 4]
    assert trailing.extra_pool_hit_pages == {"kv": 6, "mamba": 4}
    assert found(Policy.TRAILING_PAGES, 2).kv_hit_pages == 0
    assert found(Policy.ALL_PAGES).kv_hit_pages == 0
    assert found(Policy.BLOCK_GROUPS).kv_hit_pages == 6, "a second form never shortens"
    assert backend.batch_exists_v2(keys).kv_hit_pages == 6

    other = Pool(head_num=7)
    backend.register_mem_host_pool_v2(other, "mamba")
    loaded = backend.batch_get_v2([Transfer("mamba", [keys[3], keys[4]], indices(2))])
    assert loaded == {"mamba": [True, False]}
    assert (other.kv_buffer[:, :PAGE] == state.kv_buffer[:, PAGE : 2 * PAGE]).all()


def test_all_threads_at_once(open_backend, tmp_path):
    """Each waits for its own batches, and one of them drains for all."""
    pool = Pool(pages=64)
    pool.fill()
    backend = open_backend(spec_of("log", tmp_path), pool)
    wrong = []

    def work(number):
        keys = keys_of(4, f"k{number:02}")
        where = indices(4, 4 * number)
        for _ in range(25):
            good = backend.batch_set_v1(keys, where) == [True] * 4
            good = good and backend.batch_exists(keys) == 4
            if not (good and backend.batch_get_v1(keys, where) == [True] * 4):
                wrong.append(backend.last_failure)
                return

    before = pool.kv_buffer.copy()
    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(16)]
    for thread in threads:
        thread.start()
    join_all(threads)
    assert not wrong
    assert (pool.kv_buffer == before).all()


def test_a_close_ends_the_calls_that_wait(open_backend, monkeypatch):
    backend = open_backend("fault:?inner=memory:&stall_rate=1&stall=1h", Pool(), load_timeout=3600)
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(backend.batch_get_v1(["key"], indices(1))), daemon=True
    )
    thread.start()
    deadline = time.monotonic() + DEADLINE_S
    while not backend._calls._is_draining:
        assert time.monotonic() < deadline, "the call did not begin to wait"
        time.sleep(0.001)
    backend.client.close(0, 10)
    join_all([thread])
    assert answers == [[False]]


def test_without_sglang_the_error_names_the_remedy(monkeypatch):
    import larder.sglang

    monkeypatch.setitem(sys.modules, "sglang.srt.mem_cache.hicache_storage", None)
    with pytest.raises(ImportError, match="pip install 'sglang>=0.5.23'"):
        larder.sglang.LarderHiCache  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Larder'"):
        larder.sglang.Larder  # noqa: B018
