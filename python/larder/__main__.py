"""`python -m larder server`: the command `larder server`, with connectors written in Python.

docs/server.md ("Connectors in Python") says what they need.
"""

import atexit
import os
import signal
import sys

# Before the server has its handlers, and when the interpreter ends, ^C prints no traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from larder import _larder  # noqa: E402

if __name__ == "__main__":
    code = _larder.run_server(sys.argv[1:])
    # Everything has been stopped. A method that never returned was abandoned, with a thread that
    # must not run in an interpreter that is shutting down.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
