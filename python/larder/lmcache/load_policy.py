"""Load or recompute: LMCache's `--kv-load-policy` (from 0.5.7 on) by how fast larder loads now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lmcache.v1.multiprocess.kv_load_policy import DefaultKVLoadPolicy, KVLoadContext

from larder import _larder

_SPEED = "larder_prefill_tokens_per_second"
_SIZE = "larder_kv_bytes_per_token"
_EXAMPLE = f'{{"{_SPEED}": 9000, "{_SIZE}": 131072}}'


class LoadPolicy(DefaultKVLoadPolicy):  # type: ignore[misc]
    """Declines a lookup whose tokens the engine computes sooner than larder loads them.

        lmcache server --kv-load-policy larder.lmcache:LoadPolicy --runtime-plugin-config \\
            '{"larder_prefill_tokens_per_second": 9000, "larder_kv_bytes_per_token": 131072}' ...

    Both numbers depend on the deployment: one engine's prefill speed, and the KV of one token on
    all ranks.

    LMCache asks before it looks anything up. So the largest possible load is judged: all tokens of
    the lookup that the engine does not have itself, from larder, one value for each chunk.
    LMCache's own memory is not visible here; a lookup that it would serve from there may be
    declined too, while larder is slower than the engine.

    larder's speed is that of its loads within the last minute, behind the loads under way. Without
    such loads lookups are served, so the speed is measured again after a minute without.
    `lmcache.skip_load` in a request declines it, as in LMCache's own policy.
    """

    def __init__(self, configs: Mapping[str, Any]) -> None:
        """Raises `ValueError` where a number is missing or wrong: the server then does not start."""
        super().__init__(configs)
        self._tokens_per_second = _number(configs, _SPEED)
        self._bytes_per_token = _number(configs, _SIZE)

    def should_load(self, ctx: KVLoadContext) -> bool:
        if not super().should_load(ctx):
            return False
        computed = (ctx.request_configs or {}).get("lmcache.hint.engine_computed_tokens", 0)
        tokens = ctx.num_lookup_tokens - (computed if isinstance(computed, int) else 0)
        if tokens <= 0:
            return True
        chunks = math.ceil(tokens / max(1, ctx.chunk_size))
        loading = _larder.seconds_to_load(chunks, int(tokens * self._bytes_per_token))
        return loading is None or loading <= tokens / self._tokens_per_second


def _number(configs: Mapping[str, Any], name: str) -> float:
    value = configs.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise ValueError(
        f"{name}: {value!r}, wanted a number above 0; larder.lmcache.LoadPolicy reads it from "
        f"--runtime-plugin-config '{_EXAMPLE}'"
    )
