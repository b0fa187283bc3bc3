"""Models of a few layers with random weights, made on the spot: nothing is downloaded."""

import functools

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

VOCABULARY = 199

# With weights this large the next token follows from the whole prompt; with the usual small ones
# every prompt ends in the same token, and a test could not fail.
_INIT = {"initializer_range": 0.35}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
_SIZE = {"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 3} | _INIT
_LLAMA = _SIZE | _HEADS | {"intermediate_size": 96, "max_position_embeddings": 4096}

CONFIGURATIONS = {
    "llama": ("llama", _LLAMA),
    "qwen3": ("qwen3", _LLAMA | {"head_dim": 24}),
    "gpt_neox": (
        "gpt_neox",
        _SIZE
        | {"num_attention_heads": 4, "intermediate_size": 96, "max_position_embeddings": 4096},
    ),
    "gpt2": (
        "gpt2",
        {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 4096}
        | _INIT,
    ),
    "bloom": (
        "bloom",
        {"vocab_size": VOCABULARY, "hidden_size": 64, "n_layer": 3, "n_head": 4}
        | _INIT
        | {"tie_word_embeddings": False},
    ),
    # Its configuration has one for its attention.
    "mpt": (
        "mpt",
        {"vocab_size": VOCABULARY, "d_model": 64, "n_layers": 3, "n_heads": 4, "max_seq_len": 4096}
        | _INIT
        | {"use_cache": True},
    ),
    # Multi-head latent attention: keys are wider than values.
    "deepseek_v3": (
        "deepseek_v3",
        _LLAMA
        | {"num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 16, "qk_rope_head_dim": 8}
        | {"qk_nope_head_dim": 16, "v_head_dim": 16, "first_k_dense_replace": 3},
    ),
    "mistral, full attention": ("mistral", _LLAMA | {"sliding_window": None}),
}


def configuration(kind, **changes):
    name, parameters = CONFIGURATIONS[kind]
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    return CONFIG_MAPPING[name](**{**parameters, **ends, **changes})


@functools.cache
def model(kind, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(configuration(kind), dtype=dtype)
    return made.eval()


def prompt(count, seed=0, rows=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (rows, count), generator=generator)


def generate(model, input_ids, cache=None, new_tokens=12):
    """Greedy. All tokens, the prompt's first."""
    return model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        past_key_values=cache,
        max_new_tokens=new_tokens,
        do_sample=False,
    )
