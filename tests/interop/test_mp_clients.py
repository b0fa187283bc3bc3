"""LMCache's own clients of both versions against `larder server`, unmodified: the adapters of
vLLM's connector, the SDK, and the commands of `lmcache`."""

import json
import os
import re
import subprocess
import sys

import pytest
from mp_server import STOCK, TESTED, Client, MpServer, environment_of, require, wait_for
from mp_wire import RawClient

VERSIONS = list(STOCK)


def lmcache(version, *arguments, seconds=300):
    require(version)
    program = os.path.join(os.path.dirname(sys.executable), "lmcache")
    return subprocess.run(
        [program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env=environment_of(version),
    )


@pytest.fixture
def server(tmp_path):
    with MpServer(TESTED, tmp_path / "server.log") as server:
        yield server


@pytest.mark.parametrize("mode", ["engine_driven", "lmcache_driven"])
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("version", VERSIONS)
def test_adapters_store_and_load(tmp_path, server, version, world, mode):
    with Client(version, server, tmp_path / "client.log", world=world, mode=mode) as client:
        for seed in (2, 3):
            assert client.ask("load", seed, 6) == 0
            assert client.ask("store", seed, 4) is True
            assert client.ask("load", seed, 6) == 4
            assert client.ask("store", seed, 6) is True
            assert client.ask("load", seed, 6) == 6
            assert client.ask("load", seed, 2) == 2


@pytest.mark.parametrize("world", [1, 2])
def test_both_versions_share_what_is_cached(tmp_path, server, world):
    old, new = VERSIONS
    with (
        Client(old, server, tmp_path / "old.log", world=world) as first,
        Client(new, server, tmp_path / "new.log", world=world) as second,
    ):
        assert first.chunk == second.chunk == 16
        assert first.ask("store", 2, 5) is True
        assert second.ask("load", 2, 6) == 5
        assert second.ask("store", 3, 5) is True
        assert first.ask("load", 3, 6) == 5
        # At the same time.
        first.begin("run", 3.0)
        second.begin("run", 3.0)
        for client in (first, second):
            events = client.answer()
            assert len(events) > 50
            wrong = [event for event in events if event[3] not in (True, 0, 64)]
            assert wrong == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_worker_tells_what_the_server_stores_and_removes(tmp_path, server, version):
    """LMCache's server tells of no chunk that a worker copied itself (S26)."""
    if server.kind != "larder":
        pytest.skip("SKIPPED (needs larder: LMCache's server has no such events)")
    with Client(version, server, tmp_path / "client.log", kv_events=True) as client:
        client.ask("events")  # The first call subscribes.
        assert client.ask("store", 2, 4) is True
        told = []

        def told_of(count):
            told.extend(client.ask("events"))
            return len(told) >= count

        wait_for(lambda: told_of(4), "the events of the store")
        assert [kind for kind, _, _ in told] == ["CacheStoreEvent"] * 4
        stored = [hashes[0] for _, hashes, _ in told]
        tokens = [token for _, _, tokens in told for token in tokens]
        assert tokens == [(2 * 7_919 + 31 * i) % 151_000 for i in range(4 * client.chunk)]
        told.clear()
        with RawClient(server.port) as raw:
            raw.ask("clear", True)
        wait_for(lambda: told_of(1), "the event of the clear")
        assert sorted(each for _, hashes, _ in told for each in hashes) == sorted(stored)
        assert {kind for kind, _, _ in told} == {"CacheRemoveEvent"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_sdk_loads_and_stores(tmp_path, server, version):
    with Client(version, server, tmp_path / "client.log") as client:
        assert client.ask("store", 2, 5) is True
        assert client.ask("sdk", 2, 5) == {
            "found": 5,
            "equal": True,
            "stored": True,
            "again": True,
        }


def bench(version, server, *more):
    """What `lmcache bench server` prints."""
    ended = lmcache(
        version,
        *("bench", "server", "--mode", "cpu"),
        *("--rpc-url", f"tcp://localhost:{server.port}"),
        *("--url", f"http://127.0.0.1:{server.http_port}"),
        *("--kvcache-shape-spec", "(2,256,16,2,16):float16:4", "--num-blocks", "256"),
        *("--num-tokens", "600", "--end", "4", "--interval", "0"),
        *more,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-3000:]
    return ended.stdout


@pytest.mark.parametrize("more", [(), ("--tp-size", "2")], ids=["tp1", "tp2"])
@pytest.mark.parametrize("version", VERSIONS)
def test_lmcaches_bench_finds_its_bytes(server, version, more):
    printed = bench(version, server, *more)
    assert re.search(r"Checksum OK: +4\n", printed), printed[-2000:]
    assert "37/37 chunks hit" in printed


@pytest.mark.parametrize("more", [(), ("--tp-size", "2")], ids=["tp1", "tp2"])
@pytest.mark.parametrize("version", VERSIONS)
def test_lmcaches_bench_finds_its_bytes_where_the_server_copies(tmp_path, version, more):
    """The sums before and after are the server's, from POST /cache/checksums. The bench uses block
    0 as any other, so no block may be the null block."""
    if TESTED not in ("larder", version):
        pytest.skip("SKIPPED (LMCache's server and bench of two releases do not understand another)")
    options = ("--null-block-id", "-1")
    with MpServer(TESTED, tmp_path / "server.log", options=options) as server:
        printed = bench(version, server, "--transfer-mode", "lmcache_driven", *more)
    assert re.search(r"Checksum FAIL: +0\n", printed), printed[-2000:]
    assert "Checksum query failed" not in printed
    # LMCache's server may answer a store before a lookup finds it.
    expected = "4" if server.kind == "larder" else "[1-4]"
    assert re.search(rf"Checksum OK: +{expected}\n", printed), printed[-2000:]
    assert "37/37 chunks hit" in printed


@pytest.mark.parametrize("version", VERSIONS)
def test_lmcaches_commands_understand_the_server(server, version):
    url = f"http://127.0.0.1:{server.http_port}"
    ended = lmcache(version, "ping", "kvcache", "--url", url)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
    ended = lmcache(version, "describe", "kvcache", "--url", url, "--format", "json")
    assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
    begin = ended.stdout.index("{")
    described = json.JSONDecoder().raw_decode(ended.stdout[begin:])[0]["metrics"]
    assert (described["health"], described["chunk_size"]) == ("OK", 16)
    assert described["l1_capacity_gb"] == 0.06


@pytest.mark.parametrize("version", VERSIONS)
def test_lmcaches_command_clears_an_open_server(tmp_path, version):
    """S29: without --admin-open it is refused, and shows why."""
    options = ("--admin-open",) if TESTED == "larder" else ()
    with (
        MpServer(TESTED, tmp_path / "server.log", options=options) as server,
        Client(version, server, tmp_path / "client.log") as client,
    ):
        assert client.ask("store", 2, 4) is True
        assert server.status()["storage_manager"]["l1_manager"]["total_object_count"] > 0
        url = f"http://127.0.0.1:{server.http_port}"
        ended = lmcache(version, "kvcache", "clear", "--url", url)
        assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
        assert server.status()["storage_manager"]["l1_manager"]["total_object_count"] == 0
        if TESTED == "larder":
            assert server.status()["larder"]["admin_access"] == "open"
            assert "--admin-open" in server.text()
        assert client.ask("load", 3, 4) == 0
        assert client.ask("store", 2, 4) is True


@pytest.mark.parametrize("version", VERSIONS)
def test_lmcaches_command_shows_why_a_clear_is_refused(tmp_path, server, version):
    if server.kind != "larder":
        pytest.skip("SKIPPED (needs larder: LMCache's server needs no token)")
    with Client(version, server, tmp_path / "client.log") as client:
        assert client.ask("store", 2, 4) is True
        ended = lmcache(version, "kvcache", "clear", "--url", f"http://127.0.0.1:{server.http_port}")
        assert ended.returncode != 0
        said = ended.stdout + ended.stderr
        assert "--admin-token-file" in said and "--admin-open" in said, said[-2000:]
        assert client.ask("load", 2, 4) == 4
