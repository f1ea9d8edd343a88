"""Database URLs: `scheme[+driver]://user:password@host:port,host2/database?key=value`.

Holds the parser that every plugin uses. It must never know a driver (a plugin says which keys it
understands and of which type), and no error or `repr` of it ever shows a password.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

__all__ = ["DatabaseURL", "boolean", "parse", "without_driver"]


@dataclass(frozen=True)
class DatabaseURL:
    """A database URL in its parts, percent-decoded. What was not given is None or empty."""

    scheme: str
    driver: str | None = None
    """What stood behind a `+` in the scheme: `"pymysql"` in `mysql+pymysql://`."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    hosts: tuple[tuple[str, int | None], ...] = ()
    """Host and port, in the order given; IPv6 addresses without their brackets."""
    database: str = ""
    """What follows the slash after the host: `/x` is database `"x"`, `//x` is `"/x"`."""
    query: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Typed values of the query, by key."""

    @property
    def host(self) -> str | None:
        """The first host."""
        return self.hosts[0][0] if self.hosts else None

    @property
    def port(self) -> int | None:
        """The first host's port."""
        return self.hosts[0][1] if self.hosts else None


def parse(url: str, types: Mapping[str, Callable[[str], Any]]) -> DatabaseURL:
    """The parts of `url`. `types` names the query keys that are understood, and what converts each
    value from text (`float`, `int`, `str`, `bool`, or any function that raises `ValueError`).

    A password may hold `@` as it is, since the last `@` before the path counts; `/` and `?` in it
    must be written `%2F` and `%3F`, and an `@` after the host `%40`. Raises `ValueError` for anything
    else than a database URL, for a key that is unknown or given twice, and for a value of the wrong
    type.
    """
    name, rest = _split_scheme(url)
    scheme, _, driver = name.partition("+")
    rest, _, query = rest.partition("?")
    authority, _, database = rest.partition("/")
    _refuse_late_at(authority, database, query)
    login, _, hosts = authority.rpartition("@")
    user, _, password = login.partition(":")
    return DatabaseURL(
        scheme=scheme.lower(),
        driver=driver or None,
        user=unquote(user) or None,
        password=unquote(password) or None,
        hosts=tuple(_host_and_port(host) for host in hosts.split(",") if host),
        database=unquote(database),
        query=_typed(query, types),
    )


def without_driver(url: str) -> str:
    """`url` for a client library that takes it apart itself: without the `+driver` of its scheme.

    All else stays as it is, but that `@` in a password is written `%40`. Raises `ValueError` as
    `parse` does.
    """
    scheme, rest = _split_scheme(url)
    rest, question, query = rest.partition("?")
    authority, slash, database = rest.partition("/")
    _refuse_late_at(authority, database, query)
    login, at, hosts = authority.rpartition("@")
    login = login.replace("@", "%40")
    name = scheme.partition("+")[0]
    return f"{name.lower()}://{login}{at}{hosts}{slash}{database}{question}{query}"


def boolean(value: str) -> bool:
    """`true`, `yes`, `on`, `1` or their opposites, in any case; else raises `ValueError`."""
    try:
        return _BOOLEANS[value.lower()]
    except KeyError:
        raise ValueError("neither true nor false") from None


_BOOLEANS = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip


def _split_scheme(url: str) -> tuple[str, str]:
    name, separator, rest = url.partition("://")
    if not separator or not name.partition("+")[0].isidentifier():
        raise ValueError(
            "not a database URL: it must begin with a scheme, as in 'sqlite:///app.db'"
        )
    return name, rest


def _refuse_late_at(authority: str, database: str, query: str) -> None:
    # What looks like a path or query is then likely the rest of a password, and would be shown.
    if authority and ("@" in database or ("@" in query and "@" not in authority)):
        raise ValueError(
            "an '@' follows the host in the database URL: write '/' and '?' in a password as %2F and"
            " %3F, an '@' after the host as %40"
        )


def _host_and_port(text: str) -> tuple[str, int | None]:
    host, bracket, port = text.rpartition("]")
    if bracket:  # an IPv6 address
        host, port = host.lstrip("["), port.lstrip(":")
    else:
        host, _, port = text.partition(":")
    # The text is not shown: it may be a password without its '@'.
    if port and not (port.isascii() and port.isdigit()):
        raise ValueError("the port in the database URL is not a number")
    return unquote(host), int(port) if port else None


def _typed(query: str, types: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key not in types:
            known = ", ".join(sorted(types)) or "none"
            named = f"unknown key {key!r}" if _is_shown(key, query) else "unknown key"
            raise ValueError(f"{named} in the database URL; known: {known}")
        if key in values:
            raise ValueError(f"key {key!r} is given twice in the database URL")
        values[key] = _convert(key, text, types[key])
    return values


def _is_shown(key: str, query: str) -> bool:
    """Whether an unknown key looks like one, and not like the rest of a password with a `?`."""
    return key.isidentifier() and f"{key}=" in query and "@" not in query


def _convert(key: str, text: str, convert: Callable[[str], Any]) -> Any:
    try:
        return boolean(text) if convert is bool else convert(text)
    except ValueError:
        expected = getattr(convert, "__name__", "value")
        # Neither the value nor the cause, which quotes it, is shown: it may be a secret.
        raise ValueError(f"key {key!r} in the database URL is not a valid {expected}") from None
