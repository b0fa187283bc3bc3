"""Loads and saves of a KV cache by `larder.hf`, beside a plain copy and beside the store alone.

    python bench/hf_bench.py SPEC [--chunks 8] [--pairs 7] [--layers 32] [--heads 8]

A chunk is 256 tokens in bf16, 32 MiB with the defaults: Llama-3.1-8B. The cache is filled at
random; the model around it has hardly any weights, and is never run. Each turn: a copy of all
tensors to others (memcpy), save, load, the values alone into and out of the store. Run it with the
python of the environment `interop` (scripts/python_env.sh).
"""

import argparse
import time

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

import larder
import larder.hf
from quartiles import quartiles

CHUNK_TOKENS = 256


def model_of(given):
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=8 * given.heads,
        intermediate_size=8,
        num_hidden_layers=given.layers,
        num_attention_heads=given.heads,
        num_key_value_heads=given.heads,
        head_dim=given.head_dim,
    )
    return LlamaForCausalLM(config).to(torch.bfloat16).eval()


def random_cache(model, given):
    cache = DynamicCache(config=model.config)
    shape = (1, given.heads, given.chunks * CHUNK_TOKENS + 1, given.head_dim)
    for layer in cache.layers:
        layer.update(torch.randn(shape).bfloat16(), torch.randn(shape).bfloat16())
    return cache


def tensors_of(cache, tokens):
    return [t[:, :, :tokens] for layer in cache.layers for t in (layer.keys, layer.values)]


def timed(rates, name, count, work):
    begin = time.perf_counter()
    result = work()
    rates.setdefault(name, []).append(count / (time.perf_counter() - begin) / 1e9)
    return result


def turn(store, prompts, ids, cache, rates):
    tokens = ids.shape[1] - 1
    saved_tensors = tensors_of(cache, tokens)
    count = sum(tensor.nbytes for tensor in saved_tensors)

    copies = [torch.zeros_like(tensor) for tensor in saved_tensors]
    timed(rates, "memcpy", count, lambda: [c.copy_(t) for c, t in zip(copies, saved_tensors)])

    saved = timed(rates, "save", count, lambda: prompts.save(ids, cache))
    assert saved.failed == saved.existed == 0, prompts.counters().last_error
    restored = timed(rates, "load", count, lambda: prompts.load(ids))
    assert restored.tokens == tokens, prompts.counters().last_error
    pairs = zip(tensors_of(restored.cache, tokens), saved_tensors)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)

    keys = [key for key, _ in store.scan()]
    values = [bytearray(size) for _, size in store.scan()]
    hits = timed(rates, "store alone, get", count, lambda: store.get_into(keys, values).hits)
    assert all(hits)
    store.delete(keys)
    done = timed(rates, "store alone, set", count, lambda: store.set_many(keys, values).stored)
    assert all(done)
    store.delete(keys)


def show(name, values, unit):
    middle, low, high = quartiles(values)
    print(f"  {name:<26} {middle:7.2f} {unit}  (quartiles {low:.2f} to {high:.2f})")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("spec")
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--heads", type=int, default=8, help="of keys and values")
    parser.add_argument("--head-dim", type=int, default=128)
    given = parser.parse_args()

    model = model_of(given)
    cache = random_cache(model, given)
    ids = torch.randint(0, 1000, (1, cache.get_seq_length()))
    rates = {}
    with larder.open(given.spec) as store:
        assert store.report().keys == 0, f"{given.spec} is not empty"
        prompts = larder.hf.PromptCache(store, model, revision="random", timeout=600)
        turn(store, prompts, ids, cache, {})  # Pages that are there.
        for _ in range(given.pairs):
            turn(store, prompts, ids, cache, rates)
    chunk_bytes = 4 * given.layers * given.heads * CHUNK_TOKENS * given.head_dim
    print(
        f"{given.spec}: {given.chunks} chunks of {chunk_bytes / 2**20:.1f} MiB, {given.pairs} turns"
    )
    for name, values in rates.items():
        show(name, values, "GB/s")
    for name, beside in [("save", "set"), ("load", "get")]:
        for other in ("memcpy", f"store alone, {beside}"):
            ratios = [ours / theirs for ours, theirs in zip(rates[name], rates[other])]
            show(f"{name} / {other}", ratios, "    ")


if __name__ == "__main__":
    main()
