"""A redis-server of the test's own, on a free port of 127.0.0.1."""

import shutil
import signal
import socket
import subprocess

import pytest


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


class RedisServer:
    def __init__(self, directory, *arguments):
        if shutil.which("redis-server") is None:
            pytest.skip("SKIPPED (needs redis-server)")
        self.port = free_port()
        self.command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        self.command += ["--save", "", "--appendonly", "no", "--dir", str(directory), *arguments]
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert any("Ready to accept connections" in line for line in self.process.stdout)
        self.process.stdout.close()

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
