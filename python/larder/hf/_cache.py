"""`PromptCache`: loads and saves of a prompt's KV cache, chunk by chunk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from larder import _larder
from larder._store import Store
from larder.hf import _keys, _layout, _model
from larder.hf._buffer import ChunkBuffer
from larder.hf._tally import Tally
from larder.hf._tensors import Target, pack, plain_tensors
from larder.hf._types import Counters, Restored, Saved

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedModel


@dataclass
class _Saving:
    """A save under way, as far as it came."""

    cache: DynamicCache
    layout: _layout.Layout
    places: dict[str, tuple[int, int]]
    """Chunk and row of each key. Rows that begin alike share chunks."""
    stored: int = 0
    existed: int = 0


class PromptCache:
    """Keeps what a model computed for the beginning of a prompt, and finds it again.

    A prompt is cut into chunks of `chunk_tokens`; a chunk's keys and values are one value in
    `store`, named by a hash of all tokens up to its end and of what they follow from: the model's
    class and configuration, `dtype`, `chunk_tokens`, and `revision`. Only whole chunks are kept.

    `revision` says which weights these are, for instance the commit of the checkpoint, with every
    adapter and quantisation. larder cannot see it: two checkpoints of one architecture have the
    same configuration, and under one name the second would be given the first one's keys and
    values. Give adapters that are switched at run time a `PromptCache` each.

    A model that cannot be kept by prefix is refused with a ValueError that names the layer and why.

    The store may be shared by any number of models and processes, and may be None: then nothing is
    ever found. What goes wrong with it costs time and nothing else: `load` restores less, `save`
    keeps less, `counters()` and one line of the log say why. `timeout` (seconds) bounds each load
    and save, waiting for another thread's turn included; with a stuck disk a second more.

    Threads: any, all calls. Loads and saves of one PromptCache take turns, because they share one
    buffer in host memory of at most `buffer_bytes` (but at least one chunk), made at the first use.
    Each chunk is copied once, between that buffer and the cache's tensors. After fork() nothing is
    found in the child.
    """

    def __init__(
        self,
        store: Store | None,
        model: PreTrainedModel,
        *,
        revision: str,
        chunk_tokens: int = 256,
        dtype: torch.dtype | None = None,
        timeout: float = 30.0,
        buffer_bytes: int = 128 << 20,
    ) -> None:
        """`dtype`: of the cache's tensors, the model's unless given."""
        _model.require_transformers()
        if store is not None and not isinstance(store, Store):
            raise TypeError(
                f"store: {type(store).__name__}, wanted what larder.open() gives, or None"
            )
        if not isinstance(revision, str) or not revision:
            raise ValueError(
                f"revision: {revision!r}, wanted a text that names these weights, for instance the "
                "checkpoint and its commit, with its adapters; without it another model's keys and "
                "values would be found"
            )
        if chunk_tokens < 1:
            raise ValueError(f"chunk_tokens: {chunk_tokens}, wanted at least 1")
        if not 0 < timeout <= threading.TIMEOUT_MAX:
            raise ValueError(f"timeout: {timeout}, wanted seconds, above 0 and not infinite")
        self._store = store
        self._model = model
        self._layers = _model.count_layers(model)
        self._attention = _model.attention_modules(model)
        self._dtype = _model.dtype_name(model.dtype if dtype is None else dtype)
        self._chunk_tokens = chunk_tokens
        self._timeout = timeout
        identity = _keys.canonical(_model.identity(model))
        self._namespace = _keys.namespace(
            {
                "model": identity,
                "dtype": self._dtype,
                "chunk_tokens": chunk_tokens,
                "revision": revision,
            }
        )
        self._tally = Tally()
        self._turn = threading.Lock()  # Of the buffer, and of the layout.
        self._buffer = ChunkBuffer(buffer_bytes)
        self._layout: _layout.Layout | None = None  # Of what this model was seen to compute.

    @property
    def key_prefix(self) -> str:
        """What the keys of all chunks of this model, type, chunk size and revision begin with."""
        return _keys.key_prefix(self._namespace)

    def counters(self) -> Counters:
        """What it did so far. Any thread, at any time."""
        return self._tally.counters

    def load(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Restored:
        """The longest stored beginning of a prompt, as a cache for `generate` or `forward`.

        `input_ids` is [batch, tokens], and all of it goes to `generate` afterwards. Of several rows
        as many chunks are restored as every row has. At least one token is left to compute.
        `attention_mask` is needed for several rows, and must be of ones: padding is refused.
        The tensors are on the device of each layer's weights.
        """
        rows = _model.token_rows(input_ids, attention_mask)
        chunks = max(0, input_ids.shape[1] - 1) // self._chunk_tokens
        keys = self._keys_of(rows, chunks)
        target = Target(
            len(rows), _model.layer_devices(self._attention, self._layers, input_ids.device)
        )
        store = self._store
        if store is not None and chunks > 0:
            self._take_turn("load", lambda deadline: self._restore(store, keys, target, deadline))
        self._tally.add(
            loads=1,
            chunks_restored=target.chunks * len(rows),
            chunks_missed=(chunks - target.chunks) * len(rows),
            tokens_restored=target.chunks * len(rows) * self._chunk_tokens,
        )
        cache = _model.new_cache(self._model)
        return Restored(cache, target.fill(cache))

    def save(
        self,
        input_ids: torch.Tensor,
        cache: DynamicCache,
        attention_mask: torch.Tensor | None = None,
    ) -> Saved:
        """Stores the whole chunks of `cache` that the store does not have.

        `input_ids` is [batch, tokens]: all tokens that the cache was computed from, in their order,
        from the first; more may follow. So after `generate` it is what that returned (whose last
        token is not in the cache), after `forward` what went in. `attention_mask` is as for `load`;
        the prompt's is enough. Not for the result of a beam search, whose rows are in another order
        than the cache's.
        """
        rows = _model.token_rows(input_ids, attention_mask)
        if self._model.training:
            raise ValueError(
                f"{type(self._model).__name__} is in training mode, where dropout changes keys and "
                "values; call model.eval() before they are computed"
            )
        layout = _model.layout_of(cache, len(rows), self._layers, self._dtype, self._chunk_tokens)
        length = cache.get_seq_length()
        if length > input_ids.shape[1]:
            raise ValueError(
                f"cache: {length} tokens, input_ids has {input_ids.shape[1]}; give all tokens that "
                "the cache was computed from, after generate what it returned"
            )
        places = {
            key: (chunk, row)
            for row, row_keys in enumerate(self._keys_of(rows, length // self._chunk_tokens))
            for chunk, key in enumerate(row_keys)
        }
        store = self._store
        if store is None or layout is None or not places:
            self._tally.add(saves=1)
            return Saved(0, 0, 0)
        saving = _Saving(cache, layout, places)
        self._take_turn("save", lambda deadline: self._keep(store, saving, deadline))
        saved = Saved(saving.stored, saving.existed, len(places) - saving.stored - saving.existed)
        self._tally.add(
            saves=1,
            chunks_stored=saved.stored,
            chunks_existed=saved.existed,
            chunks_not_stored=saved.failed,
        )
        return saved

    def _keys_of(self, rows: list[bytes], chunks: int) -> list[list[str]]:
        return [_keys.chunk_keys(self._namespace, row, self._chunk_tokens, chunks) for row in rows]

    def _take_turn(self, what: str, work: Callable[[float], None]) -> None:
        """Runs `work(deadline)` alone. What the store says is counted, and goes no further; so does
        memory that is not there."""
        deadline = time.monotonic() + self._timeout
        if not self._turn.acquire(timeout=self._timeout):
            self._tally.fail(
                f"a {what} did not get its turn within {self._timeout} s", calls_failed=1
            )
            return
        try:
            with plain_tensors(), self._tally.turn():
                work(deadline)
        except (RuntimeError, MemoryError, OSError) as error:
            # RuntimeErrors are larder's own, and torch's where memory is short.
            self._buffer.abandon()
            self._tally.fail(f"a {what} failed: {error}", calls_failed=1)
        except BaseException:
            # Interrupted: an operation that goes on may still use the memory.
            self._buffer.abandon()
            raise
        finally:
            self._turn.release()

    def _restore(
        self, store: Store, keys: list[list[str]], target: Target, deadline: float
    ) -> None:
        """Loads chunks until one is missing in some row."""
        chunks, rows = len(keys[0]), len(keys)
        # Chunk by chunk, and of each all rows: what is there when one fails is a prefix.
        places = [(chunk, row) for chunk in range(chunks) for row in range(rows)]
        names = [keys[row][chunk] for chunk, row in places]
        sizes = store.sizes(names, timeout=_left(deadline))
        layout = self._layout
        value_bytes = layout.value_bytes if layout is not None else sizes[0]
        present = next((i for i, size in enumerate(sizes) if size != value_bytes), len(places))
        present -= present % rows
        if value_bytes is None or present == 0:
            return
        slots = self._buffer.prepare(value_bytes, present)
        for begin in range(0, present, slots):
            window = range(begin, min(begin + slots, present))
            values = [self._buffer.value(index - begin) for index in window]
            outcomes = store.get_into(
                [names[index] for index in window], values, timeout=_left(deadline)
            )
            for slot, index in enumerate(window):
                if not outcomes.hits[slot]:
                    if outcomes.failed[slot]:
                        self._fail_chunk(f"a chunk was not loaded: {outcomes.errors[slot]}")
                    return
                if layout is None:
                    layout = _layout.parse(
                        values[slot], self._dtype, self._chunk_tokens, self._layers
                    )
                if layout is None or not layout.is_of(values[slot]):
                    self._fail_chunk(f"{names[index]!r} is not what its key says; deleted")
                    store.delete([names[index]], timeout=_left(deadline))
                    return
                if index == 0:
                    target.allocate(layout, present // rows)
                target.put(*places[index], self._buffer.tensors(slot, layout))

    def _keep(self, store: Store, saving: _Saving, deadline: float) -> None:
        """Stores what the store does not have."""
        layout = self._layout = saving.layout
        sizes = store.sizes(saving.places, timeout=_left(deadline))
        # A value of another size is not this chunk, whatever its name, and is replaced.
        names = [name for name, size in zip(saving.places, sizes) if size != layout.value_bytes]
        saving.existed = len(saving.places) - len(names)
        slots = self._buffer.prepare(layout.value_bytes, len(names)) if names else 1
        for begin in range(0, len(names), slots):
            window = names[begin : begin + slots]
            values = [self._buffer.value(slot) for slot in range(len(window))]
            for slot, name in enumerate(window):
                values[slot][: layout.header_bytes] = layout.header()
                pack(self._buffer.tensors(slot, layout), saving.cache, *saving.places[name])
            outcomes = store.set_many(window, values, timeout=_left(deadline))
            saving.stored += sum(outcomes.stored)
            for error in filter(None, outcomes.errors):
                self._tally.fail(f"a chunk was not stored: {error}")

    def _fail_chunk(self, reason: str) -> None:
        self._tally.fail(reason, chunks_failed=1)


def _left(deadline: float) -> float:
    """Seconds until then. Raises when there are none: a call of the store could only fail."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise _larder.Error("its time was over")
    return left
