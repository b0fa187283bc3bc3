"""`larder.hf` under the real transformers: what is restored is what would have been computed."""

import copy
import pathlib
import re
import subprocess
import sys

import pytest
import torch
from documented_setups import block_of, replaced
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
from redis_server import RedisServer
from tiny_models import CONFIGURATIONS, configuration, generate, model, prompt
from transformers import AutoModelForCausalLM, DynamicCache

import larder
import larder.hf

__all__ = ["one_thread", "store"]  # Fixtures.

REPOSITORY = pathlib.Path(__file__).parents[2]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def zeroed(value):
    value[4096:] = bytes(len(value) - 4096)
    return value


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_a_restored_prompt_gives_the_same_tokens(store, kind, dtype):
    chosen = model(kind, dtype)
    ids = prompt(100)
    expected = generate(chosen, ids)
    assert len(set(expected[0, 100:].tolist())) > 4, "tokens that a wrong cache would change"

    prompts = prompts_of(store, kind, dtype)
    cold = prompts.load(ids)
    assert cold.tokens == 0
    sequences = generate(chosen, ids, cold.cache)
    assert torch.equal(sequences, expected)
    # 100 tokens of the prompt and 11 of 12 new ones are in the cache.
    assert prompts.save(sequences, cold.cache) == larder.hf.Saved(stored=3, existed=0, failed=0)

    warm = prompts_of(store, kind, dtype)
    restored = warm.load(ids)
    assert restored.tokens == 96
    assert {layer.keys.dtype for layer in restored.cache.layers} == {dtype}
    assert torch.equal(generate(chosen, ids, restored.cache), expected)
    assert warm.save(sequences, restored.cache) == larder.hf.Saved(stored=0, existed=3, failed=0)

    change_values(store, zeroed)
    wrong = generate(chosen, ids, prompts_of(store, kind, dtype).load(ids).cache)
    assert not torch.equal(wrong, expected), "this test sees wrong keys and values"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_restored_tensors_are_bit_for_bit_what_was_computed(store, kind, dtype):
    chosen = model(kind, dtype)
    ids = prompt(100)
    prompts = prompts_of(store, kind, dtype)
    prompts.save(ids, prefilled(chosen, ids))
    restored = prompts_of(store, kind, dtype).load(ids)
    for ours, theirs in zip(restored.cache.layers, prefilled(chosen, ids).layers, strict=True):
        assert type(ours) is type(theirs)
        assert torch.equal(ours.keys, theirs.keys[:, :, :96])
        assert torch.equal(ours.values, theirs.values[:, :, :96])
        assert (ours.keys.dtype, ours.device) == (theirs.keys.dtype, theirs.device)
        assert not ours.keys.requires_grad


@pytest.mark.parametrize(
    ("count", "restored"),
    [(1, 0), (31, 0), (32, 0), (33, 32), (64, 32), (65, 64), (96, 64), (97, 96)],
)
def test_whole_chunks_are_restored_and_one_token_is_left(store, count, restored):
    prompts, _, _ = saved_prompt(store, 100)
    ids = prompt(100)[:, :count]
    found = prompts.load(ids)
    assert (found.tokens, found.cache.get_seq_length()) == (restored, restored)
    assert torch.equal(generate(prompts._model, ids, found.cache), generate(prompts._model, ids))


def test_a_prompt_that_branches_off_is_restored_up_to_the_branch(store):
    prompts, ids, _ = saved_prompt(store, 100)
    other = ids.clone()
    other[0, 70] = (other[0, 70] + 1) % 199
    found = prompts.load(other)
    assert found.tokens == 64
    expected = generate(prompts._model, other)
    assert torch.equal(generate(prompts._model, other, found.cache), expected)
    other[0, 0] = (other[0, 0] + 1) % 199
    assert prompts.load(other).tokens == 0
    prompts.save(other[:, :CHUNK], prefilled(prompts._model, other[:, :CHUNK]))
    assert prompts.load(other).tokens == CHUNK, "equal chunks behind another first token are others"


def test_a_prompt_shorter_than_a_chunk_keeps_nothing(store):
    prompts, ids, expected = saved_prompt(store, CHUNK - 1)
    assert store.report().keys == 0
    restored = prompts.load(ids)
    assert torch.equal(generate(prompts._model, ids, restored.cache), expected)
    counters = prompts.counters()
    assert (counters.loads, counters.saves, counters.chunks_missed) == (1, 1, 0)


