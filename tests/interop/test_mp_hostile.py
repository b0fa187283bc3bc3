"""Workers whose blocks `larder server` copies, and that do what no engine should: they truncate
their memory, are killed among their copies, register for ever, leave while a copy runs, and give
parts of blocks. The server goes on, other workers are served, and whatever a lookup finds afterwards
has the bytes that were stored."""

import contextlib
import json
import os
import pathlib
import random
import subprocess
import sys
import time

import pytest
from mp_server import IS_FULL, MpServer, ping_seconds, wait_for
from mp_wire import RawClient, Refused, decode, encode, registration
from mp_worker import (
    LmcacheDrivenWorker,
    Prompt,
    Shape,
    look_up,
    remove_segments_of,
)

MIB = 1 << 20
# A chunk of 1 MiB in 16 pieces: a store of 64 takes the server some tens of milliseconds.
LARGE = Shape("hostile/large", layers=8, hidden=2048, block=8, blocks=160)
SMALL = Shape("hostile/small")
CHUNKS = 64
REGISTRATIONS = 1000
ATTEMPTS = 30 if IS_FULL else 10


def prompt_of(number: int, chunks: int = CHUNKS, shape: Shape = LARGE) -> Prompt:
    source = random.Random(number)
    return Prompt([source.randrange(151_000) for _ in range(chunks * shape.chunk)], 0, chunks)


def mapped(server: MpServer, name: str = "lmcache_kv_") -> int:
    """How often the server has memory of that name mapped."""
    return pathlib.Path(f"/proc/{server.process.pid}/maps").read_text().count(name)


def descriptors(server: MpServer) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


@pytest.fixture
def server(tmp_path):
    with MpServer("larder", tmp_path / "server.log", l1_gb="0.25") as server:
        yield server
        assert server.process.poll() is None, server.text()[-3000:]


@pytest.fixture
def scheduler(server):
    with RawClient(server.port) as client:
        yield client


@contextlib.contextmanager
def worker_of(server, instance: int, shape: Shape = LARGE, groups=()):
    with RawClient(server.port) as client:
        worker = LmcacheDrivenWorker(client, shape, instance, groups=groups)
        try:
            worker.register()
            yield worker
        finally:
            worker.close()


@pytest.fixture
def reader(server):
    """Another worker of the same model, which finds out what is really stored."""
    with worker_of(server, 9_000) as worker:
        yield worker


def hit(scheduler, reader, prompt: Prompt) -> int:
    """Chunks of it that are stored. Every byte of them is compared."""
    request = f"check-{time.monotonic_ns()}"
    found = look_up(scheduler, reader.shape, prompt, request)
    if found:
        assert reader.retrieve(Prompt(prompt.tokens, 0, found), request), "what was named is there"
    scheduler.ask("end_session", request)
    return found


def judge(scheduler, reader, prompt: Prompt, is_stored: bool) -> None:
    """After the answer to its store: all of it is there, or nothing."""
    assert hit(scheduler, reader, prompt) == (prompt.end if is_stored else 0)


# ---- Memory that goes away.


def test_a_worker_that_truncates_its_memory_fails_its_own_transfers(server, scheduler, reader):
    with worker_of(server, 1) as hostile:
        os.truncate(hostile.segment.path, 0)
        asked = prompt_of(1).key(LARGE, "gone", 0)
        ids = hostile.block_ids(prompt_of(1))
        store = hostile.client.begin("store", asked, hostile.instance, ids, b"")
        assert hostile.is_done(store) is False
        judge(scheduler, reader, prompt_of(1), is_stored=False)
        assert reader.store(prompt_of(2), "other") is True
        assert hostile.is_done(hostile.begin_retrieve(prompt_of(2), "into-nothing")) is False
        judge(scheduler, reader, prompt_of(2), is_stored=True)
        hostile.unregister()


def test_a_worker_that_truncates_its_memory_during_a_store(server, scheduler, reader):
    answers = []
    for attempt in range(ATTEMPTS):
        prompt = prompt_of(100 + attempt)
        with worker_of(server, 10 + attempt) as hostile:
            store = hostile.begin_store(prompt, f"t-{attempt}")
            time.sleep(0.0005 * (attempt % 10))
            os.truncate(hostile.segment.path, 0)
            answers.append(hostile.is_done(store))
            hostile.unregister()
        judge(scheduler, reader, prompt, answers[-1])
        assert reader.store(prompt_of(500 + attempt, 4), f"o-{attempt}") is True
        scheduler.ask("clear", True)
    print(f"{answers.count(False)} of {ATTEMPTS} stores were cut off")
    assert False in answers, "no truncation met a copy"
    assert mapped(server) == 1, "that of the reader alone"


