"""Prefetch, pin, retain and release, how long a load would take, and the engines' hint envelopes."""

import asyncio
import inspect
import types

import pytest
from client_support import ended
from conftest import random_bytes

import larder
import larder.aio
import larder.hints
from larder import Code

KEYS = [f"key {i}" for i in range(6)]
# Loaded values stay in the tier: only hints bring them into L1.
TIERED = "tiered:?l1=4MiB&l2=memory:&promote=none&skip_l1=yes"
SIZE = 1000


def fill(store):
    store.set_many(KEYS, [random_bytes(SIZE, i) for i in range(len(KEYS))])


def counter(store, name):
    return store.report().counters[name]


@pytest.fixture
def tiered():
    with larder.open(TIERED) as store:
        fill(store)
        yield store


# --- Store ----------------------------------------------------------------------------------------


def test_a_prefetch_brings_values_into_l1(tiered):
    assert counter(tiered, "l1_keys") == 0
    hinted = tiered.prefetch([*KEYS, "absent"])
    assert hinted == larder.Hinted([True] * 6 + [False], [False] * 7, [None] * 7)
    assert counter(tiered, "l1_prefetched_total") == 6
    buffers = [bytearray(SIZE) for _ in KEYS]
    assert all(tiered.get_into(KEYS, buffers).hits)
    assert buffers == [random_bytes(SIZE, i) for i in range(6)]
    assert counter(tiered, "l1_hits_total") == 6 and counter(tiered, "tier1_hits_total") == 6


def test_a_pin_lasts_until_it_is_released(tiered):
    assert tiered.pin(KEYS[:2], ttl=3600).done == [True, True]
    assert counter(tiered, "l1_pinned_keys") == 2
    assert tiered.release([KEYS[0], KEYS[2]]).done == [True, False]
    assert counter(tiered, "l1_pinned_keys") == 1
    assert tiered.delete([KEYS[1]]) == [True]
    assert counter(tiered, "l1_pinned_keys") == 0


def test_a_pin_beyond_the_budget_fails_and_says_so():
    with larder.open(TIERED.replace("4MiB", "1MiB") + "&pins=0.1") as store:
        store.set_many(KEYS, [random_bytes(40_000, i) for i in range(6)])
        hinted = store.pin(KEYS, ttl=60)
        assert hinted.done == [True, True, False, False, False, False]
        assert hinted.failed == [not done for done in hinted.done]
        assert "pins=" in hinted.errors[5] and repr(KEYS[5]) in hinted.errors[5]
        assert counter(store, "l1_pins_refused_total") == 4
        assert store.report().health == "healthy"


def test_retain_and_release_reach_the_tier(tiered):
    assert tiered.hints == {"prefetch", "pin", "retain", "release"}
    assert tiered.retain([KEYS[0], "absent"], ttl=60).done == [True, False]
    assert tiered.release([KEYS[0]]).done == [True]
    assert tiered.release([KEYS[0]]).done == [False]


def test_what_a_connector_cannot_do_is_told(tmp_path):
    with larder.open(f"fs:{tmp_path}") as store:
        store.set("a", b"one")
        assert store.hints == set()
        for call in (
            lambda: store.prefetch(["a"]),
            lambda: store.pin(["a"], 1),
            lambda: store.retain(["a"], 1),
            lambda: store.release(["a"]),
        ):
            with pytest.raises(larder.UnsupportedError, match="this connector"):
                call()
        assert store.get("a") == b"one"
        assert store.report().health == "healthy"


@pytest.mark.parametrize("ttl", [0, -1, 86_401, None, float("nan"), "soon", True, [1]])
def test_a_ttl_is_seconds_of_a_day_at_most(tiered, ttl):
    with pytest.raises((ValueError, TypeError), match="ttl"):
        tiered.pin(KEYS, ttl)
    with pytest.raises((ValueError, TypeError), match="ttl"):
        tiered.retain(KEYS, ttl)
    assert counter(tiered, "l1_pinned_keys") == 0


def test_no_keys_are_no_error(tiered):
    assert tiered.pin([], 1) == tiered.prefetch([]) == larder.Hinted([], [], [])
    assert tiered.look_up([]).seconds_to_load == 0


# --- How long a load would take -------------------------------------------------------------------


