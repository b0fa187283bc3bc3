"""Workers of a serving engine as raw clients, in both modes of transfer. The bytes of a chunk follow
from what identifies it, and every byte that a worker gets is compared. Nothing here knows LMCache's
own classes, so a worker can also do what no engine does."""

import contextlib
import dataclasses
import hashlib
import itertools
import mmap
import os
import pathlib
import struct
import time

import msgspec
from mp_wire import RawClient, encode, key, registration

SHARED = pathlib.Path("/dev/shm")
EVENT = b"stub_ipc_handle"  # What LMCache's clients on CPUs send where a GPU has an event.


class WrongBytes(AssertionError):
    """A retrieve that succeeded gave other bytes than were stored."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """A model's KV as one rank has it: two planes of two bytes an element, and `blocks` blocks."""

    model: str
    world: int = 1
    layers: int = 2
    hidden: int = 8
    block: int = 8
    chunk: int = 16
    blocks: int = 64

    @property
    def row_bytes(self) -> int:
        """Of a token in a layer's plane."""
        return 2 * self.hidden

    @property
    def cell_bytes(self) -> int:
        return 2 * self.layers * self.chunk * self.row_bytes

    @property
    def blocks_per_chunk(self) -> int:
        return self.chunk // self.block

    def cell(self, tokens, chunk: int, salt: str = "", rank: int = 0) -> bytes:
        """What rank `rank` has of that chunk."""
        prefix = tokens[: (chunk + 1) * self.chunk]
        named = f"{self.model}|{self.world}|{rank}|{salt}|".encode()
        seed = named + struct.pack(f">{len(prefix)}I", *prefix)
        return hashlib.shake_128(seed).digest(self.cell_bytes)


@dataclasses.dataclass(frozen=True)
class Prompt:
    """The chunks [begin, end) of a request, in chunks."""

    tokens: list[int]
    begin: int
    end: int
    salt: str = ""
    version: str = "0.5.6"

    def key(self, shape: Shape, request: str, rank: int | None, readers: int = 1) -> dict:
        return key(
            self.tokens,
            request,
            worker=rank,
            start=self.begin * shape.chunk,
            end=self.end * shape.chunk,
            model=shape.model,
            world=shape.world,
            salt=self.salt,
            readers=readers,
            version=self.version,
        )

    def cells(self, shape: Shape, rank: int) -> list[bytes]:
        return [
            shape.cell(self.tokens, chunk, self.salt, rank) for chunk in range(self.begin, self.end)
        ]


def compare(got: list[bytes], wanted: list[bytes], what: str) -> None:
    for chunk, (one, other) in enumerate(zip(got, wanted, strict=True)):
        if one != other:
            at = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
            raise WrongBytes(f"{what}: chunk {chunk} differs from byte {at}")


