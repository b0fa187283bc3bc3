"""The L2 adapter by itself, loaded by an unmodified LMCache and called as its controllers do."""

import gc
import math
import threading
import time
import weakref

import pytest
from l2_adapter import (
    KIB,
    MIB,
    Driver,
    Listener,
    Memory,
    adapter_of,
    is_settled,
    key_of,
    log_of,
    plugin,
    value_of,
)
from lmcache.v1.distributed.api import ObjectKey
from lmcache.v1.distributed.config import EvictionConfig
from lmcache.v1.distributed.eviction_policy.factory import CreateEvictionPolicy
from lmcache.v1.distributed.internal_api import L1MemoryDesc
from lmcache.v1.distributed.l2_adapters.native_connector_l2_adapter import _object_key_to_string
from lmcache.v1.distributed.storage_controllers import L2AdapterEvictionState

import larder
from larder.lmcache import L2AdapterConfig
from larder.lmcache.l2_keys import KeyFields, wire_key

STALLED = "fault:?inner=memory:&stall_rate=1&stall=1h&pattern=get:*"


@pytest.fixture(params=["log", "memory", "fs"])
def adapter(request, tmp_path):
    urls = {
        "log": log_of(tmp_path),
        "memory": "memory:?capacity=256MiB",
        "fs": f"fs:{tmp_path}/files?capacity=256MiB&min_free=0",
    }
    opened = adapter_of(plugin(url=urls[request.param]))
    assert opened._mirror.wait_until_complete(30)
    yield opened
    opened.close()


def used(adapter):
    return adapter.get_usage().total_bytes_used


KEYS = [key_of(i, "ab"[i % 2]) for i in range(8)]
VALUES = [value_of(key, 10_000 + i) for i, key in enumerate(KEYS)]
SIZES = [len(value) for value in VALUES]


def test_store_lookup_load_unlock_delete(adapter):
    driver, listener = Driver(adapter), Listener()
    adapter.register_listener(listener)
    fds = {
        adapter.get_store_event_fd(),
        adapter.get_lookup_and_lock_event_fd(),
        adapter.get_load_event_fd(),
    }
    assert len(fds) == 3
    result = driver.store(KEYS[:6], VALUES[:6])
    assert result.is_successful() and result.bytes_transferred() == sum(SIZES[:6])
    assert listener.sizes == dict(zip(KEYS[:6], SIZES[:6]))
    assert adapter.get_usage().bytes_by_cache_salt == listener.by_salt()

    again = driver.store(KEYS, VALUES)
    assert again.is_successful() and again.bytes_transferred() == sum(SIZES[6:])
    assert used(adapter) == sum(SIZES)
    assert listener.accessed == KEYS[:6], "what was there already is in use"
    listener.accessed.clear()

    assert driver.lookup([*KEYS, key_of(99)]) == [True] * 8 + [False]
    assert driver.load([*KEYS, key_of(99)], [*SIZES, 5]) == [*VALUES, None]
    assert listener.accessed == KEYS

    adapter.delete(KEYS[:2])
    assert used(adapter) == sum(SIZES), "locked"
    adapter.submit_unlock([*KEYS, key_of(99), key_of(98)])
    adapter.delete([KEYS[0], KEYS[1], key_of(99)])
    assert used(adapter) == sum(SIZES[2:])
    assert set(listener.sizes) == set(KEYS[2:])
    assert driver.lookup(KEYS) == [False] * 2 + [True] * 6
    assert adapter.report_status()["errors"] == {}


def test_locks_count(adapter):
    driver = Driver(adapter)
    driver.store(KEYS, VALUES)
    for _ in range(3):
        driver.lookup(KEYS)
    for left in (2, 1, 0):
        adapter.delete(KEYS)
        assert used(adapter) == sum(SIZES)
        assert adapter.report_status()["locked_keys"] == 8
        adapter.submit_unlock(KEYS)
        assert adapter.report_status()["locked_keys"] == (8 if left else 0)
    adapter.delete(KEYS)
    assert used(adapter) == 0
    assert adapter.report_status()["skipped_deletes"] == 24


