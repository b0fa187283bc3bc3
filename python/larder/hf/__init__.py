"""The door for Hugging Face transformers: a prompt's KV cache by prefix, in any larder store.

    store = larder.open("log:/data/kv?capacity=200GiB")
    prompts = larder.hf.PromptCache(store, model, revision="meta-llama/Llama-3.1-8B@0e9e39f")

    inputs = tokenizer(text, return_tensors="pt")
    restored = prompts.load(**inputs)
    sequences = model.generate(**inputs, past_key_values=restored.cache, max_new_tokens=64)
    prompts.save(sequences, restored.cache)

docs/transformers.md tells sizing and limits. torch and transformers (5 or later) are imported when
a `PromptCache` is made, not before.
"""

from larder.hf._cache import PromptCache
from larder.hf._types import Counters, Restored, Saved

__all__ = ["Counters", "PromptCache", "Restored", "Saved"]