class EngineDrivenWorker:
    """Copies itself between its memory and the server's pool."""

    def __init__(self, client: RawClient, shape: Shape, instance: int, rank: int = 0):
        self.client, self.shape, self.instance, self.rank = client, shape, instance, rank
        self.pool: mmap.mmap | None = None

    def register(self) -> None:
        """Maps the pool that the server names. FileNotFoundError: it has gone meanwhile."""
        shape = self.shape
        answer = self.client.ask(
            "register",
            registration(
                self.instance,
                model=shape.model,
                world=shape.world,
                layers=shape.layers,
                hidden=shape.hidden,
                block=shape.block,
                chunk=shape.chunk,
            ),
        )
        self.close()
        with open(SHARED / answer["shm_name"].lstrip("/"), "r+b") as pool:
            self.pool = mmap.mmap(pool.fileno(), 0)

    def unregister(self) -> None:
        self.client.ask("unregister", self.instance)

    def begin_store(self, prompt: Prompt, request: str) -> bool:
        """Writes the slots that it gets. Whether it got any, which store() would commit."""
        asked = prompt.key(self.shape, request, self.rank)
        context = self.client.ask("prepare_store", asked, self.instance)["context"]
        for slot, index in zip(
            context.get("slots", ()), context.get("chunk_indices", ()), strict=True
        ):
            chunk = prompt.begin + index
            cell = self.shape.cell(prompt.tokens, chunk, prompt.salt, self.rank)
            assert slot["length"] == len(cell)
            self.pool[slot["offset"] : slot["offset"] + len(cell)] = cell
        return bool(context.get("slots"))

    def store(self, prompt: Prompt, request: str) -> bool:
        """Whether it is stored now, as far as there was room."""
        asked = prompt.key(self.shape, request, self.rank)
        if not self.begin_store(prompt, request):
            return True
        return self.client.ask("commit_store", asked, self.instance, b"")

    def retrieve(self, prompt: Prompt, request: str) -> bool:
        asked = prompt.key(self.shape, request, self.rank)
        answer = self.client.ask("prepare_retrieve", asked, self.instance)
        if answer["success"]:
            slots = answer["context"]["slots"]
            got = [self.pool[each["offset"] : each["offset"] + each["length"]] for each in slots]
            compare(got, prompt.cells(self.shape, self.rank), f"{self.shape.model} {request}")
        self.client.ask("commit_retrieve", asked, self.instance)
        return answer["success"]

    def close(self) -> None:
        if self.pool is not None:
            self.pool.close()
            self.pool = None


class Segment:
    """Shared memory of a worker, as LMCache's clients name it."""

    numbers = itertools.count()

    def __init__(self, size: int):
        self.name = f"/lmcache_kv_{os.getpid()}_{next(self.numbers)}"
        self.path = SHARED / self.name[1:]
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.ftruncate(descriptor, size)
        self.memory = mmap.mmap(descriptor, size)
        os.close(descriptor)

    def close(self) -> None:
        self.memory.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


def remove_segments_of(process: int) -> None:
    """Of a worker that was killed, as the resource tracker of LMCache's process would."""
    for path in SHARED.glob(f"lmcache_kv_{process}_*"):
        path.unlink(missing_ok=True)


