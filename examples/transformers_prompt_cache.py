"""A prompt that a transformers model has read before is not read again.

    python examples/transformers_prompt_cache.py [DIRECTORY]

Makes a small model with random weights, keeps its KV cache in a store in DIRECTORY (a temporary one
unless given), and asks the same question twice. Run it again with the same DIRECTORY, and the first
question is restored, too. With a model of your own only `make_model` changes.
"""

import sys
import tempfile
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import larder
import larder.hf

PROMPT_TOKENS = 1200


def make_model():
    """The same weights each time, and large ones, so that the whole prompt decides the output."""
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=8192,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def generate(model, inputs, cache=None):
    return model.generate(**inputs, past_key_values=cache, max_new_tokens=16, do_sample=False)


def ask(prompts, model, inputs, expected):
    begin = time.perf_counter()
    restored = prompts.load(**inputs)
    loaded = time.perf_counter()
    sequences = generate(model, inputs, restored.cache)
    generated = time.perf_counter()
    saved = prompts.save(sequences, restored.cache)
    ended = time.perf_counter()

    is_same = torch.equal(sequences, expected)
    print(
        f"restored {restored.tokens} of {PROMPT_TOKENS} tokens in {(loaded - begin) * 1e3:.1f} ms, "
        f"generated in {(generated - loaded) * 1e3:.0f} ms, "
        f"saved {saved.stored} chunks in {(ended - generated) * 1e3:.1f} ms: "
        f"{'the same' if is_same else 'OTHER'} tokens as without larder"
    )
    return is_same


def main(directory):
    model = make_model()
    input_ids = torch.randint(0, 1000, (1, PROMPT_TOKENS))  # What a tokenizer would give.
    inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
    expected = generate(model, inputs)

    with larder.open(f"log:{directory}/kv?capacity=1GiB&max_value=4MiB&min_free=0") as store:
        prompts = larder.hf.PromptCache(store, model, revision="random weights of seed 7")
        is_same = [ask(prompts, model, inputs, expected) for _ in range(2)]
        print(f"{store.report().keys} chunks in the store; {prompts.counters()}")
    return 0 if all(is_same) else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(sys.argv[1]))
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(made))
