"""`serve()`: the dashboard of a process that has no web server, in a thread of its own.

Must never know what is shown.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
import threading
from collections.abc import Iterable
from socket import AF_INET, AF_INET6
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any
from weakref import WeakSet
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from .. import pools as all_pools
from .application import Environ, StartResponse, WSGIApplication, app
from .picture import Pools

log = logging.getLogger(__name__)

_PATIENCE = 10.0  # seconds for a browser to say what it wants
_LOOK = 0.1  # seconds until `close` is noticed


def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    pools: Pools = all_pools,
    quiet: bool = False,
) -> Server:
    """Serve the dashboard from a daemon thread until `close()` or the end of the process.

    `host`: by default only this machine reaches it. `port`: 0: any that is free; see `Server.url`.
    `token`, `pools`: as for `app`. `quiet`: do not print the address to stderr. Raises `OSError` if
    the address cannot be had, and what `app` raises.
    """
    server = Server(host, port, app(token=token, pools=pools))
    if not quiet:
        print(f"dbapi_pool: dashboard at {server.url}", file=sys.stderr, flush=True)
    return server


class Server:
    """A dashboard that is served. As a context manager it closes itself."""

    def __init__(self, host: str, port: int, application: WSGIApplication) -> None:
        self._host = host
        kind = _Server6 if ":" in host else _Server
        self._server = kind((host, port), _Handler)
        self._server.set_app(_for_hosts(application, host))
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(_LOOK,),
            name="dbapi-pool-dashboard",
            daemon=True,
        )
        self._thread.start()
        _servers.add(self)

    @property
    def port(self) -> int:
        """The port at which it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The page's address."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}/"

    def close(self) -> None:
        """Serve no more. Harmless the second time."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _after_fork(self) -> None:
        # Or the address would stay taken, by one who answers nobody, when the parent has ended.
        self._server.socket.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    address_family = AF_INET

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the name service for the machine's name.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A browser that went away, mostly; stderr is the program's.
        log.debug("the dashboard could not answer", exc_info=True)


class _Server6(_Server):
    address_family = AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: stderr is the program's."""


def _for_hosts(application: WSGIApplication, own: str) -> WSGIApplication:
    """Answers only who asks for this machine by number, as localhost, or by the name it was given.

    A page of another site whose name its owner lets lead here (DNS rebinding) asks by that name.
    """

    def guarded(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if _is_ours(str(environ.get("HTTP_HOST", "")), own):
            return application(environ, start_response)
        body = b"this dashboard is not known by that name\n"
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
        start_response("403 Forbidden", headers)
        return [body]

    return guarded


def _is_ours(host: str, own: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.lower().rstrip(".")
    if name in ("localhost", own.lower()):
        return True
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True


_servers: WeakSet[Server] = WeakSet()


def _in_child() -> None:
    for server in list(_servers):
        server._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
