"""larder.Client: batches that are submitted and drained. Results, buffers, terms, ends."""

import ctypes
import gc
import os
import re
import select
import sys
import threading
import time
import weakref

import numpy
import pytest
from aio_support import STALLED, Buffer, is_free
from client_support import ended
from conftest import DEADLINE_S, MIB, exit_code_of, join_all, random_bytes, run_python
from python_connector_support import Dictionary
from test_lifecycle import assert_flat, usage, wait_for

import larder
from larder import Code, connectors

# Loads that last until the test ends them, one at a time.
ONE_AT_A_TIME = STALLED + "&batches_max=1"


@pytest.fixture
def client(spec):
    with larder.Client(spec) as opened:
        yield opened


def pieces_of(value, *cuts):
    edges = [0, *cuts, len(value)]
    return [value[a:b] for a, b in zip(edges, edges[1:])]


# --- What became of the keys ----------------------------------------------------------------------


def test_each_operation_tells_what_became_of_each_key(client):
    done, missed, existed = bytes([Code.DONE]), bytes([Code.MISS]), bytes([Code.EXISTED])
    (first,) = ended(client, client.submit_set(["a"], [b"one"], tag="t"))
    assert first == (first.id, "t", "set", done, [], {}, None)
    (stored,) = ended(client, client.submit_set(["a", "b"], [b"xxx", b"three"]))
    assert stored.codes == existed + done and stored.ok
    assert stored.stored() == larder.Stored([True] * 2, [True, False], [False] * 2, [None] * 2)
    buffers = [bytearray(b"..."), bytearray(b"..."), bytearray(5)]
    (loaded,) = ended(client, client.submit_get(["a", "x", b"b"], buffers))
    assert (loaded.operation, loaded.codes) == ("get", done + missed + done)
    assert loaded.sizes == [3, 0, 5] and buffers == [b"one", b"...", b"three"]
    assert loaded.hits == [True, False, True] and loaded.leading_hits == 1 and loaded.error == ""
    assert loaded.outcomes() == larder.Outcomes(loaded.hits, [False] * 3, [3, 0, 5], [None] * 3)
    (found,) = ended(client, client.submit_exists(["b", "a", "x"]))
    assert (found.operation, found.sizes, found.leading_hits) == ("exists", [5, 3, 0], 2)
    assert ended(client, client.submit_touch(["a", "x"]))[0].codes == done + missed
    (replaced,) = ended(client, client.submit_set(["a"], [b"1"], "replace"))
    assert replaced.codes == done
    (removed,) = ended(client, client.submit_delete(["a", "x"]))
    assert (removed.operation, removed.codes, removed.sizes) == ("delete", done + missed, [])
    assert dict(client.scan()) == {b"b": 5}
    assert client.drain() == []


def test_a_failed_key_says_why_and_is_that_keys_alone(client):
    ended(client, client.submit_set(["a", "b"], [b"one", b"two"]))
    keys = ["a", "", "b", "k" * 1025]
    (loaded,) = ended(client, client.submit_get(keys, [bytearray(3) for _ in keys]))
    assert loaded.hits == [True, False, True, False]
    assert loaded.failures.keys() == {1, 3} and not loaded.ok
    assert {failure.code for failure in loaded.failures.values()} == {"invalid_argument"}
    assert not loaded.failures[1].is_retryable
    assert loaded.error.startswith(loaded.failures[1].text) and "1 more keys" in loaded.error
    outcomes = loaded.outcomes()
    assert outcomes.failed == [False, True, False, True]
    assert outcomes.errors == [None, loaded.failures[1].text, None, loaded.failures[3].text]


def test_a_batch_without_keys_ends_at_once(client):
    ids = [client.submit_exists([], tag=1), client.submit_get([], []), client.submit_set([], [])]
    assert client.wait(0)
    assert [(c.id, c.codes, c.ok) for c in client.drain()] == [(id, b"", True) for id in ids]


