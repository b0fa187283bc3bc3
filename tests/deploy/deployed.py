"""The files of deploy/, and a server that runs as one of them says."""

import contextlib
import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
LARDER = os.environ.get("LARDER_BINARY", str(pathlib.Path(sys.executable).parent / "larder"))
DEADLINE_S = 120

sys.path.append(str(ROOT / "tests" / "interop"))
from mp_wire import RawClient, encode  # noqa: E402

# What must not depend on the machine of the test: ports, and amounts. The environment wins over the
# file, which stays as it is but for its directories and the store's capacity.
SMALL = {
    "LARDER_L1_SIZE_GB": "16MiB",
    "LARDER_PORT": "0",
    "LARDER_HTTP_PORT": "0",
}


def environment(**more):
    """Of this process, without what would set options of the server."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("LARDER_")}
    return {**inherited, **more}


def checked(configuration):
    """What `larder server --check` makes of a file, which it must take without a remark."""
    ended = subprocess.run(
        [LARDER, "server", "--config", configuration, "--check"],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return json.loads(ended.stdout)


def small_copy(text, folder, directories):
    """A configuration with its directories below `folder` and a store that fits."""
    for directory in directories:
        assert directory in text, f"the configuration does not use {directory}"
        text = text.replace(directory, f"{folder}{directory}")
    text = re.sub(r'capacity = "\d+GiB"', 'capacity = "512MiB"\nmin_free = 0', text)
    path = folder / "larder.toml"
    path.write_text(text, encoding="utf-8")
    return path


class Served:
    """A server whose service manager is this test, from READY=1 on; killed at the end."""

    def __init__(self, command, folder, **more):
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.settimeout(0.1)
        # The name of a socket is short.
        self.directory = tempfile.TemporaryDirectory(prefix="larder-deploy-")
        self.manager.bind(f"{self.directory.name}/notify")
        self.log_path = folder / "server.log"
        with open(self.log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(NOTIFY_SOCKET=f"{self.directory.name}/notify", **{**SMALL, **more}),
            )

    def __enter__(self):
        try:
            self.ready = self.heard()
            assert self.ready["READY"] == "1", self.ready
            self.port = int(re.fullmatch(r"listening on port (\d+)", self.ready["STATUS"])[1])
            text = self.text()
            self.http = re.search(r"HTTP: http://([\d.]+:\d+) ", text)[1]
            self.pool = pathlib.Path(re.search(r"pool (/dev/shm/\S+)", text)[1])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self.manager.close()
        self.directory.cleanup()

    def text(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def heard(self):
        """What it tells its service manager next."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            has_ended = self.process.poll() is not None
            with contextlib.suppress(TimeoutError):
                lines = self.manager.recv(4096).decode().splitlines()
                return dict(line.split("=", 1) for line in lines)
            assert not has_ended and time.monotonic() < deadline, self.text()

    def ping(self):
        with RawClient(self.port) as client:
            client.send([encode(0), b"\x16", b"\xc0"])
            return client.receive(10)

    def request(self, path, address=None, *, host="10.1.2.3:8080", token=None, body=None):
        """(status, text) of HTTP, as from a kubelet or a Prometheus that name it by its address."""
        headers = {"Host": host} | ({"Authorization": f"Bearer {token}"} if token else {})
        url = f"http://{(address or self.http).replace('0.0.0.0', '127.0.0.1')}{path}"
        asked = urllib.request.Request(url, data=body, headers=headers)
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def terminate(self):
        """The exit code after SIGTERM, and what it told its service manager."""
        self.process.send_signal(signal.SIGTERM)
        told = self.heard()
        return self.process.wait(DEADLINE_S), told


def words_of(command, replaced):
    """Of a command line, with other words for some."""
    return [replaced.get(word, word) for word in shlex.split(command)]
