"""`larder.hf` under the real transformers: what is restored is what would have been computed."""

import pathlib
import re
import subprocess
import sys
import threading

import pytest
import torch
from redis_server import RedisServer
from tiny_models import CONFIGURATIONS, configuration, generate, model, prompt
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM, DynamicCache, StaticCache
from transformers.cache_utils import DynamicLayer

import larder
import larder.hf

REPOSITORY = pathlib.Path(__file__).parents[2]
CHUNK = 32
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, whatever else runs on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def store():
    with larder.open("memory:?capacity=256MiB") as opened:
        yield opened


def prompts_of(store, kind="llama", dtype=torch.float32, **parameters):
    chosen = {"revision": "seed 0", "chunk_tokens": CHUNK, **parameters}
    return larder.hf.PromptCache(store, model(kind, dtype), **chosen)


def saved_prompt(store, count=100, seed=0, **parameters):
    """A prompt whose chunks are in the store, and what the model says to it without larder."""
    prompts = prompts_of(store, **parameters)
    ids = prompt(count, seed)
    restored = prompts.load(ids)
    expected = generate(prompts._model, ids, restored.cache)
    prompts.save(ids, prefilled(prompts._model, ids))
    return prompts, ids, expected


def prefilled(of_model, ids):
    with torch.no_grad():
        return of_model(ids, past_key_values=DynamicCache(config=of_model.config)).past_key_values


def change_values(store, change, keys=None):
    """Replaces values behind larder.hf's back."""
    for key in keys or [key for key, _ in store.scan()]:
        assert all(store.set_many([key], [change(bytearray(store.get(key)))]).stored)


def keys_in_order(prompts, ids):
    count = ids.shape[1] // prompts._chunk_tokens
    return prompts._keys_of([ids[0].numpy().astype("<i8").tobytes()], count)[0]


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
        assert (ours.dtype, ours.device) == (theirs.dtype, theirs.device)
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
    prompts, _, _ = saved_prompt(store, CHUNK - 1)
    assert store.report().keys == 0
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
    for change in [{"rms_norm_eps": 1e-5}, {"rope_theta": 5e5}, {"attention_bias": True}]:
        changed = AutoModelForCausalLM.from_config(configuration("llama", **change)).eval()
        other = larder.hf.PromptCache(store, changed, revision="seed 0", chunk_tokens=CHUNK)
        assert other.load(ids).tokens == 0, change
    same = AutoModelForCausalLM.from_config(configuration("llama", pad_token_id=3)).eval()
    other = larder.hf.PromptCache(store, same, revision="seed 0", chunk_tokens=CHUNK)
    assert other.load(ids).tokens == 96


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
    prompts, ids, _ = saved_prompt(store)
    spread = AutoModelForCausalLM.from_config(configuration("llama")).eval()
    spread.model.layers[1].to("meta")
    spread_prompts = larder.hf.PromptCache(store, spread, revision="seed 0", chunk_tokens=CHUNK)
    layers = spread_prompts.load(ids).cache.layers
    assert [layer.keys.device.type for layer in layers] == ["cpu", "meta", "cpu"]
    assert [layer.device.type for layer in layers] == ["cpu", "meta", "cpu"]


