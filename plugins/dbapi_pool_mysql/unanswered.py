"""A ROLLBACK on a connection of PyMySQL that nobody waits for.

Its answer is read by whoever uses the connection next. PyMySQL asks what it has in `_result`, before
it sends anything, whether there is more to read: `Unanswered` stands there, and reads. So the answer
is read first, whatever is called, also by who has the driver's own connection, and no two commands
are ever under way, which not every proxy would bear. How far it has come is what PyMySQL's
`_next_seq_id` says anyway, so that the two cannot differ. Must never know a pool.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from . import sockets

PATIENCE = 1.0
"""Seconds after which a server that has not answered is held to be gone. One that took longer would
cost the next borrower as much, or for ever: a black hole."""

_COMMAND = b"\x09\x00\x00\x00\x03ROLLBACK"
"""Length, sequence number, COM_QUERY."""

_DOUBT, _SENT, _ANSWERED = 0, 1, 2
"""`_next_seq_id`: an interrupt that strikes between a step on the wire and the note of it leaves the
first, and the connection is not lent again."""

_OK = b"\x01\x00\x00\x00"
"""Sequence number, OK, no rows affected, nothing inserted. The status follows:
https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_ok_packet.html"""
_LEAST = 11
_MORE_RESULTS = 8


class Unanswered:
    """Stands for the result of the ROLLBACK."""

    __slots__ = ("_conn", "since")

    unbuffered_active = False
    insert_id = 0

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self.since = time.monotonic()

    @property
    def has_next(self) -> bool:
        """False, and the answer has been read."""
        if self._conn._next_seq_id == _SENT:
            self._conn._read_ok_packet()
        return False


def can_defer(kind: Any, own: Any) -> bool:
    """Whether connections of class `kind` can do it. `own`: PyMySQL's class."""
    command = getattr(own, "_execute_command", None)
    asks = getattr(getattr(command, "__code__", None), "co_names", ())
    return (
        sockets.TELLS_ENDS
        and {"_result", "unbuffered_active", "has_next", "_next_seq_id"} <= set(asks)
        and all(
            getattr(kind, name, kind) is getattr(own, name, None)  # not the user's own
            for name in ("_execute_command", "_read_ok_packet", "_write_bytes", "rollback")
        )
    )


def send(conn: Any) -> None:
    """Send the ROLLBACK. Raises as the driver does."""
    conn._result = Unanswered(conn)
    conn._next_seq_id = _DOUBT
    conn._write_bytes(_COMMAND)
    conn._next_seq_id = _SENT


def is_alive(conn: Any) -> bool:
    """As `Driver.is_alive`: reads the answer if it has come. Raises if the connection is closed."""
    sock = conn._sock
    events = sockets.events(sock.fileno())
    result = getattr(conn, "_result", None)
    if type(result) is not Unanswered:
        return not events
    if conn._next_seq_id == _SENT:
        if not events:
            return time.monotonic() - result.since < PATIENCE
        return events == select.POLLIN and _take(conn, sock)
    return conn._next_seq_id == _ANSWERED and not events


def _take(conn: Any, sock: Any) -> bool:
    """Read the answer, all of which must be there, and nothing else; whether it is."""
    conn._next_seq_id = _DOUBT
    data = _receive(sock)
    if len(data) < _LEAST or int.from_bytes(data[:3], "little") != len(data) - 4:
        return False
    if data[3:7] != _OK or data[7] & _MORE_RESULTS:
        return False
    conn.server_status = int.from_bytes(data[7:9], "little")
    conn._next_seq_id = _ANSWERED
    conn._result = None
    return True


def _receive(sock: Any) -> bytes:
    """What has come in; raises if nothing has (TLS: if less than a record has)."""
    if not hasattr(sock, "pending"):
        return bytes(sock.recv(256, socket.MSG_DONTWAIT))
    timeout = sock.gettimeout()  # TLS takes no flags
    sock.settimeout(0.0)
    try:
        return bytes(sock.recv(256))
    finally:
        sock.settimeout(timeout)
