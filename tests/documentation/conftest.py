"""Where documented commands run: a copy of the sources, directories in place of the documentation's."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from documented import ROOT
from exceptions import PATHS

import larder

TRACE = "bench/data/mooncake_conversation_trace.jsonl.zst"
IS_FULL = "LARDER_FULL" in os.environ
TIMEOUT_S = 240


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """The tracked files, in a directory that commands may write into."""
    copy = tmp_path_factory.mktemp("sources")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith("tests/"):
            continue
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, copy / name)
    lines = subprocess.run(
        f"zstd -dc {TRACE} | head -n 200", shell=True, cwd=ROOT, capture_output=True, check=True
    ).stdout
    for name in ["trace.jsonl", "TRACE"]:  # TRACE: as the README writes a trace of one's own.
        (copy / name).write_bytes(lines)
    subprocess.run(["gzip", "-k", "trace.jsonl"], cwd=copy, check=True)
    return copy


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory):
    """A Redis server of the test's own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), "--save", ""],
            cwd=tmp_path_factory.mktemp("redis"),
            stdout=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        pytest.skip("SKIPPED (needs redis-server)")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.01)
    yield port
    server.kill()
    server.wait()


class Sandbox:
    """Runs a command as a reader would paste it, with `data` in place of /data and the like."""

    def __init__(self, root, sources, redis_port):
        self.sources = sources
        directories = {name: root / name for name in ["data", "bin", "home"]}
        for directory in directories.values():
            directory.mkdir(parents=True)
        self.values = {**directories, "port": redis_port, "metrics_port": 1}
        self.packages = root / "packages"
        self._until_the_end = contextlib.ExitStack()
        secrets = self.values["home"] / "secrets"
        secrets.mkdir()
        (secrets / "redis").write_text("not the password")

    def mapped(self, text):
        for pattern, replacement in PATHS:
            text = re.sub(pattern, lambda _, to=replacement: to.format(**self.values), text)
        return text

    def run(self, text, folder="."):
        """(exit code, output) of bash with it, in a folder of the sources."""
        binaries = Path(sys.executable).parent
        ended = subprocess.run(
            ["bash", "-c", self.mapped(text)],
            cwd=self.sources / folder,
            env={
                "PATH": f"{binaries}:{os.environ['PATH']}",
                "PYTHONPATH": str(self.packages),
                "HOME": str(self.values["home"]),
                "LANG": "C.UTF-8",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
        return ended.returncode, ended.stdout + ended.stderr

    def make_store(self):
        """At /data/kv, with keys that the documentation asks for."""
        with larder.open(f"log:{self.values['data']}/kv?capacity=512MiB&min_free=0") as store:
            names = [f"llama-70b@{number:04x}" for number in (1, 2, 0xFF)] + ["llama-70b@00ff"]
            store.set_many(names, [b"value of " + name.encode() for name in names])

    def install_example(self):
        """As `pip install .` in the example does, which needs a network."""
        example = self.sources / "examples/python_connector"
        shutil.copytree(example / "larder_sqlite", self.packages / "larder_sqlite")
        project = tomllib.loads((example / "pyproject.toml").read_text())["project"]
        found = self.packages / "larder_sqlite-0.1.0.dist-info"
        found.mkdir()
        (found / "METADATA").write_text("Name: larder-sqlite\nVersion: 0.1.0\n")
        (found / "entry_points.txt").write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
                for group, entries in project["entry-points"].items()
            )
        )

    def serve_metrics(self):
        """Of this process, at the socket and the port that the documentation names."""
        store = self._until_the_end.enter_context(larder.open("memory:"))
        store.set("key", b"value")
        server = self._until_the_end.enter_context(larder.serve_metrics("0"))
        self.values["metrics_port"] = server.address.rpartition(":")[2]
        self._until_the_end.enter_context(larder.serve_metrics(self.mapped("/run/larder.sock")))

    def serve(self):
        """`larder server`, at the HTTP port and the unix socket that the documentation names."""
        options = ["--json", "--l1-size-gb", "2", "--shm-name", "", "--port", "0", "--http-port", "0"]
        options += ["--admin-open", "--admin-socket", self.mapped("/run/larder-admin.sock")]
        options += ["--l2-adapter", "memory:?capacity=64MiB"]
        program = Path(sys.executable).parent / "larder"
        server = subprocess.Popen([program, "server", *options], stdout=subprocess.PIPE, text=True)
        self._until_the_end.enter_context(server)
        self._until_the_end.callback(server.terminate)
        self.values["metrics_port"] = json.loads(server.stdout.readline())["http_port"]

    def close(self):
        self._until_the_end.close()


@pytest.fixture
def sandbox(tmp_path, sources, redis_port):
    made = Sandbox(tmp_path, sources, redis_port)
    yield made
    made.close()
    shutil.rmtree(tmp_path, ignore_errors=True)  # Some of it is gigabytes.
