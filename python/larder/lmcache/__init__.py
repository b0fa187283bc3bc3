"""The doors for LMCache: larder as its L2, by one line of configuration and no change to LMCache.

    --l2-adapter '{"type": "native_plugin",
                   "module_path": "larder.lmcache", "class_name": "Connector",
                   "adapter_params": {"url": "log:/data/kv?capacity=500GiB"}}'
    --l2-adapter '{"type": "plugin",
                   "module_path": "larder.lmcache", "class_name": "L2Adapter",
                   "adapter_params": {"url": "log:/data/kv?capacity=500GiB"}}'

docs/lmcache.md tells which form to take, sizing, migration and what the metrics mean. LMCache
itself is imported for `L2Adapter` and `L2AdapterConfig` only, when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from larder.lmcache.client import ConnectorClient
from larder.lmcache.client_base import ConnectorClientBase
from larder.lmcache.connector import Connector

if TYPE_CHECKING:
    from larder.lmcache.l2_adapter import L2Adapter as L2Adapter
    from larder.lmcache.l2_config import L2AdapterConfig as L2AdapterConfig

__all__ = ["Connector", "ConnectorClient", "ConnectorClientBase"]


def __getattr__(name: str) -> Any:
    # The two subclass LMCache's own classes, and whoever asks for them has LMCache.
    if name == "L2Adapter":
        from larder.lmcache.l2_adapter import L2Adapter

        return L2Adapter
    if name == "L2AdapterConfig":
        from larder.lmcache.l2_config import L2AdapterConfig

        return L2AdapterConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
