"""`Access`: connections to somebody's database, opened as a pool would, but without one.

Says why when there is none to be had. It must never write, nor print.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

from .. import Options
from ..drivers import registry
from ..drivers.base import Driver
from ..drivers.facts import Server
from ..testing.contract import Subject
from .target import BadTarget, Target, file_of

T = TypeVar("T")

_HINTS = (
    (r"refused|can't connect|10061", "nobody listens there: look at host and port, and whether the"
     " server runs and listens on this address"),
    (r"name or service|resolve|nodename|getaddrinfo|unknown mysql server host|no address",
     "the host's name is unknown: look at its spelling, and at DNS"),
    (r"password|authentic|access denied|28p01|28000|no pg_hba|1045|role .* does not exist",
     "the server is there and refuses the user: look at user, password, and from where it may come"),
    (r"database .* does not exist|unknown database|1049|3d000", "look at the database's name"),
    (r"too many|remaining connection slots|1040|1203|1226|53300",
     "the server has no session left: look at who holds them, and at its limit"),
    (r"ssl|tls|certificate", "look at the TLS settings of both sides, and at the certificates"),
    (r"unable to open|no such file|cannot open|permission|not a (valid )?(duckdb )?database",
     "look at the path, and at who may read it"),
    (r"lock", "another process has it open"),
    (r"no answer|timed? ?out|unreachable|no route",
     "nothing answers there: look at host, port and firewalls"),
)  # fmt: skip


class CannotConnect(Exception):
    """The driver's own error in one line, and what to look at."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


def hint_for(text: str) -> str:
    """What to look at after an error."""
    for pattern, hint in _HINTS:
        if re.search(pattern, text, re.IGNORECASE):
            return hint
    return "look at the arguments of the connection"


class Access:
    """A target, and connections to it."""

    def __init__(self, target: Target, timeout: float) -> None:
        """`timeout`: seconds that a connect may take."""
        self.target = target
        self._timeout = timeout
        self.subject = Subject.of(target.creator, *target.args, **target.kwargs)
        self._refuse_what_would_be_made()
        self.driver: Driver = self._try(self.subject.driver)
        """Prepared, and used for every connection."""

    def _refuse_what_would_be_made(self) -> None:
        """A local driver makes the file that it does not find."""
        driver = registry.find(self.target.creator)
        if driver is None or not driver.local:
            return
        try:
            _, args, kwargs = self.subject.target(driver)
        except ValueError as exc:
            raise BadTarget(self.target.redacted(str(exc))) from exc
        file = file_of(args, kwargs)
        if file is not None and not file.exists():
            text = f"there is no file {file}"
            raise CannotConnect(text, "look at the path; it is not made here")

    def connect(self) -> Any:
        """A driver connection. Raises `CannotConnect`."""
        return self._try(self.open)

    def open(self) -> Any:
        """As `connect`, but without a limit of time, and with the driver's own error."""
        connect, args, kwargs = self._prepared
        conn = connect(*args, **kwargs)
        self.driver.connected(conn)
        return conn

    def plain(self) -> Any:
        """A connection as a program without a pool makes it: by the driver's own `connect`."""
        connect, args, kwargs = self._target
        return connect(*args, **kwargs)

    @cached_property
    def _target(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        return self.subject.target(self.driver)

    def server(self, conn: Any) -> Server:
        """What the server says of itself. That is no reason to fail: a user may lack the right to ask.
        A connection that is lost on the way is, with `CannotConnect`."""
        try:
            return self.within(lambda: self.driver.server(conn))
        except Exception as exc:
            if isinstance(exc, TimeoutError):
                self.driver.interrupt(conn)
            if isinstance(exc, TimeoutError) or self.driver.is_disconnect(exc, conn):
                raise self.complaint(exc) from exc
            self.driver.rollback(conn)
            return Server()

    @cached_property
    def _prepared(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """What to call, as a pool finds out once for all its connections."""
        driver = self.driver
        connect, args, kwargs = self._target
        args, kwargs = driver.connect_arguments(args, kwargs)
        driver.check_settings(Options().as_dict(), args, kwargs)
        return connect, args, kwargs

    def within(self, act: Callable[[], T]) -> T:
        """What `act()` gives or raises; `TimeoutError` if it takes longer than a connect may."""
        return _within(self._timeout, act)

    def _try(self, act: Callable[[], T]) -> T:
        try:
            return self.within(act)
        except Exception as exc:
            raise self.complaint(exc) from exc

    def complaint(self, exc: Exception) -> CannotConnect:
        """The driver's own error in one line, without a password."""
        text = self.target.redacted(" ".join(f"{type(exc).__name__}: {exc}".split()))
        return CannotConnect(text, hint_for(text))


def _within(seconds: float, act: Callable[[], T]) -> T:
    """What `act()` gives or raises; `TimeoutError` if that takes longer."""
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(act())
        except Exception as exc:
            errors.append(exc)

    thread = threading.Thread(target=run, name="dbapi_pool-access", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return results[0]
