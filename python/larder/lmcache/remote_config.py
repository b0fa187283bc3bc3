"""The fields of LMCache's configuration for a remote connector of larder, and its store."""

from __future__ import annotations

import importlib
from typing import Any

from larder import _larder, _spec
from larder._client import Client

# LMCache's own, for a configuration that does not tell them.
_BLOCKING_SECONDS = 10.0
_LOOKUP_SECONDS = 3.0


def parameters_of(config: Any, made: type, metadata: Any) -> dict[str, Any]:
    """The configuration of the one remote_storage_plugin that names this class."""
    extra = config.extra_config or {}
    names = [name for name in config.remote_storage_plugins or [] if _class_of(extra, name) is made]
    if len(names) != 1:
        found = f"several ({', '.join(sorted(names))})" if names else "none"
        raise ValueError(
            f"remote_storage_plugins: {found} with module_path {made.__module__!r} and class_name "
            f"{made.__name__!r}, wanted one; LMCache does not tell them apart. Two stores are one "
            "with a spec such as tiered:"
        )
    prefix = f"remote_storage_plugin.{names[0]}."
    parameters = {
        key[len(prefix) :]: _spec.replaced(value, "{worker_id}", str(metadata.worker_id))
        for key, value in extra.items()
        if key.startswith(prefix)
    }
    del parameters["module_path"], parameters["class_name"]
    if "url" not in parameters and "type" not in parameters:
        raise ValueError(
            f"extra_config: neither {prefix}url nor {prefix}type; wanted for example "
            f"{prefix}url: log:/data/kv?capacity=200GiB"
        )
    return parameters


def _class_of(extra: dict[str, Any], name: str) -> object:
    module = extra.get(f"remote_storage_plugin.{name}.module_path")
    class_name = extra.get(f"remote_storage_plugin.{name}.class_name")
    if not isinstance(module, str) or not isinstance(class_name, str):
        return None
    try:
        return getattr(importlib.import_module(module), class_name, None)
    except ImportError:
        return None


def time_outs(parameters: dict[str, Any], config: Any) -> tuple[float, float, float]:
    """For loads, stores and lookups. A little less than LMCache's time-out, so that an answer just
    before it is still used."""
    blocking = float(getattr(config, "blocking_timeout_secs", None) or _BLOCKING_SECONDS)
    lookup = float(getattr(config, "lookup_timeout_ms", None) or _LOOKUP_SECONDS * 1000) / 1000
    defaults = {
        "load_timeout": blocking * 0.8,
        "store_timeout": 60.0,
        "lookup_timeout": min(lookup, blocking) * 0.8,
    }
    load, store, lookup = (
        _larder.seconds(parameters.pop(name, None), name, default)
        for name, default in defaults.items()
    )
    return load, store, lookup


def open_store(parameters: dict[str, Any], metadata: Any) -> Client:
    try:
        return Client(parameters.pop("url", None), **parameters)
    except _larder.OpenError as error:
        if metadata.world_size == 1 or "in use" not in str(error):
            raise
        raise _larder.OpenError(
            f"{error}. Each of {metadata.world_size} workers needs a store of its own: put "
            "{worker_id} into the path, as in log:/data/kv/worker-{worker_id}"
        ) from error
