"""The common parts of the tests. `larder` is the installed package, never the source folder."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

import larder
import larder.aio

# AddressSanitizer keeps freed memory: only then RSS proves nothing.
IS_RSS_EXACT = "asan" not in os.environ.get("LD_PRELOAD", "")
KIB = 1024
MIB = 1024 * KIB


@pytest.fixture(params=["memory", "log", "fs"])
def spec(request, tmp_path):
    """A spec whose store is empty: in memory, in a log on a disk, and in files."""
    return spec_of(request.param, tmp_path)


@pytest.fixture
def store(spec):
    with larder.open(spec) as opened:
        yield opened


@pytest.fixture
def store_of(tmp_path):
    """The result of larder.aio.open() for a kind of store."""
    return lambda kind, **parameters: larder.aio.open(spec_of(kind, tmp_path, **parameters))


def spec_of(kind, directory, **parameters):
    if kind == "memory":
        return "memory:?capacity=1GiB"
    if kind == "fs":
        return f"fs:{directory}/files?capacity=1GiB&min_free=0"
    given = {"capacity": "1GiB", "max_value": "4MiB", "segment": "32MiB", "min_free": "0"}
    given.update(parameters)
    return f"log:{directory}/store?" + "&".join(f"{k}={v}" for k, v in given.items())


# A deadline ends hangs and judges no speed, because tests share the machine.
DEADLINE_S = 120


def join_all(threads):
    """Waits for threads, which should be daemons: one that hangs is a failure and not a hang."""
    deadline = time.monotonic() + DEADLINE_S
    for thread in threads:
        thread.join(timeout=max(0, deadline - time.monotonic()))
        assert not thread.is_alive(), f"{thread.name} did not end within {DEADLINE_S} s"


def exit_code_of(child):
    """Waits for a forked child; one that hangs is killed."""
    deadline = time.monotonic() + DEADLINE_S
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError(f"the child did not end within {DEADLINE_S} s")
        time.sleep(0.001)
    return os.waitstatus_to_exitcode(ended[1])


def run_python(code, *, timeout=DEADLINE_S, env=None):
    """Runs a script in its own interpreter, with the same package."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        check=False,
    )


def random_bytes(count, seed=0):
    return random.Random(seed).randbytes(count)