def test_ids_are_distinct_and_results_are_given_once(adapter):
    ids = [adapter.submit_lookup_and_lock_task([key_of(i)]) for i in range(20)]
    ids += [adapter.submit_store_task([key_of(i)], [Memory(b"x")]) for i in range(20)]
    assert len(set(ids)) == 40
    assert adapter.query_load_result(12345) is None
    Driver(adapter).store(KEYS, VALUES)


def test_empty_tasks_are_answered(adapter):
    driver = Driver(adapter)
    assert driver.store([], []).is_successful()
    assert driver.lookup([]) == []
    assert driver.load([], []) == []
    adapter.delete([])
    adapter.submit_unlock([])
    adapter.touch_keys([])


def test_a_failed_load_is_a_miss_at_the_next_lookup(adapter):
    driver = Driver(adapter)
    driver.store(KEYS, VALUES)
    assert driver.load(KEYS[:1], [77]) == [None]
    assert driver.lookup(KEYS[:2]) == [False, True]
    errors = adapter.report_status()["errors"]
    assert errors == {"load": 1}


@pytest.mark.parametrize("salt", ["", "tenant", "ü ?%"])
def test_names_are_those_of_lmcaches_bridge(salt):
    for model in ["llama", "meta-llama/Llama-3.1-8B", "-SEP-", "模型"]:
        for group in [0, 5, 300]:
            key = ObjectKey(b"\0\1\xff", model, 0x02010001, group, salt)
            assert wire_key(key) == _object_key_to_string(key)
    assert KeyFields._fields == tuple(ObjectKey.__dataclass_fields__)


@pytest.mark.parametrize("first", ["native_plugin", "plugin"])
def test_both_forms_share_a_store(tmp_path, first):
    native = {
        "type": "native_plugin",
        "module_path": "larder.lmcache",
        "class_name": "Connector",
        "adapter_params": {"url": log_of(tmp_path)},
    }
    forms = [native, plugin(url=log_of(tmp_path))]
    if first == "plugin":
        forms.reverse()
    writer = adapter_of(forms[0])
    assert Driver(writer).store(KEYS, VALUES).is_successful()
    writer.close()
    reader = adapter_of(forms[1])
    assert Driver(reader).lookup(KEYS) == [True] * 8
    assert Driver(reader).load(KEYS, SIZES) == VALUES
    reader.close()


def test_a_restart_accounts_for_what_is_there(tmp_path):
    adapter = adapter_of(plugin(url=log_of(tmp_path)))
    Driver(adapter).store(KEYS, VALUES)
    adapter.close()
    with larder.open(log_of(tmp_path)) as store:
        store.set_many(["somebody else's"], [bytes(3)])
    adapter = adapter_of(plugin(url=log_of(tmp_path)))
    early, late = Listener(), Listener()
    adapter.register_listener(early)
    assert adapter._mirror.wait_until_complete(30)
    adapter.register_listener(late)
    assert early.sizes == late.sizes == dict(zip(KEYS, SIZES))
    assert adapter.get_usage().bytes_by_cache_salt == late.by_salt()
    accounting = adapter.report_status()["accounting"]
    assert accounting["is_complete"] and accounting["scanned_keys"] == 9
    assert (accounting["foreign_keys"], accounting["foreign_bytes"]) == (1, 3)
    adapter.delete(KEYS)
    assert used(adapter) == 0 and early.sizes == late.sizes == {}
    adapter.close()


def test_larders_own_evictions_are_told(tmp_path):
    url = log_of(tmp_path, capacity="16MiB", max_value="64KiB", segment="512KiB")
    adapter = adapter_of(plugin(url=url))
    listener = Listener()
    adapter.register_listener(listener)
    driver = Driver(adapter)
    for i in range(0, 640, 16):
        keys = [key_of(i + j) for j in range(16)]
        driver.store(keys, [value_of(key, 50 * KIB) for key in keys])
    assert listener.deleted > 200, "32 MB do not fit"
    deadline = time.monotonic() + 30
    while not is_settled(adapter, listener):
        assert time.monotonic() < deadline
        adapter._tasks._look_for_changes()
    assert used(adapter) == 50 * KIB * len(listener.sizes)
    adapter.close()


