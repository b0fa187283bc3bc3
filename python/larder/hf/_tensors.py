"""Tensors of a model's cache: chunks are restored into them, and made from them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from larder.hf._layout import Layout

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache


@contextlib.contextmanager
def plain_tensors() -> Iterator[None]:
    """Tensors that are made and copied in here are neither part of a graph nor bound to inference
    mode, whatever the caller is in."""
    import torch

    with torch.inference_mode(False), torch.no_grad():
        yield


class Target:
    """Keys and values of each layer for a batch, filled chunk by chunk. Not thread-safe.

    Memory for all expected chunks is taken at once, so that a chunk is copied to where it stays.
    """

    def __init__(self, rows: int, devices: list[torch.device]) -> None:
        self._rows = rows
        self._devices = devices
        self._tensors: list[torch.Tensor] = []
        self._chunk_tokens = 0
        self.chunks = 0
        """Chunks that are complete in every row."""

    def allocate(self, layout: Layout, chunks: int) -> None:
        import torch

        self._chunk_tokens = layout.chunk_tokens
        dtype: torch.dtype = getattr(torch, layout.dtype)
        self._tensors = [
            torch.empty(
                (self._rows, heads, chunks * tokens, dim),
                dtype=dtype,
                device=self._devices[index // 2],
            )
            for index, (heads, tokens, dim) in enumerate(layout.shapes)
        ]

    def put(self, chunk: int, row: int, parts: list[torch.Tensor]) -> None:
        """Copies one row of a chunk; rows of a chunk come in order, and so do chunks."""
        begin = chunk * self._chunk_tokens
        for tensor, part in zip(self._tensors, parts):
            tensor[row, :, begin : begin + self._chunk_tokens].copy_(part)
        if row == self._rows - 1:
            self.chunks = chunk + 1

    def fill(self, cache: DynamicCache) -> int:
        """Gives the complete chunks to a new cache. How many tokens that are."""
        tokens = self.chunks * self._chunk_tokens
        if tokens > 0:
            pairs = zip(self._tensors[::2], self._tensors[1::2])
            for layer, (keys, values) in zip(cache.layers, pairs):
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values = keys[:, :, :tokens], values[:, :, :tokens]
        return tokens


def pack(parts: list[torch.Tensor], cache: DynamicCache, chunk: int, row: int) -> None:
    """Copies one row of a chunk of `cache` into `parts`, in the order of `Layout.shapes`."""
    tokens = parts[0].shape[1]
    place = slice(chunk * tokens, (chunk + 1) * tokens)
    for layer, keys, values in zip(cache.layers, parts[::2], parts[1::2]):
        keys.copy_(layer.keys[row, :, place])
        values.copy_(layer.values[row, :, place])
