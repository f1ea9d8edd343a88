"""Connection strings of libpq, checked before libpq quotes from them in an error.

See https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING. It must never know a
driver: it gets the function that takes a string apart. No error here shows any of the string, which
may hold a password.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dbapi_pool.drivers import urls

__all__ = ["check"]

_SCHEMES = ("postgresql://", "postgres://")


def check(text: str, parse: Callable[[str], Mapping[str, Any]]) -> None:
    """Raises `ValueError` for what libpq cannot read, or would read a part of a password into.

    `parse`: takes a string apart, and raises for one that it cannot read.
    """
    if text.startswith(_SCHEMES):
        urls.without_driver(text)  # refuses what looks like the rest of a password
    if not _is_readable(text, parse):
        raise ValueError(
            "the connection string cannot be read by libpq, or has a key that libpq does not know (it"
            " is not shown, since it may hold a password): in a URL, write '%' as %25 and a space as"
            " %20; else put values with spaces in single quotes"
        )
    parts = parse(text)
    ports = str(parts.get("port", "")).split(",")
    if not all(port.strip().isdigit() for port in ports if port):
        raise ValueError(
            "the port in the connection string is not a number; in a URL, write ':', '/' and '?' of a"
            " password as %3A, %2F and %3F"
        )
    hosts = str(parts.get("host", "")).split(",")
    if any("@" in host[1:] for host in hosts):  # in front it is an abstract socket's
        raise ValueError("the host in the connection string has an '@': in a password, write %40")


def _is_readable(text: str, parse: Callable[[str], Mapping[str, Any]]) -> bool:
    try:
        parse(text)
    except Exception:  # not chained: its text quotes the string
        return False
    return True
