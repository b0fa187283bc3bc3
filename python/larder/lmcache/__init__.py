"""The doors for LMCache: larder as its L2, by one line of configuration and no change to LMCache.

    --l2-adapter '{"type": "native_plugin",
                   "module_path": "larder.lmcache", "class_name": "Connector",
                   "adapter_params": {"url": "log:/data/kv?capacity=500GiB"}}'
    --l2-adapter '{"type": "plugin",
                   "module_path": "larder.lmcache", "class_name": "L2Adapter",
                   "adapter_params": {"url": "log:/data/kv?capacity=500GiB"}}'

and, of LMCache that runs within the engine (`LMCacheConnectorV1`), as its remote store:

    remote_storage_plugins: ["larder"]
    extra_config:
      remote_storage_plugin.larder.module_path: larder.lmcache
      remote_storage_plugin.larder.class_name: RemoteConnector
      remote_storage_plugin.larder.url: log:/data/kv?capacity=500GiB

docs/lmcache.md says which form to use, and covers sizing, migration and the meaning of the metrics.
LMCache itself is imported for `L2Adapter`, `L2AdapterConfig`, `RemoteConnector` and `LoadPolicy`
only, when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from larder._doors import installed
from larder.lmcache.client import ConnectorClient
from larder.lmcache.client_base import ConnectorClientBase
from larder.lmcache.connector import Connector

if TYPE_CHECKING:
    from larder.lmcache.l2_adapter import L2Adapter as L2Adapter
    from larder.lmcache.l2_config import L2AdapterConfig as L2AdapterConfig
    from larder.lmcache.load_policy import LoadPolicy as LoadPolicy
    from larder.lmcache.remote import RemoteConnector as RemoteConnector

__all__ = ["Connector", "ConnectorClient", "ConnectorClientBase"]


# They subclass LMCache's own classes, and their importers have LMCache.
_OF_LMCACHE = {
    "L2Adapter": "l2_adapter",
    "L2AdapterConfig": "l2_config",
    "LoadPolicy": "load_policy",
    "RemoteConnector": "remote",
}


def __getattr__(name: str) -> Any:
    if name not in _OF_LMCACHE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_OF_LMCACHE[name]}")
    except ImportError as error:
        raise ImportError(_remedy(name, error)) from error
    return getattr(module, name)


def _remedy(name: str, error: ImportError) -> str:
    found = installed("lmcache", "LMCache")
    if name == "LoadPolicy":
        return (
            f"larder.lmcache.LoadPolicy needs LMCache 0.5.7 or later, whose server has "
            f"--kv-load-policy, and {found} ({error}). Install it with: pip install -U 'lmcache>=0.5.7'"
        )
    return (
        f"larder.lmcache.{name} needs LMCache 0.5.0 or later (tested up to 0.5.7rc2), and {found} "
        f"({error}). Install one with: pip install -U 'lmcache>=0.5'; or take the form "
        'native_plugin with "class_name": "Connector", which works from LMCache 0.4.4 on'
    )
