"""Where driver connections come from: the creator with its arguments, and the driver behind it.

Finds the driver once (by the creator, or by its first connection) and opens members. It must never
know the pool, a place or a waiter.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from .cleaning import run_setup
from .drivers import registry
from .drivers.base import Driver
from .drivers.registry import bare_connect
from .errors import PoolSettingError
from .handles import PooledConnection, handle_class
from .member import NEVER, Member
from .options import Options
from .system import System

# A name, an address, or the folder of a socket: nothing in which a password could hide behind an "@".
_HOST = re.compile(r"[\w.:%/\[\]-]{1,255}")
_JITTER = 0.1  # of max_lifetime, so that connections born together do not die together


class Source:
    """Opens the connections of one pool."""

    def __init__(
        self,
        creator: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        driver: Driver | None,
        options: Options,
        system: System,
    ) -> None:
        """Raises `PoolSettingError` for a creator that cannot be one, or settings that cannot work."""
        self._options = options
        self._system = system
        self._numbers = itertools.count(1)
        if driver is not None and not isinstance(driver, Driver):
            raise PoolSettingError(f"driver={driver!r}: must be a Driver instance, or None")
        while type(creator) is functools.partial:  # what it holds concerns the driver too
            args, kwargs = (*creator.args, *args), {**creator.keywords, **kwargs}
            creator = creator.func
        known = driver or registry.find(creator)
        self.known = known is not None  # False: the first connection will tell
        self.driver = self._fitting(known or Driver())
        if isinstance(creator, str):
            connect, args, kwargs = self._parse(creator, args, kwargs)
            self._connect = bare_connect(connect)
            creator = self._connect
        else:
            self._connect = connect_function(creator)
        args, added = self.driver.connect_arguments(args, dict(kwargs))
        self._args, self._kwargs = args, added
        self._check(self.driver, args, added)
        # Guards the change from the portable driver to the one that the first connection names.
        self._discovering = system.lock()
        self.errors_from = self._errors_from(creator)

    def _parse(
        self, url: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        scheme = url.partition(":")[0]
        if not self.known:
            known_form = re.match(r"[a-z][a-z0-9+.-]*://", url, re.IGNORECASE)
            what = (
                f"URLs with the scheme {scheme!r}" if known_form else "this text, which is no URL"
            )
            raise PoolSettingError(
                f"creator: no installed plugin knows {what} (see `dbapi-pool plugins`); a creator is"
                " a DB-API module, a callable that connects, or a database URL"
            )
        try:
            connect, first, named = self.driver.parse_url(url)
        except ValueError as exc:
            raise PoolSettingError(f"creator: {exc}") from exc
        return connect, (*first, *args), {**named, **kwargs}

    def _check(self, driver: Driver, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        try:
            driver.check_settings(self._options.as_dict(), args, kwargs)
        except PoolSettingError:
            raise
        except ValueError as exc:
            raise PoolSettingError(str(exc)) from exc

    def _errors_from(self, creator: Any) -> ModuleType | type | None:
        """Whatever carries the PEP 249 errors of the driver."""
        if self.driver.module is None:
            self.driver.module = registry.dbapi_module(creator)
        return self.driver.module

    def endpoint(self) -> tuple[str, int | None] | None:
        """Where the connections lead: see `Driver.endpoint`."""
        found = self.driver.endpoint(self._args, self._kwargs)
        if found is None or _HOST.fullmatch(found[0]) is None:
            return None
        return found

    def open(self) -> Member:
        """Connect and set up. Raises what the driver raises; nothing stays open then."""
        conn = self._connect(*self._args, **self._kwargs)
        if conn is None:
            raise PoolSettingError(
                f"the creator {_name(self._connect)} returned None, no connection"
            )
        try:
            return self._member(conn)
        except BaseException:
            self._drop(conn)
            raise

    def _member(self, conn: Any) -> Member:
        if not self.known:
            self._discover(type(conn))
        driver = self.driver
        driver.connected(conn)
        run_setup(driver, conn, self._options.setup)
        connection_class: Any = type(conn)
        make = Member
        base: Any = driver.handle_base or PooledConnection
        kind = handle_class(connection_class, self.errors_from, driver.statement_methods, base)
        if self._options.native:
            make = self._made_native(conn, kind)
        now, number = self._system.monotonic(), next(self._numbers)
        member = make(conn, kind, driver.snapshot(conn), now, driver, number)
        if driver._overrides("is_alive"):
            member.alive = driver.is_alive
        self._set_expiry(member)
        return member

    def _fitting(self, driver: Driver) -> Driver:
        """The driver that found connections are opened by."""
        if not self._options.native:
            return driver
        from .native import adapt

        return adapt(driver)

    def _made_native(self, conn: Any, kind: type) -> type[Member]:
        from .native import NativeMember, adopt

        adopt(conn, kind, self.driver)
        return NativeMember

    def _discover(self, kind: type) -> None:
        """The class of the first connection tells which driver it is."""
        found = registry.find(kind)
        driver = self.driver if found is None else self._fitting(found)
        if driver.module is None:
            driver.module = registry.dbapi_module(kind)
        self._check(driver, (), {})  # what the creator's own arguments are stays its secret
        with self._discovering:  # see `Ledger` about raising
            if not self.known:
                self.driver = driver
                self.errors_from = driver.module or kind
                self.known = True

    def _set_expiry(self, member: Member) -> None:
        lifetime = self._options.max_lifetime
        if lifetime is not None and self.driver.expendable:
            lifetime *= 1.0 - _JITTER * self._system.random()
            member.expires = member.born + lifetime
        else:
            member.expires = NEVER

    def _drop(self, conn: Any) -> None:
        try:
            self.driver.close(conn)
        except Exception:
            pass  # the first error is the one to tell


def connect_function(creator: Any) -> Callable[..., Any]:
    """The function that connects: the `connect` of a DB-API module, or of a class that has it as a
    class method (psycopg's `Connection`), or the creator itself."""
    connect = getattr(creator, "connect", None)
    if callable(connect) and (not isinstance(creator, type) or inspect.ismethod(connect)):
        return bare_connect(connect)
    if callable(creator):
        return bare_connect(creator)
    raise PoolSettingError(
        f"creator: {_name(creator)} cannot connect; must be a DB-API module, a callable that connects,"
        " or a database URL"
    )


def _name(creator: Any) -> str:
    """What it is called. Not its `repr`, which may show a password."""
    named = getattr(creator, "func", creator)  # of a partial
    name = getattr(named, "__qualname__", None) or getattr(named, "__name__", None)
    return str(name) if name else f"of type {type(creator).__name__}"
