"""A store that fails, changes values or does not answer costs `larder.hf` time and nothing else."""

import threading

import pytest
import torch
from hf_prompts import (
    CHUNK,
    change_values,
    keys_in_order,
    one_thread,
    prefilled,
    prompts_of,
    saved_prompt,
    store,
)
from tiny_models import generate, prompt

import larder
import larder.hf

__all__ = ["one_thread", "store"]  # Fixtures.


def truncated(value):
    return value[:-1]


def longer(value):
    return value + b"\0"


def without_header(value):
    return bytearray(len(value))


def of_another_type(value):
    return value.replace(b"float32\0", b"float16\0", 1)


def of_other_heads(value):
    assert value[32:36] == (2).to_bytes(4, "little")
    value[32:36] = (1).to_bytes(4, "little")
    return value


@pytest.mark.parametrize("is_known", [False, True], ids=["new", "after a save"])
@pytest.mark.parametrize("broken", [0, 1, 2])
@pytest.mark.parametrize(
    "change", [truncated, longer, without_header, of_another_type, of_other_heads, lambda _: b""]
)
def test_a_value_that_is_not_what_its_key_says_is_a_miss_until_it_is_saved(
    store, change, broken, is_known
):
    prompts, ids, expected = saved_prompt(store)
    change_values(store, change, [keys_in_order(prompts, ids)[broken]])
    if not is_known:
        prompts = prompts_of(store)
    restored = prompts.load(ids)
    assert restored.tokens == broken * CHUNK
    assert torch.equal(generate(prompts._model, ids, restored.cache), expected)
    # At once, or when a load looked at it and deleted it.
    saved = prompts.save(ids, prefilled(prompts._model, ids))
    assert (saved.stored, saved.failed) == (1, 0)
    assert prompts.load(ids).tokens == 96


def test_a_byte_that_changed_on_the_disk_is_never_used(tmp_path):
    spec = f"log:{tmp_path}/kv?capacity=256MiB&max_value=1MiB&segment=8MiB&min_free=0"
    with larder.open(spec) as store:
        prompts, ids, expected = saved_prompt(store)
        first = store.get(keys_in_order(prompts, ids)[1])
    needle, found = first[4096:4160], 0
    for segment in (tmp_path / "kv").iterdir():
        content = bytearray(segment.read_bytes()) if segment.is_file() else b""
        if (place := content.find(needle)) >= 0:
            content[place] ^= 1
            segment.write_bytes(content)
            found += 1
    assert found == 1
    with larder.open(spec) as store:
        prompts = prompts_of(store)
        restored = prompts.load(ids)
        assert restored.tokens == CHUNK
        assert prompts.counters().chunks_failed == 1
        assert keys_in_order(prompts, ids)[1] in prompts.counters().last_error
        assert torch.equal(generate(prompts._model, ids, restored.cache), expected)
        assert prompts.save(ids, prefilled(prompts._model, ids)).stored == 1
        assert prompts.load(ids).tokens == 96


def test_a_missing_chunk_ends_the_prefix_and_is_saved_again(store):
    prompts, ids, expected = saved_prompt(store, 200)
    store.delete([keys_in_order(prompts, ids)[3]])
    restored = prompts.load(ids)
    assert restored.tokens == 3 * CHUNK
    sequences = generate(prompts._model, ids, restored.cache)
    assert torch.equal(sequences, expected)
    assert prompts.save(sequences, restored.cache) == larder.hf.Saved(1, 5, 0)
    assert prompts.load(ids).tokens == 192


def test_a_store_that_evicts_restores_less_and_nothing_wrong():
    # A chunk takes 28 KiB: some 36 of the 60 chunks have room.
    with larder.open("memory:?capacity=1MiB") as store:
        prompts = prompts_of(store)
        texts = [prompt(100, seed) for seed in range(20)]
        expected = [generate(prompts._model, ids, new_tokens=4) for ids in texts]
        for _ in range(2):
            for ids, tokens in zip(texts, expected, strict=True):
                restored = prompts.load(ids)
                assert torch.equal(generate(prompts._model, ids, restored.cache, 4), tokens)
                prompts.save(ids, prefilled(prompts._model, ids))
                assert store.report().bytes_used <= 1 << 20
        assert len(list(store.scan())) < 60
        assert prompts.load(texts[-1]).tokens == 96


FAILING = {
    "all of it": "error_rate=100%25",
    "loads": "error_rate=100%25&pattern=get:*",
    "stores": "error_rate=100%25&pattern=set:*",
    "some": "error_rate=30%25&seed=3",
}


@pytest.mark.parametrize("name", FAILING)
def test_a_store_that_fails_costs_time_and_nothing_else(name):
    with larder.open(f"fault:?inner=memory:&{FAILING[name]}") as store:
        prompts = prompts_of(store)
        failures = 0
        for seed in range(6):
            ids = prompt(100, seed % 3)
            restored = prompts.load(ids)
            sequences = generate(prompts._model, ids, restored.cache)
            assert torch.equal(sequences, generate(prompts._model, ids))
            failures += prompts.save(sequences, restored.cache).failed
        counters = prompts.counters()
        assert counters.chunks_not_stored == failures
        if name in ("loads", "all of it"):
            assert counters.tokens_restored == 0
        if name in ("stores", "all of it"):
            assert failures == counters.saves * 3
        assert counters.last_error


