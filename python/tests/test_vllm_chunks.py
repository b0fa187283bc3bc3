"""larder.vllm without vLLM: lookups, jobs, failures and the end, over real stores and rows of
memory like vLLM's."""

import mmap
import random
import time

import pytest
from conftest import DEADLINE_S, KIB, run_python, spec_of

import larder
from larder.vllm._chunks import Answer, Chunks, Timeouts

ROW = 16 * KIB
ROWS = 32
HIT, MISS, RETRY = Answer.HIT, Answer.MISS, Answer.RETRY


PATIENT = Timeouts(60, 60, 60, 60)


class Host:
    """vLLM's shared memory, and the tier's chunks in a store."""

    def __init__(self, spec, timeouts=PATIENT, rows=ROWS):
        self.memory = mmap.mmap(-1, rows * ROW)
        self.whole = memoryview(self.memory)
        self.view = self.whole.cast("b", (rows, ROW))
        self.chunks = Chunks(larder.Client(spec), self.view, lambda: b"vllm/test/", timeouts)
        self._last_job = 0

    def row(self, number):
        return self.memory[number * ROW : (number + 1) * ROW]

    def fill(self, number, value):
        self.memory[number * ROW : (number + 1) * ROW] = value

    def store(self, keys, rows):
        self._last_job += 1
        self.chunks.submit_store(self._last_job, keys, rows)
        return self._last_job

    def load(self, keys, rows, request="r"):
        self._last_job += 1
        self.chunks.submit_load(self._last_job, keys, rows, request)
        return self._last_job

    def ended(self, *ids):
        found, deadline = {}, time.monotonic() + DEADLINE_S
        while not found.keys() >= set(ids):
            assert time.monotonic() < deadline, "a job did not end"
            self.chunks.client.wait(0.1)
            for job in self.chunks.finished():
                assert job.id not in found, "a job was given twice"
                found[job.id] = job
        return [found[id] for id in ids]

    def answers(self, keys, request="r"):
        """Like the scheduler: it asks again in each step until nothing is unknown."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            answers = [self.chunks.lookup(key, request) for key in keys]
            self.chunks.end_step()
            if RETRY not in answers:
                return answers
            assert time.monotonic() < deadline, "a lookup was not answered"
            self.chunks.client.wait(0.05)
            self.chunks.finished()

    def close(self):
        self.chunks.close()
        self.view.release()
        self.whole.release()
        self.memory.close()  # Raises BufferError where an export is left.


@pytest.fixture
def host_of(request):
    hosts = []

    def make(*arguments, **named):
        hosts.append(Host(*arguments, **named))
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()


def keys_of(count):
    return [bytes([number]) * 32 + b"\0\0\0\1" for number in range(count)]


def value_of(key):
    return random.Random(key).randbytes(ROW)


def stored(host, count):
    keys = keys_of(count)
    for number, key in enumerate(keys):
        host.fill(number, value_of(key))
    (job,) = host.ended(host.store(keys, range(count)))
    assert (job.done, job.moved, job.added) == (keys, count, keys)
    return keys


def fault(**parameters):
    return {"type": "fault", "inner": {"type": "memory", "capacity": "64MiB"}} | parameters


def test_chunks_come_back_into_other_rows_byte_for_byte(host_of, spec):
    host = host_of(spec)
    keys = stored(host, 8)
    assert host.answers([*keys, b"other" * 8]) == [HIT] * 8 + [MISS]
    (job,) = host.ended(host.load(keys, range(20, 28)))
    assert (job.is_load, job.done, job.moved) == (True, keys, 8)
    assert [host.row(20 + number) for number in range(8)] == [value_of(key) for key in keys]


def test_a_chunk_that_is_there_is_not_written_again(host_of, spec):
    host = host_of(spec)
    keys = stored(host, 4)
    (job,) = host.ended(host.store(keys_of(5), range(5)))
    assert (len(job.done), job.moved, job.added) == (5, 1, keys_of(5)[4:])
    assert keys == keys_of(5)[:4]


def test_a_store_that_knows_its_keys_is_asked_at_once(host_of, tmp_path):
    host = host_of(spec_of("log", tmp_path))
    keys = stored(host, 2)
    assert [host.chunks.lookup(key, "r") for key in [*keys, b"x" * 36]] == [HIT, HIT, MISS]
    assert not host.chunks.is_asking


def test_other_stores_are_asked_once_a_step_for_all_that_is_wanted(host_of, tmp_path):
    host = host_of(spec_of("fs", tmp_path))
    keys = stored(host, 3)
    for request in ("a", "b"):
        assert [host.chunks.lookup(key, request) for key in keys] == [RETRY] * 3
    before = host.chunks.client.report().counters["lookups_total"]
    host.chunks.end_step()
    assert host.chunks.is_asking
    assert host.answers(keys, "a") == host.answers(keys, "b") == [HIT] * 3
    after = host.chunks.client.report().counters["lookups_total"]
    assert after - before == 3, "one lookup a key, however many requests ask"
    host.chunks.end_request("a")
    assert host.chunks.lookup(keys[0], "b") is HIT
    host.chunks.end_request("b")
    assert host.chunks.lookup(keys[0], "c") is RETRY, "nobody remembers it"


def test_the_answer_to_a_request_that_has_ended_is_dropped(host_of, tmp_path):
    host = host_of(spec_of("fs", tmp_path))
    (key,) = stored(host, 1)
    host.chunks.lookup(key, "a")
    host.chunks.end_step()
    host.chunks.end_request("a")
    while host.chunks.is_asking:
        host.chunks.client.wait(0.1)
        host.chunks.finished()
    assert host.answers([key], "b") == [HIT]


def test_a_value_of_another_size_is_a_miss(host_of):
    host = host_of("memory:?capacity=64MiB")
    host.chunks.client.submit_set([b"vllm/test/" + b"k" * 36], [b"short"], tag=None)
    other = Host("memory:?capacity=64MiB")
    other.close()
    deadline = time.monotonic() + DEADLINE_S
    while host.chunks.client.probe([b"vllm/test/" + b"k" * 36]) == [None]:
        assert time.monotonic() < deadline
    assert host.chunks.lookup(b"k" * 36, "r") is MISS
    host.chunks.client.wait(5)
    host.chunks.client.drain()


def test_a_load_that_failed_is_a_miss_until_it_is_stored_again(host_of):
    host = host_of(fault(error_rate=1, pattern="get:2"))
    keys = stored(host, 3)
    assert host.answers(keys) == [HIT] * 3
    (job,) = host.ended(host.load(keys, range(10, 13)))
    assert job.done == [keys[0], keys[2]], "what was loaded is kept"
    assert host.answers(keys) == [HIT, MISS, HIT]
    host.ended(host.store(keys, range(3)))
    assert host.answers(keys) == [HIT] * 3
    (job,) = host.ended(host.load(keys, range(10, 13)))
    assert job.done == keys
    assert host.row(11) == value_of(keys[1])


@pytest.mark.parametrize("operation", ["get", "set", "exists"])
def test_what_stalls_ends_at_its_deadline(host_of, operation, tmp_path):
    short = {"get": "load", "set": "store", "exists": "lookup"}[operation]
    timeouts = Timeouts(lookup=60, load=60, store=60, room=60)._replace(**{short: 0.2})
    files = {"type": "fs", "base_path": str(tmp_path), "capacity": "64MiB", "min_free": "0"}
    inner = {"inner": files} if operation == "exists" else {}  # Memory knows without a lookup.
    stall = {"stall_rate": 1, "stall": "10m", "pattern": f"{operation}:*"}
    host = host_of(fault(**stall, **inner), timeouts)
    keys = keys_of(2)
    if operation == "set":
        (job,) = host.ended(host.store(keys, range(2)))
        assert job.done == []
        return
    stored(host, 2)
    if operation == "exists":
        assert host.answers(keys) == [MISS, MISS]
    else:
        (job,) = host.ended(host.load(keys, range(10, 12)))
        assert job.done == []
        assert host.answers(keys) == [MISS, MISS]


def test_a_failure_is_told_once_until_something_succeeds(host_of, caplog):
    host = host_of(fault(error_rate=1, pattern="set:1-3;get:1"))
    for _ in range(3):
        host.ended(host.store(keys_of(1), [0]))
    assert [record.name for record in caplog.records] == ["vllm.larder"]
    stored(host, 1)
    host.ended(host.load(keys_of(1), [1]))
    assert len(caplog.records) == 2
    assert host.chunks.tally.get("chunks", "not_stored") == 3


def test_rows_that_are_being_copied_make_loads_wait(host_of):
    host = host_of(fault(delay_rate=1, delay="300ms", pattern="set:2-9"))
    keys = stored(host, 2)
    busy = [b"%032d" % number + b"\0" * 4 for number in range(31)]
    job = host.store(busy, range(1, 32))
    assert host.chunks.lookup(keys[0], "r") is RETRY
    host.ended(job)
    assert host.chunks.lookup(keys[0], "r") is HIT


def test_wrong_rows_and_a_closed_store_fail_their_jobs_and_raise_nothing(host_of):
    host = host_of("memory:?capacity=64MiB")
    (key,) = keys_of(1)
    (job,) = host.ended(host.load([key], [ROWS + 5]))
    assert job.done == []
    (job,) = host.ended(host.store([], []))
    assert job.keys == []
    host.chunks.client.close()
    host.store([key], [0])
    (job,) = host.chunks.finished()
    assert job.done == []


def test_drain_gives_every_job_its_result(host_of):
    host = host_of(fault(delay_rate=1, delay="200ms"))
    ids = [host.store(keys_of(8)[n : n + 1], [n]) for n in range(8)]
    host.chunks.drain()
    assert sorted(job.id for job in host.chunks.finished()) == ids
    assert host.chunks.room.copying == 0


def test_the_end_leaves_no_export_of_the_memory(spec):
    host = Host(spec)
    host.store(keys_of(8), range(8))
    host.close()
    host.chunks.close()  # Once more.


def test_touched_keys_are_told_to_the_store_and_bounded(host_of):
    host = host_of("memory:?capacity=64MiB")
    keys = stored(host, 4)
    host.chunks.touch(keys)
    host.chunks.touch([b"%036d" % number for number in range(20000)])
    host.chunks.end_step()
    assert len(host.chunks._touched) == 0
    host.chunks.touch(keys)
    host.chunks.end_step()
    assert len(host.chunks._touched) == 4, "one batch of them at a time"
    deadline = time.monotonic() + DEADLINE_S
    while host.chunks._touched:
        assert time.monotonic() < deadline
        host.chunks.client.wait(0.1)
        host.chunks.finished()
        host.chunks.end_step()


def test_importing_the_door_starts_nothing_and_imports_no_vllm():
    code = (
        "import sys, threading, larder.vllm, larder\n"
        "larder.vllm.register()\n"
        "print(threading.active_count(), len([m for m in sys.modules if m.split('.')[0] in"
        " ('vllm', 'torch', 'numpy')]), 'larder.vllm._tier' in sys.modules)\n"
        "sys.modules['vllm'] = None  # As where it is not installed.\n"
        "try:\n    larder.vllm.LarderTier\nexcept ImportError as error:\n    print(error)\n"
        "import os\nprint(len(os.listdir('/proc/self/task')))\n"
    )
    ended = run_python(code, env={"LARDER": ""})
    lines = ended.stdout.splitlines()
    assert lines[0] == "1 0 False", ended.stderr
    assert "pip install -U 'vllm>=0.28'" in lines[1]
    assert lines[2] == "1"


# --- Hints ----------------------------------------------------------------------------------------


def envelope(*actions):
    """vLLM's, of types and payloads."""
    return {
        "actions": [
            {"action_type": kind, "action_version": "1.0", "action_id": "1", "payload": payload}
            for kind, payload in actions
        ]
    }


