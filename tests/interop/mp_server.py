"""`larder server` and `lmcache server` in a process group of their own, started with the same
options, so that a test can hold one against the other."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from environments import python_path
from mp_wire import RawClient, encode

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
LARDER = pathlib.Path(
    os.environ.get("LARDER_BINARY", REPOSITORY / "build/release/apps/larder/larder")
)
# The release that the environment does not have is unpacked beside it (scripts/python_env.sh).
UNPACKED = REPOSITORY / "build/venv/lmcache"
STOCK = {"0.5.6": None, "0.5.7rc2": UNPACKED / "0.5.7rc2"}

# With a version of LMCache here, its own server is tested, which shows that a test is fair.
TESTED = os.environ.get("LARDER_MP_SERVER", "larder")

IS_FULL = "LARDER_FULL" in os.environ
full_only = pytest.mark.skipif(not IS_FULL, reason="SKIPPED (needs LARDER_FULL=1)")


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("localhost", 0))
        return bound.getsockname()[1]


def wait_for(condition, what, seconds=60, every=0.01):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(every)
    return result


def environment_of(version: str) -> dict[str, str]:
    """What a process needs to run LMCache of that version."""
    return {
        **os.environ,
        "LMCACHE_DISABLE_BANNER": "1",
        "PYTHONPATH": python_path(STOCK[version]),
    }


def require(kind: str) -> None:
    """Skips the test if that server cannot be started here."""
    if kind == "larder":
        if not LARDER.exists():
            pytest.skip(f"SKIPPED (no {LARDER}: build the target larder, or set LARDER_BINARY)")
    elif STOCK[kind] is not None and not STOCK[kind].exists():
        pytest.skip(f"SKIPPED (no LMCache {kind}: scripts/python_env.sh engine)")


class MpServer:
    """`kind` is "larder" or a version of LMCache. Options are those that both have; `port` and
    `shm_name` are of the test's choice where a restart must have the same ones."""

    def __init__(
        self,
        kind: str,
        log_path,
        *,
        chunk_tokens=16,
        l1_gb="0.0625",
        options=(),
        port=None,
        http_port=None,
        shm_name=None,
    ):
        require(kind)
        self.kind = kind
        self.port = port or free_port()
        self.http_port = http_port or free_port()
        self.pool_name = f"lmcache_l1_pool_{shm_name or f'test_{self.port}'}"
        self.log_path = pathlib.Path(log_path)
        arguments = [
            "server",
            *("--host", "localhost", "--port", str(self.port)),
            *("--http-host", "127.0.0.1", "--http-port", str(self.http_port)),
            *("--chunk-size", str(chunk_tokens), "--l1-size-gb", str(l1_gb)),
            *("--eviction-policy", "LRU", "--supported-transfer-mode", "auto"),
            *("--shm-name", self.pool_name.removeprefix("lmcache_l1_pool_")),
            *("--no-l1-use-lazy", *map(str, options)),
        ]
        if kind == "larder":
            command, environment = [str(LARDER), *arguments], dict(os.environ)
        else:
            program = os.path.join(os.path.dirname(sys.executable), "lmcache")
            command, environment = [program, *arguments], environment_of(kind)
        self.started = time.monotonic()
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )

    def wait_ready(self, seconds=120):
        """Until it answers a PING."""
        with RawClient(self.port) as client:
            client.send([b"\x00", b"\x16", b"\xc0"])

            def is_answered():
                assert self.process.poll() is None, self.text()[-3000:]
                return client.receive(0.05)

            wait_for(is_answered, f"start of the server ({self.log_path})", seconds)
        return self

    def text(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def get(self, path: str):
        url = f"http://127.0.0.1:{self.http_port}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def status(self) -> dict:
        return self.get("/status")

    def resident_bytes(self) -> int:
        """Of the process alone: what it shares with workers is not counted."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no RssAnon in /proc")

    def pool(self) -> pathlib.Path:
        return pathlib.Path("/dev/shm") / self.pool_name

    def kill(self) -> None:
        """As a crash does."""
        self.process.kill()
        self.process.wait()

    def stop(self, kind=signal.SIGTERM, seconds=30) -> int:
        if self.process.poll() is None:
            self.process.send_signal(kind)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.kind != "larder":  # Its helper process unlinks it only after a while.
            self.pool().unlink(missing_ok=True)
        return self.process.returncode

    def __enter__(self):
        try:
            return self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()


class Restartable:
    """Servers one after another on the same ports and with the same pool."""

    def __init__(self, tmp_path, **more):
        self.log_path = tmp_path / "server.log"
        self.arguments = {"port": free_port(), "http_port": free_port(), **more}
        self.server = None

    def start(self):
        self.server = MpServer(TESTED, self.log_path, **self.arguments)
        return self.server

    def __enter__(self):
        self.start().wait_ready()
        return self

    def __exit__(self, *_):
        self.server.stop()


def log_url(tmp_path, **more):
    given = {"capacity": "512MiB", "max_value": "1MiB", "min_free": "0", **more}
    return f"log:{tmp_path}/kv?" + "&".join(f"{name}={value}" for name, value in given.items())


class Client:
    """mp_client.py, or another program of its form, in a process of its own, with the LMCache of
    `version`."""

    def __init__(
        self, version, server, log_path, program="mp_client.py", is_waited_for=True, **job
    ):
        require(version)
        job = {"port": server.port, "http_port": server.http_port, **job}
        self.log_path = pathlib.Path(log_path)
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, pathlib.Path(__file__).with_name(program), json.dumps(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment_of(version),
            )
        if is_waited_for:
            self.wait_ready()

    def wait_ready(self):
        """A client that waits for others answers when they are there."""
        self.chunk = self.answer()["chunk"]

    def answer(self):
        line = self.process.stdout.readline()
        assert line, self.log_path.read_text(errors="replace")[-3000:]
        return json.loads(line)

    def begin(self, *step):
        self.process.stdin.write(json.dumps(step) + "\n")
        self.process.stdin.flush()

    def ask(self, *step):
        self.begin(*step)
        return self.answer()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            assert self.ask("end") == "closed"
            assert self.process.wait(60) == 0
        self.process.kill()
        self.process.wait()


def l2_option(*adapters) -> list[str]:
    """Options for L2 adapters, each a URL or LMCache's JSON as a dictionary."""
    options = []
    for adapter in adapters:
        options += [
            "--l2-adapter",
            adapter if isinstance(adapter, str) else json.dumps(adapter),
        ]
    return options


def ping_seconds(port: int, tries: int = 3) -> float:
    """The best of a few PINGs over a new connection."""
    best = float("inf")
    with RawClient(port) as client:
        for uid in range(tries):
            begin = time.monotonic()
            client.send([encode(uid), b"\x16", b"\xc0"])
            assert client.receive(10) is not None, "a PING was not answered within 10 s"
            best = min(best, time.monotonic() - begin)
    return best
