"""Names of pages. SGLang's keys are hashes of tokens; a name says everything else that the content
of a page follows from, so two contents never have one name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from larder._doors import digest

# Version of a name's content and of a value's layout. Another version never finds the values of
# this one.
FORMAT = 1

# Properties of the host pool that determine the number of bytes in a page, and the meaning of each.
_OF_POOL = (
    "layout",
    "dtype",
    "page_size",
    "dcp_size",
    "layer_num",
    "start_layer",
    "end_layer",
    "head_num",
    "head_dim",
    "v_head_dim",
    "kv_cache_dim",
    "kv_lora_rank",
    "qk_rope_head_dim",
    "size_per_token",
    "storage_format_tag",
)

# SGLang's arguments that determine which weights are loaded, and how keys and values are computed
# from them.
_OF_SERVER = (
    "model_path",
    "revision",
    "quantization",
    "quantization_param_path",
    "dtype",
    "kv_cache_dtype",
    "load_format",
    "json_model_override_args",
)

# For models whose pages are the same on each rank: the state that differs.
_OF_EACH_RANK = ("mamba",)


def identity(
    config: Any, pool: Any, name: str, *, given: Mapping[str, str], server: Any, order: str
) -> dict[str, Any]:
    """Everything besides its key that a page of `pool` (SGLang's `name`) depends on.

    `config` is SGLang's HiCacheStorageConfig, `server` its arguments or None, `given` the backend's
    own configuration. `order`: of a value (`Pages.order`).
    """
    is_replicated = bool(config.is_mla_model) and name not in _OF_EACH_RANK
    ranks = {
        "pp": [config.pp_rank, config.pp_size],
        "cp": [config.attn_cp_rank, config.attn_cp_size],
        "dcp": [getattr(config, "dcp_rank", 0), getattr(config, "dcp_size", 1)],
    }
    if not is_replicated:
        ranks["tp"] = [config.tp_rank, config.tp_size]
    return {
        "format": FORMAT,
        "model": config.model_name,
        "given": dict(given),
        "server": {part: _plain(getattr(server, part, None)) for part in _OF_SERVER},
        "pool": name,
        "kind": type(pool).__name__,
        "shape": {part: _plain(getattr(pool, part, None)) for part in _OF_POOL},
        "order": order,
        "replicated": is_replicated,
        "ranks": ranks,
    }


def key_prefix(parts: Mapping[str, Any]) -> str:
    """The prefix of the names of all pages of an identity."""
    return f"larder.sglang/{digest(parts).hex()[:32]}/"


def rank_name(config: Any) -> str:
    """A name of this rank that no other process of the engine has, for a directory: `tp0`, `tp1-pp0`."""
    parts = [f"tp{config.tp_rank}"]
    for name, rank, size in (
        ("pp", config.pp_rank, config.pp_size),
        ("cp", config.attn_cp_rank, config.attn_cp_size),
        ("dp", getattr(config, "dp_rank", 0), 1 + bool(getattr(config, "dp_rank", 0))),
    ):
        if size > 1:
            parts.append(f"{name}{rank}")
    return "-".join(parts)


def ranks(config: Any) -> int:
    """How many processes of one engine there are at least."""
    count: int = max(1, config.tp_size) * max(1, config.pp_size) * max(1, config.attn_cp_size)
    return count


def _plain(value: Any) -> Any:
    """A value of JSON, the same in each process: never an object's address."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
