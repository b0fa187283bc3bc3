"""What the tests of `larder.hf` share: a store, a model's prompts in it, a way to damage them."""

import pytest
import torch
from tiny_models import generate, model, prompt
from transformers import DynamicCache

import larder
import larder.hf

CHUNK = 32


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
    prompts.save(ids, prefilled(prompts._model, ids))
    return prompts, ids, generate(prompts._model, ids)


def prefilled(of_model, ids):
    with torch.no_grad():
        return of_model(ids, past_key_values=DynamicCache(config=of_model.config)).past_key_values


def change_values(store, change, keys=None):
    """Replaces values behind larder.hf's back."""
    for key in keys or [key for key, _ in store.scan()]:
        assert all(store.set_many([key], [change(bytearray(store.get(key)))]).stored)


def keys_in_order(prompts, ids):
    count = ids.shape[1] // prompts._chunk_tokens
    return prompts._now().keys([ids[0].numpy().astype("<i8").tobytes()], count)[0]