def test_a_load_of_another_size_is_a_miss_afterwards_unless_shorter_is_allowed(client):
    ended(client, client.submit_set(["k"], [b"12345"]))
    buffer = bytearray(8)
    (loaded,) = ended(client, client.submit_get(["k"], [buffer], allow_shorter=True))
    assert (loaded.hits, loaded.sizes, buffer[:5]) == ([True], [5], b"12345")
    (loaded,) = ended(client, client.submit_get(["k"], [bytearray(8)]))
    assert (loaded.failures[0].code, loaded.sizes) == ("size_mismatch", [5])
    assert ended(client, client.submit_exists(["k"]))[0].hits == [False]
    ended(client, client.submit_set(["k"], [b"12345678"]))
    assert ended(client, client.submit_get(["k"], [buffer]))[0].hits == [True]
    assert buffer == b"12345678"


def test_a_probe_answers_at_once_where_keys_are_in_memory(client, spec):
    ended(client, client.submit_set(["a"], [b"one"]))
    probed = client.probe(["a", "x"])
    assert probed == (None if spec.startswith("fs") else [3, None])
    assert client.probe(["a"] * 3) in (None, [3] * 3)


# --- Pieces and addresses -------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(10_000,), (0, 3, 9_997), (4096, 4096), (1,) * 600])
def test_a_value_in_pieces_is_their_concatenation(client, sizes):
    value = random_bytes(sum(sizes))
    cuts = [sum(sizes[:i]) for i in range(1, len(sizes))]
    ended(client, client.submit_set(["whole", "pieces"], [value, pieces_of(value, *cuts)]))
    into = [bytearray(size) for size in sizes]
    whole, half = bytearray(len(value)), len(value) // 2
    keys = ["pieces", "whole", "pieces", "x"]
    two = (bytearray(half), bytearray(len(value) - half))
    (loaded,) = ended(client, client.submit_get(keys, [whole, into, two, [bytearray(7)]]))
    assert loaded.hits == [True, True, True, False] and loaded.sizes == [len(value)] * 3 + [0]
    assert whole == b"".join(into) == b"".join(two) == value


def test_the_other_doors_take_pieces_and_addresses_too(store):
    value = random_bytes(5000)
    memory = bytearray(5000)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert store.set("one", pieces_of(value, 1, 4096))
    assert store.set_many(["two"], [pieces_of(value, 2000)], urgency="background").stored == [True]
    into = [bytearray(100), bytearray(4900)]
    at = larder.Addresses([address, address + 4096], [4096, 904], owner=memory)
    assert store.get_into(["one", "two"], [into, at], urgency="prefetch").hits == [True, True]
    assert b"".join(into) == memory == value == store.get("two")
    memory[:] = bytes(5000)
    assert store.get_into(["one"], at).hits == [True]
    assert memory == value


@pytest.mark.parametrize("number", [int, numpy.int64, numpy.uint64])
def test_memory_by_address(client, number):
    pool = numpy.frombuffer(bytearray(random_bytes(8 * 4096)), numpy.uint8)
    copy = pool.copy()
    pointers = [number(pool.ctypes.data + i * 4096) for i in range(8)]
    # Like SGLang's pools: two pieces a key, one of keys and one of values.
    (stored,) = ended(client, client.submit_set(list("abcd"), larder.Addresses(pointers, 4096)))
    assert stored.codes == bytes([Code.DONE] * 4)
    pool[:] = 0
    at = larder.Addresses(pointers, [number(4096)] * 8, pool)
    assert len(at) == 8 and at.bytes == 8 * 4096 and "8 pieces" in repr(at)
    assert ended(client, client.submit_get(list("abcd"), at))[0].hits == [True] * 4
    assert (pool == copy).all()
    pool[:] = 0
    mixed = [larder.Addresses(pointers[2:4], 4096), bytearray(8192)]
    assert ended(client, client.submit_get(["b", "a"], mixed))[0].hits == [True] * 2
    assert (pool[8192:16384] == copy[8192:16384]).all() and not pool[:8192].any()
    assert mixed[1] == copy[:8192].tobytes()


