"""LMCache's contract for native connectors, as its 0.5.6 exercises it (tests/interop runs the real one)."""

import ctypes
import gc
import os
import select
import threading
import time

import pytest
from conftest import (
    DEADLINE_S,
    IS_RSS_EXACT,
    MIB,
    exit_code_of,
    join_all,
    random_bytes,
    run_python,
    spec_of,
)

import larder
from larder.lmcache import Connector, ConnectorClient

STALLED = "fault:?inner=memory:&stall_rate=1&stall=1h&pattern=get:*"


def view(data):
    """A buffer as LMCache passes it: a memoryview of a ctypes array, format '<B'."""
    array = (ctypes.c_ubyte * len(data)).from_buffer(bytearray(data))
    return memoryview(array)


class Client:
    """LMCache's demultiplexer in short: poll, drain, route by future id."""

    def __init__(self, *arguments, **parameters):
        self.connector = Connector(*arguments, **parameters)
        self.fd = self.connector.event_fd()
        self.done = {}

    def wait(self, future, seconds=DEADLINE_S):
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        deadline = time.monotonic() + seconds
        while future not in self.done:
            assert time.monotonic() < deadline, "no completion"
            poller.poll(500)
            for future_id, ok, error, results in self.connector.drain_completions():
                assert future_id not in self.done, "a completion came twice"
                self.done[future_id] = (ok, error, results)
        return self.done.pop(future)

    def set(self, keys, values):
        return self.wait(self.connector.submit_batch_set(keys, [view(v) for v in values]))

    def get(self, keys, views):
        return self.wait(self.connector.submit_batch_get(keys, views))

    def exists(self, keys):
        return self.wait(self.connector.submit_batch_exists(keys))

    def delete(self, keys):
        return self.wait(self.connector.submit_batch_delete(keys))


@pytest.fixture
def client(spec):
    opened = Client(spec)
    yield opened
    opened.connector.close()


def key(i):
    return f"meta-llama/Llama-3.1-8B@02000000@0@{i:064x}"


def readable(fd, milliseconds=0):
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(milliseconds))


def test_the_completion_tuples_are_lmcaches(client):
    keys = [key(i) for i in range(4)]
    values = [random_bytes(65536, i) for i in range(4)]
    assert client.set(keys[:3], values[:3]) == (True, "", None)
    assert client.exists(keys) == (True, "", [True, True, True, False])
    views = [view(bytes(65536)) for _ in keys]
    assert client.get(keys, views) == (True, "", [True, True, True, False])
    assert [bytes(v) for v in views[:3]] == values[:3]
    assert bytes(views[3]) == bytes(65536), "the buffer of a miss is untouched"
    assert client.delete([keys[0], keys[3]])[2] == [True, False]
    assert client.delete([keys[0]])[2] == [False]
    assert client.exists(keys)[2] == [False, True, True, False]


def test_types_are_the_exact_ones(client):
    future = client.connector.submit_batch_exists([key(1)])
    assert type(future) is int
    assert readable(client.fd, 30_000)
    (completion,) = client.connector.drain_completions()
    assert type(completion) is tuple
    assert [type(member) for member in completion] == [int, bool, str, list]
    assert type(completion[3][0]) is bool


def test_future_ids_count_from_one_over_all_operations(client):
    c = client.connector
    futures = [
        c.submit_batch_set([key(1)], [view(b"1")]),
        c.submit_batch_get([key(1)], [view(b"1")]),
        c.submit_batch_exists([key(1)]),
        c.submit_batch_delete([key(2)]),
    ]
    assert futures == [1, 2, 3, 4]
    for future in futures:
        client.wait(future)


