"""Sends a capture's requests to a server, connection by connection and in their order, and holds
the replies against those of the capture, minus the deliberate differences of differences.json."""

import contextlib
import copy
import dataclasses
import json
import pathlib
import time

import msgspec
from mp_wire import OPERATIONS, RawClient, Record, decode, encode, operation_of, registration

DIFFERENCES = json.loads((pathlib.Path(__file__).parent / "differences.json").read_text())

# A reply is awaited this long where one must come, and not at all where the capture has none.
REPLY_SECONDS = 30
WAITING = (OPERATIONS["wait"], "wait_prefetch_status", "subscribe_kv_events")
# LMCache answers STORE before others can find what was stored.
LMCACHE_PUBLISH_SECONDS = 1.0
# Requests of the worker that a capture supposes to be registered, and of the one that stands in.
WORKER, LMCACHE_DRIVEN_WORKER, STAND_IN = 1, 2, 9_000_001


@dataclasses.dataclass
class Step:
    """What a capture does not show: something that happened before its request number `request`."""

    request: int
    wait: float = 0
    clear: bool = False


@dataclasses.dataclass
class Request:
    number: int
    record: Record
    captured: list[bytes] | None = None
    answers: list[list[bytes]] = dataclasses.field(default_factory=list)


def requests_of(records: list[Record]) -> list[Request]:
    """The requests of a capture, each with the reply that it got there."""
    requests = []
    for record in records:
        if record.is_request:
            requests.append(Request(len(requests), record))
            continue
        asked = next(
            request
            for request in requests
            if request.captured is None
            and request.record.connection == record.connection
            and request.record.frames[0] == record.frames[0]
        )
        asked.captured = record.frames
    return requests


def without_slots_before(records: list[Record], before: int) -> list[Record]:
    """The capture of a server whose pool was full up to `before`, as that of an empty one."""
    if not before:
        return records
    records = copy.deepcopy(records)
    for record in records:
        if not record.is_request and len(record.frames) > 2 and b"slots" in record.frames[2]:
            answer = decode(record.frames[2])
            for slot in answer["context"]["slots"]:
                slot["offset"] -= before
            record.frames[2] = encode(answer)
    return records


def differences_of(version: str, capture: str) -> dict[int, dict]:
    """By the number of the request."""
    listed = DIFFERENCES["captures"].get(version, {}).get(capture, [])
    return {entry["request"]: entry for entry in listed}


def show(frames: list[bytes] | None) -> str:
    if frames is None:
        return "no reply"
    try:
        return " ".join([frames[0].hex(), *(repr(decode(frame)) for frame in frames[1:])])
    except msgspec.DecodeError:
        return " ".join(frame.hex() or "-" for frame in frames)


class Replay:
    def __init__(self, server, version, capture, records, steps=(), stands_in=False):
        self.server = server
        self.capture = capture
        self.records = records
        self.steps = {step.request: step for step in steps}
        self.stands_in = stands_in
        self.requests = requests_of(records)
        is_larder = server.kind == "larder"
        self.differences = differences_of(version, capture) if is_larder else {}
        self.rules = DIFFERENCES["rules"] if is_larder else []
        self.clients: dict[str, RawClient] = {}

    def run(self) -> list[str]:
        """What does not agree, a line each."""
        with contextlib.ExitStack() as stack:
            self.side = stack.enter_context(RawClient(self.server.port))
            if self.stands_in:
                self.side.ask("register", registration(STAND_IN))
            waiting = iter(self.requests)
            for record in self.records:
                if record.is_request:
                    self._send(next(waiting), stack)
                else:
                    asked = next(
                        request for request in self.requests if request.captured is record.frames
                    )
                    self._await(asked)
            for client in self.clients.values():
                while (reply := client.receive(0.3)) is not None:
                    self._take(client, reply)
        return [line for request in self.requests if (line := self._judge(request))]

    def _send(self, request: Request, stack) -> None:
        if step := self.steps.get(request.number):
            time.sleep(step.wait)
            if step.clear:
                self.side.ask("clear", True)
        name = request.record.connection
        if name not in self.clients:
            self.clients[name] = stack.enter_context(RawClient(self.server.port))
        self._await_others(request)
        request.sent = time.monotonic()
        self.clients[name].send(request.record.frames)
        expected = self._expected(request)
        if request.captured is None and expected != "dropped":
            self._await(request)
        entry = self.differences.get(request.number, {})
        if entry.get("stand_in"):
            self._await(request)
            self._stand_in(request)
        if entry.get("commit"):  # As the client would, that got other slots.
            self._await(request)
            self.side.ask("commit_store", *map(decode, request.record.frames[2:4]), b"")

    def _await_others(self, request: Request) -> None:
        """Requests of different connections may be served in any order, so those that do not wait
        for something are answered before the next one is sent."""
        for earlier in self.requests[: request.number]:
            is_done = earlier.answers or earlier.captured is None
            is_other = earlier.record.connection != request.record.connection
            if is_other and not is_done and operation_of(earlier.record.frames) not in WAITING:
                self._await(earlier)

    def _take(self, client: RawClient, reply: list[bytes]) -> Request:
        for request in self.requests:
            if self.clients.get(request.record.connection) is not client:
                continue
            if request.record.frames[0] == reply[0] and not request.answers:
                break
        else:
            raise AssertionError(f"{self.capture}: a reply to nothing: {show(reply)}")
        request.answers.append(reply)
        request.seconds = time.monotonic() - request.sent
        return request

    def _await(self, request: Request) -> None:
        client = self.clients[request.record.connection]
        deadline = time.monotonic() + REPLY_SECONDS
        while not request.answers:
            reply = client.receive(deadline - time.monotonic())
            if reply is None:
                return
            taken = self._take(client, reply)
            is_store = operation_of(taken.record.frames) == OPERATIONS["store"]
            if is_store and self.server.kind != "larder":
                time.sleep(LMCACHE_PUBLISH_SECONDS)

    def _stand_in(self, request: Request) -> None:
        """STORE and RETRIEVE of a worker whose blocks the server would copy, done as a worker that
        copies itself, so that what follows finds the state of the capture."""
        key, captured_good = decode(request.record.frames[2]), decode(request.captured[2])[1]
        side, is_store = self.side, operation_of(request.record.frames) == OPERATIONS["store"]
        if is_store:
            slots = side.ask("prepare_store", key, STAND_IN)["context"]["slots"]
            good = not slots or side.ask("commit_store", key, STAND_IN, b"")
        else:
            good = side.ask("prepare_retrieve", key, STAND_IN)["success"]
            side.ask("commit_retrieve", key, STAND_IN)
        wanted = self.differences[request.number].get("stand_in_good", captured_good)
        assert good == wanted, f"{self.capture} {request.number}: the stand-in's {good=}"

    def _expected(self, request: Request):
        """Frames, or the form of a difference."""
        if entry := self.differences.get(request.number):
            return entry["larder"]
        operation = operation_of(request.record.frames)
        answered = request.captured or []
        for rule in self.rules:
            names = (rule["operation"], OPERATIONS.get(rule["operation"]))
            if operation in names and len(answered) > 2 and decode(answered[2]) == rule["stock"]:
                return {"value": rule["larder"]}
        return request.captured or "dropped"

    def _judge(self, request: Request) -> str | None:
        expected = self._expected(request)
        got = request.answers[0] if request.answers else None
        if agrees(request, expected, got, self.server.pool_name):
            return None
        wanted = show(expected) if isinstance(expected, list) else json.dumps(expected)
        return f"{self.capture} request {request.number}: wanted {wanted}, got {show(got)}"