def test_one_chunk_that_cannot_be_loaded_ends_the_prefix():
    with larder.open("fault:?inner=memory:&error_rate=100%25&pattern=get:3") as store:
        prompts, ids, expected = saved_prompt(store, 200)
        restored = prompts.load(ids)
        assert restored.tokens == 2 * CHUNK
        assert (prompts.counters().chunks_failed, prompts.counters().chunks_restored) == (1, 2)
        assert torch.equal(generate(prompts._model, ids, restored.cache), expected)


def test_a_store_that_does_not_answer_is_left_at_the_timeout():
    with larder.open("fault:?inner=memory:&stall_rate=100%25&stall=1h&pattern=get:*") as store:
        prompts, ids, expected = saved_prompt(store, timeout=0.2)
        restored = prompts.load(ids)
        assert restored.tokens == 0
        assert prompts.counters().last_error
        assert torch.equal(generate(prompts._model, ids, restored.cache), expected)


def test_a_closed_store_and_none_are_misses(store, caplog):
    prompts, ids, expected = saved_prompt(store)
    store.close()
    for _ in range(2):
        restored = prompts.load(ids)
        assert restored.tokens == 0
        assert torch.equal(generate(prompts._model, ids, restored.cache), expected)
        assert prompts.save(ids, prefilled(prompts._model, ids)) == larder.hf.Saved(0, 0, 3)
    assert prompts.counters().calls_failed == 4
    assert "closed" in prompts.counters().last_error
    assert len([record for record in caplog.records if record.name == "larder.hf"]) == 1

    without = prompts_of(None)
    restored = without.load(ids)
    assert torch.equal(generate(without._model, ids, restored.cache), expected)
    assert without.save(ids, prefilled(without._model, ids)) == larder.hf.Saved(0, 0, 0)


class LateStore(larder.Store):
    """A store whose call ended before its I/O did, and whose I/O comes later."""

    def __init__(self, spec):
        super().__init__(spec)
        self.late = []

    def get_into(self, keys, buffers, *, timeout=30.0):
        if not self.late:
            self.late = list(buffers)
            raise larder.StuckError("the kernel still has it")
        outcomes = super().get_into(keys, buffers, timeout=timeout)
        for buffer in self.late:
            buffer[:] = bytes(len(buffer))
        return outcomes


def test_memory_that_a_stuck_load_may_still_write_to_is_not_used_again():
    with LateStore("memory:?capacity=64MiB") as store:
        prompts, ids, expected = saved_prompt(store)
        assert prompts.load(ids).tokens == 0
        assert "the kernel still has it" in prompts.counters().last_error
        restored = prompts.load(ids)
        assert restored.tokens == 96
        assert torch.equal(generate(prompts._model, ids, restored.cache), expected)


def test_without_memory_for_the_tensors_nothing_is_restored(store, monkeypatch):
    prompts, ids, _ = saved_prompt(store)

    def refuse(*_, **__):
        raise RuntimeError("no room")  # On a GPU it is a torch.OutOfMemoryError, which is one.

    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", refuse)
        assert prompts.load(ids).tokens == 0
    assert prompts.counters().last_error == "a load failed: no room"
    assert prompts.load(ids).tokens == 96


def test_a_chunk_that_one_row_cannot_load_ends_the_prefix_of_all():
    # The fifth chunk that is loaded is the second one of the second row.
    with larder.open("fault:?inner=memory:&error_rate=100%25&pattern=get:5") as store:
        prompts = prompts_of(store)
        ids = prompt(100, rows=3)
        ones = torch.ones_like(ids)
        prompts.save(ids, prefilled(prompts._model, ids), ones)
        restored = prompts.load(ids, ones)
        assert restored.tokens == CHUNK
        expected = generate(prompts._model, ids)
        assert torch.equal(generate(prompts._model, ids, restored.cache), expected)


def test_threads_may_share_one(store):
    prompts = prompts_of(store)
    texts = [prompt(100, seed) for seed in range(6)]
    expected = [generate(prompts._model, ids, new_tokens=4) for ids in texts]
    barrier, wrong = threading.Barrier(4), []

    def work(first):
        torch.set_num_threads(1)
        barrier.wait(timeout=60)
        for turn in range(12):
            index = (first + turn) % len(texts)
            restored = prompts.load(texts[index])
            sequences = generate(prompts._model, texts[index], restored.cache, 4)
            if not torch.equal(sequences, expected[index]):
                wrong.append((first, turn))
            prompts.save(sequences, restored.cache)

    threads = [threading.Thread(target=work, args=(first,), daemon=True) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    counters = prompts.counters()
    assert (counters.loads, counters.saves, counters.calls_failed) == (48, 48, 0)
    assert counters.chunks_restored + counters.chunks_missed == 48 * 3
    assert store.report().keys == 18


def test_a_call_that_does_not_get_its_turn_restores_nothing(store):
    prompts, ids, expected = saved_prompt(store)
    prompts._timeout = 0.05
    with prompts._turn:  # As another thread's call has it that waits for a disk.
        restored = prompts.load(ids)
    assert restored.tokens == 0
    assert prompts.counters().last_error == "a load did not get its turn within 0.05 s"
    assert torch.equal(generate(prompts._model, ids, restored.cache), expected)
