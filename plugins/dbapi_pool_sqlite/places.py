"""Where a SQLite database is: from connect arguments, from a URL, and the file behind a connection.

Knows the arguments of `sqlite3.connect`
(https://docs.python.org/3/library/sqlite3.html#sqlite3.connect) and SQLite's file names
(https://www.sqlite.org/inmemorydb.html, https://www.sqlite.org/uri.html). It must never know a pool's
settings, nor change a connection.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlencode

from dbapi_pool.drivers.urls import boolean, parse

Kind = Literal["file", "private", "shared"]
"""A database file; a database of one connection alone (in memory, or a temporary file); a database
in memory that the connections of this process share."""

MODES = ("DEFERRED", "IMMEDIATE", "EXCLUSIVE")
"""The ways a transaction can begin: https://www.sqlite.org/lang_transaction.html"""

_POSITIONS = {"database": 0, "check_same_thread": 4, "factory": 5, "uri": 7}


def argument(args: Sequence[Any], kwargs: Mapping[str, Any], name: str) -> Any:
    """What `sqlite3.connect` gets as `name`, by position or keyword; None if it is left out."""
    position = _POSITIONS[name]
    return args[position] if len(args) > position else kwargs.get(name)


def kind_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Kind | None:
    """What kind of database these arguments of `sqlite3.connect` name; None if they name none."""
    database = argument(args, kwargs, "database")
    if not isinstance(database, (str, bytes, os.PathLike)):
        return None
    name = os.fsdecode(database)
    if argument(args, kwargs, "uri") and name.startswith("file:"):
        return _kind_of_uri(name)
    return "private" if name in ("", ":memory:") else "file"


def _kind_of_uri(uri: str) -> Kind:
    path, _, query = uri.partition("#")[0][len("file:") :].partition("?")
    options = {key: values[-1] for key, values in parse_qs(query).items()}
    name = unquote(path)
    if options.get("vfs") == "memdb":  # one whose name begins with a slash is shared
        return "shared" if name.startswith("/") else "private"
    if options.get("mode") == "memory" or name == ":memory:":
        return "shared" if options.get("cache") == "shared" else "private"
    return "file" if name else "private"


# -- URLs -----------------------------------------------------------------------------------------

_FILE_OPTIONS = ("cache", "immutable", "mode", "nolock", "psow", "vfs")


def arguments_for(url: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of `sqlite3.connect` for a URL.

    `sqlite:///rel.db` is relative, `sqlite:////abs.db` absolute, `sqlite://` in memory. The query
    may hold `timeout` (seconds), `isolation_level` (`none` for None), `detect_types`,
    `cached_statements`, `uri`, from Python 3.12 `autocommit` (`true`, `false`, `legacy`), and the
    options of a `file:` URI (`mode`, `cache`, ...), which make it one. Raises `ValueError`.
    """
    parts = parse(url, _types())
    if parts.hosts or parts.user:
        raise ValueError(
            "a SQLite URL has no host and no user: it is sqlite:///relative.db (three slashes),"
            " sqlite:////absolute/path.db (four) or sqlite:// (in memory)"
        )
    named = dict(parts.query)
    options = {key: named.pop(key) for key in parts.query if key in _FILE_OPTIONS}
    database = parts.database or ":memory:"
    if options and named.get("uri") is False:
        raise ValueError(f"uri=false does not go with {', '.join(options)} in a SQLite URL")
    if options or named.get("uri"):
        database, named["uri"] = _file_uri(database, options), True
    return (database,), named


def _types() -> dict[str, Any]:
    types: dict[str, Any] = {
        "timeout": float,
        "detect_types": int,
        "isolation_level": _isolation_level,
        "check_same_thread": bool,
        "cached_statements": int,
        "uri": bool,
        **dict.fromkeys(_FILE_OPTIONS, str),
    }
    if sys.version_info >= (3, 12):
        types["autocommit"] = _autocommit
    return types


def _isolation_level(text: str) -> str | None:
    if text.upper() in ("", "NONE"):
        return None
    if text.upper() not in MODES:
        raise ValueError(text)
    return text.upper()


def _autocommit(text: str) -> bool | int:
    return -1 if text.lower() == "legacy" else boolean(text)  # sqlite3.LEGACY_TRANSACTION_CONTROL


def _file_uri(database: str, options: Mapping[str, str]) -> str:
    path = database[len("file:") :] if database.startswith("file:") else database
    # With an empty authority, lest the first folder be taken for one.
    uri = ("file://" if path.startswith("/") else "file:") + quote(path, safe="/:")
    return f"{uri}?{urlencode(options)}" if options else uri


# -- files ----------------------------------------------------------------------------------------


class File:
    """The file that a connection has open, as it was when the connection was made."""

    __slots__ = ("_identity", "check_at", "path")

    def __init__(self, path: str) -> None:
        """`path`: absolute, as `PRAGMA database_list` gives it."""
        self.path = path
        self._identity = _identity(path)
        self.check_at = 0.0
        """When to look again, on the driver's clock."""

    def is_gone(self) -> bool:
        """Whether the file was deleted, moved or replaced since: the connection then reads and
        writes one that nobody else will ever see."""
        return self._identity is not None and _identity(self.path) != self._identity


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