def test_the_fd_is_an_eventfd_that_never_loses_a_completion(client):
    assert client.connector.event_fd() == client.fd
    assert not readable(client.fd)
    assert client.connector.drain_completions() == []
    futures = {client.connector.submit_batch_exists([key(i)]) for i in range(50)}
    drained = set()
    while drained != futures:
        assert readable(client.fd, 30_000)
        assert int.from_bytes(os.read(client.fd, 8), "little") >= 1, "somebody else reads it"
        completions = {completion[0] for completion in client.connector.drain_completions()}
        assert completions <= futures - drained
        drained |= completions
    while readable(client.fd):  # It may say so once more than there is something.
        os.read(client.fd, 8)
        assert client.connector.drain_completions() == []
    client.wait(client.connector.submit_batch_exists([key(1)]))
    assert not os.get_inheritable(client.fd)
    assert not os.get_blocking(client.fd)


def test_lengths_may_differ_in_a_batch_and_be_zero(client):
    sizes = [0, 1, 4096, 100_000, 3, 2 * MIB]
    keys = [key(i) for i in range(len(sizes))]
    values = [random_bytes(size, size) for size in sizes]
    assert client.set(keys, values) == (True, "", None)
    # ctypes has no arrays of length 0 with a usable export; bytearray has.
    views = [memoryview(bytearray(size)) for size in sizes]
    assert client.get(keys, views) == (True, "", [True] * len(sizes))
    assert [bytes(v) for v in views] == values


def test_the_first_store_of_a_key_wins(client):
    client.set([key(1)], [b"first"])
    assert client.set([key(1)], [b"other"]) == (True, "", None)
    buffer = view(bytes(5))
    assert client.get([key(1)], [buffer])[2] == [True]
    assert bytes(buffer) == b"first"


def test_one_keys_failure_is_its_own_and_the_first_is_told(client):
    keys = [key(1), "", "x" * 2000, key(2)]
    ok, error, results = client.set(keys, [b"1"] * 4)
    assert (ok, results) == (False, None)
    assert "(index 1, buffer of 1 bytes)" in error
    assert "and 1 more keys" in error
    assert client.exists(keys) == (True, "", [True, False, False, True])
    assert client.get(keys, [view(b"0") for _ in keys]) == (True, "", [True, False, False, True])
    assert client.delete(keys) == (True, "", [True, False, False, True])


def test_a_failed_load_is_a_miss_at_the_next_lookup(client):
    client.set([key(1), key(2)], [b"12345678"] * 2)
    assert client.get([key(1), key(2)], [view(bytes(4)), view(bytes(8))]) == (
        True,
        "",
        [False, True],
    )
    assert client.exists([key(1), key(2)])[2] == [False, True]
    client.set([key(1)], [b"new!"])  # LMCache's stores keep existing values: this one replaces it.
    assert client.exists([key(1)])[2] == [True]
    assert client.get([key(1)], [view(bytes(4))]) == (True, "", [True])


def test_arguments_are_refused_with_lmcaches_texts(client):
    c = client.connector
    for call in (c.submit_batch_exists, c.submit_batch_delete):
        with pytest.raises(RuntimeError, match="keys list is empty"):
            call([])
    for call in (c.submit_batch_get, c.submit_batch_set):
        with pytest.raises(RuntimeError, match="keys list is empty"):
            call([], [])
        with pytest.raises(RuntimeError, match="keys and memviews size mismatch"):
            call([key(1)], [])
        with pytest.raises(ValueError, match=r"memoryviews\[0\]: .*not contiguous"):
            call([key(1)], [memoryview(bytearray(8))[::2]])
    with pytest.raises(TypeError, match=r"memoryviews\[0\]: bytes is read-only"):
        c.submit_batch_get([key(1)], [b"never changed"])
    assert c.submit_batch_exists(keys=[b"bytes too"]) > 0


def test_temporaries_live_until_their_completion_was_drained(client):
    c = client.connector
    futures = []
    for round_ in range(20):
        keys = [key(round_ * 8 + i) for i in range(8)]
        futures.append(
            c.submit_batch_set(keys, [view(random_bytes(200_000, round_)) for _ in keys])
        )
        del keys
        gc.collect()
    for future in futures:
        assert client.wait(future) == (True, "", None)
    buffer = view(bytes(200_000))
    for round_ in range(20):
        assert client.get([key(round_ * 8 + 7)], [buffer])[2] == [True]
        assert bytes(buffer) == random_bytes(200_000, round_)


