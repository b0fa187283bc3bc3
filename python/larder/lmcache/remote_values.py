"""How the memory objects of LMCache that runs within the engine become values, and values memory
objects.

A full chunk in the shape, type and format of the engine's metadata is its bytes alone: nothing is
copied on the way to a disk that takes them as they are. Everything else (the last chunk of a
prompt, a layer's part, a serde's output) is its bytes with a trailer behind them:

    JSON {"format": name, "shapes": [[...], ...], "dtypes": [name, ...]}   N bytes
    spaces, so that no such value has the size of a full chunk              P bytes
    N + P, little-endian                                                    4 bytes
    "larderL1"                                                              8 bytes
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from typing import Any

import torch
from lmcache.v1.memory_management import MemoryFormat

_MAGIC = b"larderL1"
_END = struct.Struct("<I8s")
TRAILER_BYTES_MAX = 4096
_DIMENSIONS_MAX = 16
BINARY = (MemoryFormat.BINARY, MemoryFormat.BINARY_BUFFER)


@dataclasses.dataclass(frozen=True)
class Layout:
    """A memory object's description of its bytes. `shapes` and `dtypes`: one each a group of
    layers."""

    fmt: MemoryFormat
    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]

    @property
    def bytes(self) -> int:
        return sum(map(_bytes_of, self.shapes, self.dtypes))


def _bytes_of(shape: torch.Size, dtype: torch.dtype) -> int:
    return int(math.prod(shape) * dtype.itemsize)  # numel() wraps at 64 bits.


def layout_of(memory: Any) -> Layout:
    """The description of a memory object. Raises ValueError if its shape does not match its
    bytes."""
    fmt = memory.get_memory_format()
    if fmt in BINARY:
        return Layout(fmt, (torch.Size([memory.get_size()]),), (torch.uint8,))
    whole = memory.metadata
    layout = Layout(fmt, tuple(whole.shapes or ()), tuple(whole.dtypes or ()))
    if layout.bytes != memory.get_size():  # LMCache cuts a partial chunk in `shape` alone.
        layout = Layout(fmt, (whole.shape,), (whole.dtype,))
    if layout.bytes != memory.get_size():
        raise ValueError(
            f"a memory object of {memory.get_size()} bytes says that its shapes are "
            f"{[list(shape) for shape in layout.shapes]} of {[str(one) for one in layout.dtypes]}"
        )
    return layout


def trailer_of(layout: Layout, full_chunk_bytes: int) -> bytes:
    text = json.dumps(
        {
            "format": layout.fmt.name,
            "shapes": [list(shape) for shape in layout.shapes],
            "dtypes": [str(dtype).removeprefix("torch.") for dtype in layout.dtypes],
        },
        separators=(",", ":"),
    ).encode()
    if layout.bytes + len(text) + _END.size == full_chunk_bytes:
        text += b" "
    return text + _END.pack(len(text), _MAGIC)


def parse_trailer(value: memoryview) -> Layout:
    """The description in a value's trailer. Raises ValueError for any other value: its bytes come
    from outside, and nothing in them is trusted before it is checked."""
    if len(value) < _END.size:
        raise ValueError(f"a value of {len(value)} bytes has no room for a trailer")
    text_bytes, magic = _END.unpack(value[-_END.size :])
    payload_bytes = len(value) - _END.size - text_bytes
    if magic != _MAGIC or text_bytes > TRAILER_BYTES_MAX or payload_bytes < 0:
        raise ValueError(f"a value of {len(value)} bytes is no full chunk and has no trailer")
    try:
        told = json.loads(bytes(value[payload_bytes : payload_bytes + text_bytes]))
        layout = Layout(
            MemoryFormat[told["format"]],
            tuple(map(_shape, told["shapes"])),
            tuple(map(_dtype, told["dtypes"])),
        )
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"a trailer that cannot be read: {error}") from error
    if len(layout.shapes) != len(layout.dtypes) or not layout.shapes:
        raise ValueError("a trailer whose shapes and dtypes do not belong together")
    if layout.bytes != payload_bytes:
        raise ValueError(f"a trailer tells {layout.bytes} bytes, and there are {payload_bytes}")
    return layout


def _shape(sizes: Any) -> torch.Size:
    if not isinstance(sizes, list) or len(sizes) > _DIMENSIONS_MAX:
        raise TypeError(f"shape {sizes!r}")
    for size in sizes:
        if type(size) is not int or not 0 <= size < 2**40:
            raise TypeError(f"size {size!r}")
    return torch.Size(sizes)


def _dtype(name: Any) -> torch.dtype:
    dtype = getattr(torch, name) if isinstance(name, str) else None
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype {name!r}")
    return dtype


def take_layout(memory: Any, layout: Layout) -> None:
    """Makes a memory object of bytes one of this layout, which has as many or fewer of them: as
    LMCache's own reshape_partial_chunk() does."""
    memory.meta.fmt = layout.fmt
    memory.meta.shape, memory.meta.dtype = layout.shapes[0], layout.dtypes[0]
    memory.meta.shapes, memory.meta.dtypes = list(layout.shapes), list(layout.dtypes)
    memory.raw_data = memory.raw_data[: layout.bytes]
    ends = [0]
    for shape, dtype in zip(layout.shapes, layout.dtypes):
        ends.append(ends[-1] + _bytes_of(shape, dtype))
    memory.group_prefix_sum = ends