def test_an_owner_lives_as_long_as_its_addresses_and_these_as_long_as_their_batch():
    with larder.Client(STALLED) as client:
        ended(client, client.submit_set(["k"], [b"12345678"]))
        owner = Buffer(8)
        address = ctypes.addressof(ctypes.c_char.from_buffer(owner))
        alive = weakref.ref(owner)
        id = client.submit_get(["k"], larder.Addresses([address], [8], owner))
        del owner
        gc.collect()
        assert alive() is not None
        client.cancel(id)
        (loaded,) = ended(client, id)
        assert loaded.failures[0].code == "cancelled"
        gc.collect()
        assert alive() is None


def test_addresses_that_own_themselves_are_collected():
    class Owner:
        pass

    owner = Owner()
    owner.addresses = larder.Addresses([1], [0], owner)
    alive = weakref.ref(owner)
    del owner
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    ("pointers", "sizes", "kind", "text"),
    [
        (None, 1, TypeError, "pointers: NoneType, wanted a list of ints"),
        (7, 1, TypeError, "pointers: int, wanted a list"),
        ("12", 1, TypeError, "pointers: str, wanted"),
        ([1, None], 1, TypeError, r"pointers\[1\]: NoneType, wanted an int"),
        ([1.5], 1, TypeError, r"pointers\[0\]: float"),
        ([-1], 1, ValueError, r"pointers\[0\]: -1"),
        ([1 << 64], 1, ValueError, r"pointers\[0\]: 18446744073709551616"),
        ([8, 0], [1, 1], ValueError, r"pointers\[1\]: 0 with a size of 1; no memory"),
        ([(1 << 64) - 1], [2], ValueError, "no memory can be there"),
        ([8], [1, 2], ValueError, "1 pointers, 2 sizes"),
        ([8], [-1], ValueError, r"sizes\[0\]: -1"),
        ([8], -1, ValueError, "sizes: -1"),
        ([8], 1.5, TypeError, "sizes: float"),
        ([8], None, TypeError, "sizes: NoneType"),
    ],
)
def test_what_can_be_no_address_is_refused(pointers, sizes, kind, text):
    with pytest.raises(kind, match=text):
        larder.Addresses(pointers, sizes)


def test_pieces_that_are_none_are_refused(store):
    with pytest.raises(ValueError, match=r"values\[1\]: an empty list, wanted a buffer, or 1"):
        store.set_many(["a", "b"], [b"1", []])
    with pytest.raises(TypeError, match=r"values\[1\]\[2\]: int has no bytes"):
        store.set_many(["a", "b"], [b"1", (b"1", b"2", 3)])
    with pytest.raises(TypeError, match=r"buffers\[0\]\[1\]: bytes is read-only"):
        store.get_into(["a"], [[bytearray(1), b"2"]])
    with pytest.raises(ValueError, match=r"values\[0\]: Addresses of no piece"):
        store.set_many(["a"], [larder.Addresses([], [])])
    with pytest.raises(ValueError, match="2 keys, Addresses of 3 pieces; wanted as many pieces"):
        store.set_many(["a", "b"], larder.Addresses([1, 2, 3], 0))
    with pytest.raises(ValueError, match="0 keys, Addresses of 1 pieces"):
        store.set_many([], larder.Addresses([1], 0))
    with pytest.raises(ValueError, match="1 keys, Addresses of 0 pieces"):
        store.get_into(["a"], larder.Addresses([], 0))
    assert store.exists(["a", "b"]) == [False, False]


def test_more_pieces_than_a_connector_takes_are_that_keys_failure():
    with larder.Client("memory:") as client:
        many = [[b"x"] * 5000, [b"y", b"z"]]
        (stored,) = ended(client, client.submit_set(["a", "b"], many))
        assert stored.codes == bytes([Code.FAILED, Code.DONE])
        assert stored.failures[0].code == "invalid_argument" and "slices" in stored.error


# --- Ownership ------------------------------------------------------------------------------------


