"""A Connector's results beyond LMCache's contract: outcomes by key, touches, events, scans."""

import select
import time

import pytest
from conftest import spec_of

import larder
from larder.lmcache import Connector

FAILED, DONE, MISS, EXISTED = range(4)


def outcome(connector, future):
    poller = select.poll()
    poller.register(connector.event_fd(), select.POLLIN)
    deadline = time.monotonic() + 30
    while True:
        for completion in connector.drain():
            assert completion.id == future
            return list(completion.codes), completion.error
        assert time.monotonic() < deadline
        poller.poll(1000)


def test_outcomes_tell_what_became_of_each_key(spec):
    connector = Connector(spec)
    a, b, c = (f"m@02000000@0@{i:032x}" for i in range(3))
    assert outcome(connector, connector.submit_batch_set([a], [b"one"])) == ([DONE], "")
    stored = connector.submit_batch_set([a, b], [b"one", b"two"])
    assert outcome(connector, stored) == ([EXISTED, DONE], "")
    assert outcome(connector, connector.submit_batch_exists([a, c, b])) == ([DONE, MISS, DONE], "")
    buffers = [bytearray(3), bytearray(3), bytearray(4)]
    codes, error = outcome(connector, connector.submit_batch_get([a, c, b], buffers))
    assert codes == [DONE, MISS, FAILED]
    assert b in error and "stored with 3" in error
    assert bytes(buffers[0]) == b"one"
    assert outcome(connector, connector.submit_batch_touch([a, c])) == ([DONE, MISS], "")
    assert outcome(connector, connector.submit_batch_delete([a, c])) == ([DONE, MISS], "")
    connector.close()
    assert connector.drain() == []


def test_a_touched_key_is_evicted_later():
    connector = Connector("memory:?capacity=40KiB")
    keys = [f"key{i}" for i in range(3)]
    for key in keys:
        outcome(connector, connector.submit_batch_set([key], [bytes(10_000)]))
    outcome(connector, connector.submit_batch_touch([keys[0]]))
    for i in range(2):
        outcome(connector, connector.submit_batch_set([f"other{i}"], [bytes(10_000)]))
    found, _ = outcome(connector, connector.submit_batch_exists(keys))
    assert found == [DONE, MISS, DONE]
    connector.close()


@pytest.mark.parametrize("kind", ["memory", "log"])
def test_events_tell_what_came_and_went_and_how_many_were_lost(kind, tmp_path):
    spec = "memory:?events=3" if kind == "memory" else spec_of("log", tmp_path, events=3)
    connector = Connector(spec)
    assert connector.events(0, 10) == ([], 0, 0)
    outcome(connector, connector.submit_batch_set(["a"], [b"one"]))
    outcome(connector, connector.submit_batch_delete(["a"]))
    (stored, removed), position, lost = connector.events(0, 10)
    assert stored == (True, b"a", 3)
    assert removed[:2] == (False, b"a")
    assert (position, lost) == (2, 0)
    for i in range(5):
        outcome(connector, connector.submit_batch_set([f"b{i}"], [b"x"]))
    page, position, lost = connector.events(position, 10)
    assert page == [(True, f"b{i}".encode(), 1) for i in (2, 3, 4)]
    assert (position, lost) == (7, 2)
    assert connector.events(position, 10) == ([], 7, 0)
    entries, _, is_done = connector.scan(0, 0, 100)
    assert sorted(entries) == [(f"b{i}".encode(), 1) for i in range(5)]
    assert is_done
    connector.close()
    with pytest.raises(larder.ClosedError):
        connector.events(0, 1)


def test_a_store_without_events_says_so(tmp_path):
    for spec in ("memory:?events=0", spec_of("log", tmp_path), spec_of("fs", tmp_path)):
        connector = Connector(spec)
        assert connector.events(0, 10) is None
        connector.close()
