"""Every connector type behind the L2 adapter, and what each call of the adapter answers for it."""

import asyncio
import collections
import enum
import time
import types

import pytest
from l2_adapter import Driver, Listener, adapter_of, key_of, log_of, parsed, plugin, value_of
from lmcache.v1.distributed import api
from redis_server import RedisServer

import larder
from larder.connectors import PythonConnector
from larder.lmcache import Connector

KEYS = [key_of(i, "ab"[i % 2]) for i in range(6)]
VALUES = [value_of(key, 4096 + i) for i, key in enumerate(KEYS)]
SIZES = [len(value) for value in VALUES]


class Values(PythonConnector):
    """A connector in Python with the four methods that it must have."""

    def __init__(self, **_):
        self.values = {}

    def get_into(self, key, buffer):
        if key not in self.values:
            return None
        buffer[:] = self.values[key]
        return len(buffer)

    def set(self, key, data):
        self.values[key] = bytes(data)

    def size(self, key):
        return len(self.values[key]) if key in self.values else None

    def delete(self, key):
        return self.values.pop(key, None) is not None


class Listed(Values):
    def scan(self, cursor, limit):
        keys = sorted(self.values)[cursor : cursor + limit]
        page = [(key, len(self.values[key])) for key in keys]
        return page, cursor + limit if len(page) == limit else None


class WithoutDelete:
    """LMCache's native contract, as far as it must go."""

    def __init__(self, **_):
        self._inner = Connector("memory:")
        for name in ("event_fd", "drain_completions", "close"):
            setattr(self, name, getattr(self._inner, name))
        for name in ("get", "set", "exists"):
            setattr(self, f"submit_batch_{name}", getattr(self._inner, f"submit_batch_{name}"))


class Row:
    """`parameters` for a directory and a Redis port; what the store can; where it is."""

    def __init__(self, parameters, *, lists=True, events=False, deletes=True, where="dram local"):
        self.parameters = parameters
        self.lists, self.events, self.deletes = lists, events, deletes
        self.where = where


def url(text):
    return lambda directory, port: {"url": text.format(directory=directory, port=port)}


def files(kind):
    return lambda directory, port: {"type": kind, "base_path": f"{directory}/files"}


SHARED = "storage remote"
DISK = "storage local"
TYPES = {
    "memory": Row(url("memory:?capacity=64MiB"), events=True),
    "log": Row(lambda directory, port: {"url": log_of(directory)}, events=True, where=DISK),
    "fs": Row(files("fs"), where=DISK),
    "fs_native": Row(files("fs_native"), where=DISK),
    "redis": Row(url("redis://127.0.0.1:{port}"), lists=False, where=SHARED),
    "valkey": Row(url("valkey://127.0.0.1:{port}"), lists=False, where=SHARED),
    "resp": Row(
        lambda directory, port: {"type": "resp", "host": "127.0.0.1", "port": port},
        lists=False,
        where=SHARED,
    ),
    "unix": Row(url("unix:{directory}/redis.sock"), lists=False, where=SHARED),
    "mock": Row(
        lambda directory, port: {"type": "mock", "max_size_gb": 1, "mock_bandwidth_gb": 100}
    ),
    "fault": Row(url("fault:?inner=memory:"), events=True),
    "fault_inject": Row(
        lambda directory, port: {"type": "fault_inject", "inner": files("fs_native")(directory, 0)},
        where=DISK,
    ),
    "python": Row(url(f"python:{__name__}:Values"), lists=False, where=DISK),
    "python, with scan": Row(url(f"python:{__name__}:Listed"), where=DISK),
    "python, native": Row(
        url(f"python:{__name__}:WithoutDelete"), lists=False, deletes=False, where=DISK
    ),
}
# A server of its own each time; its TLS is resp's.
NOT_HERE = {"rediss", "valkeys"}


@pytest.fixture
def redis(tmp_path):
    socket = ["--unixsocket", f"{tmp_path}/redis.sock"]
    with RedisServer(tmp_path, *socket) as server:
        yield server


@pytest.fixture(params=TYPES)
def opened(request, tmp_path, redis):
    row = TYPES[request.param]
    adapter = adapter_of(plugin(**row.parameters(tmp_path, redis.port)))
    yield row, adapter
    adapter.close()


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def accounting(adapter):
    return adapter.report_status()["accounting"]


def test_the_table_has_every_type():
    known = {name.split(",")[0] for name in TYPES} | NOT_HERE
    assert set(larder._larder.connector_types) <= known


