"""Every message that was ever tried on LMCache's server, sent to `larder server`: all that can be
answered are answered within a second, and the server is alive and quick after each. Then floods
that no ZeroMQ client can send."""

import contextlib
import socket
import time

import msgspec
import pytest
from mp_replay import STAND_IN, Segments, register_workers, requests_of, show
from mp_server import MpServer, full_only, ping_seconds, wait_for
from mp_wire import (
    OPERATIONS,
    RawClient,
    decode,
    encode,
    key,
    operation_of,
    read_captures,
    registration,
)

PROBE_CAPTURES = ("30", "31", "32", "33", "34", "35", "45", "48")
ANSWER_SECONDS, PING_SECONDS = 1.0, 0.050
MIB = 1 << 20


def is_answerable(frames: list[bytes]) -> bool:
    """S1: a uid of at most 64 bytes, and an operation that is some whole value."""
    try:
        return len(frames) >= 2 and len(frames[0]) <= 64 and (decode(frames[1]), True)[1]
    except msgspec.DecodeError:
        return False


def built_probes() -> list[list[bytes]]:
    """The groups "lookup range", "pending store" and "reaper", whose captures are not in the
    repository."""
    tokens = [(31 * i) % 151_000 for i in range(40)]
    messages = [("register", registration(STAND_IN))]
    stored = key(tokens, "41-s", worker=0, end=32)
    messages += [("prepare_store", stored, STAND_IN), ("commit_store", stored, STAND_IN, b"")]
    for end in (30, 1000, 16, 32, 40):
        looked_up = key(tokens, f"41-{end}", end=end)
        messages += [("lookup", looked_up, 1), ("query", f"41-{end}"), ("free", looked_up, 1)]
    pending = key([7] * 16, "46-a", worker=0)
    messages += [
        ("register", registration(3)),
        ("prepare_store", pending, 3),
        ("prepare_store", pending, 1),
        ("unregister", 3),
        ("lookup", key([7] * 16, "46-b"), 1),
        ("query", "46-b"),
        ("ping", 1),
        ("prepare_store", key([8] * 16, "47-a", worker=0), 4711),
        ("ping", 4711),
        ("lookup", key(tokens, "47-b", end=32), 1),
    ]
    return [
        [encode(uid), encode(OPERATIONS[name]), *map(encode, arguments)]
        for uid, (name, *arguments) in enumerate(messages)
    ]


def probes():
    """(where it comes from, frames), in the order in which they were tried."""
    for version in ("0.5.6", "0.5.7rc2"):
        for name, records in read_captures(version).items():
            if name.startswith(PROBE_CAPTURES):
                for request in requests_of(records):
                    yield f"{version} {name} {request.number}", request.record.frames
    for number, frames in enumerate(built_probes()):
        yield f"built {number}", frames


def trouble_with(server, client, frames) -> str | None:
    begin = time.monotonic()
    client.send(frames)
    if is_answerable(frames):
        while (reply := client.receive(begin + ANSWER_SECONDS - time.monotonic())) is not None:
            if reply[0] == frames[0]:
                break
        else:
            return "no answer"
    if server.process.poll() is not None:
        return "the server ended"
    if (seconds := ping_seconds(server.port, 5)) > PING_SECONDS:
        return f"a PING took {seconds:.3f} s afterwards"
    return None


def test_every_probe_is_answered(tmp_path):
    registers = read_captures("0.5.6")["22_sdk_context"]
    (register_frames,) = [
        record.frames
        for record in registers
        if record.is_request and operation_of(record.frames) == 1
    ]
    found, tried = [], 0
    with (
        Segments(registers),
        MpServer("larder", tmp_path / "log") as server,
        RawClient(server.port) as client,
    ):
        register_workers(server, register_frames)
        ping_seconds(server.port)
        before = server.resident_bytes()
        for name, frames in probes():
            tried += 1
            if trouble := trouble_with(server, client, frames):
                found.append(f"{name} {show(frames)[:200]}: {trouble}")
        client.ask("clear", True)
        after = server.resident_bytes()
    assert tried >= 243
    assert found == []
    assert after - before < 8 * MIB, "memory comes back"


