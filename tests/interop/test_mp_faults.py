"""Lookups of `larder server` over stores that are slow, silent or failing: each is answered by its
deadline, what it names can be read, and nothing is left behind."""

import contextlib
import time

import pytest
from mp_cache import CHUNKS, MODEL, Cache, tokens_of
from mp_server import MpServer, l2_option, ping_seconds, wait_for
from mp_wire import RawClient, decode, encode, key
from redis_server import RedisServer

LATE_SECONDS = 0.1


MEMORY = {"type": "memory", "capacity": "256MiB"}


def fault(inner=MEMORY, **parameters):
    return {"type": "fault", "inner": inner, **parameters}


@contextlib.contextmanager
def cache_over(tmp_path, *adapters, timeout):
    options = [*l2_option(*adapters), "--l2-load-timeout-seconds", str(timeout)]
    with MpServer("larder", tmp_path / "log", options=options) as server:
        cache = Cache(server)
        try:
            yield cache
            wait_for(
                lambda: not any(cache.left().values()), f"nothing left ({cache.left()})", seconds=10
            )
            cache.client.ask("clear", True)
            wait_for(lambda: cache.used_bytes() == 0, "every slot came back", seconds=5)
        finally:
            cache.close()


def lookups(cache, count, timeout):
    """All hits of `count` prompts, each in time."""
    hits = []
    for number in range(count):
        hit, seconds = cache.look_up(number)
        assert seconds < timeout + LATE_SECONDS, f"{seconds:.2f} s of {timeout}"
        hits.append(hit)
    return hits


def stored(cache, count):
    for number in range(count):
        cache.store(number)
    cache.forget()


def test_a_slow_store_is_waited_for(tmp_path):
    tier = fault(delay_rate=1, delay="300ms", pattern="get:*")
    with cache_over(tmp_path, tier, timeout=5) as cache:
        stored(cache, 4)
        assert lookups(cache, 4, 5) == [CHUNKS] * 4


@pytest.mark.parametrize("pattern", ["get:*", "exists:*"])
@pytest.mark.parametrize(
    "fault_of",
    [{"delay_rate": 1, "delay": "3s"}, {"stall_rate": 1, "stall": "1h"}],
    ids=["too_slow", "never"],
)
def test_a_store_that_does_not_answer_is_a_miss_in_time(tmp_path, fault_of, pattern):
    # Memory would answer lookups without a batch that could be late.
    files = {"type": "fs", "base_path": str(tmp_path / "files")}
    with cache_over(tmp_path, fault(files, pattern=pattern, **fault_of), timeout=1) as cache:
        stored(cache, 4)
        assert lookups(cache, 4, 1) == [0] * 4


def test_a_store_that_fails_half_the_time_gives_prefixes(tmp_path):
    with cache_over(tmp_path, fault(rate=0.5, seed=3), timeout=2) as cache:
        stored(cache, 20)
        first = lookups(cache, 20, 2)
        assert 0 < sum(first) < 20 * CHUNKS / 2 * 1.5
        assert len(set(first)) > 2, "prefixes of several lengths"


def test_the_second_store_serves_what_the_first_cannot(tmp_path):
    with cache_over(tmp_path, fault(rate=0.5, seed=3), MEMORY, timeout=5) as cache:
        stored(cache, 20)
        assert lookups(cache, 20, 5) == [CHUNKS] * 20


def test_what_failed_to_load_is_a_miss_until_it_is_stored_again(tmp_path):
    tier = fault(error_rate=1, pattern=f"get:1-{4 * CHUNKS}")
    with cache_over(tmp_path, tier, timeout=2) as cache:
        stored(cache, 8)
        assert lookups(cache, 8, 2) == [0] * 4 + [CHUNKS] * 4
        stored(cache, 4)  # As an engine does, that computed it.
        assert lookups(cache, 8, 2) == [CHUNKS] * 8


def test_a_store_that_was_down_serves_again(tmp_path):
    persistent = ("--appendonly", "yes", "--appendfsync", "always")
    with RedisServer(tmp_path, *persistent) as redis:
        tier = f"redis://127.0.0.1:{redis.port}"
        with cache_over(tmp_path, tier, timeout=2) as cache:
            stored(cache, 8)
            assert lookups(cache, 2, 2) == [CHUNKS] * 2
            redis.stop()
            cache.client.ask("clear", True)
            assert lookups(cache, 8, 2) == [0] * 8
            cache.store(8)  # It is stored there when it can be.
            redis.start()
            wait_for(lambda: cache.look_up(2)[0] == CHUNKS, "hits again", seconds=60, every=0.2)
            cache.forget()
            assert lookups(cache, 9, 2) == [CHUNKS] * 9


def test_parked_waits_hold_up_nothing(tmp_path):
    """LMCache's server answers no PING while it waits for a load."""
    files = {"type": "fs", "base_path": str(tmp_path / "files")}
    tier = fault(files, stall_rate=1, stall="1h", pattern="exists:*")
    with cache_over(tmp_path, tier, timeout=4) as cache, contextlib.ExitStack() as stack:
        stored(cache, 1)
        begin = time.monotonic()
        waiters = [stack.enter_context(RawClient(cache.server.port)) for _ in range(10)]
        for number in range(1000):
            waiter, request = waiters[number % 10], f"w-{number}"
            asked = key(tokens_of(0), request, model=MODEL)
            waiter.ask("lookup", asked, 1)
            waiter.send([encode(f"w-{number}"), b"\x0a", encode(request), encode(30.0)])
        slowest = max(ping_seconds(cache.server.port, tries=1) for _ in range(100))
        assert time.monotonic() - begin < 4, "the lookups still wait"
        assert slowest < 0.050
        for _ in range(100):
            for waiter in waiters:
                assert decode(waiter.receive(10)[2]) == 0
        assert time.monotonic() - begin < 4 + 10 * LATE_SECONDS
        for number in range(1000):
            waiters[number % 10].ask("end_session", f"w-{number}")


def test_many_at_once_are_all_answered_in_time(tmp_path):
    """A store that stalls every other load, and lookups that do not wait for each other."""
    tier = fault(stall_rate=0.5, stall="1h", pattern="get:*")
    with cache_over(tmp_path, tier, timeout=1) as cache:
        stored(cache, 32)
        begin = time.monotonic()
        for number in range(32):
            asked = key(tokens_of(number), f"m-{number}", model=MODEL)
            cache.client.ask("lookup", asked, 1)
        waiting, hits = set(range(32)), []
        while waiting:
            for number in list(waiting):
                if (hit := cache.client.ask("query", f"m-{number}")) is not None:
                    waiting.remove(number)
                    hits.append(hit)
            time.sleep(0.005)
        assert time.monotonic() - begin < 1 + 2 * LATE_SECONDS
        assert 0 in hits and CHUNKS in hits
        for number in range(32):
            cache.client.ask("end_session", f"m-{number}")