# ---- Workers that are killed.


def kill_among_stores(server, instance: int, prompt: Prompt, after: float) -> None:
    job = {
        "port": server.port,
        "instance": instance,
        "shape": vars(LARGE),
        "prompts": [prompt.tokens],
    }
    program = pathlib.Path(__file__).with_name("mp_victim.py")
    with subprocess.Popen(
        [sys.executable, program, json.dumps(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as victim:
        for line in ("ready\n", "sent\n"):
            assert victim.stdout.readline() == line
        time.sleep(after)
        victim.kill()
        victim.wait()
    remove_segments_of(victim.pid)


def test_workers_that_are_killed_among_their_copies(server, scheduler, reader):
    found = []
    for attempt in range(4):
        prompt = prompt_of(200 + attempt)
        kill_among_stores(server, 50 + attempt, prompt, after=0.001 * attempt)
        wait_for(lambda: server.status()["larder"]["l1_bytes"]["writing"] == 0, "end of the copies")
        found.append(hit(scheduler, reader, prompt))
        assert found[-1] in (0, CHUNKS), "all of a store is there or nothing"
        scheduler.ask("clear", True)
        assert reader.store(prompt_of(600 + attempt, 4), f"k-{attempt}") is True
        assert ping_seconds(server.port) < 1
    print(f"chunks found: {found}")
    wait_for(lambda: mapped(server) == 1, "end of the dead workers' mappings", seconds=60)
    assert server.status()["registered_gpu_ids"] == [reader.instance]


# ---- Registrations (F18).


def test_a_thousand_registrations_leave_nothing(server, reader):
    def settle():
        wait_for(lambda: mapped(server) == 1, "end of the mappings")
        return server.resident_bytes(), descriptors(server)

    with RawClient(server.port) as client:
        worker = LmcacheDrivenWorker(client, SMALL, 1)

        def register_and_leave(number: int):
            worker.register()
            if number % 3 == 0:  # Again, without a goodbye.
                worker.register()
            assert worker.store(prompt_of(number % 7, 2, SMALL), f"r-{number}") is True
            worker.unregister()

        def register_engine_driven(number: int):
            client.ask("register", registration(2, model="hostile/driven", layers=1 + number % 3))
            if number % 2:
                client.ask("unregister", 2)

        for number in range(20):
            register_and_leave(number)
            register_engine_driven(number)
        bytes_before, descriptors_before = settle()
        for number in range(REGISTRATIONS):
            register_and_leave(number)
            register_engine_driven(number)
        bytes_after, descriptors_after = settle()
        worker.close()
    print(f"{bytes_before} bytes before, {bytes_after} after")
    assert descriptors_after == descriptors_before
    assert bytes_after - bytes_before < 2 * MIB


def test_registrations_of_memory_that_is_not_a_workers_leave_nothing(server, reader):
    """Names of other files, sizes beyond the memory, views beyond the size."""
    before, opened = mapped(server), descriptors(server)
    with worker_of(server, 1, SMALL) as worker:
        worker.unregister()
        good = worker.tensor(0)
        metadata = decode(good.data)["metadata"]
        for fields in [
            {"shm_name": "/etc/passwd"},
            {"shm_name": "/lmcache_kv_1_1/../../etc/passwd"},
            {"shm_name": server.pool_name},
            {"shm_name": "/" + server.pool_name},
            {"shm_name": "/lmcache_kv_4000000_1"},
            {"nbytes": 16},
            {"nbytes": 1 << 40, "metadata": metadata | {"shape": [2, 1 << 20, 8, 2, 4]}},
            {"nbytes": 1 << 40, "metadata": metadata | {"storage_offset": 1 << 20}},
        ]:
            tensor = type(good)(1, encode(decode(good.data) | fields))
            with pytest.raises(Refused) as refused:
                worker.client.ask(
                    "register_kv_cache", 1, [tensor], "m", 1, "vllm", {"kv_layout": "NHD"}, []
                )
            assert str(refused.value).startswith("larder: "), fields
    assert (mapped(server), descriptors(server)) == (before, opened)


# ---- Leaving while a copy runs (S17).


@pytest.mark.parametrize("from_elsewhere", [False, True], ids=["same", "other_connection"])
def test_unregister_waits_for_the_copies_that_run(server, scheduler, reader, from_elsewhere):
    answers = []
    for attempt in range(ATTEMPTS):
        prompt = prompt_of(300 + attempt)
        with worker_of(server, 20) as leaving, RawClient(server.port) as other:
            ids = leaving.block_ids(prompt)
            store = leaving.begin_store(prompt, f"u-{attempt}")
            time.sleep(0.0005 * (attempt % 10))
            client = other if from_elsewhere else leaving.client
            client.ask("unregister_kv_cache", leaving.instance)
            leaving.overwrite(ids)  # It may, now that this was answered.
            answers.append(leaving.is_done(store))
        judge(scheduler, reader, prompt, answers[-1])
        scheduler.ask("clear", True)
    print(f"{answers.count(True)} of {ATTEMPTS} stores were done")
    assert mapped(server) == 1


def test_registering_again_during_a_store_publishes_nothing_torn(server, scheduler, reader):
    for attempt in range(ATTEMPTS):
        prompt = prompt_of(350 + attempt)
        with worker_of(server, 21) as worker:
            ids = worker.block_ids(prompt)
            store = worker.begin_store(prompt, f"a-{attempt}")
            time.sleep(0.0005 * (attempt % 10))
            worker.register()
            worker.overwrite(ids)  # Its new life has begun.
            judge(scheduler, reader, prompt, worker.is_done(store))
            worker.unregister()
        scheduler.ask("clear", True)


# ---- Windows and null blocks (F23).

HYBRID = Shape("hostile/hybrid", layers=2)


def groups_of(window: int) -> list[dict]:
    return [
        {
            "engine_group_id": group,
            "layer_indices": [group],
            "tokens_per_block": HYBRID.block,
            "sw_size_tokens": size,
            "extra_object_group_tag": 0,
            "recurrent_state": False,
        }
        for group, size in enumerate((-1, window))
    ]


@pytest.mark.parametrize(
    ("window", "null_blocks", "hits"),
    [
        # Of three chunks of two blocks each. A window of a chunk: the last is whole.
        (16, 4, {1: 0, 2: 0, 3: 3}),
        (16, 3, {1: 0, 2: 0, 3: 3}),
        (16, 5, {1: 0, 2: 0, 3: 0}),
        # A window that reaches into the chunk before, half of which is not there.
        (20, 3, {1: 0, 2: 0, 3: 0}),
        (20, 2, {1: 0, 2: 0, 3: 3}),
    ],
)
def test_a_hit_stops_before_chunks_that_the_window_lacks(
    server, scheduler, window, null_blocks, hits
):
    chunks = 3
    prompt = prompt_of(1, chunks, HYBRID)
    with worker_of(server, 1, HYBRID, groups_of(window)) as worker:
        ids = worker.block_ids(prompt)
        ids = [ids[0], [0] * null_blocks + [20 + i for i in range(len(ids[1]) - null_blocks)]]
        worker.overwrite([[0], [0]])  # Garbage, where "none" points to.
        cells = prompt.cells(HYBRID, 0)
        worker.fill([ids[0], ids[1]], cells)
        worker.overwrite([[0], [0]])
        asked = prompt.key(HYBRID, "s", 0)
        store = worker.client.begin("store", asked, worker.instance, ids, b"")
        assert worker.is_done(store) is True
        for length, wanted in hits.items():
            part = Prompt(prompt.tokens, 0, length)
            found = look_up(scheduler, HYBRID, part, f"l-{length}")
            assert found == wanted, f"{length} chunks"
            if found:
                check_window(worker, Prompt(prompt.tokens, 0, found), cells, window)
            scheduler.ask("end_session", f"l-{length}")
        # A request that has them all.
        assert worker.store(prompt, "again") is True
        assert look_up(scheduler, HYBRID, prompt, "l-again") == chunks
        check_window(worker, prompt, cells, window)


def check_window(worker, prompt: Prompt, cells: list[bytes], window: int) -> None:
    """Retrieves what an engine needs of the hit, and compares that."""
    needed = -(-window // HYBRID.chunk)
    ids = worker.block_ids(prompt, 40)
    skipped = (prompt.end - needed) * HYBRID.blocks_per_chunk
    ids = [ids[0], [0] * skipped + ids[1][skipped:]]
    worker.overwrite(ids)
    request = worker.begin_retrieve(prompt, "w", ids=ids)
    assert worker.is_done(request) is True
    got = worker.read(ids)
    half = HYBRID.cell_bytes // 4  # A layer of a plane.
    for chunk, (one, other) in enumerate(zip(got, cells, strict=False)):
        for plane in range(2):
            begin = 2 * plane * half
            assert one[begin : begin + half] == other[begin : begin + half], f"chunk {chunk}"
            if chunk < prompt.end - needed:
                continue
            begin += half
            assert one[begin : begin + half] == other[begin : begin + half], f"window {chunk}"