def test_a_conversation_grows_by_what_was_generated(store):
    prompts = prompts_of(store)
    chosen = prompts._model
    ids = prompt(50)
    for turn in range(4):
        restored = prompts.load(ids)
        assert restored.tokens == (0 if turn == 0 else (ids.shape[1] - 21) // CHUNK * CHUNK)
        sequences = generate(chosen, ids, restored.cache, new_tokens=40)
        assert torch.equal(sequences, generate(chosen, ids, new_tokens=40))
        assert restored.cache.get_seq_length() == sequences.shape[1] - 1
        assert prompts.save(sequences, restored.cache).failed == 0
        ids = torch.cat([sequences, prompt(20, seed=turn + 1)], dim=1)
    assert prompts.counters().tokens_restored > 200


def test_the_documented_lines_restore_a_prompt_after_a_restart(tmp_path):
    """Those of docs/transformers.md, with a store for a small machine."""
    lines = replaced(
        block_of("transformers.md", "python"),
        {"/data/kv?capacity=200GiB": f"{tmp_path}/kv?capacity=256MiB"},
    )
    ids = prompt(600)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    lives = []
    for _ in range(2):
        names = {"model": model("llama"), "tokenizer": lambda *_, **__: given, "text": None}
        exec(lines, names)
        names["store"].close()
        lives.append((names["restored"].tokens, names["sequences"].tolist()))
    (cold, expected), (warm, sequences) = lives
    assert (cold, warm) == (0, 512)
    assert sequences == expected


@pytest.fixture(params=["log", "fs", "redis"])
def lasting(request, tmp_path):
    """A spec whose values are there when it is opened again."""
    if request.param == "log":
        yield f"log:{tmp_path}/kv?capacity=256MiB&max_value=1MiB&segment=8MiB&min_free=0"
    elif request.param == "fs":
        yield f"fs:{tmp_path}/files?capacity=256MiB&min_free=0"
    else:
        with RedisServer(tmp_path) as server:
            yield f"redis://127.0.0.1:{server.port}"


def test_it_is_there_after_a_restart_of_the_store(lasting):
    with larder.open(lasting) as store:
        _, ids, expected = saved_prompt(store, 200)
    with larder.open(lasting) as store:
        prompts = prompts_of(store)
        restored = prompts.load(ids)
        assert restored.tokens == 192
        assert torch.equal(generate(prompts._model, ids, restored.cache), expected)


def test_the_store_takes_the_buffer_as_it_is(tmp_path):
    spec = f"log:{tmp_path}/kv?capacity=256MiB&max_value=1MiB&segment=8MiB&min_free=0"
    with larder.open(spec) as store:
        prompts, ids, _ = saved_prompt(store, 200)
        assert prompts.load(ids).tokens == 192
        metrics = store.metrics()
        assert metrics["larder_bytes_loaded_total"] == metrics["larder_bytes_stored_total"] > 0
        assert metrics["larder_bytes_staged_total"] == 0


@pytest.mark.parametrize(
    "other",
    [
        {"revision": "seed 1"},
        {"chunk_tokens": CHUNK // 2},
        {"dtype": torch.bfloat16},
        {"kind": "qwen3"},
        {"kind": "mistral, full attention"},
    ],
    ids=str,
)
def test_another_revision_chunk_size_type_or_model_finds_nothing(store, other):
    prompts, ids, _ = saved_prompt(store)
    different = prompts_of(store, **other)
    assert different.key_prefix != prompts.key_prefix
    assert different.load(ids).tokens == 0
    if "dtype" not in other:  # There the model itself is still of another type.
        different.save(ids, prefilled(different._model, ids))
        assert different.load(ids).tokens >= 96
    assert prompts.load(ids).tokens == 96
    assert all(key.startswith(b"larder.hf/") for key, _ in store.scan())


def test_any_change_of_the_configuration_that_may_matter_finds_nothing(store):
    prompts, ids, _ = saved_prompt(store)

    def made(**change):
        """With the same weights."""
        changed = AutoModelForCausalLM.from_config(configuration("llama", **change)).eval()
        changed.load_state_dict(prompts._model.state_dict(), strict=False)
        return changed

    for change in [{"rms_norm_eps": 1e-5}, {"rope_theta": 5e5}, {"attention_bias": True}]:
        changed = made(**change)
        other = larder.hf.PromptCache(store, changed, revision="seed 0", chunk_tokens=CHUNK)
        assert other.load(ids).tokens == 0, change
    same = made(pad_token_id=3)
    other = larder.hf.PromptCache(store, same, revision="seed 0", chunk_tokens=CHUNK)
    assert other.load(ids).tokens == 96


@pytest.mark.parametrize("buffer_bytes", [1, 100_000, 1 << 30])
def test_any_size_of_buffer_will_do(store, buffer_bytes):
    prompts, ids, expected = saved_prompt(store, 500, buffer_bytes=buffer_bytes)
    restored = prompts.load(ids)
    assert restored.tokens == 480
    assert torch.equal(generate(prompts._model, ids, restored.cache), expected)


def test_rows_of_a_batch_are_restored_as_far_as_all_of_them_are_there(store):
    prompts = prompts_of(store)
    chosen = prompts._model
    ids = prompt(100, rows=3)
    ids[1, :70] = ids[0, :70]
    ones = torch.ones_like(ids)
    expected = generate(chosen, ids)
    restored = prompts.load(ids, ones)
    sequences = generate(chosen, ids, restored.cache)
    assert torch.equal(sequences, expected)
    # Three rows of three chunks, and two chunks of two rows are the same.
    assert prompts.save(sequences, restored.cache, ones) == larder.hf.Saved(7, 0, 0)

    restored = prompts.load(ids, ones)
    assert restored.tokens == 96
    assert torch.equal(generate(chosen, ids, restored.cache), expected)
    assert prompts.load(ids[2:]).tokens == 96, "a row alone"
    store.delete([keys_in_order(prompts, ids[2:])[1]])
    restored = prompts.load(ids, ones)
    assert restored.tokens == CHUNK
    assert torch.equal(generate(chosen, ids, restored.cache), expected)
    assert prompts.counters().calls_failed == 0


def test_beams_start_from_a_repeated_cache(store):
    prompts, ids, _ = saved_prompt(store)
    restored = prompts.load(ids)
    restored.cache.batch_repeat_interleave(3)
    chosen, ones = prompts._model, torch.ones_like(ids)
    expected = chosen.generate(ids, attention_mask=ones, num_beams=3, max_new_tokens=8)
    found = chosen.generate(
        ids, attention_mask=ones, num_beams=3, max_new_tokens=8, past_key_values=restored.cache
    )
    assert torch.equal(found, expected)


def test_graphs_and_inference_mode_do_not_matter(store):
    prompts, ids = prompts_of(store), prompt(100)
    chosen = prompts._model
    with_graph = chosen(ids, past_key_values=DynamicCache(config=chosen.config)).past_key_values
    assert with_graph.layers[1].keys.requires_grad
    assert prompts.save(ids, with_graph).stored == 3
    with torch.inference_mode():
        restored = prompts.load(ids)
        computed = chosen(ids, past_key_values=DynamicCache(config=chosen.config)).past_key_values
        assert prompts_of(store, revision="other").save(ids, computed).stored == 3
    assert not restored.cache.layers[0].keys.is_inference()
    chosen(ids[:, 96:], past_key_values=restored.cache).logits.sum().backward()
    chosen.zero_grad()


def test_layers_are_restored_to_their_weights_device(store):
    ids = prompt(100)
    spread = copy.deepcopy(model("llama"))
    spread.model.layers[1].to("meta")
    spread_prompts = larder.hf.PromptCache(store, spread, revision="seed 0", chunk_tokens=CHUNK)
    assert spread_prompts.save(ids, prefilled(model("llama"), ids)).stored == 3
    layers = spread_prompts.load(ids).cache.layers
    assert [layer.keys.device.type for layer in layers] == ["cpu", "meta", "cpu"]
    assert [layer.device.type for layer in layers] == ["cpu", "meta", "cpu"]


def test_the_example_restores_in_the_same_and_in_the_next_process(tmp_path):
    for first in (0, 1024):
        ended = subprocess.run(
            [sys.executable, REPOSITORY / "examples" / "transformers_prompt_cache.py", tmp_path],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
        assert re.findall(r"restored (\d+) of 1200 tokens", ended.stdout) == [str(first), "1024"]
        assert ended.stdout.count("the same tokens as without larder") == 2
