"""`larder top`: on a terminal, as one report and as JSON, of a server and of a Python process."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest
import server_support
from top_terminal import LARDER, LEAVE, Top, figure

import larder


def top(*arguments, **environment):
    return subprocess.run(
        [LARDER, "top", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "LARDER_METRICS": "", **environment},
        check=False,
    )


@contextlib.contextmanager
def worked_server(folder):
    """A server whose worker stores and loads until the end; its HTTP port."""
    options = ["--l2-adapter", f"log:{folder}/kv?capacity=512MiB&min_free=0"]
    ended = threading.Event()

    def work(server):
        with server_support.Worker(server) as worker:
            number = 0
            while not ended.wait(0.01):
                worker.store(server_support.tokens_of(number))
                worker.load(server_support.tokens_of(number))
                worker.load(server_support.tokens_of(number + 1_000_000))
                number += 1

    with server_support.Server("command", folder, *options) as server:
        thread = threading.Thread(target=work, args=[server])
        thread.start()
        try:
            yield server
        finally:
            ended.set()
            thread.join()


@contextlib.contextmanager
def worked_store():
    """A store of this process that is used until the end; the address of its numbers."""
    ended = threading.Event()
    with larder.open("memory:") as store, larder.serve_metrics("0") as server:

        def work():
            while not ended.wait(0.01):
                store.set("key", bytes(1000))
                store.get("key")
                store.exists(["key", "none"])

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield server.address
        finally:
            ended.set()
            thread.join()


def test_a_server_is_watched_resized_and_left_with_q(tmp_path):
    with worked_server(tmp_path) as server:
        with Top(server.address["http_port"], "--interval", "0.2") as shown:
            # The first picture has one sample, and so no rates.
            lines = shown.wait_for(
                lambda lines: any("not found" in line and "%" in line for line in lines), "shares"
            )
            assert len(lines) == 24 and all(len(line) <= 80 for line in lines)
            assert lines[1].startswith("HEALTHY")
            assert "q quit" in lines[-1]
            first = figure(lines, "saved", 0)
            shown.wait_for(lambda lines: figure(lines, "saved", 0) != first, "the figures move")
            shown.wait_for(lambda lines: figure(lines, "WORKERS", 0) == "1", "the worker")
            shown.resize(60, 200)
            lines = shown.wait_for(lambda lines: len(lines) == 60, "the new size")
            assert any("golden/model-1" in line for line in lines)
            shown.type("?")
            shown.wait_for(lambda lines: any("--l1-size-gb" in line for line in lines), "the help")
            shown.type("?\x1b[Aq")  # An arrow, which means nothing.
            assert shown.end() == (0, True)


def test_a_process_is_watched_and_left_with_signals():
    with worked_store() as address:
        for signal_number in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]:
            with Top(address, "--interval", "0.2", rows=20, columns=60) as shown:
                # The last line of that name is the one with its speed.
                shown.wait_for(
                    lambda lines: figure(lines, "memory", 0) not in ("-", "0"), "bytes are loaded"
                )
                os.kill(shown.pid, signal_number)
                assert shown.end() == (0, True)


def test_a_target_that_dies_is_told_and_found_again(tmp_path):
    path = tmp_path / "s"
    with larder.open("memory:") as store:
        server = larder.serve_metrics(f"unix:{path}")
        with Top(path, "--interval", "0.2") as shown:
            shown.wait_for(lambda lines: lines[1:] and lines[1].startswith("HEALTHY"), "healthy")
            server.close()
            lines = shown.wait_for(lambda lines: lines[1].startswith("SILENT"), "silent")
            assert "no answer since" in lines[1]
            shown.wait_for(lambda lines: "since 2 s" in lines[1], "the seconds go on")
            store.set("key", b"value")
            with larder.serve_metrics(f"unix:{path}"):
                shown.wait_for(lambda lines: lines[1].startswith("HEALTHY"), "healthy again")
            shown.wait_for(lambda lines: lines[1].startswith("SILENT"), "silent again")
            shown.type("q")
            assert shown.end() == (0, True)


def test_pause_holds_the_picture():
    with worked_store() as address, Top(address, "--interval", "0.1") as shown:
        shown.wait_for(lambda lines: lines[1:] and lines[1].startswith("HEALTHY"), "healthy")
        shown.type("p")
        held = shown.wait_for(lambda lines: "PAUSED" in lines[0], "paused")
        shown.resize(30, 80)  # It is drawn again, with the same figures.
        lines = shown.wait_for(lambda lines: len(lines) == 30, "the new size")
        assert figure(lines, "saved", 0) == figure(held, "saved", 0)
        shown.type("p")
        shown.wait_for(
            lambda lines: figure(lines, "saved", 0) != figure(held, "saved", 0), "goes on"
        )
        shown.type("q")
        assert shown.end() == (0, True)


def test_suspended_it_gives_the_terminal_back():
    with worked_store() as address, Top(address, "--interval", "0.2") as shown:
        shown.wait_for(lambda lines: lines[1:] and lines[1].startswith("HEALTHY"), "healthy")
        shown.type("\x1a")
        # A session's leader is not stopped by its own terminal: it continues at once.
        shown.wait_for(lambda _: LEAVE in shown.written, "the screen from before")
        shown.written = b""
        shown.wait_for(lambda lines: lines[1:] and lines[1].startswith("HEALTHY"), "again")
        shown.type("q")
        assert shown.end() == (0, True)


@pytest.mark.parametrize(
    ("arguments", "environment", "has_colors"),
    [([], {}, True), (["--no-color"], {}, False), ([], {"NO_COLOR": "1"}, False)],
)
def test_colors_are_where_they_are_allowed(arguments, environment, has_colors):
    with larder.open("memory:"), larder.serve_metrics("0") as server:
        with Top(server.address, *arguments, **{"NO_COLOR": "", **environment}) as shown:
            shown.wait_for(lambda lines: lines[1:] and lines[1].startswith("HEALTHY"), "healthy")
            assert (b"\x1b[32mHEALTHY" in shown.written) == has_colors
            shown.type("q")
            assert shown.end() == (0, True)


def test_elsewhere_it_is_one_report(tmp_path):
    with worked_server(tmp_path) as server:
        ended = top(server.address["http_port"], "--interval", "0.5")
        assert ended.returncode == 0, ended.stderr
        assert "\x1b" not in ended.stdout
        for part in ["HEALTHY", "never_stored", "\nlog ", "/kv ", "WORKERS 1", "SALTS"]:
            assert part in ended.stdout, ended.stdout


def test_a_server_says_as_json_what_it_says_on_the_screen(tmp_path):
    with worked_server(tmp_path) as server:
        port = server.address["http_port"]
        ended = top(port, "--json", "--count", "2", "--interval", "0.5")
    first, second = map(json.loads, ended.stdout.splitlines())
    assert ended.returncode == 0
    assert first["kind"] == "server" and first["health"] == "healthy"
    assert second["saved"]["total"] > first["saved"]["total"]
    shares = second["shares"]
    assert 0.4 < shares["found_in_l1"]["all"] < 0.6
    reasons = sum(row["all"] for name, row in shares.items() if name.startswith("missed_"))
    assert reasons == pytest.approx(shares["missed"]["all"])
    assert second["workers"][0]["id"] == str(server_support.WORKER)
    assert second["stores"][0]["store"]["p99_seconds"] > 0


def test_degraded_is_exit_code_1_with_the_reason():
    fault = "fault:?inner=memory:&pattern=set:1&error_rate=1"
    with larder.open(fault) as store, larder.serve_metrics("0") as server:
        with pytest.raises(larder.Error):
            store.set("key", b"value")
        ended = top(server.address, "--once", "--interval", "0.1")
        assert ended.returncode == 1, ended.stdout
        assert "failed stores 1" in ended.stdout


def test_what_is_not_there_is_exit_code_2_with_what_was_tried(tmp_path):
    ended = top("127.0.0.1:1", "--json")
    assert ended.returncode == 2
    assert json.loads(ended.stdout)["ok"] is False
    assert "127.0.0.1:1: Connection refused" in ended.stderr
    for wrong in [["nonsense"], ["-"], [tmp_path], ["--interval", "0"], ["--count", "x"]]:
        assert top(*wrong).returncode == 2, wrong


def test_without_a_target_it_looks_where_the_environment_says():
    with larder.open("memory:"), larder.serve_metrics("0") as server:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 8080)) == 0:
                pytest.skip("SKIPPED (needs a free port 8080)")
        ended = top("--once", "--interval", "0.1", LARDER_METRICS=server.address)
        assert ended.returncode == 0, ended.stderr
        assert "memory" in ended.stdout
    ended = top(LARDER_METRICS="unix:/none")
    assert ended.returncode == 2
    assert "tried 127.0.0.1:8080 and LARDER_METRICS" in ended.stderr
    assert "LARDER_METRICS, which is not set" in top().stderr


def answer_with(answer, *arguments):
    """The output of top for a server that answers so; `answer` gets its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    with client, contextlib.suppress(OSError):
                        client.recv(65536)
                        answer(client)

        threading.Thread(target=serve, daemon=True).start()
        ended = top(listening.getsockname()[1], "--once", "--interval", "0.1", *arguments)
        listening.shutdown(socket.SHUT_RDWR)
    return ended


