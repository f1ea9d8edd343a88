"""What PostgreSQL's errors mean. Pure functions over an exception; must never touch a connection.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html. libpq has none for an error of
connecting, nor for a connection that broke; there only the text tells.
"""

from __future__ import annotations

import re

# Serialization failure, deadlock, lock timeout.
RETRYABLE = frozenset({"40001", "40P01", "55P03"})

READ_ONLY = "25006"

# The administrator ends it, another process crashed, it is starting up.
_SERVER_WIDE = frozenset({"57P01", "57P02", "57P03"})
_SERVER_WIDE_TEXTS = ("the database system is", "terminating connection", "Connection refused")

# How the errors of libpq and of the drivers begin when there is no connection any more.
_LOST_TEXTS = (
    "server closed the connection unexpectedly", "SSL connection has been closed unexpectedly",
    "SSL SYSCALL error", "SSL error", "could not receive data from server",
    "could not send data to server", "no connection to the server", "terminating connection",
    "consuming input failed", "sending query failed: no connection", "flushing failed",
    "connection already closed", "the connection is closed", "the connection is lost",
)  # fmt: skip

# Of what a server, or a pooler before it, says when it refuses: that which may be otherwise soon.
_FULL = (
    "too many", "remaining connection slots", "no more connections allowed",
    "client connections exceeded",
)  # fmt: skip
_PASSING_REFUSALS = (
    *_FULL,
    "the database system is", "terminating connection",
    "canceling authentication due to timeout", "out of memory",
    # https://www.pgbouncer.org/config.html
    "query_wait_timeout",
    "client_login_timeout", "server login", "server_login_retry", "cannot connect to server",
    "server conn crashed", "shutting down", "resources exhaustion",
)  # fmt: skip

# Of what libpq says by itself: that which will not be otherwise until somebody changes something.
_FINAL_FAILURES = (
    "invalid ", "could not translate host name", "no password supplied", "certificate",
    "does not support SSL", "private key", "definition of service", "authentication method",
    "authentication requirement", "Permission denied", "is required, but", "missing \"",
    "could not match", "could not look up", "failed to resolve host",
    "Name or service not known", "nodename nor servname",
)  # fmt: skip

_PASSING_FAILURES = ("Temporary failure in name resolution", "Try again")

_QUOTED = re.compile(r'"[^"]*"')
_REFUSALS = re.compile(r"\b(?:FATAL|ERROR|PANIC):\s+(.*)").findall


def code_of(exc: BaseException) -> str:
    """The SQLSTATE of psycopg (`sqlstate`) or psycopg2 (`pgcode`); `""` if there is none."""
    code = getattr(exc, "sqlstate", None) or getattr(exc, "pgcode", None)
    return code if isinstance(code, str) else ""


def is_full(exc: BaseException) -> bool:
    """Whether a server, or a pooler before it, refused since it has too many connections."""
    return any(word in refusal for refusal in _REFUSALS(str(exc)) for word in _FULL)


def ended_session(exc: BaseException) -> bool:
    """Whether the server said FATAL or PANIC: it has ended this session, whatever the reason.

    https://www.postgresql.org/docs/current/runtime-config-logging.html, "Message Severity Levels".
    The code alone would not do: a server-side function may raise any, and `08006` is also the loss of
    a foreign server.
    """
    diagnosis = getattr(exc, "diag", None)
    severity = getattr(diagnosis, "severity_nonlocalized", None)
    # PgBouncer sends only the one that a server translates; its own is never translated.
    return (severity or getattr(diagnosis, "severity", None)) in ("FATAL", "PANIC")


def says_lost(exc: BaseException) -> bool:
    """Whether an error without a code says in its text that there is no connection any more."""
    return not code_of(exc) and str(exc).startswith(_LOST_TEXTS)


def is_server_wide(exc: BaseException) -> bool:
    """Whether it is a sign that the server ends all sessions, or does not listen."""
    code = code_of(exc)
    if code:
        return code in _SERVER_WIDE
    text = str(exc)
    return any(sign in text for sign in _SERVER_WIDE_TEXTS)


def is_passing(exc: BaseException) -> bool:
    """Whether a failed connect may succeed before long: nobody listens yet, the server is starting
    up, it is full, the network was silent."""
    code = code_of(exc)
    if code:
        return code.startswith(("08", "53", "57P0")) and code != "57P04"  # database dropped
    text = _QUOTED.sub('""', str(exc))  # names of hosts, users, files
    refusals = _REFUSALS(text)
    if refusals:  # of several hosts, one that refuses for good is worth telling
        return all(any(sign in refusal for sign in _PASSING_REFUSALS) for refusal in refusals)
    if any(sign in text for sign in _PASSING_FAILURES):
        return True
    return not any(sign in text for sign in _FINAL_FAILURES)
