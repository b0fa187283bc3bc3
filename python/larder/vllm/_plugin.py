"""LARDER=SPEC and no flag: fills vLLM's KV transfer configuration when none is given.

vLLM calls the entry point in every process before it makes its configuration. It changes
`EngineArgs.create_engine_config`: the variable's tier takes the place of a missing configuration;
on any error vLLM's own method runs as if larder were not installed.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from typing import Any

from larder import _doors, _spec
from larder._doors import printable
from larder.vllm._chunks import Timeouts
from larder.vllm._tally import log

SPEC = "LARDER"
SETTINGS = "LARDER_VLLM"
# The configuration that this process made of both, for its children: vLLM's API servers make it
# again, when an engine may already have the store open.
_MADE = "_LARDER_VLLM_MADE"

_MARK = "_filled_by_larder"
_CPU_BYTES_MIN = 64 << 20
# The tier's parameters that do not name its store.
_OF_TIER = frozenset(
    {"type", "module_path", "revision", "enable_kv_events", "locality", "backpressure"}
    | {f"{name}_timeout" for name in Timeouts._fields}
)

_told: set[str] = set()


class _NotHere(Exception):
    """Why larder is left out, for a person."""


def register() -> None:
    if not os.environ.get(SPEC):
        return
    try:
        _change_engine_args()
    except Exception as error:
        _say_once(f"this vLLM has no EngineArgs.create_engine_config ({error})")


def _change_engine_args() -> None:
    from vllm.engine.arg_utils import EngineArgs

    original = EngineArgs.create_engine_config
    if not hasattr(original, _MARK):
        EngineArgs.create_engine_config = _filling(original)


def _filling(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def create_engine_config(self: Any, *arguments: Any, **named: Any) -> Any:
        try:
            filled = _configuration(self)
        except Exception as error:
            filled = None
            _say_once(str(error) or repr(error))
        if filled is None:
            return original(self, *arguments, **named)
        self.kv_transfer_config = filled
        try:
            return original(self, *arguments, **named)
        except Exception as error:
            self.kv_transfer_config = None
            # Raises the same where larder is not to blame.
            made = original(self, *arguments, **named)
            _say_once(f"vLLM refuses KV offloading here: {error}")
            return made

    setattr(create_engine_config, _MARK, True)
    return create_engine_config


def _configuration(arguments: Any) -> Any:
    """A KVTransferConfig, or None if the user gave one. Raises for errors in it."""
    if getattr(arguments, "kv_transfer_config", None) is not None:
        return None
    if getattr(arguments, "kv_offloading_size", None) is not None:
        return None
    from vllm.config import KVTransferConfig

    extra = _made(arguments) or _make(arguments)
    filled = KVTransferConfig(
        kv_connector="OffloadingConnector", kv_role="kv_both", kv_connector_extra_config=extra
    )
    log.info(
        "larder: %s is set and no KV transfer is configured: %d MiB of the host's memory before it",
        SPEC,
        int(extra["cpu_bytes_to_use"]) >> 20,
    )
    return filled


def _made(arguments: Any) -> Any:
    """The configuration that the parent process made of the same variables and revision."""
    known = json.loads(os.environ.get(_MADE) or "{}")
    return known.get("extra") if known.get("of") == _made_of(arguments) else None


def _make(arguments: Any) -> dict[str, Any]:
    extra = _extra_config(arguments, _settings())
    _check_platform(extra)
    _check_store(extra["secondary_tiers"][0])
    os.environ[_MADE] = json.dumps({"of": _made_of(arguments), "extra": extra})
    return extra


def _made_of(arguments: Any) -> list[Any]:
    revision = str(getattr(arguments, "revision", None) or "")
    return [os.environ[SPEC], os.environ.get(SETTINGS) or "{}", revision, _replicas_of(arguments)]


def _settings() -> dict[str, Any]:
    text = os.environ.get(SETTINGS) or "{}"
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise _NotHere(f"{SETTINGS} is no JSON ({error})") from None
    if not isinstance(settings, dict) or not isinstance(settings.get("tier", {}), dict):
        raise _NotHere(f'{SETTINGS}: wanted an object such as {{"cpu_bytes_to_use": 34359738368}}')
    return settings


def _extra_config(arguments: Any, settings: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in settings.items() if name != "tier"}
    tier = {
        "type": "LarderTier",
        "module_path": "larder.vllm",
        "url": os.environ[SPEC],
        "revision": str(getattr(arguments, "revision", None) or ""),
        **settings.get("tier", {}),
    }
    extra = {"spec_name": "TieringOffloadingSpec", "secondary_tiers": [tier], **given}
    if "cpu_bytes_to_use" not in extra:
        extra["cpu_bytes_to_use"] = _cpu_bytes(_replicas_of(arguments))
    return extra


def _replicas_of(arguments: Any) -> int:
    local = getattr(arguments, "data_parallel_size_local", None)
    return max(1, int(local or getattr(arguments, "data_parallel_size", None) or 1))


def _cpu_bytes(replicas: int) -> int:
    """A quarter of the free memory, and at most three quarters of the free space in /dev/shm, where
    vLLM allocates it."""
    with open("/proc/meminfo", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    free = int(fields["MemAvailable"].split()[0]) * 1024
    shared = os.statvfs("/dev/shm")
    room = shared.f_bavail * shared.f_frsize
    size = min(free // 4, room * 3 // 4) // replicas
    if size < _CPU_BYTES_MIN:
        raise _NotHere(
            f"{size >> 20} MiB of memory would be vLLM's host tier ({free >> 20} MiB are free, and "
            f"{room >> 20} MiB in /dev/shm); enlarge /dev/shm (docker: --shm-size), or give "
            f'{SETTINGS}=\'{{"cpu_bytes_to_use": BYTES}}\''
        )
    return size


def _check_platform(extra: dict[str, Any]) -> None:
    if "spec_module_path" in extra:
        return  # A spec of the user's own knows where it runs.
    from vllm.platforms import current_platform

    if not (current_platform.is_cuda_alike() or current_platform.is_xpu()):
        device = current_platform.device_name or "this device"
        raise _NotHere(f"vLLM has no KV offloading on {device}")


def _check_store(tier: dict[str, Any]) -> None:
    parameters = {name: value for name, value in tier.items() if name not in _OF_TIER}
    try:
        _doors.open_once(_spec.text_of(None, _spec.replaced(parameters, "{dp_rank}", "0")))
    except Exception as error:
        raise _NotHere(f"{SPEC}: {error}") from None


def _say_once(reason: str) -> None:
    if reason not in _told:
        _told.add(reason)
        log.warning("larder: the engine starts without it: %s", printable(reason))
