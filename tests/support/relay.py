"""A TCP relay between driver and server that counts round trips, cuts the wire, holds it up, and holds
back answers.

Must never know a protocol: a round trip is the client speaking after the server spoke.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections import deque
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
        self._round_trips = 0
        self.connections = 0
        self.cut_when: Callable[[bytes], bool] = lambda data: False
        """Asked of whatever a client sends: True sends it on and then cuts that connection, so that
        the answer is lost."""
        self.hold_when: Callable[[bytes], bool] = lambda data: False
        """Asked of whatever a client sends: after True, what its server says is held back until
        `release()`."""
        self.sent: list[bytes] = []
        """What clients have sent while something was held back."""
        self._settling: list[threading.Event] = []
        self._held: dict[socket.socket, bytes] = {}  # by server
        self._selector = selectors.DefaultSelector()
        self._partner: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._asking: set[socket.socket] = set()  # clients that spoke last
        self._wake, self._woken = socket.socketpair()
        self._orders: deque[Callable[[], object]] = deque()
        self._free = threading.Event()
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
        self.let_go()
        self._wake.close()
        self._thread.join()

    @property
    def round_trips(self) -> int:
        """How many there were, up to what has been sent by now; waits for the answers to that."""
        if self._thread.is_alive():
            settled = threading.Event()
            self._settling.append(settled)
            self._wake.send(b"?")
            settled.wait()
        return self._round_trips

    def release(self) -> None:
        """Let what was held back go on, and hold nothing any more."""
        self.hold_when = lambda data: False
        self._wake.send(b"!")

    # -- faults: done by the relay's own thread, soon ----------------------------------------------

    def reset_all(self) -> None:
        """Every connection ends, for the client without a word of goodbye (TCP's RST)."""
        self._tell(self._reset_all)

    def hold_up(self, seconds: float) -> None:
        """For so long nothing comes through; it all does afterwards."""
        self._tell(lambda: time.sleep(seconds))

    def hold(self) -> None:
        """Nothing comes through, not even an answer to who connects, until `let_go`: a network that
        loses every packet, and TCP that goes on trying."""
        self._free.clear()
        held = threading.Event()
        self._tell(lambda: (held.set(), self._free.wait()))
        held.wait()

    def let_go(self) -> None:
        """What was held comes through."""
        self._free.set()

    def lead_to(self, host: str, port: int) -> None:
        """Who connects from now on reaches another server; what is there is cut."""
        self._target = (host, port)
        self.reset_all()

    def _tell(self, order: Callable[[], object]) -> None:
        self._orders.append(order)
        self._wake.send(b".")

    def _reset_all(self) -> None:
        for client in tuple(self._clients):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._cut(client)

    # -- the relay's thread ------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            ready = self._selector.select(0 if self._settling and not self._asking else None)
            if not ready:
                self._settling.pop().set()
            for key, _ in ready:
                if key.fileobj is self._woken:
                    word = self._woken.recv(1)
                    if not word:
                        self._end()
                        return
                    if word == b"!":
                        self._pass_on_held()
                    elif word == b".":
                        self._orders.popleft()()
                elif key.fileobj is self._listener:
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
                self._hold(source, partner, data)
                if source in self._held:
                    self._held[source] += data
                else:
                    partner.sendall(data)
        except OSError:
            data = b""
        if not data or (source in self._clients and self.cut_when(data)):
            self._cut(source)

    def _hold(self, source: socket.socket, partner: socket.socket, data: bytes) -> None:
        if source not in self._clients:
            return
        if self._held:
            self.sent.append(data)
        if self.hold_when(data):
            self._held.setdefault(partner, b"")

    def _pass_on_held(self) -> None:
        held, self._held = self._held, {}
        for server, data in held.items():
            if server in self._partner:
                self._partner[server].sendall(data)

    def _count(self, source: socket.socket, partner: socket.socket) -> None:
        if source in self._clients and source not in self._asking:
            self._asking.add(source)
            self._round_trips += 1
        elif source not in self._clients:
            self._asking.discard(partner)

    def _cut(self, one: socket.socket) -> None:
        for end in (one, self._partner[one]):
            self._selector.unregister(end)
            del self._partner[end]
            self._clients.discard(end)
            self._asking.discard(end)
            self._held.pop(end, None)
            with suppress(OSError):
                end.close()

    def _end(self) -> None:
        while self._partner:
            self._cut(next(iter(self._partner)))
        for end in (self._listener, self._woken):
            end.close()
        self._selector.close()
