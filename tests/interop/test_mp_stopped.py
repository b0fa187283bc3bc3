"""A server that does not run for longer than its clients have patience (SIGSTOP, as a starved or
suspended machine): they have declared an outage and given their blocks to other requests. What
waited is refused, what was copied across the gap is not published, and nothing is written into
blocks that are not the request's any more (S15)."""

import contextlib
import os
import random
import signal
import time

import pytest
from mp_server import MpServer, wait_for
from mp_wire import RawClient
from mp_worker import EngineDrivenWorker, LmcacheDrivenWorker, Prompt, Shape, look_up

# Copies of 64 MiB take some tens of milliseconds.
LARGE = Shape("stopped/large", layers=8, hidden=2048, block=8, blocks=160)
SMALL = Shape("stopped/small", blocks=256)
HEARTBEAT = 1.0  # The shortest that a server believes: half of it is the patience.
STOPPED_SECONDS = 1.5
STORES = 8


def prompt_of(shape: Shape, number: int, chunks: int) -> Prompt:
    source = random.Random(number)
    return Prompt([source.randrange(151_000) for _ in range(chunks * shape.chunk)], 0, chunks)


@contextlib.contextmanager
def stopped(server):
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
        time.sleep(STOPPED_SECONDS)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


@pytest.fixture
def server(tmp_path):
    with MpServer("larder", tmp_path / "server.log", l1_gb="0.25") as server:
        yield server


@contextlib.contextmanager
def driven(server, shape: Shape, instance: int):
    """A worker whose blocks the server copies, and whose heartbeat the server knows."""
    with RawClient(server.port) as client:
        worker = LmcacheDrivenWorker(client, shape, instance)
        try:
            worker.register()
            for _ in range(2):
                assert client.ask("ping", instance) is True
                time.sleep(HEARTBEAT)
            yield worker
        finally:
            worker.close()


def wait_until_served(worker) -> None:
    """Right after the gap the server cannot tell new transfers from those that waited."""
    prompt = prompt_of(worker.shape, 999, 1)
    wait_for(lambda: worker.store(prompt, "probe"), "the next transfer", seconds=10)


def found(server, worker, prompt: Prompt) -> int:
    """Chunks that are stored, of which every byte is compared."""
    request = f"check-{time.monotonic_ns()}"
    with RawClient(server.port) as scheduler:
        hit = look_up(scheduler, worker.shape, prompt, request)
        if hit:
            assert worker.retrieve(Prompt(prompt.tokens, 0, hit), request, first=1) is True
        scheduler.ask("end_session", request)
    return hit


def test_what_waited_in_a_stopped_server_is_refused(server):
    chunks = 4
    stored = [prompt_of(SMALL, number, chunks) for number in range(STORES)]
    queued = [prompt_of(SMALL, 100 + number, chunks) for number in range(STORES)]
    width = chunks * SMALL.blocks_per_chunk
    with driven(server, SMALL, 1) as worker:
        for number, prompt in enumerate(stored):
            assert worker.store(prompt, f"before-{number}") is True
        places = [(1 + i * width, 1 + (STORES + i) * width) for i in range(STORES)]
        with stopped(server):
            stores = [
                worker.begin_store(prompt, f"s-{number}", places[number][0])
                for number, prompt in enumerate(queued)
            ]
            retrieves = [
                worker.begin_retrieve(prompt, f"r-{number}", places[number][1])
                for number, prompt in enumerate(stored)
            ]
        # Other requests have the blocks by now.
        for prompt, (source, target) in zip(queued, places, strict=True):
            worker.overwrite(worker.block_ids(prompt, source), 0xAA)
            worker.overwrite(worker.block_ids(prompt, target), 0xBB)
        assert [worker.is_done(uid) for uid in stores + retrieves] == [False] * 2 * STORES
        for prompt, (_, target) in zip(stored, places, strict=True):
            ids = worker.block_ids(prompt, target)
            assert set(b"".join(worker.read(ids))) == {0xBB}, "written after the refusal"
        wait_until_served(worker)
        assert [found(server, worker, prompt) for prompt in queued] == [0] * STORES
        assert [found(server, worker, prompt) for prompt in stored] == [chunks] * STORES
        assert server.status()["larder"]["stalls"] >= 1
        assert server.status()["larder"]["transfers_stale"] >= 2 * STORES
        # The next ones are served.
        assert worker.store(queued[0], "after") is True
        assert found(server, worker, queued[0]) == chunks


def test_a_copy_that_ran_across_the_gap_is_not_published(server):
    """Torn, if it were: the blocks are another request's while the server is stopped."""
    answers = []
    with driven(server, LARGE, 1) as worker:
        for attempt in range(12):
            prompt = prompt_of(LARGE, 200 + attempt, 64)
            ids = worker.block_ids(prompt)
            store = worker.begin_store(prompt, f"gap-{attempt}")
            time.sleep(0.001 * (attempt + 1))
            with stopped(server):
                worker.overwrite(ids, 0xCC)
            answers.append(worker.is_done(store))
            wait_until_served(worker)
            hit = found(server, worker, prompt)
            assert hit == (prompt.end if answers[-1] else 0)
            worker.client.ask("clear", True)
            if True in answers and False in answers:
                break
    print(f"stores were done: {answers}")
    assert False in answers, "no stop met a copy"


def test_a_worker_that_copies_itself_asks_again_after_the_gap(server):
    """It gives no blocks of its own away: what it commits afterwards is whole, and published."""
    prompt, late = prompt_of(SMALL, 1, 4), prompt_of(SMALL, 2, 4)
    with (
        driven(server, SMALL, 1) as reader,
        RawClient(server.port) as client,
    ):
        worker = EngineDrivenWorker(client, SMALL, 2)
        worker.register()
        assert worker.begin_store(prompt, "open") is True
        asked = late.key(SMALL, "late", 0)
        with stopped(server):
            commit = client.begin("commit_store", prompt.key(SMALL, "open", 0), 2, b"")
            prepare = client.begin("prepare_store", asked, 2)
            read = client.begin("prepare_retrieve", asked, 2)
        assert client.answer(commit) is True
        assert client.answer(prepare) == {"context": {}}
        assert client.answer(read)["success"] is False
        wait_until_served(reader)
        assert found(server, reader, prompt) == 4
        assert found(server, reader, late) == 0
        assert worker.store(late, "late") is True
        assert found(server, reader, late) == 4
        worker.close()
