"""Several servers in one URL: which of them to try, in which order, and which one will do.

The words are libpq's, since no MySQL driver has any:
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-TARGET-SESSION-ATTRS. It must
never connect by itself, nor know a driver.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dbapi_pool.drivers.urls import DatabaseURL

Address = tuple[str, int | None]

TARGET = "target_session_attrs"
ORDER = "load_balance_hosts"
PORT = 3306
PATIENCE = 5
"""Seconds for connecting to one of several, where `connect_timeout` says nothing: a host that is not
there must leave time for the next."""

# Variables, and not `@@read_only`: not every server has each. Aurora's readers are so for InnoDB.
ROLE = "SHOW GLOBAL VARIABLES WHERE variable_name IN ('read_only', 'innodb_read_only')"

_ANY = "any"
_WRITABLE = "read-write"
_READ_ONLY = "read-only"
_WISHES: Mapping[str, tuple[str, ...]] = {
    "any": (_ANY,),
    "read-write": (_WRITABLE,),
    "primary": (_WRITABLE,),
    "read-only": (_READ_ONLY,),
    "standby": (_READ_ONLY,),
    "prefer-standby": (_READ_ONLY, _ANY),
}
_ORDERS = ("disable", "random")


TYPES: Mapping[str, Callable[[str], Any]] = {TARGET: str, ORDER: str}
"""The keys that URLs may have for this, beside those of the driver."""


class Hosts:
    """The servers that one URL names. Safe to use from several threads: at worst one of them begins
    with a host that another has just found to be gone."""

    def __init__(self, parts: DatabaseURL) -> None:
        """Of several, if not told otherwise, one that can be written to. Raises `ValueError`."""
        if not parts.hosts:
            given = sorted(TYPES.keys() & parts.query.keys())
            raise ValueError(f"the URL names no host, which {given[0]} is about")
        usual = _WRITABLE if len(parts.hosts) > 1 else _ANY
        self._addresses: tuple[Address, ...] = parts.hosts
        self._wishes = _WISHES[_one_of(_WISHES, TARGET, parts, usual)]
        self._shuffled = _one_of(_ORDERS, ORDER, parts, "disable") == "random"
        # Where the last connection was made: the first to be tried.
        self._last: Address | None = None

    @staticmethod
    def are_meant(parts: DatabaseURL) -> bool:
        """Whether a URL needs this."""
        return len(parts.hosts) > 1 or not parts.query.keys().isdisjoint(TYPES)

    @property
    def choosy(self) -> bool:
        """Whether it matters which of them a session is with."""
        return self._wishes != (_ANY,)

    def candidates(self) -> Iterable[tuple[Address, str]]:
        """Whom to try, and what is asked of each, in this order."""
        addresses = list(self._addresses)
        if self._shuffled:
            random.shuffle(addresses)
        else:
            addresses.sort(key=lambda address: address != self._last)
        return [(address, wish) for wish in self._wishes for address in addresses]

    def found(self, address: Address) -> None:
        """This one will do."""
        self._last = address

    def objection(self, role: Sequence[Sequence[Any]], wish: str) -> str | None:
        """What speaks against a server, by what `ROLE` says of it."""
        read_only = any(str(value).upper() not in ("OFF", "0") for _, value in role)
        if wish == _WRITABLE and read_only:
            return "is read-only"
        if wish == _READ_ONLY and not read_only:
            return "can be written to"
        return None

    def objection_later(self, role: Sequence[Sequence[Any]]) -> str | None:
        """As `objection`, of a server with which there is a session already: who has none that is
        better keeps it."""
        return self.objection(role, self._wishes[0]) if len(self._wishes) == 1 else None


def _one_of(known: Iterable[str], key: str, parts: DatabaseURL, usual: str) -> str:
    value = str(parts.query.get(key, usual))
    if value not in known:
        raise ValueError(f"{key}={value}: must be one of {', '.join(known)}")
    return value


def text_of(address: Address) -> str:
    """`host:port`."""
    host, port = address
    return f"{host}:{port or PORT}"
