"""The wire of LMCache's multiprocess server, frame by frame: a raw ZeroMQ client, the values that
its frames carry, and the captures of tests/golden/wire. Nothing here knows LMCache's own classes,
so it speaks as a client of either version, and as no client would."""

import dataclasses
import pathlib
import struct
import subprocess
import time

import msgspec
import zmq

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "wire"

# The ids that never change, and the names of those that have none.
OPERATIONS = {
    "register_kv_cache": 1,
    "unregister_kv_cache": 2,
    "store": 6,
    "retrieve": 7,
    "lookup": 8,
    "query": 9,
    "wait": 10,
    "free": 12,
    "end_session": 13,
    "register": 14,
    "unregister": 15,
    "prepare_store": 16,
    "commit_store": 17,
    "prepare_retrieve": 18,
    "commit_retrieve": 19,
    "clear": 20,
    "get_chunk_size": 21,
    "ping": 22,
    "noop": 24,
    "get_experimental": 32,
    "negotiate_chunk_size": "negotiate_chunk_size",
}

encode = msgspec.msgpack.encode
decode = msgspec.msgpack.decode


@dataclasses.dataclass
class Record:
    """One message of a capture, without the identity frame."""

    is_request: bool
    connection: str
    frames: list[bytes]


def read_captures(version: str) -> dict[str, list[Record]]:
    """The captures of "0.5.6" or "0.5.7rc2", by name."""
    packed = GOLDEN / f"lmcache_{version}.txt.zst"
    text = subprocess.run(["zstd", "-dcq", packed], capture_output=True, check=True).stdout
    captures: dict[str, list[Record]] = {}
    for line in text.decode().splitlines():
        kind, *words = line.split(" ")
        if kind == "=":
            records = captures.setdefault(words[0], [])
            continue
        frames = [b"" if word == "-" else bytes.fromhex(word) for word in words[1:]]
        records.append(Record(kind == ">", words[0], frames))
    return captures


def operation_of(frames: list[bytes]) -> int | str | None:
    """Of a request or a reply; None where the frame is no operation."""
    try:
        value = decode(frames[1])
    except (IndexError, msgspec.DecodeError):
        return None
    return value if type(value) in (int, str) else None


def key(
    tokens,
    request,
    *,
    worker=None,
    start=0,
    end=None,
    model="golden/model-1",
    world=1,
    salt="",
    readers=1,
    configs=None,
    version="0.5.6",
):
    """The map that both versions send, in their order."""
    if version == "0.5.6":
        named = {"token_ids": list(tokens)}
    else:
        named = {"token_bytes": struct.pack(f">{len(tokens)}I", *tokens)}
    return {
        "model_name": model,
        "world_size": world,
        "worker_id": worker,
        **named,
        "start": start,
        "end": len(tokens) if end is None else end,
        "request_id": request,
        "cache_salt": salt,
        "request_configs": configs,
        "num_kv_readers": readers,
    }


def registration(
    instance,
    *,
    model="golden/model-1",
    world=1,
    layers=2,
    hidden=8,
    block=4,
    chunk=16,
    dtype="float16",
    single_plane=False,
    groups=None,
):
    """What operation 14 carries."""
    payload = {
        "instance_id": instance,
        "model_name": model,
        "world_size": world,
        "block_size": block,
        "num_layers": layers,
        "hidden_dim_size": hidden,
        "dtype_str": dtype,
        "use_mla": single_plane,
        "num_physical_slots": chunk,
    }
    return payload if groups is None else payload | {"group_layouts": groups}


class RawClient:
    """One connection: a DEALER that sends the frames it is given. Not for several threads."""

    context = zmq.Context.instance()

    def __init__(self, port: int, host: str = "localhost"):
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self.socket.connect(f"tcp://{host}:{port}")
        self.next_uid = 0
        self.begun: dict[bytes, bytes] = {}  # uid -> operation frame
        self.early: dict[bytes, list[bytes]] = {}

    def send(self, frames: list[bytes]) -> None:
        self.socket.send_multipart(frames)

    def receive(self, seconds: float) -> list[bytes] | None:
        """The next reply, or None."""
        if not self.socket.poll(max(0, round(seconds * 1000))):
            return None
        return self.socket.recv_multipart()

    def begin(self, operation: str, *arguments) -> bytes:
        """Sends a request; answer() has its reply. Several may be under way."""
        uid = encode(self.next_uid)
        self.next_uid += 1
        self.begun[uid] = encode(OPERATIONS.get(operation, operation))
        self.send([uid, self.begun[uid], *map(encode, arguments)])
        return uid

    def answer(self, uid: bytes, seconds: float = 10):
        """Waits for the reply to `uid` and keeps those to other requests. Gives the decoded third
        frame, None where there is none; raises `Refused` for an error text."""
        deadline = time.monotonic() + seconds
        while uid not in self.early:
            reply = self.receive(deadline - time.monotonic())
            if reply is None:
                raise TimeoutError(f"request {uid.hex()} was not answered within {seconds} s")
            if reply[0] in self.begun:  # Not to one that was given up.
                self.early[reply[0]] = reply
        named, reply = self.begun.pop(uid), self.early.pop(uid)
        if reply[1] != named:
            raise Refused(operation_of(reply))
        return decode(reply[2]) if len(reply) > 2 else None

    def give_up(self, uid: bytes) -> None:
        """Its reply is dropped if it comes at all."""
        self.begun.pop(uid, None)
        self.early.pop(uid, None)

    def ask(self, operation: str, *arguments, seconds: float = 10):
        """Sends one request and gives its answer()."""
        uid = self.begin(operation, *arguments)
        try:
            return self.answer(uid, seconds)
        except TimeoutError:
            self.give_up(uid)
            raise TimeoutError(f"{operation} was not answered within {seconds} s") from None

    def close(self) -> None:
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Refused(Exception):
    """An answer whose operation frame is an error text."""