def test_keys_buffers_and_tags_are_held_until_their_batch_was_drained(spec):
    with larder.Client(spec) as client:
        keys, buffers, tag = ["k" * 100], [Buffer(8), [Buffer(3), Buffer(5)]], Buffer()
        held = [*keys, buffers[0], *buffers[1], tag]
        before = [sys.getrefcount(thing) for thing in held]
        stored = client.submit_set(["k" * 100, "m"], [b"12345678"] * 2)
        ended(client, stored)
        id = client.submit_get([keys[0], "m"], buffers, tag=tag)
        wait_for(lambda: client.wait(0))
        assert not any(is_free(buffer) for buffer in held[1:4]), "it has ended, and is not drained"
        (loaded,) = client.drain()
        assert loaded.id == id and loaded.tag is tag and loaded.ok
        assert all(is_free(buffer) for buffer in held[1:4])
        del loaded
        assert [sys.getrefcount(thing) for thing in held] == before


def test_a_refused_submission_holds_nothing_and_does_nothing(client):
    buffer = Buffer(8)
    before = sys.getrefcount(buffer)
    for terms, kind in (
        ({"urgency": "soon"}, ValueError),
        ({"deadline": "late"}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"waits_for_room": 1}, TypeError),
    ):
        for submit in (client.submit_set, client.submit_get):
            with pytest.raises(kind, match=f"^{next(iter(terms))}: "):
                submit(["k"], [buffer], **terms)
        with pytest.raises(kind):
            client.submit_delete(["k"], **terms)
    with pytest.raises(ValueError, match="1 keys, 2 buffers"):
        client.submit_get(["k"], [buffer, buffer])
    assert is_free(buffer) and sys.getrefcount(buffer) == before
    assert client.drain() == [] and not client.wait(0)
    assert ended(client, client.submit_exists(["k"]))[0].hits == [False]


@pytest.mark.parametrize("timeout", [None, 3600])
def test_close_wakes_the_threads_that_wait(spec, timeout):
    client = larder.Client(spec)
    woken = []
    at_once = threading.Barrier(4)

    def wait():
        at_once.wait()
        woken.append(client.wait(timeout))

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    at_once.wait()
    client.close()  # While they wait, or just before.
    join_all(threads)
    assert len(woken) == 3 and client.drain() == [] and not client.wait(0)


def test_what_was_not_drained_is_let_go_by_close(spec):
    client = larder.Client(spec)
    buffer, tag = Buffer(8), Buffer()
    alive = weakref.ref(tag)
    client.submit_set(["k"], [buffer], tag=tag)
    del tag
    client.close()
    assert is_free(buffer) and alive() is None
    assert client.drain() == [] and client.event_fd() == -1 and not client.wait(0)
    for call in (
        lambda: client.submit_set(["k"], [buffer]),
        lambda: client.submit_exists(["k"]),
        lambda: client.probe(["k"]),
        lambda: client.events(0, 1),
        lambda: list(client.scan()),
        lambda: client.delete_prefix("k"),
        client.report,
    ):
        with pytest.raises(larder.ClosedError, match="closed"):
            call()
    client.cancel(1)
    client.close()
    assert client.closed and "closed" in repr(client)


def test_an_arguments_own_code_may_close_the_client():
    client = larder.Client("memory:")

    def keys():
        client.close()
        yield "k"

    id = client.submit_exists(keys())
    assert id == 1 and client.drain() == []


# --- Deadlines, room, urgency ---------------------------------------------------------------------


def test_the_earlier_of_timeout_and_deadline_holds():
    with larder.Client(STALLED) as client:
        ended(client, client.submit_set([str(i) for i in range(4)], [b"1"] * 4))
        now = time.monotonic()
        ids = [
            client.submit_get(["0"], [bytearray(1)], timeout=0.05, deadline=now + 1000),
            client.submit_get(["1"], [bytearray(1)], timeout=None, deadline=now + 0.05),
            client.submit_get(["2"], [bytearray(1)], timeout=1000, deadline=now - 1),
            client.submit_get(["3"], [bytearray(1)], deadline=0),
        ]
        for completion in ended(client, *ids):
            assert completion.failures[0].code == "deadline_exceeded"


def test_a_deadline_that_is_over_fails_stores_and_lookups_too(client):
    (stored,) = ended(client, client.submit_set(["k"], [b"1"], deadline=0))
    assert stored.failures[0].code == "deadline_exceeded"
    (found,) = ended(client, client.submit_exists(["k"], deadline=0))
    assert found.hits == [False]


