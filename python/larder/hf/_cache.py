"""`PromptCache`: loads and saves of a prompt's KV cache, chunk by chunk."""

from __future__ import annotations

import numbers
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from larder import _larder
from larder._store import Store
from larder.hf import _keys, _layout, _model, _state
from larder.hf._buffer import ChunkBuffer
from larder.hf._tally import Tally
from larder.hf._tensors import Target, pack, plain_tensors
from larder.hf._types import Counters, Restored, Saved

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedModel

_SECONDS = 30.0


@dataclass(frozen=True)
class _Now:
    """The state of the model at one call, and what follows from it."""

    model: PreTrainedModel
    """Without wrappers."""
    state: _state.State
    layers: int
    dtype: str
    chunk_tokens: int
    namespace: bytes

    def keys(self, rows: list[bytes], chunks: int) -> list[list[str]]:
        return [_keys.chunk_keys(self.namespace, row, self.chunk_tokens, chunks) for row in rows]


@dataclass
class _Saving:
    """A save under way, as far as it came."""

    cache: DynamicCache
    namespace: bytes
    layout: _layout.Layout
    places: dict[str, tuple[int, int]]
    """Chunk and row of each key. Rows that begin alike share chunks."""
    stored: int = 0
    existed: int = 0


class PromptCache:
    """Stores what a model computed for the beginning of a prompt, and finds it again.

    A prompt is cut into chunks of `chunk_tokens`; a chunk's keys and values are one value in
    `store`, named by a hash of all tokens up to its end and of what they depend on: the model as it
    is at the call, `dtype`, `chunk_tokens`, and `revision`. Only whole chunks are stored.

    To identify the model, each `load` and `save` looks at the class, the configuration, 256
    elements of each weight and buffer, the active adapters of PEFT and their scaling, plain
    attributes and hooks of the modules. So adapters may be switched or merged and the model may be
    cast between a `save` and the next `load`; between a `load` and the `save` of its cache it must
    not change: `save` refuses otherwise. `revision` names the weights, for instance the commit of
    the checkpoint: a change of so few elements that none of the 256 changed is only seen by it.

    A model that cannot be kept by prefix is refused with a ValueError that names the layer and why;
    so is one in training mode, by `load` and `save`.

    Any number of models and processes may share the store, and it may be None: then nothing is ever
    found. Its failures cost time and nothing else: `load` restores less, `save` stores less, and
    `counters()` and one line of the log say why. `timeout` (seconds, None for 30) is for each load
    and save, waiting for another thread's turn included; a stuck disk takes a second more.

    Threads: any, all calls. Loads and saves of one PromptCache take turns, because they share one
    buffer in host memory of at most `buffer_bytes` (but at least one chunk), made at the first use.
    Each chunk is copied once, between that buffer and the cache's tensors. After fork() the child
    finds nothing.
    """

    def __init__(
        self,
        store: Store | None,
        model: PreTrainedModel,
        *,
        revision: str,
        chunk_tokens: int = 256,
        dtype: torch.dtype | None = None,
        timeout: float | str | None = _SECONDS,
        buffer_bytes: int = 128 << 20,
    ) -> None:
        """`dtype`: of the cache's tensors; unless given, the one that the model has at the call."""
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
        for name, number in (("chunk_tokens", chunk_tokens), ("buffer_bytes", buffer_bytes)):
            if isinstance(number, bool) or not isinstance(number, numbers.Integral):
                raise TypeError(f"{name}: {number!r}, wanted a whole number of at least 1")
            if number < 1:
                raise ValueError(f"{name}: {number}, wanted at least 1")
        self._store = store
        self._model = model
        self._given_dtype = None if dtype is None else _model.dtype_name(dtype)
        self._chunk_tokens = int(chunk_tokens)
        self._timeout = _larder.seconds(timeout, "timeout", none=_SECONDS)
        self._revision = revision
        inner = _state.unwrapped(model)
        _model.dtype_name(inner.dtype if dtype is None else dtype)
        # Layers, and the configuration that they were counted and found good with.
        self._checked = (_model.count_layers(inner), _state.configuration(inner))
        self._tally = Tally()
        self._turn = threading.Lock()  # Of the buffer, and of the layout.
        self._buffer = ChunkBuffer(int(buffer_bytes))
        self._seen: tuple[bytes, _layout.Layout] | None = None  # Of this model's last computation.

    @property
    def key_prefix(self) -> str:
        """The prefix of the keys of all chunks that `load` would look for now."""
        return _keys.key_prefix(self._now().namespace)

    def counters(self) -> Counters:
        """Its counts so far. Any thread, at any time."""
        return self._tally.counters

    def load(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Restored:
        """The longest stored beginning of a prompt, as a cache for `generate` or `forward`.

        `input_ids` is [batch, tokens], and all of it goes to `generate` afterwards. With several
        rows, as many chunks are restored as every row has. At least one token is left to compute.
        `attention_mask` is needed for several rows, and must be of ones: padding is refused.
        The tensors are on the device of each layer's weights.
        """
        rows = _model.token_rows(input_ids, attention_mask)
        now = self._now()
        chunks = max(0, input_ids.shape[1] - 1) // self._chunk_tokens
        attention = _model.attention_modules(now.state.modules)
        target = Target(
            len(rows), _model.layer_devices(attention, now.layers, input_ids.device)
        )
        store = self._store
        if store is not None and chunks > 0:
            keys = now.keys(rows, chunks)
            self._take_turn(
                "load", lambda deadline: self._restore(store, now, keys, target, deadline)
            )
        self._tally.add(
            loads=1,
            chunks_restored=target.chunks * len(rows),
            chunks_missed=(chunks - target.chunks) * len(rows),
            tokens_restored=target.chunks * len(rows) * self._chunk_tokens,
        )
        cache = _model.new_cache(now.model)
        _state.mark(cache, now.state)
        return Restored(cache, target.fill(cache))

    def save(
        self,
        input_ids: torch.Tensor,
        cache: DynamicCache,
        attention_mask: torch.Tensor | None = None,
    ) -> Saved:
        """Stores the whole chunks of `cache` that the store does not have.

        `input_ids` is [batch, tokens]: all tokens that the cache was computed from, in their order,
        from the first; more may follow. So after `generate` pass its result (whose last token is
        not in the cache), after `forward` its input. `attention_mask` is as for `load`; the
        prompt's is enough. Not for the result of a beam search, whose rows are in another order
        than the cache's.
        """
        rows = _model.token_rows(input_ids, attention_mask)
        now = self._now()
        layout = _model.layout_of(cache, len(rows), now.layers, now.dtype, self._chunk_tokens)
        _state.check_mark(cache, now.state)
        length = cache.get_seq_length()
        if length > input_ids.shape[1]:
            raise ValueError(
                f"cache: {length} tokens, input_ids has {input_ids.shape[1]}; give all tokens that "
                "the cache was computed from, after generate what it returned"
            )
        places = {
            key: (chunk, row)
            for row, row_keys in enumerate(now.keys(rows, length // self._chunk_tokens))
            for chunk, key in enumerate(row_keys)
        }
        store = self._store
        if store is None or layout is None or not places:
            self._tally.add(saves=1)
            return Saved(0, 0, 0)
        saving = _Saving(cache, now.namespace, layout, places)
        self._take_turn("save", lambda deadline: self._keep(store, saving, deadline))
        saved = Saved(saving.stored, saving.existed, len(places) - saving.stored - saving.existed)
        self._tally.add(
            saves=1,
            chunks_stored=saved.stored,
            chunks_existed=saved.existed,
            chunks_not_stored=saved.failed,
        )
        return saved

    def _now(self) -> _Now:
        """Looks at the model. Raises ValueError when it cannot be kept as it is now."""
        model = _state.unwrapped(self._model)
        state = _state.state_of(model)
        layers, configuration = self._checked
        if state.config != configuration:
            layers = _model.count_layers(model)
            self._checked = (layers, state.config)
        dtype = self._given_dtype or _model.dtype_name(model.dtype)
        namespace = _keys.namespace(
            {
                "model": state.digest,
                "dtype": dtype,
                "chunk_tokens": self._chunk_tokens,
                "revision": self._revision,
            }
        )
        return _Now(model, state, layers, dtype, self._chunk_tokens, namespace)

    def _take_turn(self, what: str, work: Callable[[float], None]) -> None:
        """Runs `work(deadline)` alone. The store's errors are counted, and do not propagate; nor
        does a lack of memory."""
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
            # Interrupted: a running operation may still use the memory.
            self._buffer.abandon()
            raise
        finally:
            self._turn.release()

    def _restore(
        self, store: Store, now: _Now, keys: list[list[str]], target: Target, deadline: float
    ) -> None:
        """Loads chunks until one is missing in some row."""
        chunks, rows = len(keys[0]), len(keys)
        # Chunk by chunk, all rows of each: if one fails, the stored ones are a prefix.
        places = [(chunk, row) for chunk in range(chunks) for row in range(rows)]
        names = [keys[row][chunk] for chunk, row in places]
        sizes = store.sizes(names, timeout=_left(deadline))
        seen = self._seen
        layout = seen[1] if seen is not None and seen[0] == now.namespace else None
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
                        values[slot], now.dtype, self._chunk_tokens, now.layers
                    )
                if layout is None or not layout.is_of(values[slot]):
                    self._fail_chunk(f"{names[index]!r} is not what its key says; deleted")
                    store.delete([names[index]], timeout=_left(deadline))
                    return
                if index == 0:
                    target.allocate(layout, present // rows)
                target.put(*places[index], self._buffer.tensors(slot, layout))

    def _keep(self, store: Store, saving: _Saving, deadline: float) -> None:
        """Stores the chunks that the store does not have."""
        layout = saving.layout
        self._seen = (saving.namespace, layout)
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
