"""The results of the calls of a `PromptCache`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import DynamicCache


@dataclasses.dataclass(frozen=True)
class Restored:
    """The result of `load` for a prompt."""

    cache: DynamicCache
    """For `past_key_values`. It holds `tokens` tokens, and the model adds to it in place."""
    tokens: int
    """Whole chunks, and at least one token fewer than the prompt has. 0: nothing was found."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """The result of one `save`, by chunks."""

    stored: int
    existed: int
    """Were in the store before; nothing was written."""
    failed: int
    """Are not in the store; `Counters.last_error` says why."""


@dataclasses.dataclass(frozen=True)
class Counters:
    """Counts of a `PromptCache` since it was made. A chunk counts once for each row of a batch."""

    loads: int = 0
    saves: int = 0
    chunks_restored: int = 0
    chunks_missed: int = 0
    """Whole chunks of prompts that were asked for and not restored, the failed ones among them."""
    chunks_failed: int = 0
    """Chunks that were there and could not be loaded, or were not what their key promises."""
    tokens_restored: int = 0
    chunks_stored: int = 0
    chunks_existed: int = 0
    chunks_not_stored: int = 0
    calls_failed: int = 0
    """Loads and saves that the store ended with an error: down, closed, stuck, out of time."""
    last_error: str = ""
    """The last failure of any kind, with the key or the call and the cause."""
