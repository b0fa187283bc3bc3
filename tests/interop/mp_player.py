"""What a server must answer to a history of mp_history, and how a history is played to one."""

import hashlib
import mmap
import random
import struct

from mp_history import CHUNK, HIDDEN, LAYERS, Op
from mp_wire import RawClient

SLOT_BYTES = 2 * LAYERS * CHUNK * HIDDEN * 2


def tokens_of(asked: dict) -> tuple:
    if "token_ids" in asked:
        return tuple(asked["token_ids"])
    packed = asked["token_bytes"]
    return struct.unpack(f">{len(packed) // 4}I", packed)


def chunk_bytes(tokens, chunk: int, salt: str, model: str, rank: int) -> bytes:
    """What a worker writes for that chunk: it follows from all that identifies it."""
    prefix = ",".join(map(str, tokens[: (chunk + 1) * CHUNK]))
    seed = hashlib.sha256(f"{model}|{rank}|{salt}|{prefix}".encode()).digest()
    return random.Random(seed).randbytes(SLOT_BYTES)


class Oracle:
    """What a server must answer. It follows from what was committed, as nothing is evicted here."""

    def __init__(self):
        self.stored: set = set()
        self.open: dict = {}  # (instance, what the reservation is of) -> cells
        self.hits: dict[str, int] = {}  # By request, until it was asked for.

    def answer(self, op: Op):
        """What Player.play() must give; NotImplemented where it does not matter."""
        asked = op.key
        tokens = tokens_of(asked) if asked else ()
        instance = op.arguments[0] if op.arguments else None
        match op.what:
            case "prepare_store":
                indices = self.missing(asked, tokens)
                self.reserve(asked, tokens, instance, indices)
                return indices
            case "commit_store":
                return self.commit(asked, tokens, instance)
            case "lookup":
                self.hits[asked["request_id"]] = self.hit(asked, tokens)
                return None
            case "query":
                return self.hits.pop(op.arguments[0], 0)
            case "end_session":
                self.hits.pop(op.arguments[0], None)
                return None
            case "prepare_retrieve":
                return self.read(asked, tokens)
            case "commit_retrieve" | "ping":
                return True
            case "clear":
                self.clear()
                return None
            case "register":
                self.drop(op.arguments[0]["instance_id"])
                return NotImplemented
            case "unregister":
                self.drop(instance)
                return None
            case "free":
                return None
        return NotImplemented

    @staticmethod
    def cells(asked: dict, tokens, rank: int) -> list:
        return [
            (asked["model_name"], asked["cache_salt"], rank, tokens[: (chunk + 1) * CHUNK])
            for chunk in range(asked["start"] // CHUNK, asked["end"] // CHUNK)
        ]

    @staticmethod
    def _of(asked: dict, tokens, instance: int):
        return instance, asked["cache_salt"], asked["start"], tokens[: asked["end"]]

    def missing(self, asked, tokens) -> list[int]:
        """Chunks, counted from the start of the range, that a writer gets slots for."""
        reserved = {cell for cells in self.open.values() for cell in cells}
        return [
            index
            for index, cell in enumerate(self.cells(asked, tokens, asked["worker_id"]))
            if cell not in self.stored and cell not in reserved
        ]

    def reserve(self, asked, tokens, instance, indices) -> None:
        cells = self.cells(asked, tokens, asked["worker_id"])
        if indices:
            self.open[self._of(asked, tokens, instance)] = [cells[index] for index in indices]

    def commit(self, asked, tokens, instance) -> bool:
        cells = self.open.pop(self._of(asked, tokens, instance), None)
        self.stored.update(cells or ())
        return cells is not None

    def drop(self, instance: int) -> None:
        self.open = {of: cells for of, cells in self.open.items() if of[0] != instance}

    def clear(self) -> None:
        """Open reservations are answered as before, and publish nothing."""
        self.stored.clear()
        self.open = {of: [] for of in self.open}

    def read(self, asked, tokens) -> list[bytes] | None:
        rank, first = asked["worker_id"], asked["start"] // CHUNK
        cells = self.cells(asked, tokens, rank)
        if not all(cell in self.stored for cell in cells):
            return None
        salt, model = asked["cache_salt"], asked["model_name"]
        return [
            chunk_bytes(tokens, first + index, salt, model, rank) for index in range(len(cells))
        ]

    def hit(self, asked, tokens) -> int:
        end = min(asked["end"], len(tokens)) // CHUNK
        begin = min(asked["start"] // CHUNK, end)
        for chunk in range(begin, end):
            prefix = tokens[: (chunk + 1) * CHUNK]
            for rank in range(asked["world_size"]):
                cell = (asked["model_name"], asked["cache_salt"], rank, prefix)
                if cell not in self.stored:
                    return chunk
        return end


class Player:
    """Plays a history to one server, and reads and writes the slots through its shared memory. An
    answer is a plain value that does not depend on where the server puts things; the bytes of what
    was read are in it."""

    def __init__(self, server):
        self.server = server
        self.clients: dict[str, RawClient] = {}
        with open(server.pool(), "r+b") as pool:
            self.pool = mmap.mmap(pool.fileno(), 0)

    def client(self, who: str) -> RawClient:
        if who not in self.clients:
            self.clients[who] = RawClient(self.server.port)
        return self.clients[who]

    def play(self, op: Op):
        arguments = op.arguments if op.key is None else (op.key, *op.arguments)
        answer = self.client(op.who).ask(op.what, *arguments)
        if op.what == "query":  # Until it is known.
            while answer is None:
                answer = self.client(op.who).ask(op.what, *arguments)
        if op.what == "prepare_store":
            return self._write(op.key, answer["context"])
        if op.what == "prepare_retrieve":
            return self._read(answer)
        if op.what == "register":
            return answer["pool_size"]
        return answer

    def _write(self, asked, context):
        first, tokens = asked["start"] // CHUNK, tokens_of(asked)
        for slot, index in zip(context["slots"], context["chunk_indices"], strict=True):
            assert slot["length"] == SLOT_BYTES and slot["shape"] == [2, LAYERS, CHUNK, HIDDEN]
            bytes_ = chunk_bytes(
                tokens, first + index, asked["cache_salt"], asked["model_name"], asked["worker_id"]
            )
            self.pool[slot["offset"] : slot["offset"] + SLOT_BYTES] = bytes_
        return context["chunk_indices"]

    def _read(self, answer):
        if not answer["success"]:
            return None
        slots = answer["context"]["slots"]
        return [self.pool[slot["offset"] : slot["offset"] + slot["length"]] for slot in slots]

    def end_history(self) -> None:
        """The next one finds an empty cache, and comes over connections of its own."""
        self.client("scheduler").ask("clear", True)
        for client in self.clients.values():
            client.close()
        self.clients.clear()

    def close(self) -> None:
        self.end_history()
        self.pool.close()
