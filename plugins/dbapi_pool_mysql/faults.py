"""What the errors of MySQL, MariaDB and their drivers mean, by code first and by text last.

Pure functions over an exception; must never touch a connection. Codes below 2000 and above 2999 are
the server's (https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html,
https://mariadb.com/kb/en/mariadb-error-code-reference/), those between the client library's
(https://dev.mysql.com/doc/mysql-errors/8.4/en/client-error-reference.html).
"""

from __future__ import annotations

UNKNOWN_COMMAND = 1047

LOST = frozenset({
    1053,  # ER_SERVER_SHUTDOWN
    1077, 1079,  # ER_NORMAL_SHUTDOWN, ER_SHUTDOWN_COMPLETE
    1152, 1184,  # ER_ABORTING_CONNECTION, ER_NEW_ABORTING_CONNECTION
    1153,  # ER_NET_PACKET_TOO_LARGE: the server ends the session too
    1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161,  # ER_NET_...
    1927, 3169,  # ER_CONNECTION_KILLED (MariaDB), ER_SESSION_WAS_KILLED
    2006, 2013,  # CR_SERVER_GONE_ERROR, CR_SERVER_LOST
    2014, 2027,  # CR_COMMANDS_OUT_OF_SYNC, CR_MALFORMED_PACKET: nothing can be read any more
    2026,  # CR_SSL_CONNECTION_ERROR: a session that was killed, under TLS
    2045, 2048, 2055,  # mysql-connector: no socket, invalid handle, lost
    4031,  # ER_CLIENT_INTERACTION_TIMEOUT
})  # fmt: skip
"""After these the session is gone, or cannot be spoken with any more."""

_LOST_TEXTS = (
    "mysql connection not available",
    "connection to mysql is not available",
    "already closed",
    "packet sequence number wrong",
    "server has gone away",
    "lost connection to",
)

FULL = frozenset({
    1040,  # ER_CON_COUNT_ERROR: too many connections
    1203, 1226,  # ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED
})  # fmt: skip

_TRY_AGAIN = FULL | frozenset({
    1129,  # ER_HOST_IS_BLOCKED
    2002, 2003,  # CR_CONNECTION_ERROR, CR_CONN_HOST_ERROR: refused, no route, timed out
    2012,  # CR_SERVER_HANDSHAKE_ERR
    9001, 9002,  # ProxySQL: no server could be reached in time
})  # fmt: skip

RETRYABLE = frozenset({
    1020,  # ER_CHECKREAD: the row changed since it was read (MariaDB, innodb_snapshot_isolation)
    1205,  # ER_LOCK_WAIT_TIMEOUT; the statement alone is rolled back
    1213,  # ER_LOCK_DEADLOCK; also a conflict found by Galera
    1614,  # ER_XA_RBDEADLOCK
    3101,  # ER_TRANSACTION_ROLLBACK_DURING_COMMIT: a conflict found by Group Replication
    3572,  # ER_LOCK_NOWAIT
})  # fmt: skip
"""A second try of the transaction may succeed."""

_ROLLED_BACK = frozenset({1020, 1213, 1614})
"""Not 1205: https://dev.mysql.com/doc/refman/8.4/en/innodb-error-handling.html"""

_SHUTTING_DOWN = frozenset({1053, 1077, 1079})
_REFUSED = frozenset({2002, 2003})


def code_of(exc: BaseException) -> int | None:
    """The number of the error; None if it is none of MySQL's.

    PyMySQL and mysqlclient have it as first argument, mysql-connector and mariadb as `errno`, also
    on errors that are not PEP 249's (`_mysql_connector.MySQLInterfaceError`).
    """
    if isinstance(exc, OSError):  # its errno is the operating system's
        return None
    for code in (getattr(exc, "errno", None), *exc.args[:1]):
        if isinstance(code, int) and not isinstance(code, bool) and code > 0:
            return code
    return None


def is_rolled_back(exc: BaseException) -> bool:
    """Whether the server has rolled back the whole transaction, not the statement alone."""
    return code_of(exc) in _ROLLED_BACK


def is_lost(exc: BaseException) -> bool:
    """Whether it says that the connection is gone."""
    if isinstance(exc, (ConnectionError, EOFError)):
        return True
    code = code_of(exc)
    if code is not None:
        return code in LOST
    text = str(exc).lower()
    return any(words in text for words in _LOST_TEXTS)


def is_transient(exc: BaseException) -> bool:
    """Whether another try to connect may succeed before long.

    Not a certificate that does not verify, nor a host that nobody knows.
    """
    if isinstance(exc, (ConnectionError, TimeoutError)):
        return True
    if _is_certificate(exc) or _is_unknown_host(exc):
        return False
    code = code_of(exc)
    return code is not None and (code in _TRY_AGAIN or code in LOST)


def _is_certificate(exc: BaseException) -> bool:
    # The second is what a server says of a client's: https://www.rfc-editor.org/rfc/rfc8446#section-6.2
    text = str(exc).lower()
    return "certificate" in text or "unknown ca" in text


def _is_unknown_host(exc: BaseException) -> bool:
    # PyMySQL and mysql-connector report it with the code for any failure to connect.
    text = str(exc).lower()
    return "name or service not known" in text or "nodename nor servname" in text


def is_read_only(exc: BaseException) -> bool:
    """Whether the server refuses to write, which the borrower did not ask for.

    Not 1792: the borrower's own READ ONLY transaction raises that. 1290 has other reasons too
    (`--secure-file-priv`). 1047 is what Galera says on a node that left its cluster.
    """
    code = code_of(exc)
    text = str(exc).lower()
    if code == 1290:
        return "read-only" in text or "read_only" in text
    return code == 1836 or (code == UNKNOWN_COMMAND and "wsrep" in text)


def is_server_wide(exc: BaseException) -> bool:
    """Whether the server ends, or has ended, all its sessions: it shuts down, or nobody listens."""
    code = code_of(exc)
    if code in _REFUSED:
        return not _is_certificate(exc)
    return code in _SHUTTING_DOWN
