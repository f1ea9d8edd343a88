"""What can be done with a connection's socket from outside the driver.

Takes descriptors; must never know a driver. A descriptor must be asked for anew each time: a driver
may close its socket at any moment, and the number then be somebody else's.
"""

from __future__ import annotations

import select
import socket

__all__ = ["cut", "readable"]

if hasattr(select, "poll"):  # select.select() fails for descriptors from 1024 on
    _EVENTS = select.POLLIN | select.POLLPRI | getattr(select, "POLLRDHUP", 0)

    def readable(fd: int) -> bool:
        """Whether the kernel has anything to tell: data, end of file, an error. Never blocks."""
        poll = select.poll()
        poll.register(fd, _EVENTS)
        return bool(poll.poll(0))

else:  # Windows

    def readable(fd: int) -> bool:
        """Whether the kernel has anything to tell: data, end of file, an error. Never blocks."""
        return any(select.select([fd], [], [fd], 0))


def cut(fd: int) -> None:
    """End the conversation on a socket: whoever waits for an answer gets an end of file at once.

    Works below TLS, and never blocks. Raises `OSError` if there is no conversation.
    """
    # The address family plays no part in a shutdown.
    with socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM) as twin:
        twin.shutdown(socket.SHUT_RDWR)
