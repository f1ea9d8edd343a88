"""A TCP relay between driver and server that counts round trips and can cut the wire.

Must never know a protocol: a round trip is the client speaking after the server spoke.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType


class Relay:
    """Listens on a free port of localhost and passes everything on; a context manager."""

    def __init__(self, host: str, port: int) -> None:
        """`host`, `port`: the server."""
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = "127.0.0.1"
        self.port: int = self._listener.getsockname()[1]
        self.round_trips = 0
        self.connections = 0
        self.cut_when: Callable[[bytes], bool] = lambda data: False
        """Asked of whatever a client sends: True sends it on and then cuts that connection, so that
        the answer is lost."""
        self._selector = selectors.DefaultSelector()
        self._partner: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._asking: set[socket.socket] = set()  # clients that spoke last
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._work, name="relay", daemon=True)

    def __enter__(self) -> Relay:
        for readable in (self._listener, self._woken):
            self._selector.register(readable, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wake.close()
        self._thread.join()

    def _work(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    self._end()
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._partner:
                    self._pass_on(key.fileobj)  # type: ignore[arg-type]

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        self.connections += 1
        self._clients.add(client)
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._partner[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        partner = self._partner[source]
        try:
            data = source.recv(1 << 16)
            if data:
                self._count(source, partner)
                partner.sendall(data)
        except OSError:
            data = b""
        if not data or (source in self._clients and self.cut_when(data)):
            self._cut(source)

    def _count(self, source: socket.socket, partner: socket.socket) -> None:
        if source in self._clients and source not in self._asking:
            self._asking.add(source)
            self.round_trips += 1
        elif source not in self._clients:
            self._asking.discard(partner)

    def _cut(self, one: socket.socket) -> None:
        for end in (one, self._partner[one]):
            self._selector.unregister(end)
            del self._partner[end]
            self._clients.discard(end)
            self._asking.discard(end)
            with suppress(OSError):
                end.close()

    def _end(self) -> None:
        while self._partner:
            self._cut(next(iter(self._partner)))
        for end in (self._listener, self._woken):
            end.close()
        self._selector.close()