def test_a_buffer_cannot_be_resized_while_it_is_in_flight():
    client = Client(STALLED, load_timeout=0.2)
    client.set([key(1)], [b"12345678"])
    buffer = bytearray(8)
    future = client.connector.submit_batch_get([key(1)], [buffer])
    with pytest.raises(BufferError):
        buffer.append(1)
    assert client.wait(future)[2] == [False]
    buffer.append(1)
    client.connector.close()


def test_limits_queue_loads_and_lookups_and_fail_stores():
    client = Client("fault:?inner=memory:&delay_rate=1&delay=2ms&in_flight=1&batches_max=1")
    value = random_bytes(1000)
    assert client.set([key(1)], [value])[0]
    c = client.connector
    views = [view(bytes(1000)) for _ in range(20)]
    loads = [c.submit_batch_get([key(1)], [v]) for v in views]
    lookups = [c.submit_batch_exists([key(1)]) for _ in range(20)]
    stores = [c.submit_batch_set([key(i)], [view(value)]) for i in range(2, 12)]
    for future in loads + lookups:
        assert client.wait(future) == (True, "", [True])
    assert all(bytes(v) == value for v in views)
    outcomes = [client.wait(future) for future in stores]
    refused = [error for ok, error, _ in outcomes if not ok]
    assert refused
    assert all("in flight" in error or "room" in error for error in refused), refused
    assert c.report()["counters"]["door_refused_total"] == len(refused)
    assert client.set([key(50)], [value])[0], "and it works on"
    c.close()


def test_a_lookup_does_not_wait_behind_loads(tmp_path):
    client = Client(spec_of("log", tmp_path))
    values = [random_bytes(2 * MIB, i) for i in range(8)]
    client.set([key(i) for i in range(8)], values)
    views = [view(bytes(2 * MIB)) for _ in range(64)]
    for _ in range(20):
        loads = client.connector.submit_batch_get([key(i % 8) for i in range(64)], views)
        lookup = client.connector.submit_batch_exists([key(1)])
        order, deadline = [], time.monotonic() + DEADLINE_S
        while len(order) < 2:
            assert time.monotonic() < deadline, "no completion"
            readable(client.fd, 500)
            order += [completion[0] for completion in client.connector.drain_completions()]
        if order == [lookup, loads]:
            break  # The loads may also have ended before this thread came to the lookup.
    assert order == [lookup, loads]
    client.connector.close()


def test_misses_write_no_line_of_log(client, capfd):
    keys = [key(i) for i in range(1000)]
    assert client.get(keys, [view(b"1") for _ in keys]) == (True, "", [False] * 1000)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


# --- The end --------------------------------------------------------------------------------------


def test_close_finishes_what_was_submitted(tmp_path):
    spec = spec_of("log", tmp_path)
    client = Client(spec)
    for i in range(40):
        client.connector.submit_batch_set(
            [key(4 * i + k) for k in range(4)], [view(bytes(50_000))] * 4
        )
    client.connector.close()
    client.connector.close()
    assert client.connector.drain_completions() == []
    assert client.connector.event_fd() == -1
    with larder.open(spec) as store:
        assert store.exists([key(i) for i in range(160)]) == [True] * 160


def test_submit_after_close_raises(client):
    client.connector.close()
    for call in (
        lambda: client.connector.submit_batch_exists([key(1)]),
        lambda: client.connector.submit_batch_set([key(1)], [view(b"1")]),
        lambda: client.connector.submit_batch_get([key(1)], [view(b"1")]),
        lambda: client.connector.submit_batch_delete([key(1)]),
    ):
        with pytest.raises(larder.ClosedError):
            call()


