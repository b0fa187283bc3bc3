"""Objects with LMCache's native contract as connectors."""

import os

import pytest
from conftest import random_bytes
from python_connector_support import Native, open_object, wait_for

import larder
from larder.lmcache import Connector

__all__ = ["open_object"]  # A fixture.



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
    # Values from before larder opened it have an unknown size.
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
    return lambda kind, future, *rest: [
        (future, False, "the disk is gone", results) if kind in kinds else (future, *rest)
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
    # A failed load with results means a miss, one without results and ok means a hit.
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
    with pytest.raises(larder.StuckError, match="1 store of 1 key"):
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

    made.submit_batch_set = lambda keys, views: (_ for _ in ()).throw(ValueError("no"))
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
    assert stored.failed == [True]
    assert "submit_batch_set() raised ValueError: no" in stored.errors[0]
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


def test_a_view_that_is_left_after_the_completion_is_only_counted(open_object):
    kept = []

    class Keeper(Native):
        def submit_batch_set(self, keys, memoryviews):
            kept.extend(memoryviews)
            return super().submit_batch_set(keys, memoryviews)

    store = open_object(Keeper())
    assert store.set_many(["k"], [b"12"]).stored == [True] and store.get("k") == b"12"
    assert store.report().counters["views_kept_total"] == 1
    kept.clear()
