"""The entry point `sglang.srt.plugins`: with `LARDER` in the environment, and no storage configured,
SGLang keeps its prefixes in that store."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from typing import Any

from larder import _doors, _spec
from larder.sglang import _options
from larder.sglang._options import VARIABLE

_log = logging.getLogger("larder.sglang")

_TARGET = "sglang.srt.server_args.ServerArgs.resolve_once"

# Arguments beside which HiCache cannot run, or has no dynamic backend, and their value without effect.
_EXCLUDING = {
    "disable_radix_cache": False,
    "radix_cache_backend": None,
    "enable_lmcache": False,
    "enable_unified_cache_external_linker": False,
    "enable_hisparse": False,
    "disaggregation_mode": "null",
    "dcp_size": 1,
}


def register() -> None:
    """SGLang calls it at the start of each of its processes. Never raises."""
    if not os.environ.get(VARIABLE):
        return
    try:
        from sglang.srt.plugins.hook_registry import HookRegistry, HookType

        HookRegistry.register(_TARGET, fill, HookType.AROUND)
    except Exception as error:
        _log.error("%s", _without(f"this SGLang has no hooks that larder knows ({error!r})"))


def fill(resolve: Callable[..., Any], arguments: Any, *args: Any, **kwargs: Any) -> Any:
    """Wraps `ServerArgs.resolve_once()`: adds larder if nothing prevents it. If SGLang refuses the
    result, it resolves again without larder."""
    filling = _filling(arguments)
    if not filling:
        return resolve(arguments, *args, **kwargs)
    fields = {name: getattr(arguments, name) for name in filling}
    notes = dict(arguments.__dict__)  # The resolution changes it and could not be repeated.
    try:
        for name, value in filling.items():
            setattr(arguments, name, value)
        resolved = resolve(arguments, *args, **kwargs)
    except Exception as error:
        arguments.__dict__.clear()
        arguments.__dict__.update(notes)
        for name, value in fields.items():
            setattr(arguments, name, value)
        resolved = resolve(arguments, *args, **kwargs)  # May fail without larder, too.
        _log.error("%s", _without(f"SGLang refuses it with these arguments: {error}"))
        return resolved
    _log.info("%s: HiCache keeps prefixes in larder's store; docs/sglang.md", VARIABLE)
    return resolved


def _filling(arguments: Any) -> dict[str, Any]:
    """The fields to set; none where a configuration is there, or larder is of no use."""
    url = os.environ.get(VARIABLE, "")
    try:
        if not url or getattr(arguments, "_resolution_finished", False):
            return {}
        given = [
            name
            for name in ("hicache_storage_backend", "hicache_storage_backend_extra_config")
            if getattr(arguments, name) is not None
        ]
        if given:
            _log.info("%s is not used: %s is given, and wins", VARIABLE, given[0])
            return {}
        for name, neutral in _EXCLUDING.items():
            value = getattr(arguments, name, neutral)
            if value != neutral:
                _log.error("%s", _without(f"{name}={value!r} and HiCache exclude each other"))
                return {}
        # An unusable store would cost HiCache's memory for nothing.
        options = _options.Options(url)
        pp_size = getattr(arguments, "pp_size", 1)
        rank = "tp0" if pp_size == 1 else "tp0-pp0"
        why = options.unfit(options.kind(rank), getattr(arguments, "tp_size", 1) * pp_size)
        if why:
            raise ValueError(why)
        _doors.open_once(_spec.text_of(options.spec(rank), {}, "url"))
    except Exception as error:
        _log.error("%s", _without(str(error)))
        return {}
    extra = {
        "backend_name": "larder",
        "module_path": "larder.sglang",
        "class_name": "LarderHiCache",
        "interface_v1": 1,
        # No url, which may hold a password, and SGLang logs its arguments: the ranks inherit the variable.
    }
    return {
        "enable_hierarchical_cache": True,
        "hicache_storage_backend": "dynamic",
        "hicache_storage_backend_extra_config": json.dumps(extra),
    }


def _without(why: str) -> str:
    return f"{VARIABLE} is set and not used: {why}. SGLang runs as without larder"
