"""`larder top` in a pseudo terminal, and the screen that a person would see."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path

LARDER = Path(sys.executable).parent / "larder"
DEADLINE_S = 120
LEAVE = b"\x1b[?25h\x1b[?1049l"  # The cursor is there again, and the screen from before.


class Top:
    """A running `larder top`, killed at the end."""

    def __init__(self, *arguments, rows=24, columns=80, **environment):
        self.fd, terminal = pty.openpty()
        self.resize(rows, columns, terminal)
        self.mode_before = termios.tcgetattr(terminal)
        self.terminal = terminal  # Kept open, so that its state can be read when top has gone.
        self.written = b""
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.fd)
            os.setsid()
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup had it ignored.
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            for standard in range(3):
                os.dup2(terminal, standard)
            settings = {"TERM": "xterm", "LANG": "C.UTF-8", "LC_ALL": "", **environment}
            words = [str(LARDER), "top", *map(str, arguments)]
            os.execve(LARDER, words, {**os.environ, **settings})

    def resize(self, rows, columns, fd=None):
        fcntl.ioctl(
            self.fd if fd is None else fd,
            termios.TIOCSWINSZ,
            struct.pack("4H", rows, columns, 0, 0),
        )

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def read(self, seconds):
        """Takes its output so far, and further output."""
        readable, _, _ = select.select([self.fd], [], [], seconds)
        if readable:
            self.written += os.read(self.fd, 1 << 16)

    def lines(self):
        """Those of the last whole picture."""
        whole = self.written.rpartition(b"\x1b[?2026l")[0].rpartition(b"\x1b[?2026h")[2]
        return re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", whole.decode()).replace("\r", "").split("\n")

    def wait_for(self, condition, what):
        """The last picture's lines when they are so."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition(self.lines()):
            assert time.monotonic() < deadline, f"{what}:\n" + "\n".join(self.lines())
            self.read(0.2)
        return self.lines()

    def end(self):
        """Its exit code, and whether the terminal is as before."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            self.read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            assert time.monotonic() < deadline, "it does not end"
        self.pid = 0
        while LEAVE not in self.written:
            assert time.monotonic() < deadline, self.written[-200:]
            self.read(0.2)
        is_as_before = termios.tcgetattr(self.terminal) == self.mode_before
        return os.waitstatus_to_exitcode(status), is_as_before

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pid:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self.fd)
        os.close(self.terminal)


def figure(lines, title, column):
    """The word behind the title of the last such line, counted from 0; "-" where there is none."""
    rows = [line.strip().removeprefix(title) for line in lines if line.strip().startswith(title)]
    return rows[-1].split()[column] if rows else "-"
