"""The layout of a stored chunk's bytes.

A value is a header, zeros up to the next multiple of 4096 bytes, and the tensors: for each layer
its keys as [heads, chunk_tokens, key_dim] and its values as [heads, chunk_tokens, value_dim]. If
all layers are alike, it is one array [layers, 2, heads, chunk_tokens, dim]. The header's size is a
whole number of pages, so that tensors begin on a page and a chunk of usual size goes to the disk
uncopied.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import NamedTuple

PAGE_BYTES = 4096

_MAGIC = b"larder.hf/1\n"
_HEAD = struct.Struct("<12s12sII")  # Magic, data type, tokens of a chunk, layers.
_LAYER = struct.Struct("<III")  # Like LayerShape.

ITEM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


class LayerShape(NamedTuple):
    """One layer's tensors, without batch and tokens."""

    heads: int
    key_dim: int
    value_dim: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """Everything that a header says, and the sizes that follow from it."""

    dtype: str
    """One of `ITEM_BYTES`."""
    chunk_tokens: int
    layers: tuple[LayerShape, ...]

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values in all layers."""
        dims = sum(heads * (keys + values) for heads, keys, values in self.layers)
        return dims * ITEM_BYTES[self.dtype]

    @property
    def header_bytes(self) -> int:
        return _pages(_HEAD.size + _LAYER.size * len(self.layers)) * PAGE_BYTES

    @property
    def value_bytes(self) -> int:
        return self.header_bytes + self.token_bytes * self.chunk_tokens

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Shapes of the tensors in their order: first layer's keys, its values, and so on."""
        return [
            (heads, self.chunk_tokens, dim)
            for heads, keys, values in self.layers
            for dim in (keys, values)
        ]

    def header(self) -> bytes:
        head = _HEAD.pack(_MAGIC, self.dtype.encode(), self.chunk_tokens, len(self.layers))
        text = head + b"".join(_LAYER.pack(*shape) for shape in self.layers)
        return text.ljust(self.header_bytes, b"\0")

    def is_of(self, value: memoryview) -> bool:
        """Whether a value has this layout's size and header."""
        return len(value) == self.value_bytes and value[: self.header_bytes] == self.header()


def parse(value: memoryview, dtype: str, chunk_tokens: int, layers: int) -> Layout | None:
    """The layout that a value's header gives, or None when it is another than of so many tokens and
    layers of that type, or the value is not exactly as long as that. Any bytes may be passed."""
    end = _HEAD.size + _LAYER.size * layers
    if len(value) < end:
        return None
    if value[: _HEAD.size] != _HEAD.pack(_MAGIC, dtype.encode(), chunk_tokens, layers):
        return None
    shapes = tuple(LayerShape(*shape) for shape in _LAYER.iter_unpack(value[_HEAD.size : end]))
    layout = Layout(dtype, chunk_tokens, shapes)
    return layout if layout.is_of(value) else None


def _pages(count: int) -> int:
    return -(-count // PAGE_BYTES)