def test_every_call_answers(opened, caplog):
    row, adapter = opened
    driver, listener = Driver(adapter), Listener()
    until(lambda: accounting(adapter)["is_complete"])
    assert accounting(adapter)["can_scan"] is row.lists
    assert accounting(adapter)["follows_events"] is row.events

    adapter.register_listener(listener)
    assert driver.lookup(KEYS) == [False] * 6
    assert driver.store(KEYS, VALUES).is_successful()
    assert driver.store(KEYS, VALUES).bytes_transferred() == 0
    assert driver.lookup([*KEYS, key_of(99)]) == [True] * 6 + [False]
    assert driver.load([*KEYS, key_of(99)], [*SIZES, 5]) == [*VALUES, None]
    assert listener.sizes == dict(zip(KEYS, SIZES))
    assert adapter.get_usage().total_bytes_used == sum(SIZES)
    assert adapter.get_usage().bytes_by_cache_salt == listener.by_salt()
    adapter.touch_keys(KEYS)
    adapter.submit_touch(KEYS)
    assert adapter.report_status()["locked_keys"] == 6

    if row.lists:
        page = adapter.list_l2_keys(page_size=4)
        assert len(page.entries) == 4
        rest = adapter.list_l2_keys(page_size=100, cursor=page.next_page_token)
        listed = {e.key.to_object_key(): e.size_bytes for e in (*page.entries, *rest.entries)}
        assert listed == dict(zip(KEYS, SIZES))
    else:
        # LMCache answers NotImplementedError with 503, and anything else with 500.
        with pytest.raises(NotImplementedError) as raised:
            adapter.list_l2_keys()
        assert isinstance(raised.value, larder.UnsupportedError) and "keys" in str(raised.value)
    with pytest.raises(ValueError, match="page_size: 0"):
        adapter.list_l2_keys(page_size=0)
    with pytest.raises(ValueError, match="is not one that a page gave"):
        adapter.list_l2_keys(cursor="x")

    adapter.submit_unlock([*KEYS, key_of(99)])
    adapter.delete(KEYS[:2])
    gone = row.deletes
    assert driver.lookup(KEYS) == [not gone] * 2 + [True] * 4
    assert len(listener.sizes) == (4 if gone else 6)
    until(lambda: sum(adapter.report_status()["in_flight"].values()) == 0)
    status = adapter.report_status()
    assert status["errors"] == ({} if row.deletes else {"delete": 1})
    assert status["is_healthy"] and not status["is_failing"]
    assert isinstance(adapter.supports_global_eviction, bool)
    assert not [record for record in caplog.records if record.exc_info], "a traceback in the log"

    adapter.close()
    with pytest.raises((NotImplementedError, ValueError)):
        adapter.list_l2_keys()
    status = adapter.report_status()
    assert not status["is_healthy"] and status["is_failing"]


def test_what_cannot_be_scanned_is_not_scanned_again(opened):
    row, adapter = opened
    until(lambda: accounting(adapter)["is_complete"])
    assert accounting(adapter)["scans"] == (1 if row.lists else 0)
    adapter._mirror.request_scan()
    until(lambda: accounting(adapter)["is_complete"])
    assert accounting(adapter)["scans"] == (2 if row.lists else 0)
    assert adapter.report_status()["errors"] == {}


@pytest.fixture
def tags(monkeypatch):
    """What LMCache has from 0.5.7 on, or the like of it."""
    if hasattr(api, "MemoryTags"):
        return
    segments = enum.Enum("MemorySegment", {"DRAM": "dram", "STORAGE": "storage"})
    residencies = enum.Enum("MemoryResidency", {"LOCAL": "local", "REMOTE": "remote"})
    made = collections.namedtuple("MemoryTags", ["segment", "residency"])
    for name, value in [
        ("MemorySegment", segments),
        ("MemoryResidency", residencies),
        ("MemoryTags", made),
    ]:
        monkeypatch.setattr(api, name, value, raising=False)


def test_memory_tags_say_where_values_are(opened, tags):
    row, adapter = opened
    told = adapter.get_memory_tags()
    assert f"{told.segment.value} {told.residency.value}" == row.where
    adapter.close()
    assert adapter.get_memory_tags() == told


@pytest.mark.parametrize("name", TYPES)
def test_the_same_of_the_native_connector(name, tmp_path, redis):
    """What the adapter is made of, where somebody else uses it."""
    row = TYPES[name]
    connector = Connector(**row.parameters(tmp_path, redis.port))
    assert (connector.events(0, 1) is not None) == (row.events and name != "log")
    if row.lists:
        assert connector.scan(0, 0, 10)[0] == []
    else:
        with pytest.raises(larder.UnsupportedError):
            connector.scan(0, 0, 10)
    connector.close()


class Unreadable(Listed):
    def scan(self, cursor, limit):
        raise OSError(5, "the disk is gone")


def test_a_store_that_cannot_be_read_is_answered_with_503():
    adapter = adapter_of(plugin(url=f"python:{__name__}:Unreadable"))
    until(lambda: "scan" in adapter.report_status()["errors"])
    assert accounting(adapter)["can_scan"] and not accounting(adapter)["is_complete"]
    with pytest.raises(NotImplementedError, match="cannot be read now: .*the disk is gone"):
        adapter.list_l2_keys()
    adapter.close()
    with pytest.raises(NotImplementedError, match="cannot be read now: the store was closed"):
        adapter.list_l2_keys()


def test_lmcaches_own_service_answers(redis):
    """What its GET /cache/objects asks: pages, or Unavailable, which is 503."""
    service = pytest.importorskip("lmcache.v1.multiprocess.cache_control.object_service")
    from lmcache.v1.distributed.api import Tier
    from lmcache.v1.multiprocess.cache_control.errors import Unavailable

    def ask(**parameters):
        l2 = parsed(plugin(**parameters)).adapters[0]
        adapter = adapter_of(plugin(**parameters))
        descriptor = types.SimpleNamespace(type_name="plugin", config=l2)
        manager = types.SimpleNamespace(l2_adapters=lambda: [(descriptor, adapter)])
        engine = types.SimpleNamespace(storage_manager=manager)
        try:
            objects = service.ObjectService(engine)
            return asyncio.run(objects.list_objects(Tier.L2, None, None, 10, None))
        finally:
            adapter.close()

    assert tuple(ask(url="memory:")["entries"]) == ()
    with pytest.raises(Unavailable, match="does not support listing"):
        ask(url=f"redis://127.0.0.1:{redis.port}")
