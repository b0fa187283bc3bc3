"""Ends of every kind: close, threads, signals, fork, garbage collection, exit. And what it leaves."""

import gc
import itertools
import os
import signal
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

# A connector whose loads are never answered.
STALLED = "fault:?inner=memory:&stall_rate=1&stall=1h&pattern=get:*"


def wait_for(condition, seconds=DEADLINE_S):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


def test_a_closed_store_says_so_and_closes_again(store):
    store.close()
    store.close()
    assert store.closed
    for call in (
        lambda: store.get("k"),
        lambda: store.exists(["k"]),
        lambda: store.set_many(["k"], [b""]),
        lambda: store.get_into(["k"], [bytearray(1)]),
        lambda: store.delete(["k"]),
        lambda: list(store.scan()),
        store.report,
    ):
        with pytest.raises(larder.ClosedError, match="closed"):
            call()
    assert "closed" in repr(store)


def test_a_log_can_be_opened_again_as_soon_as_it_is_closed(tmp_path):
    spec = spec_of("log", tmp_path)
    for i in range(3):
        with larder.open(spec) as store:
            store.set_many([f"k{i}"], [b"v"])
            assert len(list(store.scan())) == i + 1
    with larder.open(spec), pytest.raises(larder.OpenError, match="in use by this process itself"):
        larder.open(spec)


def test_a_timeout_ends_the_call_and_the_key_is_a_miss():
    with larder.open(STALLED) as store:
        store.set_many(["k"], [b"12345678"])
        outcomes = store.get_into(["k"], [bytearray(8)], timeout=0.05)
        assert outcomes.failed == [True]
        assert "deadline" in outcomes.errors[0]
        store.close(timeout=5)


def test_close_cancels_what_other_threads_wait_for():
    store = larder.open(STALLED)
    store.set_many(["k"], [b"12345678"])
    results = []

    def load():
        results.append(store.get_into(["k"], [bytearray(8)], timeout=None))

    threads = [threading.Thread(target=load, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: store.report().counters["batches_in_flight_load"] == 4)
    store.close(timeout=2)
    join_all(threads)
    assert [outcome.failed for outcome in results] == [[True]] * 4


def test_many_threads_share_a_store(spec):
    with larder.open(spec) as store:
        failures = []

        def work(number):
            try:
                for i in range(40):
                    keys = [f"{number}-{i}-{k}" for k in range(4)]
                    values = [random_bytes(20_000, hash(key)) for key in keys]
                    assert all(store.set_many(keys, values).stored)
                    buffers = [bytearray(20_000) for _ in keys]
                    assert all(store.get_into(keys, buffers).hits)
                    assert [bytes(buffer) for buffer in buffers] == values
                    assert all(store.exists(keys))
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(6)]
        for thread in threads:
            thread.start()
        join_all(threads)
        assert not failures


def test_the_gil_is_free_while_a_call_waits():
    store = larder.open(STALLED)
    store.set_many(["k"], [b"1"])
    outcomes = []
    # Ends by itself only long after this thread, if it can run, has ended it.
    thread = threading.Thread(
        target=lambda: outcomes.append(store.get_into(["k"], [bytearray(1)], timeout=DEADLINE_S)),
        daemon=True,
    )
    thread.start()
    wait_for(lambda: store.report().counters["batches_in_flight_load"] == 1)
    assert outcomes == [], "this thread ran while the other one waited"
    store.close(timeout=2)
    join_all([thread])
    assert [outcome.failed for outcome in outcomes] == [[True]]


def test_an_interrupt_ends_a_call():
    with larder.open(STALLED) as store:
        store.set_many(["k"], [b"1"])

        def interrupt():
            wait_for(lambda: store.report().counters["batches_in_flight_load"] == 1)
            os.kill(os.getpid(), signal.SIGALRM)

        previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
        thread = threading.Thread(target=interrupt, daemon=True)
        try:
            with pytest.raises(KeyboardInterrupt):
                thread.start()
                store.get_into(["k"], [bytearray(1)], timeout=2 * DEADLINE_S)
        finally:
            signal.signal(signal.SIGALRM, previous)
        join_all([thread])


def test_after_fork_the_child_is_told_and_the_parent_goes_on(spec):
    store = larder.open(spec)
    store.set_many(["k"], [b"parent"])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = b""
        try:
            store.get("k")
        except larder.ForkedError:
            said += b"refused "
        try:
            store.report()
        except larder.ForkedError:
            said += b"refused "
        store.close()
        del store
        gc.collect()
        with larder.open("memory:") as own:
            own.set_many(["k"], [b"child"])
            said += own.get("k")
        os.write(writer, said)
        os._exit(0)
    os.close(writer)
    assert exit_code_of(child) == 0
    assert os.read(reader, 100) == b"refused refused child"
    os.close(reader)
    assert store.get("k") == b"parent"
    store.set_many(["k2"], [b"still"])
    store.close()
    if spec.startswith("log"):
        with larder.open(spec) as again:
            assert again.get("k2") == b"still"