def until(condition):
    """The condition's value, asked for again and again until it is not None."""
    deadline = time.monotonic() + 60
    while (value := condition()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    return value


@pytest.mark.parametrize("call", ["touch_keys", "submit_touch"])
def test_touched_keys_stay(call):
    adapter = adapter_of(plugin(url="memory:?capacity=1MiB"))
    listener = Listener()
    adapter.register_listener(listener)
    driver = Driver(adapter)
    kept = key_of(1000)
    driver.store([kept], [value_of(kept, 100 * KIB)])
    for i in range(40):
        getattr(adapter, call)([kept, key_of(2000)])
        driver.store([key_of(i)], [value_of(key_of(i), 100 * KIB)])
    assert driver.lookup([kept, key_of(0)]) == [True, False]
    assert listener.accessed == [kept] * 40
    adapter.close()


# --- Configuration -------------------------------------------------------------------------------


def is_known(config):
    try:
        CreateEvictionPolicy(config)
    except ValueError:
        return False
    return True


def test_an_eviction_block_is_refused_unless_it_was_meant(tmp_path):
    for policy in ["LRU", "ARC", "IsolatedLRU"]:
        config = EvictionConfig(policy, 0.8, 0.2)
        if policy == "ARC" and not is_known(config):
            continue  # Before 0.5.6.
        adapter = adapter_of(plugin(url="memory:?capacity=1MiB"))
        assert adapter.supports_global_eviction, "or LMCache ignores the block"
        with pytest.raises(ValueError, match='Remove the "eviction" block.*"evict": "lmcache"'):
            L2AdapterEvictionState(0, adapter, config)
        adapter.close()
        meant = adapter_of(plugin(url="memory:?capacity=1MiB", evict="lmcache"))
        L2AdapterEvictionState(0, meant, config)
        assert meant.get_usage().total_capacity_bytes == MIB
        meant.close()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"url": "memory:", "eviction": {"eviction_policy": "LRU"}}, 'Remove the "eviction" block'),
        ({"url": "memory:", "evict": "lmcache", "eviction": {}}, 'beside "adapter_params"'),
        ({"url": "memory:", "evict": "nobody"}, "'larder' or 'lmcache'"),
        ({"url": "memory:", "lmcache_capacity_gb": 1}, '"evict": "lmcache"'),
        ({"url": "memory:", "evict": "lmcache", "lmcache_capacity_gb": -1}, "0 or more"),
        ({"url": "memory:?capazity=1GiB"}, "capacity"),
        ({}, "neither url nor type"),
        ({"url": "memory:?capacity=2GiB", "capacity": "1GiB"}, "capacity: given in url and as a"),
    ],
)
def test_a_wrong_configuration_is_refused_with_the_remedy(parameters, message):
    with pytest.raises((ValueError, TypeError), match=message):
        adapter_of({**plugin(), "adapter_params": parameters})


def test_evict_lmcache_needs_a_capacity(tmp_path):
    files = {"type": "fs", "base_path": f"{tmp_path}/files", "evict": "lmcache"}
    with pytest.raises(ValueError, match="lmcache_capacity_gb"):
        adapter_of(plugin(**files))
    adapter = adapter_of(plugin(**files, lmcache_capacity_gb=0.5))
    assert adapter.get_usage().total_capacity_bytes == 512 * MIB
    adapter.close()


def test_the_configuration_may_be_parameters_and_keeps_what_it_was_told():
    config = L2AdapterConfig.from_dict({"type": "log", "path": "/kv", "load_timeout": 3})
    assert config.connector_parameters["events"] > 0
    told = {"type": "log", "path": "/kv", "events": 5}
    assert L2AdapterConfig.from_dict(told).connector_parameters == told
    url = "log:/kv?events=5&capacity=1GiB"
    assert L2AdapterConfig.from_dict({"url": url}).connector_parameters == {"url": url}
    assert "evict" in L2AdapterConfig.help()