def test_a_lookup_estimates_the_load_of_its_hits(store):
    store.set_many(KEYS, [random_bytes(SIZE, i) for i in range(6)])
    found = store.look_up([*KEYS, "absent"])
    assert found.hits == [True] * 6 + [False] and found.leading_hits == 6
    assert found.sizes == [SIZE] * 6 + [0] and not any(found.failed)
    assert found.seconds_to_load is None, "nothing was loaded yet"
    assert all(store.get_into(KEYS, [bytearray(SIZE) for _ in KEYS]).hits)
    assert 0 < store.look_up(KEYS).seconds_to_load < 60
    assert store.look_up(["absent"]).seconds_to_load == 0
    assert store.get_into(KEYS[:1], [bytearray(SIZE)]).seconds_to_load is None


def test_a_store_with_a_known_delay_is_estimated_by_it():
    spec = "fault:?inner=memory:&delay_rate=1&delay=150ms&pattern=get:*"
    with larder.open(spec) as store:
        store.set("a", b"x" * SIZE)
        store.get_into(["a"], [bytearray(SIZE)])
        # A load takes the delay at least, however fast the machine is.
        assert store.look_up(["a"]).seconds_to_load >= 0.15


# --- aio and Client -------------------------------------------------------------------------------


def test_aio_has_the_same():
    async def run():
        async with larder.aio.open(TIERED) as store:
            await store.set_many(KEYS, [random_bytes(SIZE, i) for i in range(6)])
            assert store.hints == {"prefetch", "pin", "retain", "release"}
            assert (await store.prefetch(KEYS)).done == [True] * 6
            assert (await store.pin(KEYS, 60)).done == [True] * 6
            assert (await store.retain(KEYS, 60)).done == [True] * 6
            assert (await store.release(KEYS)).done == [True] * 6
            assert (await store.look_up(KEYS)).seconds_to_load is None
            await store.get_into(KEYS, [bytearray(SIZE) for _ in KEYS])
            assert (await store.look_up(KEYS)).seconds_to_load > 0
            assert (await store.look_up([])).seconds_to_load == 0

    asyncio.run(run())


def test_aio_raises_what_a_connector_cannot_do_and_goes_on(tmp_path):
    async def run():
        async with larder.aio.open(f"fs:{tmp_path}") as store:
            await store.set("a", b"one")
            with pytest.raises(larder.UnsupportedError, match="this connector"):
                await store.pin(["a"], 60)
            assert await store.get("a") == b"one"

    asyncio.run(run())


@pytest.mark.parametrize(
    "name", ["look_up", "prefetch", "pin", "retain", "release", "hints", "get_into"]
)
def test_aio_takes_the_same_arguments(name):
    of_store = getattr(larder.Store, name)
    of_aio = getattr(larder.aio.Store, name)
    if isinstance(of_store, property):
        assert isinstance(of_aio, property)
    else:
        assert inspect.signature(of_store).parameters == inspect.signature(of_aio).parameters


def test_client_submits_hints_and_estimates():
    with larder.Client(TIERED) as client:
        ended(client, client.submit_set(KEYS, [random_bytes(SIZE, i) for i in range(6)]))
        done, miss = bytes([Code.DONE]), bytes([Code.MISS])
        (prefetched,) = ended(client, client.submit_prefetch([*KEYS, "absent"], tag="t"))
        assert (prefetched.operation, prefetched.tag) == ("prefetch", "t")
        assert prefetched.codes == done * 6 + miss and prefetched.seconds_to_load is None
        (pinned,) = ended(client, client.submit_pin(KEYS, 60))
        assert (pinned.operation, pinned.codes) == ("pin", done * 6)
        (retained,) = ended(client, client.submit_retain(KEYS, 60))
        assert (retained.operation, retained.codes) == ("retain", done * 6)
        (released,) = ended(client, client.submit_release([*KEYS, "absent"]))
        assert (released.operation, released.codes) == ("release", done * 6 + miss)
        (unknown,) = ended(client, client.submit_exists(KEYS, estimates=True))
        assert unknown.hits == [True] * 6 and unknown.seconds_to_load is None
        ended(client, client.submit_get(KEYS, [bytearray(SIZE) for _ in KEYS]))
        (known,) = ended(client, client.submit_exists(KEYS, estimates=True))
        assert known.seconds_to_load > 0
        (plain,) = ended(client, client.submit_exists(KEYS))
        assert plain.seconds_to_load is None


