"""The L2 adapter's tasks over connectors with rare behaviour. Without LMCache."""

import gc
import logging
import os
import threading
import time
import weakref

import larder
from larder import Completion, Failure
from larder.lmcache.l2_errors import ErrorCounts
from larder.lmcache.l2_keys import KeyFields, wire_key
from larder.lmcache.l2_mirror import DONE, FAILED, Mirror
from larder.lmcache.l2_tasks import Kind, Task, TaskRunner


class Connector:
    """Finishes operations on the test's command."""

    def __init__(self):
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.finished = []
        self.drained = threading.Event()
        self.on_submit = lambda future: None
        self.close = lambda: None

    def event_fd(self):
        return self.fd

    def submit_batch_exists(self, keys, id):
        self.on_submit(id)
        return id

    def submit_batch_get(self, keys, views, id):
        return self.submit_batch_exists(keys, id)

    def submit_batch_set(self, keys, views, id):
        return self.submit_batch_exists(keys, id)

    def finish(self, future, codes, error=""):
        failures = {0: Failure("io", error)} if error else {}
        self.finished.append(Completion(future, None, "get", codes, [], failures))
        os.eventfd_write(self.fd, 1)

    def drain(self):
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass
        taken, self.finished = self.finished, []
        if taken:
            self.drained.set()
        return taken

    def events(self, position, events_max):
        return [], position, 0

    def scan(self, first_word, second_word, keys_max):
        return [], (0, 0), True


class EvictingConnector(Connector):
    """Keeps no events and, until the test says otherwise, no keys: every stored value was
    evicted."""

    def __init__(self):
        super().__init__()
        self.evictions = 0
        self.there = []

    def events(self, position, events_max):
        return None

    def scan(self, first_word, second_word, keys_max):
        return list(self.there), (0, 0), True

    def report(self):
        return {"counters": {"evictions_total": self.evictions}}


class Memory:
    def __init__(self):
        self.byte_array = memoryview(bytearray(8))


def runner_of(connector, on_finished=lambda task, codes: codes):
    errors = ErrorCounts(logging.getLogger("test"))
    mirror = Mirror(connector, lambda change: None, errors.note)
    runner = TaskRunner(connector, mirror, errors, on_finished)
    mirror.start()
    runner.start()
    return runner, errors


def test_a_task_that_ends_before_its_submission_returns_is_completed_once():
    connector = Connector()

    def finish_now(future):
        connector.finish(future, bytes([DONE]))
        assert connector.drained.wait(30)

    connector.on_submit = finish_now
    runner, errors = runner_of(connector)
    task = Task(Kind.LOOKUP, ["a"], ["a"])
    runner.submit(task)
    assert task.is_finished.wait(30)
    assert runner.pop(Kind.LOOKUP, task.id) == bytes([DONE])
    assert runner.pop(Kind.LOOKUP, task.id) is None
    assert sum(runner.in_flight().values()) == 0
    runner.close()
    assert errors.counts() == {}


def test_memory_that_the_kernel_still_has_is_kept_for_ever():
    connector = Connector()

    def stay_stuck():
        raise larder.StuckError("a load of 1 key is still with the kernel")

    connector.close = stay_stuck
    runner, errors = runner_of(connector)
    memory = Memory()
    kept = weakref.ref(memory)
    task = Task(Kind.LOAD, ["a"], ["a"], [memory])
    runner.submit(task)
    del memory
    runner.close()
    assert runner.pop(Kind.LOAD, task.id) == bytes([FAILED])
    assert errors.counts() == {"close": 1, "load": 1}
    del task, runner
    gc.collect()
    assert kept() is not None


def test_a_result_that_cannot_be_made_is_a_failed_task():
    connector = Connector()

    def only_failures(task, codes):
        if DONE in codes:
            raise RuntimeError("a mistake")
        return codes

    runner, errors = runner_of(connector, only_failures)
    connector.on_submit = lambda future: connector.finish(future, bytes([DONE, DONE]))
    task = Task(Kind.LOOKUP, ["a", "b"], ["a", "b"])
    runner.submit(task)
    assert task.is_finished.wait(30)
    assert runner.pop(Kind.LOOKUP, task.id) == bytes([FAILED, FAILED])
    assert errors.counts() == {"completion": 1}
    runner.close()


def wait_until(is_so):
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_key_that_was_evicted_before_its_store_was_told_of_goes_from_the_accounts():
    connector = EvictingConnector()
    runner, errors = runner_of(connector)
    mirror = runner._mirror
    assert mirror.wait_until_complete(60)
    name = wire_key(KeyFields(b"evicted", "llama", 0, 0, ""))
    task = Task(Kind.STORE, [name], ["key"], [Memory()])
    runner.submit(task)
    connector.evictions = 1
    wait_until(lambda: mirror.scans == 2)
    connector.finish(1, bytes([DONE]))
    assert task.is_finished.wait(60)
    wait_until(lambda: not mirror.accounts.items())
    assert mirror.wait_until_complete(60)
    scans = mirror.scans

    # What stays costs no scan.
    task = Task(Kind.STORE, [name], ["key"], [Memory()])
    runner.submit(task)
    connector.there = [(name.encode(), 8)]
    connector.finish(2, bytes([DONE]))
    assert task.is_finished.wait(60)
    runner._look_for_changes()
    assert mirror.wait_until_complete(60)
    assert mirror.scans == scans
    assert mirror.accounts.items() == connector.there
    runner.close()
    assert errors.counts() == {}


HOSTILE = "x\nE forged\x1b[2J"


def test_a_key_that_a_native_load_fails_for_forges_no_line(caplog):
    native = larder.lmcache.Connector("fault:?inner=memory:&error_rate=1&pattern=get:*")
    runner, errors = runner_of(native)
    memory = Memory()
    for kind in (Kind.STORE, Kind.LOAD):
        task = Task(kind, [HOSTILE], ["key"], [memory])
        runner.submit(task)
        assert task.is_finished.wait(60)
    runner.close()
    assert errors.counts() == {"load": 1}
    assert "forged" in caplog.text
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_nor_does_one_that_a_python_connector_tells(caplog):
    connector = Connector()
    runner, errors = runner_of(connector)
    task = Task(Kind.LOAD, [HOSTILE], ["key"], [Memory()])
    runner.submit(task)
    connector.finish(1, bytes([FAILED]), f"no such thing as {HOSTILE}")
    assert task.is_finished.wait(60)
    runner.close()
    assert errors.counts() == {"load": 1}
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert r"x\nE forged\x1b[2J" in record.getMessage()


def test_errors_are_logged_once_a_kind(caplog):
    errors = ErrorCounts(logging.getLogger("larder.test"))
    for i in range(5):
        errors.note("load", f"number {i}")
        errors.note("store", ValueError("bad"))
    assert errors.counts() == {"load": 5, "store": 5}
    assert len(caplog.records) == 2
    assert "number 0" in caplog.text and "number 1" not in caplog.text
