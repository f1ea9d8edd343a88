"""The demo's database: what a URL means, a plain connection to it, and SQL in its parameter style.

Must never know the workload, nor the pool.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from types import ModuleType
from typing import Any

from ... import Options
from ...drivers import Driver, registry

Setup = Callable[[Any], object]
Parameters = Sequence[Any] | Mapping[str, Any]


class UnknownDatabase(Exception):
    """No plugin serves this URL, or not like this; the text never holds a password."""


@dataclass(frozen=True)
class Database:
    """Where the demo runs, and everything that a connection there needs."""

    url: str
    driver: Driver
    connect: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    module: ModuleType
    setup: Setup | None = None
    transaction: dict[str, Any] = field(default_factory=dict)
    """What `Pool.transaction` is asked for beyond the default."""

    @classmethod
    def at(cls, url: str) -> Database:
        """The database behind `url`; raises `UnknownDatabase`."""
        driver = _driver(url)
        try:
            connect, args, kwargs = driver.parse_url(url)
            _require_lasting(driver, args, kwargs)
        except (ValueError, ImportError) as exc:
            raise UnknownDatabase(str(exc)) from exc
        return cls(url, driver, connect, args, kwargs, _module(driver, connect), **_profile(driver))

    def open(self) -> Any:
        """A connection of the driver's own, set up as the pool's are."""
        conn = self.connect(*self.args, **self.kwargs)
        if self.setup is not None:
            self.setup(conn)
        return conn

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """`open`, and closed at the end."""
        conn = self.open()
        try:
            yield conn
        finally:
            conn.close()

    @cached_property
    def sql(self) -> Style:
        """How statements are written for this driver."""
        return Style(self.module.paramstyle)


@dataclass(frozen=True)
class Style:
    """One of PEP 249's five parameter styles; we write `?`, which is in none of our literals."""

    paramstyle: str

    def text(self, statement: str) -> str:
        """`statement` with its question marks in the driver's style."""
        numbers = count(1)
        return re.sub(r"\?", lambda _: self._mark(next(numbers)), statement)

    def values(self, values: Sequence[Any]) -> Parameters:
        """`values` as the driver wants them."""
        if self.paramstyle in ("named", "pyformat"):
            return {f"p{number}": value for number, value in enumerate(values, 1)}
        return values

    def _mark(self, number: int) -> str:
        marks = {
            "qmark": "?",
            "numeric": f":{number}",
            "named": f":p{number}",
            "format": "%s",
            "pyformat": f"%(p{number})s",
        }
        return marks[self.paramstyle]


def _driver(url: str) -> Driver:
    scheme, colon, _ = url.partition(":")
    if not colon or not scheme:
        raise UnknownDatabase("it has no scheme; a URL starts like sqlite:///")
    driver = registry.find(url)
    if driver is None:
        names = ", ".join(name for name, *_ in registry.installed()) or "none"
        raise UnknownDatabase(f"no plugin knows the scheme {scheme!r}; installed: {names}")
    return driver


def _require_lasting(driver: Driver, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    settings = Options(max_size=1).as_dict()
    driver.check_settings(settings, *driver.connect_arguments(args, dict(kwargs)))
    if not driver.expendable:
        raise ValueError("a database that is lost when a connection is closed will not do")


def _module(driver: Driver, connect: Callable[..., Any]) -> ModuleType:
    module = driver.module or sys.modules.get(registry.root_module(connect))
    if not isinstance(module, ModuleType) or not hasattr(module, "paramstyle"):
        raise UnknownDatabase(f"plugin {driver.name!r} does not tell its DB-API module")
    return module


def _profile(driver: Driver) -> dict[str, Any]:
    # SQLite alone has one writer for the whole database: without these two, threads that meet there
    # get "database is locked", pooled or not.
    if driver.name != "sqlite":
        return {}
    from dbapi_pool_sqlite import many_threads

    return {"setup": many_threads, "transaction": {"mode": "IMMEDIATE"}}
