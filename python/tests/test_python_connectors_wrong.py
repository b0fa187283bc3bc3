"""Connectors written in Python that raise, and return what they may not."""

import ctypes
import errno
import pathlib
import subprocess
import sys

import numpy
import pytest
from conftest import DEADLINE_S
from python_connector_support import Dictionary, Raiser, open_object

import larder
from larder import connectors

__all__ = ["open_object"]  # A fixture.



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


# Parts of a buffer that an object may keep; the last two are still usable memory then.
KEEP = {
    "it": lambda view: view,
    "a list of it": lambda view: [view],
    "a slice": lambda view: view[1:],
    "a cast": lambda view: view.cast("H"),
    "an array": lambda view: numpy.frombuffer(view, numpy.uint8),
    "a slice of an array": lambda view: numpy.frombuffer(view, numpy.uint8)[2:],
    "a ctypes array": lambda view: (ctypes.c_ubyte * len(view)).from_buffer(view)
    if not view.readonly
    else view[:],
}


@pytest.mark.parametrize("keep", KEEP)
def test_a_kept_view_is_noticed(open_object, keep):
    kept = []

    class Keeper(Dictionary):
        def set(self, key, data):
            kept.append(KEEP[keep](data))

        def get_into(self, key, buffer):
            kept.append(KEEP[keep](buffer))
            return len(buffer)

    store = open_object(Keeper())
    values = [bytearray(b"1234")]
    stored = store.set_many(["k"], values)
    assert stored.failed == [True] and "kept a view" in stored.errors[0]
    outcomes = store.get_into(["k"], [bytearray(4)])
    assert outcomes.failed == [True] and "get_into() kept a view" in outcomes.errors[0]
    assert store.report().counters["views_kept_total"] == 2
    values[0].append(3)  # It is the caller's again.
    kept.clear()


USE_AFTER_THE_CALL = """
import ctypes, gc, mmap, sys, threading
import numpy
import larder
from larder import connectors
from python_connector_support import Dictionary, Native
from test_python_connectors_wrong import KEEP

keep, form, in_thread = KEEP[sys.argv[1]], sys.argv[2], sys.argv[3] == "thread"
kept, stop = [], threading.Event()

class Plain(Dictionary):
    def set(self, key, data):
        kept.append(keep(data))
    def get_into(self, key, buffer):
        kept.append(keep(buffer))
        return len(buffer)

class OfLmcache(Native):
    def submit_batch_set(self, keys, memoryviews):
        kept.extend(map(keep, memoryviews))
        return super().submit_batch_set(keys, memoryviews)
    def submit_batch_get(self, keys, memoryviews):
        kept.extend(map(keep, memoryviews))
        return super().submit_batch_get(keys, memoryviews)

def use(view):
    "Reads and writes every byte, as far as it is let."
    view = view[0] if isinstance(view, list) else view
    try:
        bytes(view)
        for i in range(0, len(view), 4096):
            view[i] = 7
        return "used"
    except (TypeError, ValueError) as error:
        return str(error)

def use_all():
    while not stop.is_set():
        for view in list(kept):
            use(view)

connectors.register("keeper", Plain if form == "plain" else OfLmcache)
store = larder.open("keeper:")
thread = threading.Thread(target=use_all, daemon=True)
if in_thread:
    thread.start()
for size in (4096, 1 << 20, 4 << 20):
    for _ in range(3):
        given = mmap.mmap(-1, size)                 # Memory that is gone when it is closed.
        store.set_many(["k"], [given], timeout=10)
        given.close()
        given = mmap.mmap(-1, size)
        store.get_into(["k"], [given], timeout=10)
        given[:] = bytes(size)
        told = {use(view) for view in kept}
        assert given[:] == bytes(size), "nothing is written into the caller's memory"
        given.close()
        gc.collect()
        told |= {use(view) for view in kept}
        if len(kept) > 4:
            kept.clear()
stop.set()
if in_thread:
    thread.join()
store.close()
told |= {use(view) for view in kept}
print(sorted(told))
"""


@pytest.mark.parametrize("in_thread", ["here", "thread"])
@pytest.mark.parametrize("form", ["plain", "native"])
@pytest.mark.parametrize("keep", KEEP)
def test_a_kept_view_is_harmless_memory_or_raises(keep, form, in_thread):
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", USE_AFTER_THE_CALL, keep, form, in_thread],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=pathlib.Path(__file__).parent,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    is_released = "released memoryview" in ended.stdout
    assert is_released == (keep in ("it", "a list of it")), ended.stdout


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