@pytest.mark.parametrize("name", ["load_timeout", "store_timeout", "lookup_timeout"])
def test_a_time_out_that_is_none_stops_the_start(name):
    for wrong, text in [(0, "0"), (-1, "-1"), (math.nan, "nan"), ("30s", "str '30s'"), ([], "list")]:
        with pytest.raises((TypeError, ValueError), match=f"^{name}: {text}, wanted seconds"):
            adapter_of(plugin(url="memory:", **{name: wrong}))
    for taken in (None, "30", 30, 0.5):
        adapter_of(plugin(url="memory:", **{name: taken})).close()


@pytest.mark.parametrize("wrong", [None, "log:/kv", 7, ["url"]])
def test_a_configuration_that_is_no_dict_names_itself(wrong):
    with pytest.raises(TypeError, match="^adapter_params: [a-zA-Z]+, wanted a dict"):
        L2AdapterConfig.from_dict(wrong)


def test_the_l1_descriptor_tells_whether_values_are_copied(tmp_path):
    for align, is_aligned in [(4096, True), (64, False)]:
        l1 = L1MemoryDesc(ptr=1 << 20, size=1 << 30, align_bytes=align)
        adapter = adapter_of(plugin(url=log_of(tmp_path)), l1)
        status = adapter.report_status()
        assert status["l1_align_bytes"] == align
        assert status["is_l1_aligned"] == (align % status["buffer_alignment"] == 0)
        assert status["is_l1_aligned"] == is_aligned
        adapter.close()


# --- Trouble -------------------------------------------------------------------------------------


class NoBytes:
    byte_array = None


def test_what_cannot_be_submitted_has_failed_and_nothing_raises(adapter):
    driver = Driver(adapter)
    task = adapter.submit_store_task(KEYS, [NoBytes()] * 8)
    assert not driver._wait(
        adapter.get_store_event_fd(), lambda: driver._take_stored(task)
    ).is_successful()
    assert driver.load([KEYS[0]], [1]) == [None]
    long = key_of(1, model="m" * 2000)
    assert driver.lookup([long]) == [False]
    assert not driver.store([long, KEYS[0]], [b"x", VALUES[0]]).is_successful()
    assert driver.lookup([KEYS[0]]) == [True], "the other key of the task is there"
    assert set(adapter.report_status()["errors"]) >= {"store"}


class BadListener(Listener):
    def on_l2_keys_stored(self, keys, sizes):
        raise RuntimeError("a listener's mistake")

    on_l2_keys_accessed = on_l2_keys_deleted = lambda self, keys: 1 / 0


def test_a_listeners_exception_is_counted_and_others_hear(adapter):
    good = Listener()
    adapter.register_listener(BadListener())
    adapter.register_listener(good)
    driver = Driver(adapter)
    assert driver.store(KEYS, VALUES).is_successful()
    assert driver.load(KEYS, SIZES) == VALUES
    adapter.delete(KEYS)
    assert good.accessed == KEYS and good.deleted == 8
    assert adapter.report_status()["errors"] == {"listener": 3}


def test_a_closed_adapter_answers_and_raises_nothing(adapter):
    adapter.register_listener(Listener())
    Driver(adapter).store(KEYS, VALUES)
    adapter.close()
    adapter.close()
    task = adapter.submit_store_task(KEYS, [Memory(value) for value in VALUES])
    assert not adapter.pop_completed_store_tasks()[task].is_successful()
    task = adapter.submit_lookup_and_lock_task(KEYS, {})
    assert adapter.query_lookup_and_lock_result(task).popcount() == 0
    task = adapter.submit_load_task(KEYS, [Memory(value) for value in VALUES])
    assert adapter.query_load_result(task).popcount() == 0
    adapter.delete(KEYS)
    adapter.touch_keys(KEYS)
    adapter.submit_unlock(KEYS)
    assert adapter.get_store_event_fd() == adapter.get_load_event_fd() == -1
    status = adapter.report_status()
    assert not status["is_healthy"] and status["health"] == "down"
    assert status["locked_keys"] == 0