RETAIN = ("kv.retain", {"ttl_seconds": 600})


def counter(host, name):
    return host.chunks.client.report().counters[name]


def settled(host, condition):
    """Steps, until it holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, host.chunks.tally.counts
        host.chunks.end_step()
        host.chunks.client.wait(0.01)
        host.chunks.finished()


def test_what_a_request_finds_and_stores_is_retained_and_released(host_of, tmp_path):
    host = host_of(spec_of("log", tmp_path))
    chunks, keys = host.chunks, stored(host, 4)
    assert chunks.begin_request("r", envelope(RETAIN)) is True, "all of its chunks are to be told"
    assert host.answers(keys[:2], "r") == [HIT, HIT]
    settled(host, lambda: counter(host, "retained_keys") == 2)
    # Stored by another request before, and new; the request ends before its stores have.
    chunks.submit_store(100, [keys[2], b"new" * 12], [2, 5], "r")
    chunks.end_request("r")
    host.ended(100)
    settled(host, lambda: counter(host, "retained_keys") == 4)
    assert chunks.tally.get("chunks", "hinted") == 4, "each chunk once"

    assert host.answers([keys[3]], "plain") == [HIT]
    chunks.begin_request("s", envelope(("kv.release", {})))
    host.answers(keys[:3], "s")
    settled(host, lambda: counter(host, "retained_keys") == 1)


def test_a_prefetch_is_of_what_a_lookup_finds(host_of):
    host = host_of("tiered:?l1=4MiB&l2=memory:&promote=none&skip_l1=yes")
    keys = stored(host, 4)
    assert host.chunks.begin_request("r", envelope(("kv.prefetch", {}))) is False
    assert host.answers([*keys[:3], b"other" * 8], "r") == [HIT] * 3 + [MISS]
    settled(host, lambda: counter(host, "l1_prefetched_total") == 3)


def test_hints_that_are_wrong_or_not_the_stores_are_counted_and_told_once(host_of, caplog):
    host = host_of("memory:?capacity=64MiB")
    for request in ("a", "b"):
        wrong = envelope(("kv.pin", {"ttl_seconds": -1}), RETAIN)
        assert host.chunks.begin_request(request, wrong) is True
        assert host.chunks.begin_request(request, 5) is False
    assert host.chunks.begin_request("c", None) is False
    assert host.chunks.tally.get("hints", "wrong") == 4
    assert host.chunks.tally.get("hints", "taken") == 2
    assert caplog.text.count("ttl_seconds -1") == 1


def test_a_store_without_hints_leaves_them_out(host_of, tmp_path, caplog):
    host = host_of(spec_of("fs", tmp_path))
    for request in ("a", "b"):
        assert host.chunks.begin_request(request, envelope(RETAIN)) is False
    assert host.chunks.tally.get("hints", "unsupported") == 2
    assert caplog.text.count("this store has no retain") == 1
    stored(host, 2)


def test_an_envelope_with_many_actions_is_one_of_each_kind(host_of):
    host = host_of("memory:?capacity=64MiB")
    keys = stored(host, 1)
    host.chunks.begin_request("r", envelope(*[RETAIN] * 1000))
    host.answers(keys, "r")
    settled(host, lambda: host.chunks.tally.get("chunks", "hinted") == 1)
    assert host.chunks.tally.get("hints", "taken") == 1
