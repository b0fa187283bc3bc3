"""Connectors written in Python and time: deadlines, close, interrupts, fork, exit."""

import os
import sys
import textwrap
import threading

import pytest
from conftest import MIB, run_python
from python_connector_support import PATIENCE, Dictionary, Gate, open_object, wait_for

import larder
from larder import connectors

__all__ = ["open_object"]  # A fixture.



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
        store.exists(["x"])  # A call reclaims the memory that others have left.
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
    with pytest.raises(larder.StuckError, match="1 store"):
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


def check_exit_beside(hang):
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


if "LARDER_FULL" in os.environ:  # Half a minute each: as long as the end waits for a store.

    def test_a_method_that_spins_does_not_disturb_the_exit():
        check_exit_beside("while True: pass")

    def test_a_method_that_sleeps_does_not_disturb_the_exit():
        check_exit_beside("time.sleep(10_000)")


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
