"""Connectors written in Python: what larder promises of them, and what they may do wrong."""

import errno
import os
import pathlib
import random
import shutil
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from conftest import MIB, random_bytes, run_python

import larder
from larder import connectors
from larder.connectors import PythonConnector
from larder.lmcache import Connector

PATIENCE = 60


def wait_for(condition, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


class Dictionary(PythonConnector):
    """A dictionary; `before` is called with each method's name and key."""

    locality = "memory"

    def __init__(self, before=lambda method, key: None, num_workers=4):
        self.before = before
        self.num_workers = num_workers
        self.values = {}
        self.is_closed = False

    def get_into(self, key, buffer):
        self.before("get_into", key)
        value = self.values.get(key)
        if value is None:
            return None
        if len(value) <= len(buffer):
            buffer[: len(value)] = value
        return len(value)

    def set(self, key, data):
        self.before("set", key)
        self.values[key] = bytes(data)

    def size(self, key):
        self.before("size", key)
        value = self.values.get(key)
        return None if value is None else len(value)

    def delete(self, key):
        self.before("delete", key)
        return self.values.pop(key, None) is not None

    def usage(self):
        self.before("usage", b"")
        return len(self.values), sum(map(len, list(self.values.values())))

    def scan(self, cursor, limit):
        self.before("scan", b"")
        keys = sorted(self.values)
        page = [(key, len(self.values[key])) for key in keys[cursor : cursor + limit]]
        return page, cursor + limit if cursor + limit < len(keys) else None

    def close(self):
        self.before("close", b"")
        self.is_closed = True


@pytest.fixture
def open_object():
    """Opens an object by a type of its own; closes it, and forgets the type."""
    opened = []

    def open_one(made, door=larder.open):
        name = f"object{len(opened)}"
        connectors.register(name, lambda: made)
        opened.append((name, door(f"{name}:")))
        return opened[-1][1]

    yield open_one
    for name, store in opened:
        store.close()
        connectors.unregister(name)


class Gate:
    """Holds up whoever comes, until it is opened; counts them."""

    def __init__(self, method):
        self.method = method
        self.arrived = 0
        self.opened = threading.Event()

    def __call__(self, method, key):
        if method == self.method:
            self.arrived += 1
            assert self.opened.wait(PATIENCE)


class Raiser:
    """Raises in one method, for one key."""

    def __init__(self, method, error, key=b"bad"):
        self.method, self.error, self.key = method, error, key

    def __call__(self, method, key):
        if method == self.method and key == self.key:
            raise self.error


# --- What it does ---------------------------------------------------------------------------------


def test_random_operations_match_a_dictionary(open_object):
    store = open_object(Dictionary())
    oracle = {}
    chooser = random.Random(5)
    for turn in range(400):
        keys = [f"k{chooser.randrange(30)}" for _ in range(chooser.randint(1, 6))]
        keys = list(dict.fromkeys(keys))
        operation = chooser.choice(["set", "keep", "get", "exists", "delete", "scan"])
        if operation in ("set", "keep"):
            values = [random_bytes(chooser.randrange(3000), turn + i) for i in range(len(keys))]
            mode = "replace" if operation == "set" else "if_absent"
            stored = store.set_many(keys, values, mode=mode)
            assert all(stored.stored)
            for key, value, existed in zip(keys, values, stored.existed):
                assert existed == (mode == "if_absent" and key in oracle)
                if not existed:
                    oracle[key] = value
        elif operation == "get":
            assert [store.get(key) for key in keys] == [oracle.get(key) for key in keys]
        elif operation == "exists":
            assert store.sizes(keys) == [len(oracle[k]) if k in oracle else None for k in keys]
        elif operation == "delete":
            assert store.delete(keys) == [oracle.pop(key, None) is not None for key in keys]
        else:
            assert dict(store.scan()) == {k.encode(): len(v) for k, v in oracle.items()}
    report = store.report()
    assert (report.keys, report.bytes_used) == (len(oracle), sum(map(len, oracle.values())))
    assert report.type == "object0" and report.integrity == "none" and report.locality == "memory"
    assert report.health == "healthy"


def test_every_way_to_name_it_leads_to_it(tmp_path, monkeypatch):
    (tmp_path / "named_store.py").write_text(
        textwrap.dedent(
            """
            from larder.connectors import PythonConnector
            made = []
            class Outer:
                class Store(PythonConnector):
                    def __init__(self, **given):
                        self.given, self.values = given, {}
                        made.append(self)
                    def get_into(self, key, buffer):
                        if key not in self.values: return None
                        buffer[:] = self.values[key]
                        return len(buffer)
                    def set(self, key, data): self.values[key] = bytes(data)
                    def size(self, key): return len(self.values[key]) if key in self.values else None
                    def delete(self, key): return self.values.pop(key, None) is not None
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    specs = [
        "python:named_store:Outer.Store?path=/a%20b&size=4",
        '{"type": "python", "factory": "named_store:Outer.Store", "path": "/a b", "size": 4}',
        "fault:?inner=python:named_store:Outer.Store%3Fpath%3D/a%2520b%26size%3D4",
        '{"type": "fault", "inner": {"type": "fault", "inner": {"type": "python", "factory":'
        '"named_store:Outer.Store", "path": "/a b", "size": 4}}}',
    ]
    for spec in specs:
        with larder.open(spec) as store:
            assert store.set_many([b"\xff\x00", "b"], [b"1", b"22"]).stored == [True, True]
            assert store.get(b"\xff\x00") == b"1" and store.get("x") is None
    with Connector_of(specs[0]) as door, Connector_of(
        type="python", factory="named_store:Outer.Store", path="/a b", size=4
    ) as other:
        assert door.report()["where"] == other.report()["where"] == "named_store:Outer.Store"
    made = sys.modules["named_store"].made
    assert len(made) == len(specs) + 2
    assert all(one.given == {"path": "/a b", "size": "4"} for one in made)


class Connector_of(Connector):
    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        self.close()


def test_lmcaches_door_stores_and_loads_through_it(open_object):
    door = open_object(Dictionary(), door=Connector)

    def complete(future):
        done = []
        wait_for(lambda: done.extend(door.drain_completions()) or done)
        assert done[0][0] == future
        return done[0][1:]

    data = [bytearray(random_bytes(1000, i)) for i in range(20)]
    keys = [f"k{i}" for i in range(20)]
    assert complete(door.submit_batch_set(keys, data)) == (True, "", None)
    assert complete(door.submit_batch_exists([*keys, "x"])) == (True, "", [True] * 20 + [False])
    buffers = [bytearray(1000) for _ in keys]
    assert complete(door.submit_batch_get(keys, buffers)) == (True, "", [True] * 20)
    assert buffers == data
    assert complete(door.submit_batch_delete(keys[:1])) == (True, "", [True])


def test_the_threads_are_bounded_and_stay(open_object):
    lock = threading.Lock()
    seen = {}
    local = threading.local()
    made = []

    def before(method, key):
        if method in ("usage", "close"):
            return
        with lock:
            seen.setdefault(method, set()).add(threading.get_ident())
        if not hasattr(local, "connection"):
            local.connection = object()
            made.append(threading.get_ident())

    store = open_object(Dictionary(before, num_workers=2))
    for i in range(30):
        keys = [f"{i}-{k}" for k in range(16)]
        store.set_many(keys, [b"v"] * 16)
        store.get_into(keys, [bytearray(1) for _ in keys])
        store.exists(keys)
        store.delete(keys[:4])
    assert {method: len(threads) <= 2 for method, threads in seen.items()} == dict.fromkeys(
        ["set", "get_into", "size", "delete"], True
    )
    # threading.local lasts from call to call.
    assert len(made) == len(set(made)) <= 6


def test_a_lost_peer_drops_what_is_local_to_the_thread_and_is_found_again(open_object):
    local = threading.local()
    made = []
    state = {"is_lost": False}

    def before(method, key):
        if method != "set":
            return
        if not hasattr(local, "connection"):
            made.append(1)
            local.connection = 1
        if state["is_lost"]:
            raise ConnectionResetError(errno.ECONNRESET, "peer is gone")

    store = open_object(Dictionary(before, num_workers=1))
    assert store.set_many(["a"], [b"1"]).stored == [True]
    state["is_lost"] = True
    failed = store.set_many(["b"], [b"1"])
    assert failed.failed == [True] and "ConnectionResetError" in failed.errors[0]
    assert store.set_many(["b"], [b"1"]).failed == [True]
    wait_for(lambda: store.report().health == "down")
    assert store.report().reasons
    state["is_lost"] = False
    wait_for(lambda: store.set_many(["b"], [b"1"]).stored == [True])
    assert store.report().health == "healthy" and len(made) >= 2


def test_calls_for_one_key_do_not_overlap_a_change(open_object):
    lock = threading.Lock()
    inside = {}
    clashes = []

    class Watched(Dictionary):
        def watch(self, key, is_change, call):
            with lock:
                readers, changes = inside.get(key, (0, 0))
                if changes or (is_change and readers):
                    clashes.append(key)
                inside[key] = (readers + (not is_change), changes + is_change)
            try:
                time.sleep(0)  # Lets the others in.
                return call()
            finally:
                with lock:
                    readers, changes = inside[key]
                    inside[key] = (readers - (not is_change), changes - is_change)

        def get_into(self, key, buffer):
            return self.watch(key, False, lambda: super(Watched, self).get_into(key, buffer))

        def size(self, key):
            return self.watch(key, False, lambda: super(Watched, self).size(key))

        def set(self, key, data):
            return self.watch(key, True, lambda: super(Watched, self).set(key, data))

        def delete(self, key):
            return self.watch(key, True, lambda: super(Watched, self).delete(key))

    store = open_object(Watched())
    failures = []

    def work(number):
        chooser = random.Random(number)
        for _ in range(60):
            keys = [f"k{chooser.randrange(3)}" for _ in range(4)]
            stored = store.set_many(keys, [b"12345678"] * 4, mode=chooser.choice(["replace", "if_absent"]))
            outcomes = store.get_into(keys, [bytearray(8) for _ in keys])
            store.exists(keys)
            store.delete(keys[:1])
            if any(stored.failed) or any(outcomes.failed):
                failures.append((stored, outcomes))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and not clashes


def test_many_threads_share_one(open_object):
    store = open_object(Dictionary())
    failures = []

    def work(number):
        try:
            for i in range(20):
                keys = [f"{number}-{i}-{k}" for k in range(8)]
                values = [random_bytes(20_000, hash(key)) for key in keys]
                assert all(store.set_many(keys, values).stored)
                buffers = [bytearray(20_000) for _ in keys]
                assert all(store.get_into(keys, buffers).hits)
                assert [bytes(buffer) for buffer in buffers] == values
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- What it may do wrong -------------------------------------------------------------------------


class Unshowable(Exception):
    def __str__(self):
        raise ValueError("no text")


ERRORS = [
    (ValueError("broken thing"), "ValueError: broken thing"),
    (OSError(errno.ENOSPC, "disk full"), "disk full"),
    (MemoryError("no room"), "MemoryError: no room"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (SystemExit(3), "SystemExit: 3"),
    (Unshowable(), "cannot be shown"),
    (ValueError("long " * 1000), "long long"),
]


@pytest.mark.parametrize("error, text", ERRORS)
def test_an_exception_is_that_keys_failure(open_object, error, text):
    raiser = Raiser(None, error)
    store = open_object(Dictionary(raiser))
    store.set_many(["bad", "good"], [b"12", b"34"])

    raiser.method = "set"
    stored = store.set_many(["bad", "good"], [b"56", b"78"])
    assert stored.failed == [True, False] and stored.stored == [False, True]
    assert "set() raised" in stored.errors[0] and text in stored.errors[0]

    raiser.method = "size"
    assert store.exists(["bad", "good"]) == [False, True]

    raiser.method = "delete"
    with pytest.raises(larder.Error, match="delete\\(\\) raised"):
        store.delete(["bad"])

    raiser.method = "get_into"
    buffers = [bytearray(2), bytearray(2)]
    outcomes = store.get_into(["bad", "good"], buffers)
    assert outcomes.failed == [True, False] and outcomes.hits == [False, True]
    assert "get_into() raised" in outcomes.errors[0] and text in outcomes.errors[0]
    assert buffers[1] == b"78"

    # A key whose load failed is a miss until it is stored again.
    raiser.method = None
    assert store.exists(["bad"]) == [False]
    assert store.set_many(["bad"], [b"90"], mode="if_absent").stored == [True]
    assert store.get("bad") == b"90"
    assert store.report().counters["method_errors_total"] == 4


def test_exceptions_where_no_key_is_concerned(open_object):
    raiser = Raiser("scan", ValueError("not today"), b"")
    made = Dictionary(raiser)
    store = open_object(made)
    with pytest.raises(larder.Error, match="scan\\(\\) raised ValueError: not today"):
        list(store.scan())
    raiser.method = "usage"
    assert any("not today" in reason for reason in store.report().reasons)
    raiser.method = "close"
    store.close()
    assert not made.is_closed and store.closed


WRONG = [
    ("get_into", True, "an int, or None"),
    ("get_into", "12", "an int, or None"),
    ("get_into", -1, "an int, or None"),
    ("get_into", 2.0, "an int, or None"),
    ("size", False, "an int, or None"),
    ("size", 1 << 70, "an int, or None"),
    ("set", 7, "wanted None"),
    ("delete", None, "True or False"),
    ("delete", 1, "True or False"),
]


@pytest.mark.parametrize("method, result, text", WRONG)
def test_a_wrong_result_is_that_keys_failure(open_object, method, result, text):
    made = Dictionary()
    real = getattr(made, method)
    setattr(made, method, lambda key, *rest: result if key == b"bad" else real(key, *rest))
    store = open_object(made)
    stored = store.set_many(["bad", "good"], [b"12", b"34"])
    if method == "set":
        errors = stored.errors
        assert stored.failed == [True, False]
    elif method == "delete":
        with pytest.raises(larder.Error, match=text):
            store.delete(["bad"])
        assert store.delete(["good"]) == [True]
        return
    elif method == "size":
        stored = store.set_many(["bad", "good"], [b"12", b"34"], mode="if_absent")
        errors = stored.errors
        assert stored.failed == [True, False]
    else:
        outcomes = store.get_into(["bad", "good"], [bytearray(2), bytearray(2)])
        errors = outcomes.errors
        assert outcomes.failed == [True, False] and outcomes.hits == [False, True]
    assert f"{method}() returned {result!r}; wanted" in errors[0] and text in errors[0]


def test_a_value_of_another_size_is_told(open_object):
    store = open_object(Dictionary())
    store.set_many(["k", "l"], [b"12345", b"12345"])
    outcomes = store.get_into(["k", "l"], [bytearray(3), bytearray(9)])
    assert outcomes.failed == [True, True]
    assert all("stored with 5" in error for error in outcomes.errors)


@pytest.mark.parametrize("keep", [lambda view: view, lambda view: view[1:], lambda view: [view]])
def test_a_kept_view_is_noticed(open_object, keep):
    kept = []

    class Keeper(Dictionary):
        def set(self, key, data):
            kept.append(keep(data))

        def get_into(self, key, buffer):
            kept.append(keep(buffer))
            return len(buffer)

    store = open_object(Keeper())
    values = [bytearray(b"12")]
    stored = store.set_many(["k"], values)
    assert stored.failed == [True] and "kept a view" in stored.errors[0]
    outcomes = store.get_into(["k"], [bytearray(2)])
    assert outcomes.failed == [True] and "get_into() kept a view" in outcomes.errors[0]
    assert store.report().counters["views_kept_total"] == 2
    values[0].append(3)  # It is the caller's again.
    kept.clear()


def test_views_in_an_exceptions_frames_are_not_kept(open_object):
    class Cyclic(Dictionary):
        def set(self, key, data):
            part = data[1:]
            try:
                raise ValueError("in a cycle", part)
            except ValueError as error:
                cycle = error
                self.cycle = [cycle]
                self.cycle.append(self.cycle)
                del self.cycle

    store = open_object(Cyclic())
    stored = store.set_many(["k"], [b"12"])
    assert stored.errors == [None]


def test_the_objects_attributes_are_checked():
    for name, value in [
        ("num_workers", 0),
        ("num_workers", "4"),
        ("num_workers", True),
        ("batches_max", -1),
        ("value_bytes_max", 2 << 30),
        ("locality", "moon"),
    ]:
        made = Dictionary()
        setattr(made, name, value)
        connectors.register("checked", lambda made=made: made)
        try:
            with pytest.raises(larder.OpenError, match=name) as raised:
                larder.open("checked:")
        finally:
            connectors.unregister("checked")
        assert str(value) in str(raised.value) and "wanted" in str(raised.value)


# --- Time -----------------------------------------------------------------------------------------


def test_what_the_object_does_not_have_fails_at_the_deadline(open_object):
    gate = Gate("set")
    store = open_object(Dictionary(gate, num_workers=1))
    first = []
    thread = threading.Thread(
        target=lambda: first.append(store.set_many(["a"], [b"1"], timeout=PATIENCE))
    )
    thread.start()
    wait_for(lambda: gate.arrived == 1)
    queued = store.set_many(["b"], [b"2"], timeout=0.05)
    assert queued.failed == [True] and "deadline" in queued.errors[0]
    # The same key is in use by another lane's call.
    busy = store.get_into(["a"], [bytearray(1)], timeout=0.05)
    assert busy.failed == [True] and "deadline" in busy.errors[0]
    gate.opened.set()
    thread.join()
    assert first[0].stored == [True] and gate.arrived == 1


def test_what_the_object_has_ends_when_it_returns_and_keeps_its_buffers(open_object):
    gate = Gate("get_into")
    store = open_object(Dictionary(gate))
    store.set_many(["k"], [b"12"])
    buffer = bytearray(2)
    with pytest.raises(larder.StuckError):
        store.get_into(["k"], [buffer], timeout=0.05)
    with pytest.raises(BufferError):
        buffer.append(1)  # Still lent.
    gate.opened.set()

    def is_back():
        store.exists(["x"])  # A call takes back what others have left.
        try:
            buffer.append(1)
        except BufferError:
            return False
        return True

    wait_for(is_back)
    assert buffer[:2] == b"12"


def test_close_is_bounded_and_cancels_what_waits(open_object):
    gate = Gate("set")
    made = Dictionary(gate, num_workers=1)
    store = open_object(made)
    results = {}

    def work(key):
        results[key] = store.set_many([key], [b"1"], timeout=None)

    first = threading.Thread(target=work, args=("a",))
    first.start()
    wait_for(lambda: gate.arrived == 1)
    second = threading.Thread(target=work, args=("b",))
    second.start()
    wait_for(lambda: store.report().counters["batches_queued_store"] == 1)
    with pytest.raises(larder.StuckError, match="1 stores"):
        store.close(timeout=0.2)
    second.join()
    assert results["b"].failed == [True] and gate.arrived == 1
    assert not made.is_closed
    gate.opened.set()
    store.close()
    first.join()
    assert results["a"].stored == [True] and made.is_closed and store.closed


def test_a_close_that_hangs_is_bounded(open_object):
    gate = Gate("close")
    made = Dictionary(gate)
    store = open_object(made)
    with pytest.raises(larder.StuckError):
        store.close(timeout=0.2)
    gate.opened.set()
    store.close()
    assert made.is_closed and gate.arrived == 1


def test_an_interrupted_call_leaves_the_object_at_work():
    ended = run_python(
        textwrap.dedent(
            """
            import signal, threading, larder
            from larder import connectors
            began, go_on = threading.Event(), threading.Event()
            class Slow(connectors.PythonConnector):
                def set(self, key, data):
                    began.set()
                    go_on.wait()
                    self.stored = bytes(data)
            slow = Slow()
            connectors.register("slow", lambda: slow)
            store = larder.open("slow:")
            def interrupt():
                began.wait()
                signal.raise_signal(signal.SIGINT)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            threading.Thread(target=interrupt).start()
            try:
                store.set_many(["k"], [b"value"], timeout=None)
            except KeyboardInterrupt:
                print("interrupted")
            go_on.set()
            store.close()
            print(slow.stored)
            """
        )
    )
    assert ended.stdout.split("\n")[:2] == ["interrupted", "b'value'"], ended.stderr


# --- The native contract --------------------------------------------------------------------------


class Native:
    """LMCache's contract, answered inside submit; `answer` may give another completion."""

    def __init__(self, answer=lambda kind, future, ok, error, results: [(future, ok, error, results)]):
        self.answer = answer
        self.values = {}
        self.completions = []
        self.last_id = 0
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.is_closed = False

    def event_fd(self):
        return self.fd

    def complete(self, kind, results):
        self.last_id += 1
        given = self.answer(kind, self.last_id, True, "", results)
        if given:
            self.completions += given
            os.eventfd_write(self.fd, 1)
        return self.last_id

    def submit_batch_get(self, keys, memoryviews):
        results = []
        for key, view in zip(keys, memoryviews):
            results.append(len(self.values.get(key, b"")) == len(view))
            if results[-1]:
                view[:] = self.values[key]
        return self.complete("get", results)

    def submit_batch_set(self, keys, memoryviews):
        self.values.update((key, bytes(view)) for key, view in zip(keys, memoryviews))
        return self.complete("set", None)

    def submit_batch_exists(self, keys):
        return self.complete("exists", [key in self.values for key in keys])

    def submit_batch_delete(self, keys):
        return self.complete("delete", [self.values.pop(key, None) is not None for key in keys])

    def drain_completions(self):
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass
        drained = self.completions[:]
        del self.completions[: len(drained)]
        return drained

    def close(self):
        assert not self.is_closed
        self.is_closed = True
        os.close(self.fd)


def test_a_native_object_is_a_store(open_object):
    made = Native()
    store = open_object(made)
    assert store.set_many(["a", b"\xff"], [b"123", b"4"]).stored == [True, True]
    assert made.values == {"a": b"123", "\udcff": b"4"}
    assert store.sizes(["a", b"\xff", "x"]) == [3, 1, None]
    assert store.get("a") == b"123" and store.get(b"\xff") == b"4" and store.get("x") is None
    assert store.set_many(["a"], [b"new"], mode="if_absent").existed == [True]
    assert store.delete(["a", "x"]) == [True, False]
    assert store.report().keys == 1
    # What it had before larder came has a size that nobody tells.
    made.values["old"] = b"12345"
    buffer = bytearray(5)
    assert store.get_into(["old"], [buffer]).hits == [True] and buffer == b"12345"
    with pytest.raises(larder.Error, match="does not list"):
        list(store.scan())
    store.close()
    assert made.is_closed


def test_larders_own_lmcache_connector_is_a_native_object(open_object):
    inner = Connector("memory:?capacity=64MiB")
    store = open_object(inner)
    values = [random_bytes(5000, i) for i in range(20)]
    keys = [f"k{i}" for i in range(20)]
    assert all(store.set_many(keys, values).stored)
    buffers = [bytearray(5000) for _ in keys]
    assert all(store.get_into(keys, buffers).hits) and [bytes(b) for b in buffers] == values
    store.close()
    assert inner.closed


def failing(kinds, results=None):
    return lambda kind, future, ok, error, given: [
        (future, False, "the disk is gone", results) if kind in kinds else (future, ok, error, given)
    ]


def test_a_native_failure_is_that_keys(open_object):
    made = Native(failing([]))
    store = open_object(made)
    store.set_many(["k"], [b"1"])
    made.answer = failing(["set"])
    stored = store.set_many(["k", "l"], [b"1", b"2"])
    assert stored.failed == [True, True] and "the disk is gone" in stored.errors[0]
    made.answer = failing(["exists", "get", "delete"])
    assert store.exists(["k"]) == [False]
    with pytest.raises(larder.Error, match="the disk is gone"):
        store.delete(["k"])
    outcomes = store.get_into(["k"], [bytearray(1)])
    assert outcomes.failed == [True] and "submit_batch_get: the disk is gone" in outcomes.errors[0]
    # A load that failed with results tells of a miss, one without results and ok of a hit.
    made.answer = failing(["get"], results=[False])
    assert store.get_into(["other"], [bytearray(1)]).errors == [None]
    made.answer = lambda kind, future, ok, error, results: [(future, True, "", None)]
    assert store.get_into(["more"], [bytearray(1)]).hits == [True]


def test_completions_that_nobody_asked_for_are_counted(open_object):
    def twice_and_more(kind, future, ok, error, results):
        one = (future, ok, error, results)
        return [one, one, (future + 1_000_000, ok, error, results), "nonsense", (1, 2)]

    made = Native(twice_and_more)
    store = open_object(made)
    for i in range(20):
        assert store.set_many([f"k{i}"], [b"1"]).stored == [True]
    wait_for(lambda: store.report().counters["completions_unknown_total"] == 40)
    assert store.report().counters["completions_malformed_total"] == 40
    assert store.get("k3") == b"1"


@pytest.mark.parametrize(
    "bad", [("yes", 3, None), (True, "", 7), (True, "", []), (True, "", [True, False])]
)
def test_an_answer_of_another_form_fails_its_key(open_object, bad):
    made = Native(lambda kind, future, ok, error, results: [(future, *bad)])
    store = open_object(made)
    outcomes = store.get_into(["k"], [bytearray(1)])
    assert outcomes.failed == [True] and "drain_completions() gave no" in outcomes.errors[0]
    assert store.report().counters["completions_malformed_total"] == 1


def test_a_future_that_never_completes_is_waited_for_with_a_bound(open_object):
    lost = []

    def lose_sets(kind, future, ok, error, results):
        if kind == "set":
            lost.append((future, ok, error, results))
            return []
        return [(future, ok, error, results)]

    made = Native(lose_sets)
    store = open_object(made)
    value = bytearray(b"value")
    with pytest.raises(larder.StuckError):
        store.set_many(["k"], [value], timeout=0.05)
    assert store.exists(["other"]) == [False]  # The others are served.
    with pytest.raises(BufferError):
        value.append(1)
    with pytest.raises(larder.StuckError, match="1 stores of 1 keys"):
        store.close(timeout=0.2)
    assert not made.is_closed
    made.completions += lost
    os.eventfd_write(made.fd, 1)
    store.close()
    assert made.is_closed
    value.append(1)


def test_a_native_object_that_raises(open_object):
    made = Native()
    store = open_object(made)
    real = made.drain_completions
    state = {"left": 3}

    def drain():
        if state["left"] > 0:
            state["left"] -= 1
            raise ValueError("not now")
        return real()

    made.submit_batch_set, set_batch = (
        lambda keys, views: (_ for _ in ()).throw(ValueError("no")),
        made.submit_batch_set,
    )
    # Bound when it was opened: the object's own methods are what is called.
    assert store.set_many(["k"], [b"1"]).stored == [True]
    store.close()

    again = Native()
    again.submit_batch_set = made.submit_batch_set
    again.submit_batch_exists = lambda keys: "seven"
    again.drain_completions = drain
    real = again.__class__.drain_completions.__get__(again)
    store = open_object(again)
    stored = store.set_many(["k"], [b"1"])
    assert stored.failed == [True] and "submit_batch_set() raised ValueError: no" in stored.errors[0]
    stored = store.set_many(["k"], [b"1"], mode="if_absent")
    assert "submit_batch_exists() returned 'seven'; wanted a future id" in stored.errors[0]
    assert store.get_into(["k"], [bytearray(1)]).errors == [None]
    assert store.report().counters["drain_errors_total"] == 3


def test_a_descriptor_that_cannot_be_polled_is_told_and_survived(open_object):
    made = Native()
    real, made.event_fd = made.fd, lambda: 1 << 20
    store = open_object(made)
    assert store.set_many(["k"], [b"1"]).stored == [True] and store.get("k") == b"1"
    assert any("event_fd" in reason for reason in store.report().reasons)
    assert made.fd == real


def test_a_native_object_without_delete(open_object):
    made = Native()
    made.submit_batch_delete = None
    store = open_object(made)
    with pytest.raises(larder.Error, match="submit_batch_delete"):
        store.delete(["k"])


# --- How it is found ------------------------------------------------------------------------------

STORE = """
from larder.connectors import PythonConnector
class Connector(PythonConnector):
    def __init__(self, location="", **given): self.given = given; self.values = {}
    def get_into(self, key, buffer):
        if key not in self.values: return None
        buffer[:] = self.values[key]
        return len(buffer)
    def set(self, key, data): self.values[key] = bytes(data)
    def size(self, key): return len(self.values[key]) if key in self.values else None
    def delete(self, key): return self.values.pop(key, None) is not None
"""


def distribution(folder, name, entry_points):
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "".join(f"{key} = {value}\n" for key, value in entry_points)
    (info / "entry_points.txt").write_text(f"[larder.connectors]\n{lines}")


def run_with(folder, code):
    ended = run_python(textwrap.dedent(code), env={"PYTHONPATH": str(folder)})
    assert ended.returncode == 0, ended.stderr
    return ended


def test_an_entry_point_is_found(tmp_path):
    (tmp_path / "brought.py").write_text(STORE)
    distribution(tmp_path, "brought", [("brought", "brought:Connector")])
    ended = run_with(
        tmp_path,
        """
        import sys, larder
        assert "larder.connectors" not in sys.modules
        larder.open("memory:").close()
        assert "larder.connectors" not in sys.modules     # Found when it is needed, not before.
        for spec in ("brought:/data/kv?chunk=1MiB", '{"type": "brought", "location": "/data"}',
                     "fault:?inner=brought:/data"):
            with larder.open(spec) as store:
                store.set_many(["k"], [b"v"])
                assert store.get("k") == b"v"
                print(store.report().type)
        try:
            larder.open("brougth:")
        except larder.OpenError as error:
            print(error)
        """,
    )
    assert ended.stdout.split("\n")[:3] == ["brought", "brought", "fault"]
    assert "unknown connector type 'brougth'" in ended.stdout
    assert "from Python packages: brought" in ended.stdout


def test_a_module_that_is_dropped_in_is_found(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, name in ((first, "one_store"), (second, "other")):
        (folder / "larder_connectors").mkdir(parents=True)
        (folder / "larder_connectors" / f"{name}.py").write_text(STORE)
    ended = run_with(
        f"{first}{os.pathsep}{second}",
        f"""
        import pathlib, sys, larder
        for name in ("one-store", "one_store", "other"):
            with larder.open(f"{{name}}:") as store:
                store.set_many(["k"], [b"v"])
                assert store.get("k") == b"v"
        # Also what comes later, and nothing else is imported.
        late = pathlib.Path({str(second)!r}, "larder_connectors", "late.py")
        late.write_text({STORE!r})
        late.with_name("unused.py").write_text("raise SystemExit('imported without need')")
        with larder.open("late:") as store:
            assert store.exists(["k"]) == [False]
        try:
            larder.open("nobody:")
        except larder.OpenError as error:
            print(error)
        """,
    )
    assert "from Python packages: late, one_store, other, unused" in ended.stdout


def test_a_name_that_larder_has_is_refused(tmp_path):
    (tmp_path / "brought.py").write_text(STORE)
    (tmp_path / "larder_connectors").mkdir()
    (tmp_path / "larder_connectors" / "log.py").write_text("raise SystemExit('imported')")
    distribution(
        tmp_path, "brought", [("memory", "brought:Connector"), ("Upper", "brought:Connector")]
    )
    ended = run_with(
        tmp_path,
        """
        import larder
        try:
            larder.open("absent:")
        except larder.OpenError as error:
            print(error)
        with larder.open("memory:") as store:
            print(store.report().integrity)
        """,
    )
    assert "connector named 'memory', which is not used: larder has a connector of" in ended.stderr
    assert "connector named 'log'" in ended.stderr and "'Upper'" in ended.stderr
    assert ended.stdout.endswith("checked\n")
    with pytest.raises(ValueError, match="larder's own"):
        connectors.register("memory", Dictionary)
    with pytest.raises(ValueError, match="larder's own"):
        connectors.register("python", Dictionary)
    with pytest.raises(ValueError, match="lower-case"):
        connectors.register("My Store", Dictionary)


def test_a_name_that_two_bring_is_refused_until_the_class_is_named(tmp_path):
    (tmp_path / "brought.py").write_text(STORE)
    distribution(tmp_path, "one", [("same", "brought:Connector")])
    distribution(tmp_path, "two", [("same", "other:Connector")])
    ended = run_with(
        tmp_path,
        """
        import larder
        larder.open("python:brought:Connector").close()
        try:
            larder.open("same:")
        except larder.OpenError as error:
            print(error)
        """,
    )
    assert "brought:Connector and other:Connector" in ended.stdout
    connectors.register("same", Dictionary)
    try:
        with pytest.raises(ValueError, match="registered already"):
            connectors.register("same", Dictionary)
    finally:
        connectors.unregister("same")


@pytest.mark.parametrize(
    "spec, texts",
    [
        ("python:", ["names no class", "python:package.module:Class"]),
        ("python:no_such_module_here:Store", ["No module named 'no_such_module_here'", "PYTHONPATH"]),
        ("python:json", ["'json' is no class", "package.module:Class"]),
        ("python:json:absent", ["python:json:absent", "AttributeError"]),
        ("python:json:__version__", ["TypeError", "not a class"]),
        ("python:json:JSONDecoder", ["JSONDecoder is no connector", "get_into", "submit_batch_get"]),
        ("python:json:JSONDecoder?colour=red", ["constructor raised TypeError", "colour"]),
        ("python:json:JSONDecoder?factory=x", ["factory", "given too"]),
        ("fault:?inner=python:json:JSONDecoder", ["JSONDecoder is no connector"]),
    ],
)
def test_a_spec_that_cannot_be_opened_says_why(spec, texts):
    with pytest.raises(larder.OpenError) as raised:
        larder.open(spec)
    for text in texts:
        assert text in str(raised.value)


def test_an_object_that_lacks_a_method_is_refused():
    for made, text in [
        (type("Half", (), {"get_into": len})(), "no method set"),
        (type("Half", (), {"submit_batch_get": len})(), "no method submit_batch_set"),
        (None, "NoneType is no connector"),
    ]:
        connectors.register("half", lambda made=made: made)
        try:
            with pytest.raises(larder.OpenError, match=text):
                larder.open("half:")
        finally:
            connectors.unregister("half")


def test_the_command_names_the_remedy():
    command = os.path.join(os.path.dirname(sys.executable), "larder")
    ended = subprocess.run(
        [command, "bench", "python:mystore:Store?path=/data"], capture_output=True, text=True
    )
    assert ended.returncode != 0
    assert "larder.open(" in ended.stderr and "needs a Python interpreter" in ended.stderr


# --- Fork and exit --------------------------------------------------------------------------------


def test_after_fork_the_child_is_told_and_opens_its_own(open_object):
    store = open_object(Dictionary())
    store.set_many(["k"], [b"parent"])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = b""
        try:
            try:
                store.get("k")
            except larder.ForkedError:
                said += b"refused "
            connectors.register("child", Dictionary)
            with larder.open("child:") as own:
                own.set_many(["k"], [b"child"])
                said += own.get("k")
        finally:
            os.write(writer, said)
            os._exit(0)
    os.close(writer)
    said = os.read(reader, 100)
    os.close(reader)
    os.waitpid(child, 0)
    assert said == b"refused child"
    assert store.get("k") == b"parent"


def test_at_exit_it_is_closed():
    ended = run_python(
        textwrap.dedent(
            """
            import threading, larder
            from larder import connectors
            class Store(connectors.PythonConnector):
                def size(self, key): return None
                def close(self): print("closed")
            connectors.register("store", Store)
            store = larder.open("store:")
            def ask():
                while True:
                    store.exists(["k"])
            for _ in range(3):
                threading.Thread(target=ask, daemon=True).start()
            store.exists(["k"])
            """
        )
    )
    assert (ended.returncode, ended.stdout) == (0, "closed\n"), ended.stderr


@pytest.mark.skipif("LARDER_FULL" not in os.environ, reason="SKIPPED (needs LARDER_FULL=1)")
@pytest.mark.parametrize("hang", ["while True: pass", "time.sleep(10_000)"])
def test_a_method_that_never_returns_does_not_disturb_the_exit(hang):
    ended = run_python(
        textwrap.dedent(
            f"""
            import threading, time, larder
            from larder import connectors
            began = threading.Event()
            class Store(connectors.PythonConnector):
                def size(self, key):
                    began.set()
                    {hang}
            connectors.register("store", Store)
            store = larder.open("store:")
            threading.Thread(target=lambda: store.exists(["k"], timeout=None), daemon=True).start()
            began.wait()
            print("ends")
            """
        ),
        timeout=300,
    )
    assert (ended.returncode, ended.stdout) == (0, "ends\n"), ended.stderr


def test_nothing_is_left_behind():
    made = Dictionary()
    connectors.register("left", lambda: made)
    try:
        for i in range(20):
            with larder.open("left:") as store:
                store.set_many([f"k{i}"], [bytes(MIB)])
                store.get(f"k{i}")
        before = sys.getrefcount(made), len(os.listdir("/proc/self/task"))
        for i in range(20):
            with larder.open("left:") as store:
                store.set_many([f"k{i}"], [bytes(MIB)])
        assert (sys.getrefcount(made), len(os.listdir("/proc/self/task"))) == before
    finally:
        connectors.unregister("left")


# --- The example ----------------------------------------------------------------------------------


def test_the_example_package_passes_its_own_tests(tmp_path):
    """As an installation has it: the sources, and the entry points of its pyproject.toml."""
    source = pathlib.Path(__file__).parents[2] / "examples" / "python_connector"
    shutil.copytree(source / "larder_sqlite", tmp_path / "larder_sqlite")
    project = (source / "pyproject.toml").read_text()
    section = project.split('[project.entry-points."larder.connectors"]\n')[1].split("\n\n")[0]
    entries = [
        (name, value.strip('"')) for name, value in (line.split(" = ") for line in section.split("\n"))
    ]
    assert entries == [("sqlite", "larder_sqlite:SqliteConnector")]
    distribution(tmp_path, "larder_sqlite", entries)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
        + [str(source / "tests"), "--rootdir", str(source)],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0 and "6 passed" in ended.stdout, ended.stdout + ended.stderr
