"""Tells: errors are the driver's own, come when they should, and never show a password."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from .... import PoolTimeout
from ..check import Broken, promise, raises, require
from ..trial import Trial, run

TIMEOUT = 1.0
"""Seconds that a checkout may take while the server cannot be reached."""
AT_ONCE = 5.0
"""Seconds in which a connect that is refused for good must be told: far from `PATIENCE`."""


@promise("tells", needs=("transient",))
def a_connect_refused_for_good_is_told_at_once(trial: Trial) -> None:
    """A wrong password or unknown database raises the driver's own error, without another try."""
    for changed in trial.given("refused"):
        names = ", ".join(changed)
        exc = _connect_error(trial, changed)
        require(not trial.driver.is_transient(exc), f"{names}: is_transient says True of {exc!r}")
        pool = trial.pool(changed=changed)
        start = time.monotonic()
        told = raises(trial.error("Error"), pool.pool.connection, f"borrowing with another {names}")
        require(not isinstance(told, PoolTimeout), f"{names}: raised {told!r}")
        require(time.monotonic() - start < AT_ONCE, f"{names}: not told at once")
        _shows_no_password(trial, changed, told, pool.pool)


@promise("tells", needs=("transient",))
def an_unreachable_server_is_waited_for(trial: Trial) -> None:
    """With nobody listening, connecting is tried again until the timeout, which tells the cause."""
    for changed in trial.given("unreachable"):
        exc = _connect_error(trial, changed)
        require(trial.driver.is_transient(exc), f"is_transient says False of {exc!r}")
        pool = trial.pool(changed=changed)
        start = time.monotonic()
        told = raises(PoolTimeout, lambda: pool.pool.connection(timeout=TIMEOUT), "borrowing")  # noqa: B023
        took = time.monotonic() - start
        require(took < 2 * TIMEOUT, f"a timeout of {TIMEOUT} s took {took:.3f} s")
        require(isinstance(told, trial.error("OperationalError")), "no OperationalError")
        require(isinstance(told.__cause__, Exception), "the timeout does not tell its cause")
        _shows_no_password(trial, changed, told, pool.pool)


def _connect_error(trial: Trial, changed: Mapping[str, Any]) -> Exception:
    return raises(
        trial.error("Error"),
        lambda: trial.connect(changed),
        f"connecting with {[*changed]} changed",
    )


def _shows_no_password(trial: Trial, changed: Mapping[str, Any], *things: object) -> None:
    secrets = trial.subject.secrets() | {
        str(value) for key, value in changed.items() if "pass" in key
    }
    for text in _texts(*things):
        # Said without the text: it holds a password.
        if any(secret in text for secret in secrets):
            raise Broken("an error or a repr shows a password")


def _texts(*things: object) -> Iterator[str]:
    for thing in things:
        shown: object = thing
        while shown is not None:
            yield str(shown)
            yield repr(shown)
            shown = getattr(shown, "__cause__", None)


@promise("tells", read_only=True)
def nothing_shows_a_password(trial: Trial) -> None:
    """No `repr` of pool and connection, and no timeout's text, holds a password."""
    pool = trial.pool()
    with pool.borrow() as conn:
        run(conn, trial.know.one)
        told = raises(PoolTimeout, lambda: pool.pool.connection(timeout=0), "borrowing one more")
        cursor = conn.cursor()
        _shows_no_password(trial, {}, pool.pool, conn, told, pool.pool.stats(), pool.driver, cursor)
        cursor.close()


@promise("tells", read_only=True)
def a_timeout_tells_who_holds_the_connections(trial: Trial) -> None:
    """A timeout names the line at which the connection that it lacks was borrowed."""
    pool = trial.pool()
    with pool.pool.connection():
        told = raises(PoolTimeout, lambda: pool.pool.connection(timeout=0), "borrowing one more")
    require("tells.py" in str(told), f"it does not tell who holds what: {told}")