def test_buffers_are_kept_until_the_connector_is_done_also_by_close():
    adapter = adapter_of(plugin(url=STALLED, load_timeout=3600))
    driver = Driver(adapter)
    driver.store(KEYS[:1], VALUES[:1])
    memory = Memory(bytes(SIZES[0]))
    gone = weakref.ref(memory)
    task = adapter.submit_load_task(KEYS[:1], [memory])
    del memory
    gc.collect()
    assert gone() is not None
    assert adapter.report_status()["in_flight"]["load"] == 1
    # The grace of close() is for work that goes on; this one is cut short as a kill would be.
    adapter._connector.close(grace=0)
    adapter.close()
    assert adapter.query_load_result(task).popcount() == 0
    gc.collect()
    assert gone() is None


def test_a_store_that_never_kept_a_value_is_not_healthy():
    adapter = adapter_of(plugin(url="fault:?inner=memory:&error_rate=1&pattern=set:*"))
    driver = Driver(adapter)
    status = adapter.report_status()
    assert status["is_healthy"] and not status["is_failing"]
    assert not driver.store(KEYS[:2], VALUES[:2]).is_successful()
    assert adapter.report_status()["is_healthy"], "two failures do not tell yet"
    for _ in range(2):
        assert not driver.store(KEYS, VALUES).is_successful()
    assert driver.lookup(KEYS) == [False] * 8
    status = adapter.report_status()
    assert status["errors"]["store"] == 3
    assert status["health"] == "degraded", "the store is not down"
    assert status["is_failing"] and not status["is_healthy"]
    assert used(adapter) == 0
    adapter.close()


def test_a_store_of_which_some_fails_is_healthy_and_degraded():
    adapter = adapter_of(plugin(url="fault:?inner=memory:&error_rate=0.5&pattern=set:*"))
    driver = Driver(adapter)
    for i in range(8):
        keys = [key_of(8 * i + j) for j in range(8)]
        driver.store(keys, [value_of(key, 100) for key in keys])
    status = adapter.report_status()
    assert status["is_healthy"] and status["health"] == "degraded" and status["reasons"]
    adapter.close()


def test_many_threads(adapter):
    """Stores, lookups, loads, unlocks and deletes at once; then everything adds up."""
    listener = Listener()
    adapter.register_listener(listener)
    results, errors = {}, []

    def pump_stores(stop):
        while not stop.is_set():
            results.update(adapter.pop_completed_store_tasks())
            stop.wait(0.0005)

    def work(number):
        try:
            for turn in range(30):
                keys = [key_of(number * 100 + turn % 10 * 4 + i, "xyz"[i % 3]) for i in range(4)]
                task = adapter.submit_store_task(keys, [Memory(value_of(k, 999)) for k in keys])
                assert until(lambda: results.pop(task, None)).is_successful()
                lookup = adapter.submit_lookup_and_lock_task(keys)
                bits = until(lambda: adapter.query_lookup_and_lock_result(lookup))
                adapter.delete(keys)
                assert bits.popcount() == 4
                memories = [Memory(bytes(999)) for _ in keys]
                load = adapter.submit_load_task(keys, memories)
                bits = until(lambda: adapter.query_load_result(load))
                assert bits.popcount() == 4, "locked keys stay"
                assert [bytes(m.data) for m in memories] == [value_of(k, 999) for k in keys]
                adapter.submit_unlock(keys)
                if turn % 3 == 0:
                    adapter.delete(keys)
        except BaseException as error:
            errors.append(error)

    stop = threading.Event()
    pump = threading.Thread(target=pump_stores, args=(stop,))
    pump.start()
    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    stop.set()
    pump.join()
    assert not errors, errors
    assert adapter.report_status()["locked_keys"] == 0
    assert adapter.get_usage().bytes_by_cache_salt == listener.by_salt()
    assert used(adapter) == 999 * len(listener.sizes)
    assert is_settled(adapter, listener)
