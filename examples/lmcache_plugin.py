"""An LMCache server that keeps its KV cache in larder, by the form `plugin`: larder's own adapter,
which also lists what is stored over HTTP and knows after a restart what it has.

    python examples/lmcache_plugin.py [DIRECTORY]

Needs LMCache 0.5.6, no GPU: it starts a server with lmcache_plugin.json (its capacity made small),
plays a serving engine that stores a prompt's chunks, starts the server anew, loads them from the
disk and lists them. In production an engine with LMCache's connector takes the place of `Engine`.
"""

import pathlib
import sys
import tempfile

from lmcache_example import run

if __name__ == "__main__":
    directory = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="larder-")
    run(pathlib.Path(__file__).with_suffix(".json"), directory)
