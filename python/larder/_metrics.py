"""The numbers of a process's open stores over HTTP, for Prometheus, `larder stats` and `larder top`."""

from __future__ import annotations

import contextlib
import errno
import http.server
import logging
import os
import pathlib
import socket
import socketserver
import threading
import types
import weakref
from typing import TYPE_CHECKING

from larder import _larder

if TYPE_CHECKING:
    from typing_extensions import Self

_log = logging.getLogger("larder")

ENVIRONMENT_VARIABLE = "LARDER_METRICS"
_REQUEST_TIMEOUT_SECONDS = 10.0
_WANTED = (
    "wanted HOST:PORT, PORT or unix:PATH as a str, such as '127.0.0.1:9187' or "
    "'unix:/run/larder.sock'"
)


def metrics_text() -> str:
    """The numbers of every open store of this process, in Prometheus' text format; docs/metrics.md
    explains them. No I/O."""
    return _larder.metrics_text()


def serve_metrics(address: str = "127.0.0.1:9187") -> MetricsServer:
    """Answers `GET /metrics` with `metrics_text()`, from a thread of its own, until it is closed or
    the process ends.

        larder.serve_metrics("127.0.0.1:9187")            # For Prometheus, and
        larder.serve_metrics("unix:/run/larder-{pid}.sock")  # for `larder top /run/larder-123.sock`.

    `address` is `HOST:PORT`, `PORT` (of 127.0.0.1; 0 takes a free one), or `unix:PATH`, a socket
    that only its owner can connect to. `{pid}` becomes the process's number. The environment
    variable LARDER_METRICS does the same without a change of the program, when its first store is
    opened, and `larder.open(spec, metrics_address=ADDRESS)` does it until that store is closed.

    Raises `TypeError` and `ValueError` for an invalid address, and `OSError` if it is not
    available. A forked child does not serve.
    """
    return MetricsServer(address)


class MetricsServer:
    """Made by `serve_metrics()`. Threads: any."""

    def __init__(self, address: str) -> None:
        if not isinstance(address, str):
            raise TypeError(f"address: {address!r}, {_WANTED}")
        self._path: str | None = None
        wanted = address.replace("{pid}", str(os.getpid()))
        try:
            self._server = self._listen(wanted)
        except OSError as error:
            raise _named(error, wanted) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="larder-metrics", daemon=True
        )
        self._thread.start()
        _servers.add(self)

    @property
    def address(self) -> str:
        """The address it listens at, as `serve_metrics()` takes it: with the actual port."""
        if self._path is not None:
            return f"unix:{self._path}"
        address = self._server.server_address
        host, port = str(address[0]), address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Idempotent."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self._path is not None:
            pathlib.Path(self._path).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<larder.MetricsServer {self.address!r}>"

    def _listen(self, address: str) -> socketserver.TCPServer:
        if address.startswith("unix:") or address.startswith("/"):
            self._path = address.removeprefix("unix:")
            return _UnixServer(self._path, _Handler)
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
        if not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"address: {address!r}, {_WANTED}")
        return (_TcpServer6 if ":" in host else _TcpServer)((host, int(port)), _Handler)


_REMEDIES = {
    errno.EADDRINUSE: "another store, process or program listens there; take another port (0 is a free "
    "one) or path, or let the stores of one process share an address with metrics_address=",
    errno.EADDRNOTAVAIL: "this machine has no such address; 127.0.0.1 is this machine alone, 0.0.0.0 all "
    "of its addresses",
    errno.EACCES: "this user may not; take a port from 1024 on, or a path in a directory of its own",
    errno.ENOENT: "make the directory of the socket first",
}


def _named(error: OSError, address: str) -> OSError:
    """The same error, with its subject and the remedy."""
    remedy = _REMEDIES.get(error.errno or 0, "take another address")
    text = f"metrics address {address!r}: {error.strerror or error}: {remedy}"
    return type(error)(text) if error.errno is None else type(error)(error.errno, text)


class _TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


class _TcpServer6(_TcpServer):
    address_family = socket.AF_INET6


class _UnixServer(_TcpServer):
    address_family = socket.AF_UNIX

    def __init__(self, path: str, handler: type[socketserver.BaseRequestHandler]) -> None:
        _remove_if_left_over(path)
        super().__init__(path, handler)  # type: ignore[arg-type]  # A path is AF_UNIX's address.

    def server_bind(self) -> None:
        os.fchmod(self.socket.fileno(), 0o600)  # Linux gives it to the file that bind() makes.
        super().server_bind()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        request, _ = super().get_request()
        return request, ("unix", 0)  # A handler wants the two.


def _remove_if_left_over(path: str) -> None:
    """A socket's file remains when its process is killed; no process listens behind it then."""
    if not pathlib.Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            pathlib.Path(path).unlink(missing_ok=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _REQUEST_TIMEOUT_SECONDS
    server_version = f"larder/{_larder.version}"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] not in ("/metrics", "/"):
            self.send_error(404, explain="There is only /metrics.")
            return
        text = metrics_text().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(text)

    def log_message(self, format: str, *arguments: object) -> None:
        _log.debug("metrics: " + format, *arguments)


_servers: weakref.WeakSet[MetricsServer] = weakref.WeakSet()
_lock = threading.Lock()
_asked: list[MetricsServer | None] = []
_shared: dict[str, list[Lease]] = {}  # By address. Behind _lock.


def serve_if_asked() -> None:
    """Serves as LARDER_METRICS asks, once in a process. A store is opened all the same where that
    cannot be had."""
    address = os.environ.get(ENVIRONMENT_VARIABLE)
    if not address or _asked:
        return
    with _lock:
        if _asked:
            return
        try:
            _asked.append(serve_metrics(address))
        except (OSError, ValueError) as error:
            _asked.append(None)
            _log.warning("%s=%s: no metrics are served: %s", ENVIRONMENT_VARIABLE, address, error)


class Lease:
    """A store's part in the server at an address: the first one starts it, and the last one that ends
    closes it. Threads: any."""

    def __init__(self, address: str) -> None:
        if not isinstance(address, str):
            raise TypeError(f"metrics_address: {address!r}, {_WANTED}")
        self._key = address
        with _lock:
            users = _shared.get(address)
            self.server: MetricsServer = users[0].server if users else serve_metrics(address)
            _shared.setdefault(address, []).append(self)

    def end(self) -> None:
        """Idempotent."""
        with _lock:
            users = _shared.get(self._key, [])
            if self not in users:  # Ended before, or the parent's, in a forked child.
                return
            users.remove(self)
            if users:
                return
            del _shared[self._key]
            self.server.close()

    def end_with(self, store: object) -> None:
        """Also when the store is freed without being closed; in a thread, because the garbage
        collector may run in any, the server's own included."""
        freed = weakref.finalize(store, lambda: threading.Thread(target=self.end).start())
        freed.atexit = False


def lease(address: str | None) -> Lease | None:
    """Serves as `metrics_address=` asks."""
    return None if address is None else Lease(address)


def _end_in_child() -> None:
    """The parent serves; a child that kept its sockets would keep its addresses, too. Another thread
    of the parent may have held the lock, and is not here to give it back."""
    global _lock
    _lock = threading.Lock()
    for server in _servers:
        server._server.socket.close()
    _servers.clear()
    _asked.clear()
    _shared.clear()


os.register_at_fork(after_in_child=_end_in_child)