def zmtp_connection(port: int) -> socket.socket:
    """A peer that has said all that ZMTP 3.0 wants of a DEALER before its first message."""
    peer = socket.create_connection(("localhost", port), timeout=10)
    peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL".ljust(55, b"\0"))
    greeting = b""
    while len(greeting) < 64:
        greeting += peer.recv(64 - len(greeting))
    name, value = b"Socket-Type", b"DEALER"
    body = b"\x05READY" + bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value
    peer.sendall(bytes([0x04, len(body)]) + body)
    return peer


def unending(peer, frame: bytes, limit: int) -> int:
    """Sends frames that all say "more" until the server shuts the connection; bytes sent."""
    sent = 0
    with contextlib.suppress(OSError):
        while sent < limit:
            peer.sendall(frame)
            sent += len(frame)
    return sent


@pytest.mark.parametrize("size", [1, 1 << 16, 1 << 20], ids=["1_B", "64_KiB", "1_MiB"])
def test_a_message_that_never_ends_is_cut_off(tmp_path, size):
    limit = 1024 * MIB
    body = bytes(size)
    head = bytes([0x01, size]) if size < 256 else b"\x03" + size.to_bytes(8, "big")
    burst = (head + body) * max(1, 65536 // (size + 9))
    with MpServer("larder", tmp_path / "log") as server:
        ping_seconds(server.port)
        before = server.resident_bytes()
        with zmtp_connection(server.port) as peer:
            sent = unending(peer, burst, limit)
        assert sent < limit, "the server took a gigabyte of one message"
        assert ping_seconds(server.port, 5) < PING_SECONDS
        wait_for(
            lambda: server.resident_bytes() - before < 32 * MIB, "memory came back", seconds=30
        )


def test_values_sent_inline_are_refused_at_once(tmp_path):
    """A worker that cannot open the pool sends its chunks themselves, here 256 MiB."""
    chunk_bytes, chunks = 32 * MIB, 8
    with (
        MpServer("larder", tmp_path / "log", l1_gb="0.5") as server,
        RawClient(server.port) as client,
    ):
        hidden = chunk_bytes // (2 * 16 * 2)
        client.ask("register", registration(1, layers=1, hidden=hidden))
        stored = key(range(16 * chunks), "inline", worker=0)
        assert len(client.ask("prepare_store", stored, 1)["context"]["slots"]) == chunks
        before = server.resident_bytes()
        pickled = bytes(chunk_bytes * chunks)
        assert client.ask("commit_store", stored, 1, pickled, seconds=10) is False
        assert client.ask("ping", 1) is True, "on the same connection"
        wait_for(lambda: server.resident_bytes() - before < 8 * MIB, "memory came back", 30)
        assert "inline" in server.text()


def test_announced_bytes_cost_nothing(tmp_path):
    with MpServer("larder", tmp_path / "log") as server:
        ping_seconds(server.port)
        before = server.resident_bytes()
        with contextlib.ExitStack() as stack:
            for size in (60 * MIB, 1 << 40, (1 << 63) - 1):
                peer = stack.enter_context(zmtp_connection(server.port))
                peer.sendall(b"\x02" + size.to_bytes(8, "big") + b"x" * 100)
            assert ping_seconds(server.port, 5) < PING_SECONDS
            assert server.resident_bytes() - before < 8 * MIB


@full_only
def test_peers_that_do_not_read_keep_nobody_waiting(tmp_path):
    with MpServer("larder", tmp_path / "log") as server, contextlib.ExitStack() as stack:
        ping_seconds(server.port)
        before = server.resident_bytes()
        deaf = [stack.enter_context(RawClient(server.port)) for _ in range(8)]
        for uid in range(50_000):
            for client in deaf:
                client.send([encode(uid), b"\x18"])
        assert ping_seconds(server.port, 10) < PING_SECONDS
        assert server.resident_bytes() - before < 64 * MIB