def test_without_waiting_for_room_a_batch_fails_at_once_and_can_be_tried_again():
    with larder.Client(ONE_AT_A_TIME) as client:
        first = client.submit_get(["a"], [bytearray(1)], timeout=None)
        wait_for(lambda: client.report().counters["batches_in_flight_load"] == 1)
        refused = client.submit_get(["b"], [bytearray(1)], waits_for_room=False, tag="refused")
        (failed,) = ended(client, refused)
        assert failed.tag == "refused" and failed.failures[0].code == "resource_exhausted"
        assert failed.failures[0].is_retryable
        waiting = client.submit_get(["b"], [bytearray(1)], timeout=None)
        client.cancel(first)
        (ended_first,) = ended(client, first)
        assert ended_first.failures[0].code == "cancelled"
        client.cancel(waiting)
        assert ended(client, waiting)[0].failures[0].code == "cancelled"
        client.cancel(waiting)  # It has ended.
        client.cancel(1 << 60)


class OneWorker(connectors.PythonConnector):
    """Loads in the order in which larder asks for them, after the first one was released."""

    num_workers = 1

    def __init__(self, location=""):
        self.first, self.go, self.order = threading.Event(), threading.Event(), []

    def size(self, key):
        return 1

    def get_into(self, key, buffer):
        self.first.set()
        assert self.go.wait(DEADLINE_S)
        self.order.append(key[:1])
        buffer[:] = b"1"
        return 1

    def set(self, key, data):
        pass

    def delete(self, key):
        return False


def test_urgency_reaches_the_connector():
    made = []
    connectors.register("oneworker", lambda **given: made.append(OneWorker(**given)) or made[0])
    try:
        with larder.Client("oneworker:") as client:
            ids = [client.submit_get(["f"], [bytearray(1)])]
            assert made[0].first.wait(DEADLINE_S)
            for letter, urgency in (("b", "background"), ("p", "prefetch"), ("d", None)):
                keys = [f"{letter}{i}" for i in range(20)]
                ids += [client.submit_get([k], [bytearray(1)], urgency=urgency) for k in keys]
            made[0].go.set()
            assert all(completion.ok for completion in ended(client, *ids))
    finally:
        connectors.unregister("oneworker")
    # Weighted, and none is starved: the more urgent half is through first.
    order = [bytes(key).decode() for key in made[0].order]
    middle = {letter: [i for i, at in enumerate(order) if at == letter][9] for letter in "bpd"}
    assert middle["d"] < middle["p"] < middle["b"], order


@pytest.mark.parametrize("urgency", ["demand", "prefetch", "store", "background", None])
def test_every_urgency_is_taken_by_every_submission(client, urgency):
    ids = [client.submit_set(["k"], [b"1"], urgency=urgency)]
    ended(client, *ids)
    ids = [
        client.submit_get(["k"], [bytearray(1)], urgency=urgency),
        client.submit_exists(["k"], urgency=urgency),
        client.submit_touch(["k"], urgency=urgency),
        client.submit_delete(["k"], urgency=urgency),
    ]
    assert all(completion.ok for completion in ended(client, *ids))


# --- Event fd, threads ----------------------------------------------------------------------------


def test_the_event_fd_is_readable_exactly_while_there_is_something(client):
    def readable():
        return bool(select.select([client.event_fd()], [], [], 0)[0])

    assert not readable() and not client.wait(0)
    client.submit_set(["k"], [b"1"])
    assert client.wait(DEADLINE_S) and readable() and client.wait(0)
    assert len(client.drain()) == 1
    assert not readable() and not client.wait(0.001)


def test_another_thread_may_drain_before_the_id_is_known():
    """Tags show the owner of a batch; every batch comes once, whichever thread drains."""
    with larder.Client("memory:") as client:
        drained, stop = [], threading.Event()

        def drain():
            while not stop.is_set() or client.wait(0):
                client.wait(0.01)
                drained.extend(client.drain())

        def submit(number):
            for i in range(300):
                tag = (number, i)
                if i % 3 == 0:
                    client.submit_set([str(tag)], [str(tag).encode()], tag=tag)
                elif i % 3 == 1:
                    client.submit_exists([str(tag)], tag=tag)
                else:
                    client.submit_get([str(tag)], [bytearray(9)], tag=tag)

        drainers = [threading.Thread(target=drain, daemon=True) for _ in range(2)]
        threads = [threading.Thread(target=submit, args=(n,), daemon=True) for n in range(4)]
        for thread in (*drainers, *threads):
            thread.start()
        join_all(threads)
        wait_for(lambda: len(drained) >= 1200)
        stop.set()
        join_all(drainers)
        assert sorted(c.tag for c in drained) == [(n, i) for n in range(4) for i in range(300)]
        assert len({c.id for c in drained}) == 1200


