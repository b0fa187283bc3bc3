"""The storage tier for LLM KV caches, from Python.

>>> import larder
>>> with larder.open("memory:") as store:
...     store.set_many(["a", "b"], [b"one", b"two"]).stored
...     store.get("a")
...     store.exists(["a", "x"])
[True, True]
b'one'
[True, False]

`larder.open(spec)` gives a `Store`; what a spec is, `larder connectors` on the command line tells.
`larder.aio` (to be imported) is the same for asyncio.
`larder.lmcache.Connector` is the door for LMCache's `native_plugin`.
"""

from larder._larder import ClosedError, Error, ForkedError, OpenError, StuckError
from larder._larder import version as __version__
from larder._store import Outcomes, Report, Store, Stored, open

__all__ = [
    "ClosedError",
    "Error",
    "ForkedError",
    "OpenError",
    "Outcomes",
    "Report",
    "Store",
    "Stored",
    "StuckError",
    "__version__",
    "open",
]
