"""What `larder.hf` cannot keep it refuses, and says why."""

import math

import pytest
import torch
from hf_prompts import one_thread, prefilled, prompts_of, saved_prompt, store
from tiny_models import configuration, model, prompt
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM, DynamicCache, StaticCache
from transformers.cache_utils import DynamicLayer

import larder.hf

__all__ = ["one_thread", "store"]  # Fixtures.


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
    "no cache": ("openai-gpt", {}, "it has no cache of keys and values"),
    "encoder": ("bert", {}, r"its tokens look ahead \(config.is_decoder=False\)"),
    "encoder without a flag in its layers": ("rembert", {}, r"ahead \(config.is_decoder=False"),
    "XLM": ("xlm", {}, r"look ahead \(config.causal=False"),
    "blocks by length": ("big_bird", {"is_decoder": True}, r"the length \(block_sparse"),
    "decoder of an encoder": ("bart", {}, "encoder_attn attends to the output of an encoder"),
    "encoder and decoder": ("t5", {}, "it has an encoder"),
    "images": ("qwen2_vl", {}, r"several models \(text_config, vision_config\)"),
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
        (TypeError, "chunk_tokens: None, wanted a whole number", {"chunk_tokens": None}),
        (TypeError, "chunk_tokens: True, wanted", {"chunk_tokens": True}),
        (TypeError, "chunk_tokens: 32.0, wanted", {"chunk_tokens": 32.0}),
        (TypeError, "buffer_bytes: '1GiB', wanted", {"buffer_bytes": "1GiB"}),
        (ValueError, "buffer_bytes: -1, wanted", {"buffer_bytes": -1}),
        (ValueError, "timeout: 0, wanted seconds", {"timeout": 0}),
        (ValueError, "timeout: nan, wanted seconds", {"timeout": math.nan}),
        (TypeError, "timeout: str '30s', wanted seconds", {"timeout": "30s"}),
        (ValueError, "dtype: torch.float64, kept are torch.bfloat16", {"dtype": torch.float64}),
    ]:
        with pytest.raises(error, match=text):
            prompts_of(store, **parameters)
    for wrong in (None, "llama", torch.nn.Linear(2, 2), prompts._model.config):
        with pytest.raises(TypeError, match="^model: [A-Za-z]+, wanted a model of transformers"):
            larder.hf.PromptCache(store, wrong, revision="1")
    with pytest.raises(ValueError, match="dtype: 7, kept are torch.bfloat16"):
        larder.hf.PromptCache(store, prompts._model, revision="1", dtype=7)
    for timeout in (None, "30", 30):
        assert prompts_of(store, timeout=timeout)._timeout == 30
    with pytest.raises(TypeError, match="store: str, wanted what larder.open"):
        prompts_of("memory:")
    with pytest.raises(TypeError, match="revision"):
        larder.hf.PromptCache(store, model("llama"))
    for wrong in ([1, 2, 3], None, "ids", 7):
        with pytest.raises(TypeError, match="^input_ids: [a-zA-Z]+, wanted a torch.Tensor"):
            prompts.load(wrong)
        with pytest.raises(TypeError, match="^cache: [a-zA-Z]+, wanted a DynamicCache"):
            prompts.save(ids, wrong)
    for wrong in ([[1] * 100], "mask", 7):
        with pytest.raises(TypeError, match="^attention_mask: [a-z]+, wanted a torch.Tensor or No"):
            prompts.load(ids, wrong)
    for kind in (torch.bool, torch.float32, torch.complex64):
        with pytest.raises(ValueError, match=f"^input_ids: {kind} of shape"):
            prompts.load(ids.to(kind))
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
