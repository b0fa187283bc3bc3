"""The name under which chunks of one model, layout and hash are stored. vLLM's keys say which
tokens a chunk is for, and nothing about what computed it."""

from __future__ import annotations

import sys
from typing import Any

from larder._doors import digest

# Version of a name's content and of a value's layout. Another version never finds the values of
# this one.
FORMAT = 1

_PARALLEL = ("world_size", "tp_size", "pp_size", "pcp_size", "dcp_size")


def parts_of(spec: Any, row_bytes: int, revision: str) -> dict[str, Any]:
    """Everything that a chunk's bytes depend on, except its tokens. `spec`: vLLM's OffloadingSpec
    of any version from 0.28 on."""
    config = spec.config
    cache = config.cache
    layout = getattr(config, "kv_cache_layout", None)
    return {
        "format": FORMAT,
        "model": config.model.name,
        "revision": revision,
        "dtype": str(config.model.dtype),
        "tokens_per_hash": cache.tokens_per_hash,
        "blocks_per_chunk": cache.blocks_per_chunk,
        "row_bytes": row_bytes,
        "worker_kv_bytes_per_block": config.worker_kv_bytes_per_block,
        # Until 0.29 vLLM did not describe the layout of a block: another release may have a
        # different one.
        "layout": layout or f"of vllm {_vllm_release()}",
        "canonical_layout": bool(getattr(config, "canonical_layout", False)),
        "replicated_layout": bool(getattr(spec, "replicated_layout", False)),
        "ranks": {name: getattr(config.parallel, name) for name in _PARALLEL},
        "groups": [
            {
                "id": getattr(group, "group_id", index),
                "tokens_per_block": group.tokens_per_block,
                "layers": list(group.layer_names),
            }
            for index, group in enumerate(config.groups)
        ],
    }


def name_of(parts: dict[str, Any], root_hash: bytes) -> bytes:
    """The prefix of the keys of all chunks. `root_hash`: the first link of block hashes, which
    follows from the hash's algorithm and seed."""
    return f"vllm/{digest({**parts, 'root': root_hash.hex()}).hex()[:32]}/".encode()


def root_hash() -> bytes:
    """vLLM's NONE_HASH; empty before the engine has begun, and where it has another name."""
    module = sys.modules.get("vllm.v1.core.kv_cache_utils")
    found = getattr(module, "NONE_HASH", b"")
    return bytes(found) if isinstance(found, (bytes, bytearray)) else repr(found).encode()


def _vllm_release() -> str:
    try:
        import vllm

        return ".".join(str(vllm.__version__).split(".")[:2])
    except Exception:
        return "unknown"