HEAD = b"HTTP/1.0 200 OK\r\n\r\n"


def test_a_target_that_answers_wrongly_is_refused_with_a_sentence():
    def drip(client):
        client.sendall(HEAD)
        while True:
            client.sendall(b"l")
            time.sleep(0.05)

    def flood(client):
        client.sendall(HEAD)
        while True:
            client.sendall(b"# a comment\n" * 100_000)

    for answer, said in [
        (lambda client: client.sendall(HEAD + b"<html>\x1b[2J"), "not of Prometheus' text format"),
        (lambda client: client.sendall(HEAD + b"larder_x{ 1\n"), "not of Prometheus' text format"),
        (lambda client: client.sendall(b"SSH-2.0\r\n"), "does not speak HTTP"),
        (
            lambda client: client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx"),
            "cut off",
        ),
        (flood, "the answer is longer than 64 MiB"),
    ]:
        ended = answer_with(answer, "--timeout", "60")
        assert ended.returncode == 2 and said in ended.stderr, ended.stderr
        assert "\x1b" not in ended.stderr
    ended = answer_with(drip, "--timeout", "0.5")
    assert ended.returncode == 2 and "no answer in time" in ended.stderr
    ended = answer_with(lambda client: client.sendall(HEAD + b"# TYPE up gauge\nup 1\n"))
    assert ended.returncode == 0 and "no store is open there" in ended.stdout


def test_names_from_the_net_drive_no_terminal():
    name = b'larder_health{type="log",where="/\x1b]0;x\x07\xff\xe2\x80\xae' + b"y" * 500 + b'"} 0\n'
    ended = answer_with(lambda client: client.sendall(HEAD + name))
    assert ended.returncode == 0, ended.stderr
    assert "\\x1b]0;x\\x07" in ended.stdout and "\x1b" not in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 120