def test_client_fails_what_the_connector_cannot_do(tmp_path):
    with larder.Client(f"fs:{tmp_path}") as client:
        assert client.hints == set()
        (pinned,) = ended(client, client.submit_pin(["a"], 60))
        assert pinned.failures[0].code == "unimplemented" and not pinned.failures[0].is_retryable


# --- The engines' envelopes -----------------------------------------------------------------------


def action(kind, payload=None, version="1.0", id="a"):
    return {
        "action_id": id,
        "action_type": kind,
        "action_version": version,
        "payload": {} if payload is None else payload,
    }


def envelope(*actions):
    return {"protocol_version": "0.1", "message_id": "m", "actions": list(actions)}


def as_objects(value):
    """As msgspec's structs: members, and not keys."""
    actions = [types.SimpleNamespace(**one) for one in value["actions"]]
    return types.SimpleNamespace(**{**value, "actions": actions})


@pytest.mark.parametrize("form", [lambda value: value, as_objects])
def test_an_envelope_is_read_in_both_forms(form):
    read = larder.hints.read(
        form(
            envelope(
                action("kv.prefetch", id="1"),
                action("kv.pin", {"ttl_seconds": 60}, id="2"),
                action("kv.retain", {"ttl_seconds": 0.5}, "1.7", id="3"),
                action("kv.release", id="4"),
                action("kv.fetch", {"source_control_endpoint": "tcp://peer", "block_hashes": [1]}),
            )
        )
    )
    assert read.actions == [
        ("prefetch", None, "1"),
        ("pin", 60.0, "2"),
        ("retain", 0.5, "3"),
        ("release", None, "4"),
    ]
    assert read.problems == []


@pytest.mark.parametrize(
    "wrong, what",
    [
        (action("kv.pin"), "ttl_seconds None"),
        (action("kv.pin", {"ttl_seconds": 0}), "ttl_seconds 0"),
        (action("kv.pin", {"ttl_seconds": 86_401}), "86401"),
        (action("kv.pin", {"ttl_seconds": True}), "True"),
        (action("kv.retain", {"ttl_seconds": "60"}), "'60'"),
        (action("kv.pin", {"ttl_seconds": 10**400}), "ttl_seconds 1000"),
        (action("kv.pin", {"ttl_seconds": float("nan")}), "nan"),
        (action("kv.prefetch", [1]), "payload [1]"),
        (action("kv.prefetch", version="2.0"), "version '2.0'"),
        (action("kv.prefetch", version=1), "version 1"),
    ],
)
def test_an_action_that_is_wrong_is_told_and_the_others_are_read(wrong, what):
    read = larder.hints.read(envelope(wrong, action("kv.prefetch")))
    assert [one.hint for one in read.actions] == ["prefetch"]
    (problem,) = read.problems
    assert problem.startswith(wrong["action_type"]) and what in problem and "wanted" in problem


@pytest.mark.parametrize("broken", [{}, [], 7, "text", {"actions": None}, {"actions": "x"}])
def test_a_broken_envelope_is_a_problem_and_no_exception(broken):
    read = larder.hints.read(broken)
    assert read.actions == [] and len(read.problems) == 1
    assert larder.hints.read({"actions": [None, 7, {}]}) == larder.hints.Hints([], [])
    assert larder.hints.read(None) == larder.hints.Hints([], [])


def test_what_was_read_is_submitted():
    with larder.Client(TIERED) as client:
        ended(client, client.submit_set(KEYS, [random_bytes(SIZE, i) for i in range(6)]))
        hints = larder.hints.read(
            envelope(
                action("kv.prefetch"),
                action("kv.pin", {"ttl_seconds": 60}),
                action("kv.retain", {"ttl_seconds": 60}),
            )
        )
        completions = ended(client, *larder.hints.submit(client, hints, KEYS, tag=7))
        assert [one.operation for one in completions] == ["prefetch", "pin", "retain"]
        assert all(one.ok and one.tag == 7 for one in completions)
        assert client.report().counters["l1_pinned_keys"] == 6
        hints = larder.hints.read(envelope(action("kv.release")))
        (released,) = ended(client, *larder.hints.submit(client, hints, KEYS))
        assert released.operation == "release" and all(released.hits)
