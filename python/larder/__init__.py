"""The storage tier for LLM KV caches, from Python.

>>> import larder
>>> with larder.open("memory:") as store:
...     store.set_many(["a", "b"], [b"one", b"two"]).stored
...     store.set("c", b"three")
...     store.get("a"), "x" in store
...     store.exists(["a", "x"])
[True, True]
True
(b'one', False)
[True, False]

`larder.open(spec)` gives a `Store`; what a spec is, `larder connectors` on the command line tells.
`larder.aio` (to be imported) is the same for asyncio. `larder.Client` is for engines: batches that are
submitted and drained, and never waited for.
`larder.lmcache` has the doors for LMCache, `larder.sglang` the one for SGLang, `larder.hf` the one
for transformers.
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
