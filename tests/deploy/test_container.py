"""The Containerfile: what it copies is there, what it installs is what the command links, and its
HEALTHCHECK is right about a server. deploy/container/check.sh builds it."""

import json
import pathlib
import re
import subprocess

import pytest
from deployed import DEPLOY, LARDER, ROOT, Served

FILE = DEPLOY / "container/Containerfile"
# In every image of Debian.
ESSENTIAL = {"libc6", "libgcc-s1"}


def instructions():
    """(name, rest) of each, in one line."""
    lines = [line for line in FILE.read_text("utf-8").splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, " ".join(rest.split())


def rest_of(name):
    return [rest for found, rest in instructions() if found == name]


def test_what_it_copies_is_part_of_the_sources():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    copied = [words.split()[:-1] for words in rest_of("COPY") if not words.startswith("--from")]
    assert copied
    for source in (path for paths in copied for path in paths):
        assert any(name == source or name.startswith(f"{source}/") for name in listed), source


def package_of(library):
    """Of this architecture's library."""
    owners = subprocess.run(
        ["dpkg", "-S", f"*/x86_64-linux-gnu/{library}"], capture_output=True, text=True, check=True
    ).stdout
    return owners.split(":")[0]


def test_it_installs_the_libraries_that_the_command_links():
    system = pathlib.Path("/etc/os-release").read_text("utf-8")
    if 'VERSION_ID="12"' not in system or "ID=debian" not in system:
        pytest.skip("SKIPPED (needs Debian 12, whose packages it names)")
    dynamic = subprocess.run(
        ["readelf", "-d", LARDER], capture_output=True, text=True, check=True
    ).stdout
    libraries = re.findall(r"\(NEEDED\).*\[(\S+)\]", dynamic)
    needed = {package_of(name) for name in libraries if not name.startswith("ld-")}
    [runtime] = [rest for rest in rest_of("RUN") if "libzmq5" in rest]
    install = re.search(r"apt-get install \S+ \S+ \S+ ([^&]*)&&", runtime)[1].split()
    assert set(install) == needed - ESSENTIAL


def test_it_is_no_root_and_ends_by_sigterm():
    [user] = rest_of("USER")
    uid, gid = user.split(":")
    assert int(uid) > 0
    [runtime] = [rest for rest in rest_of("RUN") if "useradd" in rest]
    assert f"--uid {uid} " in runtime
    assert f"groupadd --gid {gid} larder" in runtime
    assert rest_of("STOPSIGNAL") == ["SIGTERM"]
    assert [json.loads(rest) for rest in rest_of("ENTRYPOINT")] == [["larder"]]


def test_its_healthcheck_tells_a_healthy_server_from_none(tmp_path):
    [check] = rest_of("HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])

    def code(port):
        return subprocess.run(
            command, env={"PATH": "/usr/bin:/bin", "LARDER_HTTP_PORT": port}, check=False
        ).returncode

    with Served([LARDER, "server"], tmp_path) as server:
        port = server.http.rpartition(":")[2]
        assert code(port) == 0
        assert server.terminate()[0] == 0
    assert code(port) != 0
