"""Servers that take a connection and never answer."""

from __future__ import annotations

import contextlib
import importlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..adapters import Adapter, OurPoolPinging, _is_installed
from ..drivers import Fake, Real
from ..measuring import Row, Run, measure

TIMEOUT = 1.0
CAP = 3.0


class Silence:
    """Accepts every TCP connection and says nothing. Closing it ends them all, and so whoever
    waits.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._taken.append(self._listener.accept()[0])

    def close(self) -> None:
        """Let everybody go."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for one in self._taken:
            one.close()


def _timed(act: Callable[[], object], cap: float) -> str:
    """How long a call took and how it ended; given up at `cap`."""
    outcome: list[str] = []

    def body() -> None:
        begin = time.perf_counter()
        try:
            act()
            word = "a connection"
        except Exception as exc:
            word = type(exc).__name__
        outcome.append(f"{time.perf_counter() - begin:.2f} s: {word}")

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(cap)
    return outcome[0] if outcome else f"more than {cap:g} s"


@contextlib.contextmanager
def _silent(name: str) -> Iterator[Real]:
    silence = Silence()
    database = "dbname" if name == "psycopg2" else "database"
    arguments: dict[str, Any] = {
        "host": "127.0.0.1", "port": silence.port, "user": "u", "password": "p", database: "d",
    }  # fmt: skip
    if name == "pymysql":
        arguments["ssl_disabled"] = True
    try:
        yield Real(importlib.import_module(name), **arguments)
    finally:
        silence.close()


def _connecting(kind: type[Adapter], name: str, timeout: float, cap: float) -> str:
    """Borrow from a pool whose first connect is never answered."""
    with _silent(name) as driver:
        pool = kind(driver, 1, timeout)
        return _timed(pool.borrow, cap)


def _checking(kind: type[Adapter], timeout: float, cap: float) -> str:
    """Borrow from a pool whose one idle connection never answers a ping, nor do new ones."""
    driver = Fake(observed=True)
    pool = kind(driver, 1, timeout)
    pool.warm(1)
    # Who knows no better pings by a statement.
    driver.hang = {what: threading.Event() for what in ("ping", "statement", "connect")}
    driver.seen.clear()
    try:
        outcome = _timed(pool.borrow, cap)
        return outcome if driver.hang.keys() & driver.seen else "no ping, handed out"
    finally:
        for event in driver.hang.values():
            event.set()


@measure("black hole", "A black hole")
def black_hole(run: Run) -> list[Row]:
    """The pool is told to take 1 s at most for a checkout. In the first two columns a real driver
    connects to a server that accepts and never answers, no other timeout being set; in the third
    the one idle connection does not answer a ping, nor does a new one, on the fake driver, for the
    pools that ping. Seconds until the borrower was told, and how; we gave up after 3 s. Ideal: 1.00
    s, an error. DBUtils has no such setting. `Pool` asks for a ping after 30 s idle, so here it is
    told to ping always.
    """
    timeout, cap = run.scale((TIMEOUT, CAP), (TIMEOUT, CAP), (0.04, 0.12))
    rows = []
    modules = [name for name in ("psycopg2", "pymysql") if _is_installed(name)]
    for name in {"psycopg2", "pymysql"} - set(modules):
        run.skipped[f"connects of {name}"] = f"not installed: {name}"
    kinds = run.kinds(wanted=lambda kind: kind.grows and kind is not OurPoolPinging)
    for kind in kinds:
        row: Row = {"pool": kind.name}
        for name in modules:
            column = f"{name} connects"
            row[column] = _connecting(kind, name, timeout, cap) if kind.takes(name) else None
        row["an idle connection is silent"] = _checking(
            OurPoolPinging if kind.name == "dbapi_pool Pool" else kind, timeout, cap
        )
        rows.append(row)
    return rows
