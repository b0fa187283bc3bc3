"""The numbers of a process's stores: as text, over HTTP, and in the program `larder stats`."""

import asyncio
import errno
import gc
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import run_python
from prometheus_client.parser import text_string_to_metric_families

import larder
import larder.aio
from larder import _metrics
from larder.connectors import PythonConnector

LARDER = Path(sys.executable).parent / "larder"


def stats(*arguments):
    return subprocess.run(
        [LARDER, "stats", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def samples_of(text):
    """{(name, other labels): value} of the one store."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            others = tuple(
                value for name, value in sample.labels.items() if name not in ("type", "where")
            )
            assert (sample.name, others) not in found
            found[sample.name, others] = sample.value
    return found


def test_the_text_has_what_the_store_tells():
    with larder.open("memory:") as store:
        store.set_many(["a", "b"], [b"123", b"4567"])
        store.exists(["a", "x"])
        store.get("b")
        samples = samples_of(larder.metrics_text())
        assert samples["larder_sets_total", ()] == 2
        assert samples["larder_bytes_stored_total", ()] == 7
        assert samples["larder_lookup_misses_total", ("absent",)] == 1
        assert samples["larder_batch_seconds_count", ("store",)] == 1
        metrics = store.metrics()
        assert metrics["larder_lookup_misses_absent_total"] == 1
        assert metrics["larder_lookup_hits_total"] == samples["larder_lookup_hits_total", ()]
        flat = {
            name.removesuffix("_total").removesuffix("_seconds")
            for name in [*metrics, *("larder_" + name for name in store.report().times)]
        }
        for name, labels in samples:
            if name.startswith(("larder_batch_seconds", "larder_what_if_")):
                continue  # In report().times and report().what_if.
            stem = name.removesuffix("_total").removesuffix("_seconds")
            assert "_".join([stem, *labels]) in flat
        assert 0 < store.report().times["recent_p99_store_seconds"] < 60
    assert samples_of(larder.metrics_text()) == {}, "the store is closed"


@pytest.mark.parametrize("address", ["0", "127.0.0.1:0", "[::1]:0", "unix:{path}/s", "{path}/s2"])
def test_a_server_answers_until_it_is_closed(address, tmp_path):
    if "::1" in address and not Path("/proc/net/if_inet6").is_file():
        pytest.skip("SKIPPED (needs IPv6)")
    with larder.open("memory:") as store:
        store.set("key", b"value")
        with larder.serve_metrics(address.format(path=tmp_path)) as server:
            shown = stats(server.address)
            assert shown.returncode == 0, shown.stderr
            assert "memory: healthy, 1 key" in shown.stdout
            assert server.address in repr(server)
            assert '"sets_total": 1.0' in stats(server.address, "--json").stdout
        server.close()
        ended = stats(server.address)
        assert ended.returncode == 1 and "LARDER_METRICS=ADDRESS" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_over_http_there_is_one_page():
    with larder.serve_metrics("0") as server:
        url = f"http://{server.address}"
        with urllib.request.urlopen(f"{url}/metrics?x=1", timeout=30) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/other", timeout=30)
        with pytest.raises(urllib.error.HTTPError, match="501"):
            urllib.request.urlopen(url, data=b"x", timeout=30)
        # A client that connects and sends nothing does not delay others.
        with socket.create_connection(server.address.rsplit(":", 1)):
            assert stats(f"{url}/metrics").returncode == 0


def test_a_socket_is_its_owners_and_what_a_killed_process_left_is_replaced(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with larder.serve_metrics(f"unix:{path}"):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(OSError, match="in use"):
            larder.serve_metrics(f"unix:{path}")
        assert stats(path).returncode == 0
    path.write_text("a file of somebody's")
    with pytest.raises(OSError, match="in use"):
        larder.serve_metrics(f"unix:{path}")
    assert path.read_text() == "a file of somebody's"


def test_an_address_that_cannot_be_had_is_named_with_the_remedy(tmp_path):
    with larder.serve_metrics("127.0.0.1:0") as server:
        for call in (
            larder.serve_metrics,
            lambda address: larder.open("memory:", metrics_address=address),
        ):
            with pytest.raises(
                OSError, match=f"metrics address '{server.address}': .*another port"
            ) as busy:
                call(server.address)
            assert busy.value.errno == errno.EADDRINUSE
    with pytest.raises(FileNotFoundError, match="metrics address 'unix:.*make the directory"):
        larder.serve_metrics(f"unix:{tmp_path}/none/s")
    with pytest.raises(OSError, match="metrics address '203.0.113.1:0': .*no such address"):
        larder.serve_metrics("203.0.113.1:0")
    with pytest.raises(OSError, match="metrics address 'unix:/xx.*too long"):
        larder.serve_metrics("unix:/" + "x" * 200)


@pytest.mark.parametrize("wrong", ["", "host", "host:", "host:x", "host:99999", ":-1"])
def test_an_address_that_is_none_is_refused_with_examples(wrong):
    with pytest.raises(ValueError, match=r"wanted HOST:PORT, PORT or unix:PATH.*9187"):
        larder.serve_metrics(wrong)


def test_the_environment_asks_for_it(tmp_path):
    code = f"""
import os, subprocess, larder
first = larder.open("memory:")
first.set("key", b"value")
second = larder.open("memory:")
print(subprocess.run([{str(LARDER)!r}, "stats", f"{tmp_path}/{{os.getpid()}}.sock"],
                     capture_output=True, text=True).stdout)
"""
    ended = run_python(code, env={"LARDER_METRICS": f"unix:{tmp_path}/{{pid}}.sock"})
    assert ended.returncode == 0, ended.stderr
    assert "memory: healthy, 1 key" in ended.stdout
    assert "memory #2: healthy, 0 keys" in ended.stdout, "two of one name are told apart"


def test_an_address_that_cannot_be_had_is_a_line_of_the_log_and_no_more(tmp_path):
    code = "import larder; larder.open('memory:').set('k', b'v'); print('works')"
    for wrong in ["nonsense", f"unix:{tmp_path}/none/s"]:
        ended = run_python(code, env={"LARDER_METRICS": wrong})
        assert ended.stdout == "works\n"
        assert f"LARDER_METRICS={wrong}: no metrics are served: " in ended.stderr


def test_a_forked_child_serves_nothing_and_does_not_hold_the_address(tmp_path):
    server = larder.serve_metrics(f"unix:{tmp_path}/s")
    child = os.fork()
    if child == 0:
        while True:
            signal.pause()
    try:
        assert stats(f"{tmp_path}/s").returncode == 0
        server.close()
        with larder.serve_metrics(f"unix:{tmp_path}/s"):
            assert stats(f"{tmp_path}/s").returncode == 0
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_stores_of_one_address_share_a_server_until_the_last_is_closed(tmp_path):
    path = tmp_path / "s"
    first = larder.open("memory:", metrics_address=str(path))
    second = larder.open("memory:", metrics_address=str(path))
    assert first.metrics_address == second.metrics_address == f"unix:{path}"
    first.close()
    first.close()
    assert "memory: healthy" in stats(path).stdout or "memory #2: healthy" in stats(path).stdout
    second.close()
    assert not path.exists()
    with larder.open("memory:", metrics_address=str(path)):
        assert stats(path).returncode == 0, "and the address is free again"
    assert larder.open("memory:").metrics_address is None


def test_an_address_of_a_store_that_cannot_be_had_opens_nothing(tmp_path):
    with pytest.raises(ValueError, match="wanted HOST:PORT"):
        larder.open("memory:", metrics_address="nonsense")
    with pytest.raises(TypeError, match="metrics_address: 9187"):
        larder.open("memory:", metrics_address=9187)
    with pytest.raises(larder.OpenError):
        larder.open("log:/proc/none?capacity=1GiB", metrics_address=f"{tmp_path}/s")
    assert list(tmp_path.iterdir()) == []
    assert samples_of(larder.metrics_text()) == {}


def test_a_store_that_is_freed_gives_its_address_back(tmp_path):
    path = tmp_path / "s"
    store = larder.open("memory:", metrics_address=str(path))
    assert path.exists()
    del store
    gc.collect()
    deadline = time.monotonic() + 60
    while path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_asyncio_store_has_an_address_too(tmp_path):
    path = tmp_path / "s"

    async def use():
        async with larder.aio.open("memory:", metrics_address=str(path)) as store:
            await store.set("key", b"value")
            assert store.metrics_address == f"unix:{path}"
            assert "memory: healthy, 1 key" in (await asyncio.to_thread(stats, path)).stdout
        with pytest.raises(larder.OpenError):
            await larder.aio.open("log:/proc/none?capacity=1GiB", metrics_address=str(path))

    asyncio.run(use())
    assert not path.exists()


class Unreachable(PythonConnector):
    """A storage that does not answer."""

    num_workers = 1

    def size(self, key):
        raise ConnectionError("nobody there")

    def get_into(self, key, buffer):
        return None

    def set(self, key, value):
        pass


def test_each_reason_of_a_miss_is_shown(tmp_path):
    """The metrics of one running process, whose stores have each fault once."""
    fault = "fault:?inner=memory:&pattern=get:1"
    kv = tmp_path / "fs"
    with (
        larder.serve_metrics("0") as server,
        larder.open("memory:") as absent,
        larder.open(f"{fault}&error_rate=1") as failed,
        larder.open(f"{fault}&stall_rate=1&stall=2s") as late,
        larder.open("python:test_metrics:Unreachable") as down,
        larder.open(f"fs:{kv}") as other,
    ):
        assert absent.exists(["never stored"]) == [False]
        for store, timeout in [(failed, None), (late, 0.05)]:
            store.set("key", b"value")
            outcomes = store.get_into(["key"], [bytearray(5)], timeout=timeout)
            assert outcomes.failed == [True]
            assert store.exists(["key"]) == [False]
        down.exists(["key"])  # It fails, and from now on that is known.
        assert down.exists(["key"]) == [False]
        other.set("key", b"value")
        (file,) = (path for path in kv.rglob("*") if path.is_file())
        os.truncate(file, (1 << 30) + 1)
        assert other.exists(["key"]) == [False]

        shown = stats(server.address).stdout
        for reason in ["absent", "failed_before", "late", "down", "other"]:
            assert f"not found: {reason} 1\n" in shown, shown


def test_a_forked_child_does_not_wait_for_a_lock_that_its_parent_held(tmp_path):
    with _metrics._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                address = f"unix:{tmp_path}/child.sock"
                with larder.open("memory:?capacity=1MiB", metrics_address=address):
                    os._exit(0)
            finally:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_open_that_is_cancelled_when_it_is_done_gives_its_address_back(tmp_path):
    path = tmp_path / "cancelled.sock"

    async def use():
        opening = asyncio.ensure_future(
            larder.aio.open("memory:?capacity=1MiB", metrics_address=f"unix:{path}")._open()
        )
        await asyncio.sleep(0)
        while not path.exists():  # The loop does not run meanwhile, and sees the end only later.
            time.sleep(0.01)
        time.sleep(0.2)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        while path.exists():
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(use(), 30))
