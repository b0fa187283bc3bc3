"""An unmodified `lmcache server` keeps its KV cache in larder: over a restart, and when larder is in
trouble."""

import os
import shutil
import subprocess

import pytest
from l2_json import l2_of
from lmcache_server import CHUNK_TOKENS, Engine, Server, wait_for

CHUNKS = 24


def prompt(number=0, chunks=CHUNKS):
    return [number * 1_000_003 + i for i in range(chunks * CHUNK_TOKENS)]


def log_of(directory, **parameters):
    given = {"capacity": "512MiB", "max_value": "1MiB", "min_free": "0", **parameters}
    return f"log:{directory}?" + "&".join(f"{name}={value}" for name, value in given.items())


@pytest.fixture
def log_path(tmp_path):
    return tmp_path / "server.log"


@pytest.mark.parametrize(
    ("form", "world_size"), [("native_plugin", 1), ("native_plugin", 2), ("plugin", 2)]
)
def test_a_prompt_survives_a_restart_of_the_server(tmp_path, log_path, form, world_size):
    l2 = l2_of(form, url=log_of(tmp_path / "kv"))
    keys = CHUNKS * world_size
    with Server(l2, log_path) as server:
        engine = Engine(server, world_size)
        assert engine.load(prompt()) == 0
        engine.store(prompt())
        wait_for(lambda: server.larder_metrics().get("larder_keys") == keys, "the store to L2")
        metrics = server.larder_metrics()
        assert metrics["larder_sets_total"] == keys
        assert metrics["larder_set_failures_total"] == 0
    with Server(l2, log_path) as server:
        assert server.larder_metrics()["larder_keys"] == keys
        engine = Engine(server, world_size)
        longer = prompt() + [7] * CHUNK_TOKENS * 3
        assert engine.load(longer) == CHUNKS, "every chunk comes back, and its bytes are the same"
        metrics = server.larder_metrics()
        assert metrics["larder_hits_total"] == keys
        assert metrics["larder_get_failures_total"] == 0
        assert engine.load(prompt(1)) == 0


def test_a_killed_server_finds_what_was_stored(tmp_path, log_path):
    l2 = l2_of(type="log", path=str(tmp_path / "kv"), capacity="512MiB", max_value="1MiB")
    with Server(l2, log_path) as server:
        Engine(server).store(prompt())
        wait_for(lambda: server.larder_metrics().get("larder_keys") == CHUNKS, "the store to L2")
        os.killpg(server.process.pid, 9)
    with Server(l2, log_path) as server:
        assert Engine(server).load(prompt()) == CHUNKS


def goes_on(server, engine, number):
    """Stores and loads from L1, whatever L2 does."""
    engine.store(prompt(number))
    assert engine.load(prompt(number)) == CHUNKS
    assert server.process.poll() is None
    assert "Traceback" not in server.text(), server.text()


@pytest.mark.parametrize("form", ["native_plugin", "plugin"])
def test_the_server_goes_on_with_limits_of_one_byte(tmp_path, log_path, form):
    l2 = l2_of(form, url=log_of(tmp_path / "kv", in_flight=1, batches_max=1))
    with Server(l2, log_path) as server:
        engine = Engine(server)
        for number in range(5):
            goes_on(server, engine, number)
        kept = wait_for(lambda: server.larder_metrics().get("larder_keys"), "a store to L2")
        assert kept >= CHUNKS
    with Server(l2, log_path) as server:
        engine = Engine(server)
        assert sum(engine.load(prompt(number)) for number in range(5)) >= CHUNKS


def test_the_server_goes_on_when_the_disk_is_full(tmp_path, log_path):
    if os.geteuid() != 0:
        pytest.skip("SKIPPED (needs root to mount a small file system)")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", str(disk)], check=True)
    try:
        l2 = l2_of(url=log_of(disk / "kv", capacity="60MiB", max_value="128KiB", segment="1MiB"))
        with Server(l2, log_path) as server:
            engine = Engine(server)
            goes_on(server, engine, 0)
            wait_for(lambda: server.larder_metrics()["larder_keys"] == CHUNKS, "the store to L2")
            with open(disk / "filler", "wb") as filler:
                with pytest.raises(OSError):
                    while True:
                        filler.write(bytes(1 << 20))
                        filler.flush()
            for number in range(1, 12):
                goes_on(server, engine, number)
            metrics = server.larder_metrics()
            assert metrics["larder_keys"] > 0
            assert metrics["larder_segments_used"] + metrics["larder_segments_free"] < 60
            assert (
                metrics["larder_records_evicted_total"] + metrics["larder_set_failures_total"] > 0
            )
        os.unlink(disk / "filler")
        with Server(l2, log_path) as server:
            engine = Engine(server)
            for number in range(12):
                assert engine.load(prompt(number)) in range(CHUNKS + 1)
            goes_on(server, engine, 12)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("form", ["native_plugin", "plugin"])
def test_the_server_goes_on_when_the_directory_disappears(tmp_path, log_path, form):
    l2 = l2_of(form, url=log_of(tmp_path / "kv", capacity="64MiB", max_value="128KiB", segment="1MiB"))
    with Server(l2, log_path) as server:
        engine = Engine(server)
        goes_on(server, engine, 0)
        wait_for(lambda: server.larder_metrics()["larder_keys"] == CHUNKS, "the store to L2")
        shutil.rmtree(tmp_path / "kv")
        for number in range(1, 40):
            goes_on(server, engine, number)
    with Server(l2, log_path) as server:
        engine = Engine(server)
        assert engine.load(prompt(0)) == 0
        goes_on(server, engine, 41)


def test_a_wrong_spec_stops_the_server_with_the_reason(tmp_path, log_path):
    with pytest.raises(AssertionError, match="capacity"):
        Server(l2_of(url=f"log:{tmp_path}/kv?capazity=1GiB"), log_path)
