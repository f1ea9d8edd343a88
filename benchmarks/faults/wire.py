"""A TCP relay that can lie: it swallows, resets, half-closes, delays, refuses, and heals.

Must never know a protocol or a pool.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST
_FILLERS = 4


@dataclass(eq=False)
class Pair:
    """A client and the server that it was led to."""

    client: socket.socket
    server: socket.socket | None
    dead: bool = False
    """Whether what comes from either side is swallowed, for ever."""
    late: deque[tuple[float, socket.socket, bytes]] = field(default_factory=deque)
    """What is to be passed on, and when."""

    def ends(self) -> list[socket.socket]:
        """The sockets that there are."""
        return [end for end in (self.client, self.server) if end is not None]


class Wire:
    """Listens on a free port of localhost; a context manager. `target` may be changed."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self._listener: socket.socket | None = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.host = "127.0.0.1"
        self.port: int = self._listener.getsockname()[1]
        self.silent = False
        """Whether new clients are taken, and never answered."""
        self.delay = 0.0
        """Seconds by which everything is late."""
        self.cut_when: Callable[[bytes], bool] | None = None
        """Asked of what a client sends; True sends it on and cuts that client, answer and all. Once."""
        self._pairs: dict[socket.socket, Pair] = {}
        self._fillers: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        # Guards all of the above: faults are ordered from another thread. Re-entrant, as they use
        # each other.
        self._lock = threading.RLock()
        self._over = False
        self._thread = threading.Thread(target=self._work, name="wire", daemon=True)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- faults, and their ends --------------------------------------------------------------------

    def swallow(self) -> None:
        """What is connected now is dead without a word, and new clients are never answered."""
        with self._lock:
            self.silent = True
            for pair in self._all():
                pair.dead = True

    def reset(self) -> None:
        """Every client gets a reset."""
        with self._lock:
            for pair in self._all():
                self._end(pair, abruptly=True)

    def half_close(self) -> None:
        """Every client gets an end of file, and can go on sending."""
        with self._lock:
            for pair in self._all():
                pair.dead = True
                with contextlib.suppress(OSError):
                    pair.client.shutdown(socket.SHUT_WR)

    def refuse(self) -> None:
        """Nobody listens any more; what is connected is reset."""
        with self._lock:
            if self._listener is not None:
                self._selector.unregister(self._listener)
                self._listener.close()
                self._listener = None
            self.reset()

    def vanish(self) -> None:
        """As a host that is gone: not even the SYN of a new client is answered."""
        with self._lock:
            self.swallow()
            assert self._listener is not None
            self._selector.unregister(self._listener)
            self._listener.listen(0)
            for _ in range(_FILLERS):  # a full backlog makes the kernel drop what comes
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex((self.host, self.port))
                self._fillers.append(filler)

    def heal(self) -> None:
        """Serve new clients; what was dead stays dead."""
        with self._lock:
            self.silent, self.delay = False, 0.0
            # Of those who were taken and never answered some still wait, as they would behind a
            # firewall that lost them.
            if self._listener is None:
                self._listener = socket.create_server((self.host, self.port), backlog=64)
            else:
                self._listener.listen(64)
            for filler in self._fillers:
                filler.close()
            self._fillers.clear()
            with contextlib.suppress(KeyError):  # registered all along
                self._selector.register(self._listener, selectors.EVENT_READ)

    def close(self) -> None:
        """End everything: whoever waits gets an error."""
        with self._lock:
            self._over = True
            self.refuse()
            for filler in self._fillers:
                filler.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)
        self._selector.close()

    # -- passing on --------------------------------------------------------------------------------

    def _all(self) -> list[Pair]:
        return list({id(pair): pair for pair in self._pairs.values()}.values())

    def _work(self) -> None:
        while not self._over:
            ready = self._selector.select(0.005 if self.delay else 0.05)
            with self._lock:
                for key, _ in ready:
                    self._serve(key.fileobj)  # type: ignore[arg-type]
                self._send_late()

    def _serve(self, source: socket.socket) -> None:
        if source is self._listener:
            self._accept()
        elif source in self._pairs:
            self._read(source, self._pairs[source])

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
            server = None if self.silent else socket.create_connection(self.target, timeout=2)
        except OSError:
            with contextlib.suppress(OSError, UnboundLocalError):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
            return
        pair = Pair(client, server, dead=server is None)
        for end in pair.ends():
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A server that is frozen takes nothing, and must not hold up the rest.
            end.settimeout(1.0)
            self._pairs[end] = pair
            self._selector.register(end, selectors.EVENT_READ)

    def _read(self, source: socket.socket, pair: Pair) -> None:
        try:
            data = source.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._end(pair)
        elif pair.dead:
            return
        elif self.delay:
            pair.late.append((time.monotonic() + self.delay, source, data))
        else:
            self._pass_on(source, pair, data)

    def _pass_on(self, source: socket.socket, pair: Pair, data: bytes) -> None:
        partner = pair.server if source is pair.client else pair.client
        assert partner is not None
        cut = source is pair.client and self.cut_when is not None and self.cut_when(data)
        if cut:
            self.cut_when = None
            with contextlib.suppress(OSError):
                partner.sendall(data)
            # The server has it. An end in good order, lest it be thrown away unread.
            self._end(pair)
            return
        try:
            partner.sendall(data)
        except OSError:
            self._end(pair)

    def _send_late(self) -> None:
        now = time.monotonic()
        for pair in self._all():
            while pair.late and pair.late[0][0] <= now and pair.client in self._pairs:
                _, source, data = pair.late.popleft()
                self._pass_on(source, pair, data)

    def _end(self, pair: Pair, abruptly: bool = False) -> None:
        for end in pair.ends():
            if self._pairs.pop(end, None) is None:
                continue
            self._selector.unregister(end)
            with contextlib.suppress(OSError):
                if abruptly and end is pair.client:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.close()