def test_a_thousand_batches_in_flight_wait_their_turn(spec):
    with larder.Client(spec) as client:
        values = {f"k{i}": random_bytes(1000 + i, i) for i in range(1000)}
        ids = [client.submit_set([key], [value]) for key, value in values.items()]
        assert all(completion.ok for completion in ended(client, *ids))
        buffers = {key: bytearray(len(value)) for key, value in values.items()}
        ids = [client.submit_get([key], [buffer]) for key, buffer in buffers.items()]
        assert all(completion.hits == [True] for completion in ended(client, *ids))
        assert buffers == values


def test_the_gil_is_free_while_a_thread_waits():
    with larder.Client(STALLED) as client:
        client.submit_get(["k"], [bytearray(1)], timeout=None)
        answers = []
        waiter = threading.Thread(
            target=lambda: answers.append(client.wait(DEADLINE_S)), daemon=True
        )
        waiter.start()
        wait_for(lambda: client.report().counters["batches_in_flight_load"] == 1)
        assert answers == []
        client.cancel(1)
        join_all([waiter])
        assert answers == [True]


# --- Ends -----------------------------------------------------------------------------------------


def test_after_fork_the_child_is_told_and_the_parent_goes_on(spec):
    with larder.Client(spec) as client:
        ended(client, client.submit_set(["k"], [b"parent"]))
        client.submit_exists(["k"], tag="the parent's")
        child = os.fork()
        if child == 0:
            refused = 0
            for call in (
                lambda: client.submit_exists(["k"]),
                lambda: client.submit_set(["k"], [b"1"]),
                client.drain,
                client.event_fd,
                client.wait,
                client.report,
                lambda: list(client.scan()),
                lambda: client.delete_prefix("k"),
                lambda: client.probe(["k"]),
            ):
                try:
                    call()
                except larder.ForkedError:
                    refused += 1
            client.cancel(2)
            client.close()
            os._exit(0 if refused == 9 else 1)
        assert exit_code_of(child) == 0
        (found,) = ended(client, 2)
        assert found.tag == "the parent's" and found.hits == [True]


def test_close_cancels_what_never_ends_and_frees_its_buffers():
    client = larder.Client(STALLED)
    buffer = Buffer(1)
    client.submit_get(["k"], [buffer], timeout=None)
    assert not is_free(buffer)
    client.close(grace=0)
    assert is_free(buffer)


EXIT = {
    "batches in flight": "client.submit_set(['k'], [b'1' * 100000])",
    "what was not drained": "client.submit_set(['k'], [b'1']); client.wait()",
    "a daemon thread that drains": """
import threading
started = threading.Event()
def work():
    while True:
        client.submit_set(['k'], [b'1' * 100])
        client.wait(None)
        client.drain()
        started.set()
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
started.wait()
""",
    "a cycle": "client.me = [client]; client.submit_exists(['k'], tag=client)",
}


@pytest.mark.parametrize("kind", EXIT)
def test_the_interpreter_can_exit_with(kind, spec):
    for _ in range(3):
        run = run_python(f"import larder\nclient = larder.Client({spec!r})\n{EXIT[kind]}\n")
        assert run.returncode == 0, run.stderr
        # It logs that it was opened and closed, and nothing else.
        assert re.fullmatch(r"(.* I \[.*\n)*", run.stderr), run.stderr


def test_a_thousand_clients_leave_nothing():
    def once():
        with larder.Client("memory:") as client:
            client.submit_set(["k"], [[b"x" * 5000, b"y" * 5000]])
            client.wait()
            client.drain()
            client.submit_exists(["k"])

    for _ in range(50):
        once()
    before = usage()
    for _ in range(1000):
        once()
    assert_flat(before, usage(), 4 * MIB)