def test_a_thread_that_polls_the_fd_is_woken_by_close(client):
    woken = []
    polling = threading.Event()

    def poll():
        polling.set()
        woken.append(readable(client.fd, 30_000))

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    assert polling.wait(timeout=DEADLINE_S)
    client.connector.close()
    join_all([thread])
    assert woken == [True]
    assert readable(client.fd), "its number is not another file's while the object lives"


def test_close_with_work_in_flight_from_several_threads():
    client = Client(STALLED)
    client.set([key(1)], [b"1"])
    buffers = [bytearray(1) for _ in range(10)]
    for buffer in buffers:
        client.connector.submit_batch_get([key(1)], [buffer])
    threads = [
        threading.Thread(target=client.connector.close, args=(0.1, 20), daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    join_all(threads)
    for buffer in buffers:
        buffer.append(1)  # It has no other user any more.


def test_a_forgotten_connector_closes(tmp_path):
    spec = spec_of("log", tmp_path)
    client = Client(spec)
    client.connector.submit_batch_set([key(1)], [view(b"1")])
    del client
    gc.collect()
    with larder.open(spec) as store:
        assert store.exists([key(1)]) == [True]


def test_after_fork_the_child_is_told(client):
    client.set([key(1)], [b"1"])
    child = os.fork()
    if child == 0:
        try:
            client.connector.submit_batch_exists([key(1)])
        except larder.ForkedError:
            os._exit(0)
        os._exit(1)
    assert exit_code_of(child) == 0
    assert client.exists([key(1)])[2] == [True]


def test_exit_with_a_demultiplexer_and_work_in_flight(spec):
    code = f"""
import select, threading
from larder.lmcache import Connector
connector = Connector({spec!r})
poller = select.poll()
poller.register(connector.event_fd(), select.POLLIN)
def work():
    while True:
        poller.poll(500)
        connector.drain_completions()
threading.Thread(target=work, daemon=True).start()
for i in range(50):
    connector.submit_batch_set([f"k{{i}}-{{j}}" for j in range(4)], [bytearray(100_000) for _ in range(4)])
"""
    ended = run_python(code, env={"LARDER_LOG": "warning"})
    assert (ended.returncode, ended.stderr) == (0, "")
    if spec.startswith("log"):
        with larder.open(spec) as store:
            assert len(list(store.scan())) == 200


def test_leaks(spec, tmp_path):
    def is_open_elsewhere(fd):
        try:
            return not os.readlink(f"/proc/self/fd/{fd}").startswith(str(tmp_path))
        except FileNotFoundError:
            return False  # The listing's own.

    def usage():
        gc.collect()
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
        return pages * 4096, sum(is_open_elsewhere(fd) for fd in os.listdir("/proc/self/fd"))

    def once(client, i):
        client.set([key(i % 10)], [bytes(100_000)])
        client.get([key(i % 10)], [view(bytes(100_000))])
        client.exists([key(i % 20)] * 100)
        client.delete([key(i % 10)])

    client = Client(spec)
    for i in range(200):
        once(client, i)
    before = usage()
    for i in range(1000):
        once(client, i)
    after = usage()
    assert after[0] - before[0] < 8 * MIB or not IS_RSS_EXACT
    assert after[1] <= before[1]
    client.connector.close()


def test_a_thousand_connectors_leave_nothing():
    def counts():
        gc.collect()
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    before = counts()
    for i in range(1000):
        client = Client("memory:")
        client.connector.submit_batch_set([key(i)], [view(b"1")])
        client.connector.close()
        del client
    assert counts() <= before


# --- How it is named ------------------------------------------------------------------------------


def test_lmcaches_parameters_name_a_store(tmp_path):
    client = Client(type="log", path=str(tmp_path / "kv"), capacity="1GiB", max_value="4MiB")
    assert client.set([key(1)], [b"1"])[0]
    assert client.connector.report()["where"] == str(tmp_path / "kv")
    client.connector.close()


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({}, "neither url nor type"),
        ({"url": "memory:?capacity=2GiB", "capacity": "1GiB"}, "capacity: given in url and as a"),
        ({"type": "logg", "path": "/tmp/x"}, "did you mean 'log'"),
        ({"type": "log", "path": "/tmp/x", "capazity": "1GiB"}, "capacity"),
    ],
)
def test_a_wrong_name_says_what_is_wrong(parameters, text):
    with pytest.raises((TypeError, larder.OpenError), match=text):
        Connector(**parameters)