def agrees(request: Request, expected, got: list[bytes] | None, pool_name: str) -> bool:
    if expected == "dropped" or got is None:
        return expected == "dropped" and got is None
    uid, operation = request.record.frames[:2]
    if got[0] != uid:
        return False
    if expected == "error":
        text = operation_of(got)
        return len(got) == 2 and isinstance(text, str) and text.startswith("larder: ")
    if expected == "none":
        return got[1:] == [operation]
    if isinstance(expected, dict):
        return got[1] == operation and got[2:] == [encode(_bytes_in(expected["value"]))]
    if operation_of(request.record.frames) == OPERATIONS["register"] and len(got) == 3:
        return got[1] == operation and _registered(expected[2], decode(got[2]), pool_name)
    if operation_of(expected) == "subscribe_kv_events" and len(expected) == len(got) == 3:
        # Of a stream: the request, or the credit that came before.
        return got[1] == expected[1] and _without_incarnation(got) == _without_incarnation(expected)
    return got == expected


def _without_incarnation(frames: list[bytes]) -> bytes:
    """Of a batch of KV events, as bytes."""
    return encode(decode(frames[2]) | {"incarnation": 0})


def _registered(captured: bytes, got: dict, pool_name: str) -> bool:
    """0.5.6 answers without `null_block_id`, and its clients pass it over."""
    wanted = decode(captured) | {"shm_name": pool_name}
    return {"null_block_id": 0} | wanted == {"null_block_id": 0} | got


def _bytes_in(value):
    """JSON has no bytes: {"hex": "..."} stands for them."""
    if isinstance(value, dict):
        if set(value) == {"hex"}:
            return bytes.fromhex(value["hex"])
        return {name: _bytes_in(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_bytes_in(inner) for inner in value]
    return value


class Segments:
    """The shared memory of workers that died with the capture: made anew where a registration of it
    names them, so that a server that maps them finds them."""

    def __init__(self, *captures: list[Record]):
        self.sizes: dict[str, int] = {}
        for record in (record for records in captures for record in records):
            is_registration = operation_of(record.frames) == OPERATIONS["register_kv_cache"]
            if not record.is_request or not is_registration or len(record.frames) < 4:
                continue
            for wrapper in decode(record.frames[3], ext_hook=lambda code, data: bytes(data)):
                with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError):
                    descriptor = decode(wrapper)
                    if "none" not in descriptor["shm_name"]:
                        self.sizes[descriptor["shm_name"]] = descriptor["nbytes"]

    def __enter__(self):
        for name, size in self.sizes.items():
            with open(f"/dev/shm{name}", "wb") as segment:
                segment.truncate(max(size, 8192))
        return self

    def __exit__(self, *_):
        for name in self.sizes:
            pathlib.Path(f"/dev/shm{name}").unlink(missing_ok=True)


def register_workers(server, registration_frames: list[bytes]) -> None:
    """The two workers that the captures of errors suppose: one that copies itself, and one whose
    blocks the server copies, where it can."""
    with RawClient(server.port) as client:
        client.ask("register", registration(WORKER))
        uid, operation, _, *rest = registration_frames
        client.send([b"\x7f", operation, encode(LMCACHE_DRIVEN_WORKER), *rest])
        assert client.receive(10) is not None
