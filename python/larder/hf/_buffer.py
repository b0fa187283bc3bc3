"""The host memory that chunks pass through on their way between a store and a model's cache."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from larder.hf._layout import PAGE_BYTES, Layout

if TYPE_CHECKING:
    import torch


class ChunkBuffer:
    """One region of memory, cut into slots of one value each, made once and used again.

    Slots begin on a page, so that a store with direct I/O takes them as they are. Not thread-safe.
    If an operation may still use the memory, `abandon()` it: the next `prepare()` makes another.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._region: mmap.mmap | None = None
        self._value_bytes = 0
        self._stride = 1

    def prepare(self, value_bytes: int, wanted: int) -> int:
        """Makes room for `wanted` values, or as many as the limit allows, at least one. How
        many."""
        self._value_bytes = value_bytes
        self._stride = max(1, -(-value_bytes // PAGE_BYTES)) * PAGE_BYTES
        slots = max(1, min(wanted, self._limit_bytes // self._stride))
        if self._region is None or len(self._region) < slots * self._stride:
            self._region = mmap.mmap(-1, slots * self._stride)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                self._region.madvise(mmap.MADV_HUGEPAGE)
        return slots

    def abandon(self) -> None:
        """Leaves the memory to the holders of its views."""
        self._region = None

    def value(self, slot: int) -> memoryview:
        """All bytes of a slot's value."""
        assert self._region is not None
        begin = slot * self._stride
        return memoryview(self._region)[begin : begin + self._value_bytes]

    def tensors(self, slot: int, layout: Layout) -> list[torch.Tensor]:
        """A slot's tensors, in the order of `layout.shapes`, without a copy."""
        import torch

        assert self._region is not None
        dtype: torch.dtype = getattr(torch, layout.dtype)
        flat = torch.frombuffer(
            self._region,
            dtype=dtype,
            offset=slot * self._stride + layout.header_bytes,
            count=(layout.value_bytes - layout.header_bytes) // dtype.itemsize,
        )
        sizes = [heads * tokens * dim for heads, tokens, dim in layout.shapes]
        return [part.view(shape) for part, shape in zip(flat.split(sizes), layout.shapes)]
