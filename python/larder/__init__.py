"""The storage tier for LLM KV caches, from Python.

>>> import larder
>>> with larder.open("memory:") as store:
...     store["a"] = b"one"
...     store.set_many(["b", "c"], [b"two", bytes(8)]).stored
...     store["a"], "x" in store, store.get("x")
...     store.exists(["a", "x"]), store.get_many(["b", "x"])
[True, True]
(b'one', False, None)
([True, False], [b'two', None])

`larder.open(spec)` opens a `Store`: on a directory with a capacity, or on any storage that the
command `larder connectors` lists.
`larder.aio` (import it by name) is the same for asyncio. `larder.Client` is for engines: batches
that are submitted and drained, and never waited for.
`larder.lmcache` has the doors for LMCache, `larder.vllm` and `larder.sglang` those for vLLM and
SGLang, `larder.hf` the one for transformers.
"""

from larder._client import Addresses, Client, Code, Completion, Failure
from larder._larder import (
    ClosedError,
    Error,
    ForkedError,
    OpenError,
    StuckError,
    UnsupportedError,
)
from larder._larder import version as __version__
from larder._metrics import MetricsServer, metrics_text, serve_metrics
from larder._store import (
    Hinted,
    Outcomes,
    Recent,
    Report,
    Store,
    Stored,
    WhatIf,
    WhatIfPoint,
    open,
)

__all__ = [
    "Addresses",
    "Client",
    "ClosedError",
    "Code",
    "Completion",
    "Error",
    "Failure",
    "ForkedError",
    "Hinted",
    "MetricsServer",
    "OpenError",
    "Outcomes",
    "Recent",
    "Report",
    "Store",
    "Stored",
    "StuckError",
    "UnsupportedError",
    "WhatIf",
    "WhatIfPoint",
    "__version__",
    "metrics_text",
    "open",
    "serve_metrics",
]
