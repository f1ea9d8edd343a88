"""What can be learnt from, and done to, the socket under a driver's connection, by its descriptor.

It must never know a driver, nor keep a descriptor: a driver closes its own at any time, and the number
is then somebody else's.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from contextlib import suppress

TELLS_ENDS = hasattr(select, "poll") and hasattr(select, "POLLRDHUP")
"""Whether the end of a connection is seen also behind data that nobody has read."""

_POLLED = (
    select.POLLIN | select.POLLPRI | getattr(select, "POLLRDHUP", 0)
    if hasattr(select, "poll")
    else 0
)


def is_quiet(fd: int) -> bool:
    """Whether nothing has come in: no data, no end, no error. On an idle connection that means that
    the kernel knows nothing bad of it. Takes half a microsecond; raises `ValueError` or `OSError` for
    a descriptor that is none."""
    if not _POLLED:  # Windows
        return not select.select([fd], [], [], 0)[0]
    return not events(fd)


def events(fd: int) -> int:
    """What `poll` says of it: 0 if it is quiet, `POLLIN` alone if data has come in and nothing else.
    Not on Windows."""
    poll = select.poll()
    poll.register(fd, _POLLED)
    found = poll.poll(0)
    return found[0][1] if found else 0


def cut(fd: int) -> None:
    """End both directions of the connection, so that whoever is blocked on it fails at once."""
    # On a duplicate, since closing the object must not close the driver's own descriptor.
    with socket.socket(fileno=os.dup(fd)) as twin:
        twin.shutdown(socket.SHUT_RDWR)


class Twin:
    """A duplicate of a descriptor, for a driver that does not tell its own while it is in a call.

    It is closed with `close`, or when it is garbage.
    """

    def __init__(self, fd: int) -> None:
        # Guards the number, which somebody else gets once it is closed.
        self._lock = threading.Lock()
        self._fd = os.dup(fd)

    def cut(self) -> bool:
        """As the function; False if it was closed."""
        with self._lock:
            if self._fd < 0:
                return False
            cut(self._fd)
            return True

    def close(self) -> None:
        """Let go of the socket; harmless the second time."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def path(fd: int) -> str:
    """The path of a Unix socket."""
    with socket.socket(fileno=os.dup(fd)) as twin:
        return os.fsdecode(twin.getpeername())


def lead_nowhere(fd: int) -> None:
    """Let the descriptor lead to the null device in this process."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(null, fd)
    finally:
        os.close(null)


def be_prompt(sock: socket.socket) -> None:
    """TCP_NODELAY and SO_KEEPALIVE, where it is TCP: small packets are not held back, and a peer that
    vanished is noticed in the end."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):  # it has ended already; the first statement will say so
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