def test_a_fork_while_other_threads_are_inside(spec):
    with larder.open(spec) as store:
        stop = threading.Event()

        def work():
            while not stop.is_set():
                store.set_many(["a"], [b"x" * 1000])
                store.get("a")

        threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            child = os.fork()
            if child == 0:
                try:
                    store.get("a")
                except larder.ForkedError:
                    os._exit(0)
                os._exit(1)
            assert exit_code_of(child) == 0
        stop.set()
        join_all(threads)


def test_garbage_collection_closes_in_any_order(tmp_path):
    spec = spec_of("log", tmp_path)
    for _ in range(3):
        store = larder.open(spec)
        cycle = {"store": store}
        cycle["self"] = cycle
        store.set_many(["k"], [b"1"])
        del store, cycle
        gc.collect()
    with larder.open(spec) as store:
        assert store.get("k") == b"1"


EXIT = {
    "an open store": "store.set_many(['k'], [b'1'])",
    "a daemon thread inside": """
import threading
inside = threading.Event()
def work():
    inside.set()
    while True:
        store.get_into(['k'], [bytearray(100)])
        store.exists(['k'] * 100)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
inside.wait()
""",
    "a thread that is joined": """
import threading
threading.Thread(target=lambda: [store.set_many([f'k{i}'], [b'1' * 1000]) for i in range(500)]).start()
""",
    "an object in a cycle": "store.me = [store]",
    "sys.exit": "import sys; store.get('k'); sys.exit(0)",
}


@pytest.mark.parametrize("kind", EXIT)
def test_the_interpreter_can_exit_with(kind, spec):
    for _ in range(3):
        ended = run_python(f"import larder\nstore = larder.open({spec!r})\n{EXIT[kind]}\n")
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr == ""


def test_exit_while_a_daemon_thread_waits_for_an_answer_that_never_comes():
    ended = run_python(
        f"import larder, threading, time\n"
        f"store = larder.open({STALLED!r})\n"
        "store.set_many(['k'], [b'1'])\n"
        "started = threading.Event()\n"
        "def work():\n"
        "    started.set()\n"
        "    store.get_into(['k'], [bytearray(1)], timeout=None)\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "started.wait()\n"
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""


# --- What is left behind --------------------------------------------------------------------------


def resident_bytes():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def usage():
    gc.collect()
    return (
        resident_bytes(),
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
    )


def assert_flat(before, after, rss_bytes):
    assert after[1] <= before[1], "fds"
    assert after[2] <= before[2], "threads"
    if IS_RSS_EXACT:
        assert after[0] - before[0] < rss_bytes, f"RSS grew from {before[0]} to {after[0]}"


def test_a_thousand_opens_leave_nothing():
    def once():
        with larder.open("memory:") as store:
            store.set_many(["k"], [b"x" * 10_000])
            store.get("k")

    for _ in range(50):
        once()
    before = usage()
    for _ in range(1000):
        once()
    assert_flat(before, usage(), 4 * MIB)


def test_a_hundred_opens_of_a_log_leave_nothing(tmp_path):
    spec = spec_of("log", tmp_path, capacity="64MiB", max_value="64KiB", segment="1MiB")

    def once():
        with larder.open(spec) as store:
            store.set_many(["k"], [b"x" * 10_000])
            store.get("k")

    for _ in range(10):
        once()
    before = usage()
    for _ in range(100):
        once()
    assert_flat(before, usage(), 8 * MIB)


def test_a_thousand_cancelled_calls_leave_nothing():
    with larder.open(STALLED) as store:
        store.set_many(["k"], [b"1"])
        buffer = bytearray(MIB)

        keys = itertools.count()  # One that was late is a miss for a while.

        def once():
            assert store.get_into([f"k{next(keys)}"], [buffer], timeout=0.001).failed == [True]

        for _ in range(50):
            once()
        before = usage()
        for _ in range(1000):
            once()
        assert_flat(before, usage(), 4 * MIB)
        buffer.append(1)  # It has no other user any more.


def test_refused_calls_leave_nothing(store):
    def once():
        with pytest.raises(ValueError):
            store.set_many(["a", "b"], [bytearray(MIB), memoryview(bytes(8))[::2]])
        with pytest.raises(TypeError):
            store.get_into(["a", "b"], [bytearray(MIB), b"read-only"])
        with pytest.raises(TypeError):
            store.exists(["a", None])

    for _ in range(50):
        once()
    before = usage()
    for _ in range(300):
        once()
    assert_flat(before, usage(), 4 * MIB)
