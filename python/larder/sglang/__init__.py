"""The door for SGLang: larder as HiCache's storage, so that prefixes survive restarts and memory.

    LARDER='log:/data/kv?capacity=500GiB' sglang serve MODEL

    sglang serve MODEL --enable-hierarchical-cache --hicache-storage-backend dynamic \\
        --hicache-storage-backend-extra-config '{"backend_name": "larder", "interface_v1": 1,
            "module_path": "larder.sglang", "class_name": "LarderHiCache",
            "url": "log:/data/kv?capacity=500GiB", "revision": "0e9e39f"}'

docs/sglang.md says which stores suit, what is found again, and what happens when a disk fails.
SGLang itself is imported for `LarderHiCache` only, when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from larder._doors import installed

if TYPE_CHECKING:
    from larder.sglang._backend import LarderHiCache

__all__ = ["LarderHiCache"]


def __getattr__(name: str) -> Any:
    if name != "LarderHiCache":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}._backend")
    except ImportError as error:
        raise ImportError(_remedy(error)) from error
    return module.LarderHiCache


def _remedy(error: ImportError) -> str:
    return (
        "larder.sglang.LarderHiCache needs an SGLang whose HiCache has dynamic storage backends "
        f"(tested: 0.5.23), and {installed('sglang', 'SGLang')} ({error}). Install one with: pip install 'sglang>=0.5.23'"
    )
