"""A host pool of SGLang's: the names, sizes and addresses of its pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import larder

# Layouts of which the concatenated pieces of a page are its flat page, byte for byte.
_ONE_ORDER = ("page_first", "page_first_direct")


class Pages:
    """One registered pool. A value is a page's pieces in the order in which the pool gives them, or the
    flat page that the pool makes of them; which of both, is part of the pages' names."""

    order: str
    """Of a value: `pieces`, `flat`, or `one` where both are the same."""
    bytes: int
    """Of one page."""
    prefix: str
    """What the names of the pages begin with; set once their identity is known."""

    def __init__(self, pool: Any, in_pieces: bool) -> None:
        """Raises whatever the pool does, and ValueError when it has no pages that can be kept."""
        self.pool = pool
        self.prefix = ""
        # Under DCP a page's indices are those of all its ranks.
        self._rows = int(getattr(pool, "logical_page_size", None) or pool.page_size)
        if getattr(pool, "layout", None) in _ONE_ORDER:
            self.order = "one"
        else:
            self.order = "pieces" if in_pieces else "flat"
        if in_pieces:
            import torch

            first = torch.zeros(self._rows, dtype=torch.int64)
            self.bytes = sum(pool.get_page_buffer_meta(first)[1])
        else:
            flat = pool.get_dummy_flat_data_page()
            self.bytes = flat.numel() * flat.element_size()
        if self.bytes < 1:
            raise ValueError(f"a page of {type(pool).__name__} has {self.bytes} bytes")

    def names(self, keys: Sequence[str]) -> list[str]:
        return [self.prefix + key for key in keys]

    def in_place(self, count: int, host_indices: Any) -> larder.Addresses:
        """Where `count` pages lie. Raises ValueError when the indices are not those of so many."""
        self._require("pieces")
        given = 0 if host_indices is None else len(host_indices)
        if given != count * self._rows:
            raise ValueError(
                f"{given} host indices for {count} pages of {self._rows}, wanted {count * self._rows}"
            )
        pointers, sizes = self.pool.get_page_buffer_meta(host_indices)
        pieces, rest = divmod(len(pointers), count)
        if rest or len(sizes) != len(pointers) or sum(sizes[:pieces]) != self.bytes:
            raise ValueError(
                f"{len(pointers)} pieces of {sum(sizes)} bytes for {count} pages of {self.bytes} bytes"
            )
        # The pool's tensors outlive the batch, whatever happens to the pool.
        return larder.Addresses(pointers, sizes, (self.pool, getattr(self.pool, "kv_buffer", None)))

    def flat(self, tensors: Sequence[Any]) -> list[larder.Addresses]:
        """The memory of flat pages. Raises ValueError for a pool that is not contiguous host
        memory."""
        self._require("flat")
        return [_memory_of(tensor) for tensor in tensors]

    def _require(self, order: str) -> None:
        if self.order not in (order, "one"):
            raise ValueError(
                f"SGLang uses the interface of {order} pages and was configured for the other one "
                "(interface_v1), whose values have another order"
            )


def _memory_of(tensor: Any) -> larder.Addresses:
    if not tensor.is_contiguous() or tensor.device.type != "cpu":
        raise ValueError(
            f"a page of shape {tuple(tensor.shape)} on {tensor.device}, wanted a contiguous one in "
            "host memory"
        )
    return larder.Addresses([tensor.data_ptr()], tensor.numel() * tensor.element_size(), tensor)