class LmcacheDrivenWorker:
    """Lets the server copy. Its layers lie one behind the other in one segment, each
    [2, blocks, block, 2, hidden / 2]. `groups` are EngineGroupInfos as LMCache sends them; without
    any, all layers share one list of block ids."""

    def __init__(self, client: RawClient, shape: Shape, instance: int, rank: int = 0, groups=()):
        self.client, self.shape, self.instance, self.rank = client, shape, instance, rank
        self.groups = list(groups)
        self.lists = [0] * shape.layers  # By layer: which list of block ids.
        for number, group in enumerate(self.groups):
            for layer in group["layer_indices"]:
                self.lists[layer] = number
        self.layer_elements = 2 * shape.blocks * shape.block * shape.hidden
        self.segment = Segment(2 * shape.layers * self.layer_elements)

    def tensor(self, layer: int) -> msgspec.msgpack.Ext:
        shape = self.shape
        sizes = [2, shape.blocks, shape.block, 2, shape.hidden // 2]
        strides = [1] * len(sizes)
        for i in range(len(sizes) - 2, -1, -1):
            strides[i] = strides[i + 1] * sizes[i + 1]
        descriptor = {
            "type": "cpu_shm",
            "shm_name": self.segment.name,
            "nbytes": len(self.segment.memory),
            "version": 1,
            "metadata": {
                "dtype": "float16",
                "shape": sizes,
                "stride": strides,
                "storage_offset": layer * self.layer_elements,
                "device_uuid": "cpu",
            },
        }
        return msgspec.msgpack.Ext(1, encode(descriptor))

    def register(self) -> None:
        shape = self.shape
        self.client.ask(
            "register_kv_cache",
            self.instance,
            [self.tensor(layer) for layer in range(shape.layers)],
            shape.model,
            shape.world,
            "vllm",
            {"kv_layout": "NHD"},
            self.groups,
        )

    def unregister(self) -> None:
        self.client.ask("unregister_kv_cache", self.instance)

    def block_ids(self, prompt: Prompt, first: int = 1) -> list[list[int]]:
        """Block 0 stands for "none"."""
        count = (prompt.end - prompt.begin) * self.shape.blocks_per_chunk
        return [list(range(first, first + count))] * max(1, len(self.groups))

    def _pieces(self, ids: list[list[int]]):
        """(chunk, where in its cell, where in the segment, bytes) of every block in every plane."""
        shape = self.shape
        bytes_ = shape.block * shape.row_bytes
        for layer, plane in itertools.product(range(shape.layers), range(2)):
            for number, block in enumerate(ids[self.lists[layer]]):
                chunk, part = divmod(number, shape.blocks_per_chunk)
                cell = ((plane * shape.layers + layer) * shape.blocks_per_chunk + part) * bytes_
                begin = ((layer * 2 + plane) * shape.blocks + block) * bytes_
                yield chunk, cell, begin, bytes_

    def fill(self, ids: list[list[int]], cells: list[bytes]) -> None:
        for chunk, cell, begin, bytes_ in self._pieces(ids):
            self.segment.memory[begin : begin + bytes_] = cells[chunk][cell : cell + bytes_]

    def overwrite(self, ids: list[list[int]], byte: int = 0xEE) -> None:
        """As an engine does that has given the blocks to another request."""
        for _, _, begin, bytes_ in self._pieces(ids):
            self.segment.memory[begin : begin + bytes_] = bytes([byte]) * bytes_

    def read(self, ids: list[list[int]]) -> list[bytes]:
        count = len(ids[0]) // self.shape.blocks_per_chunk
        cells = [bytearray(self.shape.cell_bytes) for _ in range(count)]
        for chunk, cell, begin, bytes_ in self._pieces(ids):
            cells[chunk][cell : cell + bytes_] = self.segment.memory[begin : begin + bytes_]
        return [bytes(cell) for cell in cells]

    def begin_store(self, prompt: Prompt, request: str, first: int = 1, ids=None) -> bytes:
        """Fills the blocks and sends STORE; the uid of its answer."""
        ids = self.block_ids(prompt, first) if ids is None else ids
        self.fill(ids, prompt.cells(self.shape, self.rank))
        asked = prompt.key(self.shape, request, self.rank)
        return self.client.begin("store", asked, self.instance, ids, EVENT)

    def begin_retrieve(self, prompt: Prompt, request: str, first: int = 1, ids=None) -> bytes:
        ids = self.block_ids(prompt, first) if ids is None else ids
        asked = prompt.key(self.shape, request, self.rank)
        return self.client.begin("retrieve", asked, self.instance, ids, EVENT, 0)

    def is_done(self, uid: bytes) -> bool:
        """Of a transfer that was begun."""
        return self.client.answer(uid)[1]

    def store(self, prompt: Prompt, request: str, first: int = 1) -> bool:
        return self.is_done(self.begin_store(prompt, request, first))

    def retrieve(self, prompt: Prompt, request: str, first: int = 1) -> bool:
        ids = self.block_ids(prompt, first)
        self.overwrite(ids)
        if not self.is_done(self.begin_retrieve(prompt, request, first)):
            return False
        compare(
            self.read(ids), prompt.cells(self.shape, self.rank), f"{self.shape.model} {request}"
        )
        return True

    def close(self) -> None:
        self.segment.close()


def look_up(client: RawClient, shape: Shape, prompt: Prompt, request: str, readers=1) -> int:
    """Chunks, counted from the prompt's first. It locks them until end_session."""
    client.ask("lookup", prompt.key(shape, request, None, readers), shape.world)
    while (hit := client.ask("query", request)) is None:
        time.sleep(0.002)
    return hit
