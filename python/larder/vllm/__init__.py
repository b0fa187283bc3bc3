"""The door for vLLM: larder as a secondary tier of its KV offloading (vLLM 0.28 to 0.33).

    LARDER='log:/data/kv?capacity=200GiB' vllm serve MODEL

is all of it where no `--kv-transfer-config` is given. With one, larder is a tier in it:

    {"kv_connector": "OffloadingConnector", "kv_role": "kv_both", "kv_connector_extra_config": {
       "spec_name": "TieringOffloadingSpec", "cpu_bytes_to_use": 34359738368,
       "secondary_tiers": [{"type": "LarderTier", "module_path": "larder.vllm",
                            "url": "log:/data/kv?capacity=200GiB", "revision": "0e9e39f"}]}}

docs/vllm.md covers the parameters, sizing and what to watch. vLLM imports this module in its API
server and its workers, too: it starts nothing, and imports vLLM only for `LarderTier`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from larder.vllm._tier import LarderTier as LarderTier

__all__ = ["LarderTier", "register"]


def register() -> None:
    """The entry point of the group `vllm.general_plugins`: without the variable LARDER it does
    nothing. Never raises."""
    from larder.vllm import _plugin

    _plugin.register()


def __getattr__(name: str) -> Any:
    if name != "LarderTier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module("larder.vllm._tier")
    except ImportError as error:
        raise ImportError(
            f"larder.vllm.LarderTier needs vLLM 0.28 or later ({error}). "
            "Install one with: pip install -U 'vllm>=0.28'"
        ) from error
    return module.LarderTier