def test_thousands_of_batches_and_refusals_leave_nothing():
    with larder.Client("memory:") as client:
        memory = bytearray(MIB)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))

        def once():
            client.submit_set(["k"], [memory], "replace", tag=object())
            client.submit_get(["k", "x"], [[memory], bytearray(9)])
            client.submit_get(["k"], larder.Addresses([address], [MIB], memory))
            client.submit_get(["k"], [bytearray(MIB)], deadline=0)
            with pytest.raises(TypeError):
                client.submit_get(["k", "x"], [bytearray(MIB), [b"read-only"]])
            while client.wait(0):
                client.drain()

        for _ in range(50):
            once()
        before = usage()
        for _ in range(500):
            once()
        client.wait()
        client.drain()
        assert_flat(before, usage(), 8 * MIB)


# --- Prefixes -------------------------------------------------------------------------------------


def test_a_prefix_is_scanned_and_deleted(spec):
    with larder.Client(spec) as client:
        names = [f"m1/{i}" for i in range(5000)] + [f"m2/{i}" for i in range(10)] + ["m1", "other"]
        ended(client, client.submit_set(names, [b"x"] * len(names)))
        assert {key for key, _ in client.scan("m2/")} == {f"m2/{i}".encode() for i in range(10)}
        assert sorted(client.scan(b"m1"))[0] == (b"m1", 1)
        assert client.delete_prefix("m1/") == 5000
        assert client.delete_prefix("m1/") == 0
        assert {key for key, _ in client.scan()} == {n.encode() for n in names[5000:]}
        assert client.delete_prefix(b"m") == 11
        assert list(client.scan()) == [(b"other", 1)]


def test_an_empty_prefix_and_a_prefix_that_is_none_are_refused(store):
    store.set("k", b"1")
    for empty in ("", b""):
        with pytest.raises(ValueError, match="^prefix: .*every key begins with.*keys of scan"):
            store.delete_prefix(empty)
    with pytest.raises(TypeError, match="^prefix: int, wanted str or bytes"):
        store.delete_prefix(7)
    assert store.exists(["k"]) == [True]


def test_a_prefix_that_takes_too_long_says_how_far_it_came():
    with larder.open("memory:") as store:
        store.set_many([f"k{i}" for i in range(9000)], [b""] * 9000)
        with pytest.raises(larder.Error, match="there may be more|deadline"):
            store.delete_prefix("k", timeout=1e-9)
        assert store.delete_prefix("k") <= 9000
        assert list(store.scan()) == []


def test_what_of_a_prefix_cannot_be_deleted_is_told_after_all_were_tried():
    with larder.open("fault:?inner=memory:&error_rate=0.5&pattern=delete:*&seed=3") as store:
        store.set_many([f"k{i}" for i in range(100)], [b""] * 100)
        with pytest.raises(larder.Error, match=r"key 'k.*more keys.*; \d+ keys were deleted"):
            store.delete_prefix("k")
        assert 0 < len(list(store.scan())) < 100


def test_a_deletion_that_is_given_up_disturbs_no_batch():
    """Its operation ends later, among the batches, and belongs to none."""
    go = threading.Event()

    def before(method, key):
        assert method != "delete" or go.wait(DEADLINE_S)

    connectors.register("slowdelete", lambda **given: Dictionary(before))
    try:
        with larder.Client("slowdelete:") as client:
            ended(client, client.submit_set(["k1", "k2"], [b"1", b"2"]))
            with pytest.raises(larder.StuckError, match="no answer at the deadline"):
                client.delete_prefix("k", timeout=0.05)
            go.set()
            wait_for(lambda: client.report().counters["batches_in_flight_store"] == 0)
            (found,) = ended(client, client.submit_exists(["k1", "x"], tag="mine"))
            assert found.tag == "mine" and client.drain() == []
            client.delete_prefix("k")
            assert list(client.scan()) == []
    finally:
        go.set()
        connectors.unregister("slowdelete")
