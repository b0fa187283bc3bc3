"""Names of chunks. A name says everything that a chunk's content follows from, so two contents
never have one name, and a chunk is found only behind exactly the same prefix."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from larder._doors import digest

# Version of a name's content and of a value's layout. Another version never finds the values of
# this one.
FORMAT = 1

# Fields of a configuration that describe its origin, the form of results, or how a text is cut, and
# not how keys and values are computed. Everything else counts, known or not: too much costs a miss,
# too little would be a wrong hit.
_WITHOUT_EFFECT = frozenset(
    {
        "_name_or_path",
        "architectures",
        "bos_token_id",
        "dtype",
        "eos_token_id",
        "id2label",
        "label2id",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "problem_type",
        "return_dict",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)


def canonical(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration (of JSON's types) without fields that have no effect on keys and values."""
    return {
        name: canonical(value) if isinstance(value, Mapping) else value
        for name, value in configuration.items()
        if name not in _WITHOUT_EFFECT
    }


def namespace(parts: Mapping[str, Any]) -> bytes:
    """32 bytes that identify `parts` (of JSON's types) and this format."""
    return digest({"format": FORMAT, **parts})


def key_prefix(name: bytes) -> str:
    """The prefix of the keys of all chunks of a namespace."""
    return f"larder.hf/{name.hex()[:32]}/"


def chunk_keys(name: bytes, tokens: bytes, chunk_tokens: int, chunks: int) -> list[str]:
    """Keys of the first `chunks` chunks of a text. `tokens`: its ids, 8 bytes each, little-endian.

    Each key is a hash of the namespace and of all tokens up to the chunk's end: SHA-256 over the
    previous chunk's hash (first: the namespace) and the chunk's own tokens. All have fixed lengths,
    so no two texts give one input.
    """
    keys, prefix, link = [], key_prefix(name), name
    step = 8 * chunk_tokens
    for begin in range(0, chunks * step, step):
        link = hashlib.sha256(link + tokens[begin : begin + step]).digest()
        keys.append(prefix + link.hex())
    return keys
