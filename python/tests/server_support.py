"""`larder server` as a child of the test, as the command and as `python -m larder`, and a worker's
requests."""

import json
import mmap
import os
import pathlib
import random
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent.parent / "tests" / "interop"))

pytest.importorskip("zmq")
from mp_wire import RawClient, key, registration  # noqa: E402

COMMANDS = {
    "command": [str(pathlib.Path(sys.executable).parent / "larder")],
    "python": [sys.executable, "-m", "larder"],
}
DEADLINE_S = 120
CHUNK, CHUNKS, WORKER = 16, 3, 7


def wait_for(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {DEADLINE_S} s"
        time.sleep(0.01)


def run(kind, *arguments, **environment):
    """The command to its end."""
    return subprocess.run(
        [*COMMANDS[kind], *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=environment_of(environment),
        check=False,
    )


def environment_of(more):
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("LARDER_")}
    return {**inherited, "PYTHONPATH": path_of(HERE), **more}


def path_of(folder):
    """PYTHONPATH with one more folder."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))


class Server:
    """A server on free ports, from `{"event": "listening"}` on; killed at the end."""

    def __init__(self, kind, folder, *options):
        self.log_path = folder / "server.log"
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [
                    *(*COMMANDS[kind], "server", "--json", "--port", "0", "--http-port", "0"),
                    *("--l1-size-gb", "8MiB", "--chunk-size", str(CHUNK)),
                    *map(str, options),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment_of({}),
            )
        self.address = self.line()
        self.pool = pathlib.Path("/dev/shm", self.address["pool"])

    def line(self):
        """The next that it prints."""
        line = self.process.stdout.readline()
        assert line, self.log()
        return json.loads(line)

    def log(self):
        return self.log_path.read_text(encoding="utf-8")

    def end(self, signal_number):
        """Its last line and its exit code."""
        self.process.send_signal(signal_number)
        return self.line(), self.process.wait(DEADLINE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Worker:
    """A worker and a scheduler of one model."""

    def __init__(self, server):
        self.client = RawClient(server.address["port"])
        self.client.ask("register", registration(WORKER, chunk=CHUNK))
        with open(server.pool, "r+b") as pool:
            self.pool = mmap.mmap(pool.fileno(), 0)

    def store(self, tokens):
        """Stores values that follow from the tokens."""
        asked = key(tokens, "store", worker=0)
        context = self.client.ask("prepare_store", asked, WORKER)["context"]
        for slot, chunk in zip(context["slots"], context["chunk_indices"], strict=True):
            end = slot["offset"] + slot["length"]
            self.pool[slot["offset"] : end] = value_of(tokens, chunk, slot["length"])
        assert self.client.ask("commit_store", asked, WORKER, b"")
        return len(context["slots"])

    def load(self, tokens):
        """How many chunks are there. Their bytes are compared."""
        self.client.ask("lookup", key(tokens, "load"), 1)
        while (hit := self.client.ask("query", "load")) is None:
            time.sleep(0.002)
        if hit:
            asked = key(tokens, "load", worker=0, end=hit * CHUNK)
            answer = self.client.ask("prepare_retrieve", asked, WORKER)
            assert answer["success"]
            for chunk, slot in enumerate(answer["context"]["slots"]):
                got = self.pool[slot["offset"] : slot["offset"] + slot["length"]]
                assert got == value_of(tokens, chunk, slot["length"])
            self.client.ask("commit_retrieve", asked, WORKER)
        self.client.ask("end_session", "load")
        return hit

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.pool.close()


def tokens_of(seed):
    return [(seed * 7_919 + 31 * i) % 151_000 for i in range(CHUNKS * CHUNK)]


def value_of(tokens, chunk, length):
    return random.Random(repr(tokens[: (chunk + 1) * CHUNK])).randbytes(length)