def test_lmcaches_own_types_open_with_their_parameters(tmp_path):
    base = str(tmp_path / "kv")
    for kind in ("fs", "fs_native"):
        files = Client(
            type=kind,
            base_path=base,
            num_workers=8,
            relative_tmp_dir="tmp",
            use_odirect=True,
            read_ahead_size=None,
            max_capacity_gb=0.5,
        )
        key = f"org/model@000000ff@0@{kind.encode().hex()}"
        assert files.set([key], [b"value"]) == (True, "", None)
        assert files.connector.report()["capacity_bytes"] == 1 << 29
        files.connector.close()
        written = f"org-SEP-model@0x000000ff@0@{kind.encode().hex()}.data"
        # LMCache pads with use_odirect, and so does larder.
        assert (tmp_path / "kv" / written).read_bytes().startswith(b"value\0")

    inner = {"type": "fs_native", "base_path": base}
    gaps = Client(type="fault_inject", inner=inner, gap_tail_ratios=[0.0], gap_indices=[])
    keys = [f"org/model@000000ff@0@{kind.encode().hex()}" for kind in ("fs", "fs_native")]
    assert gaps.exists(keys)[2] == [True, True]
    assert gaps.get(keys, [view(bytes(5)), view(bytes(5))])[2] == [True, False]
    gaps.connector.close()

    mock = Client(type="mock", max_size_gb=1, mock_bandwidth_gb=10.5)
    assert mock.set(["key"], [b"value"])[0]
    assert mock.exists(["key"])[2] == [True]
    mock.connector.close()


@pytest.mark.parametrize("name", ["L2Adapter", "L2AdapterConfig"])
def test_without_an_lmcache_that_is_new_enough_the_remedy_is_named(name, tmp_path):
    code = f"import larder.lmcache\nlarder.lmcache.{name}"
    remedy = "pip install -U 'lmcache>=0.5'; or take the form native_plugin with"
    (tmp_path / "none" / "lmcache").mkdir(parents=True)
    (tmp_path / "none" / "lmcache" / "__init__.py").write_text("raise ImportError('none here')")
    ended = run_python(code, env={"PYTHONPATH": str(tmp_path / "none")})
    assert f"larder.lmcache.{name} needs LMCache 0.5.0 or later" in ended.stderr
    assert "LMCache is not installed here (none here)" in ended.stderr and remedy in ended.stderr

    old = tmp_path / "old"
    (old / "lmcache").mkdir(parents=True)
    (old / "lmcache" / "__init__.py").write_text("")
    (old / "lmcache-0.4.7.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: lmcache\nVersion: 0.4.7\n"
    (old / "lmcache-0.4.7.dist-info" / "METADATA").write_text(metadata)
    ended = run_python(code, env={"PYTHONPATH": str(old)})
    assert ended.returncode == 1
    assert "and this is 0.4.7 (No module named 'lmcache." in ended.stderr
    assert remedy in ended.stderr


def test_metrics_are_numbers(client):
    client.set([key(1)], [b"1"])
    client.get([key(1)], [view(b"1")])
    metrics = client.connector.metrics()
    assert metrics["larder_hits_total"] == 1
    assert metrics["larder_keys"] == 1


def test_a_class_of_the_server_says_so_within_the_engine():
    """The arguments that LMCache passes to the class of a storage_plugin."""
    given = {"config": object(), "dst_device": "cpu", "metadata": None, "local_cpu_backend": None}
    for refused in (Connector, ConnectorClient):
        with pytest.raises(
            TypeError, match="no storage_plugin .*remote_storage_plugins.*RemoteConnector"
        ):
            refused(**given, loop=None) if refused is ConnectorClient else refused(**given)
