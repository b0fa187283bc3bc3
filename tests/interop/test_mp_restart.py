"""`larder server` is killed, restarted and stopped under LMCache's own adapters: how long until
they store again, what is left of the pool, and what the next server has."""

import re
import signal
import time

import pytest
from mp_server import (
    STOCK,
    TESTED,
    Client,
    MpServer,
    Restartable,
    full_only,
    l2_option,
    log_url,
    wait_for,
)

HEARTBEAT = 1.0
# The adapters' own bound on an operation whose answer died with the server.
MQ_TIMEOUT = 6.0


def killed_and_restarted(tmp_path, version):
    """(moment of the kill, moment of the restart, what the adapters did)"""
    job = {"world": 2, "heartbeat": HEARTBEAT, "mq_timeout": MQ_TIMEOUT}
    with (
        Restartable(tmp_path) as servers,
        Client(version, servers.server, tmp_path / "client.log", **job) as client,
    ):
        assert client.ask("store", 1, 4) is True
        client.begin("run", 12.0)
        time.sleep(2.5)
        killed = time.time()
        servers.server.kill()
        servers.start()
        restarted = time.time()
        assert restarted - killed < 0.3
        servers.server.wait_ready()
        events = client.answer()
        assert client.ask("store", 5, 4) is True
        assert client.ask("load", 5, 4) == 4
    return killed, restarted, events


def seconds_until_good(events, name, moment):
    """From then until the first such operation that began later had succeeded."""
    return min(
        began + took - moment
        for which, began, took, result in events
        if which == name and began > moment and result is True
    )


@pytest.mark.parametrize("version", list(STOCK))
def test_adapters_store_again_after_a_crash(tmp_path, version):
    # A store or retrieve that the killed server had taken is lost, and LMCache's worker waits for
    # it without looking at its heartbeat, for `mq_timeout` seconds. No server can end that; the
    # worker that stores without a pause is nearly always caught in one, the calm one hardly ever.
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        killed, restarted, events = killed_and_restarted(folder, version)
        lost = [
            (name, took, result)
            for name, began, took, result in events
            if began < killed + 0.1 and took > HEARTBEAT + 1
        ]
        print(f"lost with the server: {lost}")
        if all(name == "store" for name, *_ in lost):
            break
    assert len(lost) <= 1, "no more than the one that the thread was in"
    stuck = [event for event in events if event[2] > HEARTBEAT + 1]
    assert len(stuck) == len(lost), f"nothing else was stuck: {stuck}"
    again = seconds_until_good(events, "calm store", restarted)
    print(f"stored again {again:.2f} s after the restart")
    assert again < 2 * HEARTBEAT + 1
    late = [
        result
        for name, began, _, result in events
        if name == "calm store" and began > restarted + again
    ]
    assert len(late) > 10 and all(result is True for result in late), "it stays healthy"
    assert seconds_until_good(events, "store", restarted) < MQ_TIMEOUT + HEARTBEAT + 1


def test_the_pool_goes_with_its_server(tmp_path):
    with MpServer(TESTED, tmp_path / "log") as server:
        assert server.pool().exists()
        server.kill()
        wait_for(lambda: not server.pool().exists(), "end of the pool's name", seconds=1)
    with MpServer(TESTED, tmp_path / "log") as server:
        assert server.pool().exists()
        assert server.stop() in (0, -signal.SIGTERM)
        assert not server.pool().exists()


@full_only
@pytest.mark.parametrize("version", list(STOCK))
def test_the_next_server_serves_the_prefix_from_disk_after_a_crash(tmp_path, version):
    options = l2_option(log_url(tmp_path))
    with Restartable(tmp_path, options=options) as servers:
        with Client(version, servers.server, tmp_path / "client.log") as client:
            for seed in (2, 3, 4):
                assert client.ask("store", seed, 8) is True
            time.sleep(3)  # The log's own sync interval is below.
        servers.server.kill()
        servers.start().wait_ready()
        with Client(version, servers.server, tmp_path / "client.log") as client:
            for seed in (2, 3, 4):
                assert client.ask("load", seed, 9) == 8, "and every byte was compared"


def after_a_stop(tmp_path, world, before, after):
    """(objects that the next server lacks, objects that the report names), of 30 prompts that were
    stored right before SIGTERM."""
    version, seeds = next(iter(STOCK)), range(2, 32)
    with Restartable(tmp_path, options=before) as servers:
        # It unregisters in vain, and need not wait for long.
        job = {"world": world, "mq_timeout": 2.0}
        with Client(version, servers.server, tmp_path / "client.log", **job) as client:
            for seed in seeds:
                assert client.ask("store", seed, 6) is True
            assert servers.server.stop() == 0
        text = servers.server.text()
        servers.arguments["options"] = after
        servers.start().wait_ready()
        with Client(version, servers.server, tmp_path / "client.log", world=world) as client:
            found = [client.ask("load", seed, 6) for seed in seeds]
    lost = re.search(r"ended; ([\d,]+) objects? \(.*\) did not reach L2", text)
    assert lost or "nothing was left to store" in text, text
    return sum(6 - chunks for chunks in found) * world, int(lost.group(1)) if lost else 0


@pytest.mark.parametrize("world", [1, 2])
def test_what_was_just_stored_survives_a_stop(tmp_path, world):
    options = l2_option(log_url(tmp_path))
    assert after_a_stop(tmp_path, world, options, options) == (0, 0)


def test_a_stop_reports_what_it_could_not_store(tmp_path):
    """The store is slower than the end may last."""
    log = log_url(tmp_path)
    inner = {"type": "log", "path": str(tmp_path / "kv")} | dict(
        pair.split("=") for pair in log.partition("?")[2].split("&")
    )
    slow = {"type": "fault", "inner": inner, "delay_rate": 0.5, "delay": "30s", "pattern": "set:*"}
    before = [*l2_option(slow), "--drain-seconds", "1"]
    missing, lost = after_a_stop(tmp_path, 1, before, l2_option(log))
    print(f"{missing} objects missing, {lost} reported")
    assert lost > 0
    # A prefix ends at its first missing chunk.
    assert missing <= lost * 6