LONG = {"short_factor": [1.0] * 48, "long_factor": [4.0] * 48}
REFUSED = {
    "sliding window": ("mistral", {"sliding_window": 8}, "DynamicSlidingWindowLayer for layer 0"),
    "hybrid": ("gemma3_text", {}, "DynamicSlidingWindowLayer for layer 0"),
    "shared keys and values": (
        "gemma3n_text",
        {"num_hidden_layers": 4, "num_kv_shared_layers": 2, "layer_types": ["full_attention"] * 4},
        "DummyLayer for layer 2, and it has no keys and values or shares",
    ),
    "state": ("mamba", {}, "LinearAttentionLayer for layer 0"),
    "hybrid with state": ("jamba", {}, "LinearAttentionLayer for layer 0"),
    "no head": ("opt", {}, "it does not generate"),
    "own cache": ("xlnet", {}, "it keeps a state of the whole text"),
    "linear attention": ("qwen3_next", {}, "LinearAttentionLayer for layer 0"),
    "index": ("glm_moe_dsa", {}, "DynamicIndexedLayer for layer 0"),
    "RoPE by length": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
        "'dynamic' keys follow from the length of the whole text",
    ),
    "RoPE of two lengths": (
        "phi3",
        {
            "rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, **LONG},
            "pad_token_id": 0,
        },
        "'longrope' keys follow from the length",
    ),
    "encoder": ("bert", {}, "looks ahead"),
    "encoder and decoder": ("t5", {}, "it has an encoder"),
    "images": ("qwen2_vl", {}, "it reads more than text"),
    "both directions": ("gemma", {"use_bidirectional_attention": True}, "tokens look ahead"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_kept_by_prefix_is_refused_by_name(store, name):
    kind, changes, reason = REFUSED[name]
    configuration = CONFIG_MAPPING[kind](**{"num_hidden_layers": 4, **changes})
    auto = AutoModel if kind in ("t5", "qwen2_vl", "opt") else AutoModelForCausalLM
    with torch.device("meta"):
        refused = auto.from_config(configuration)
    with pytest.raises(ValueError, match=f"^{type(refused).__name__} cannot be kept.*{reason}"):
        larder.hf.PromptCache(store, refused, revision="1")


def test_other_caches_are_refused_by_name(store):
    prompts, ids, _ = saved_prompt(store)
    config = prompts._model.config
    with pytest.raises(TypeError, match="cache: StaticCache, wanted a DynamicCache"):
        prompts.save(ids, StaticCache(config=config, max_cache_len=128))
    sliding = DynamicCache(config=configuration("mistral, full attention", sliding_window=8))
    with pytest.raises(TypeError, match="layer 0 is a DynamicSlidingWindowLayer"):
        prompts.save(ids, sliding)
    with pytest.raises(ValueError, match="layer 2 is empty, layer 0 has 100 tokens"):
        torn = prefilled(prompts._model, ids)
        torn.layers[2] = DynamicLayer()
        prompts.save(ids, torn)
    with pytest.raises(ValueError, match="2 layers, the model has 3"):
        lower = AutoModelForCausalLM.from_config(configuration("llama", num_hidden_layers=2))
        prompts.save(ids, prefilled(lower, ids))
    with pytest.raises(ValueError, match="torch.bfloat16, this PromptCache keeps torch.float32"):
        prompts.save(ids, prefilled(model("llama", torch.bfloat16), ids))
    with pytest.raises(ValueError, match=r"wanted \[1 \(rows of input_ids\)"):
        prompts.save(ids, prefilled(prompts._model, prompt(100, rows=2)))
    with pytest.raises(ValueError, match="cache: 100 tokens, input_ids has 99"):
        prompts.save(ids[:, :99], prefilled(prompts._model, ids))
    assert prompts.save(ids, DynamicCache(config=config)) == larder.hf.Saved(0, 0, 0)


def test_wrong_arguments_name_themselves(store):
    prompts, ids, _ = saved_prompt(store)
    for error, text, parameters in [
        (ValueError, "revision: ''", {"revision": ""}),
        (ValueError, "revision: None", {"revision": None}),
        (ValueError, "chunk_tokens: 0", {"chunk_tokens": 0}),
        (ValueError, "timeout: 0", {"timeout": 0}),
        (ValueError, "dtype: torch.float64, kept are torch.bfloat16", {"dtype": torch.float64}),
    ]:
        with pytest.raises(error, match=text):
            prompts_of(store, **parameters)
    with pytest.raises(TypeError, match="store: str, wanted what larder.open"):
        prompts_of("memory:")
    with pytest.raises(TypeError, match="revision"):
        larder.hf.PromptCache(store, model("llama"))
    with pytest.raises(TypeError, match="input_ids: list"):
        prompts.load([1, 2, 3])
    with pytest.raises(ValueError, match=r"shape \[100\], wanted ids \[batch, tokens\]"):
        prompts.load(ids[0])
    with pytest.raises(ValueError, match="2 rows without attention_mask"):
        prompts.load(prompt(100, rows=2))
    padded = torch.ones_like(ids)
    padded[0, :3] = 0
    with pytest.raises(ValueError, match="attention_mask: has zeros; padding"):
        prompts.load(ids, padded)
    with pytest.raises(ValueError, match="attention_mask: has zeros; padding"):
        prompts.save(ids, prefilled(prompts._model, ids), padded)
    with pytest.raises(ValueError, match="wanted .batch, tokens.; keys and values under another"):
        prompts.load(ids, torch.ones(1, 1, 100, 100))
    training = AutoModelForCausalLM.from_config(configuration("llama")).train()
    with pytest.raises(ValueError, match="LlamaForCausalLM is in training mode"):
        larder.hf.PromptCache(store, training, revision="1").save(ids, DynamicCache())


def test_an_older_transformers_is_refused_with_its_version(store, monkeypatch):
    monkeypatch.setattr("transformers.__version__", "4.57.1")
    with pytest.raises(ImportError, match="transformers 5 or later and this is 4.57.1"):
        prompts_of(store)


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
