"""What the state machines plan for a pool: settings, errors, and drivers that say what was pinged.

A leaf: it must never look at a pool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from dbapi_pool.drivers import Driver
from dbapi_pool.testing import FakeDriver, FakeDriverPlugin

REMOTE, LOCAL, UNKNOWN = "remote", "local", "unknown"


class Planted(BaseException):
    """What a test makes the driver raise."""


class Struck(Planted):
    """What no driver's caller expects: an interrupt, a cancellation, another library's timeout."""


class Failed(Planted, FakeDriver.OperationalError):
    """The driver's own error."""


class Refused(Planted, FakeDriver.ProgrammingError):
    """The driver's own error, of a kind that another try does not mend."""


class Again(Planted, FakeDriver.SerializationError):
    """The driver's own error, of a kind that another try mends."""


class Lost(Planted, ConnectionResetError):
    """Says that the connection is gone."""


class Alien(Planted, RuntimeError):
    """Something that is not the driver's."""


# -- drivers that remember what was pinged --------------------------------------------------------


class _Pinging(Driver):
    approve: Callable[[Any], None]

    def ping(self, conn: Any) -> None:
        super().ping(conn)
        self.approve(conn)


class Known(_Pinging, FakeDriverPlugin):
    """The fake's own plugin."""


class Unknown(_Pinging):
    """Any driver: the portable defaults."""


def driver_of(kind: str, fake: FakeDriver, approve: Callable[[Any], None]) -> Driver:
    """A driver that says what it pinged."""
    driver: Unknown | Known
    if kind == UNKNOWN:
        driver = Unknown(fake)  # type: ignore[arg-type]
    else:
        driver = Known(fake, local=kind == LOCAL, expendable=True)
    driver.approve = approve
    return driver


# -- what hypothesis draws ------------------------------------------------------------------------

# What hypothesis finds simplest comes first, and what should be common comes often.
OPTIONS: dict[str, tuple[Any, ...]] = {
    "checkout_timeout": (30.0, 30.0, 4.0, 0, None),
    "max_waiting": (None, None, None, 2, 0),
    "max_lifetime": (None, 3600.0, 60.0),
    "idle_timeout": (None, 600.0, 8.0),
    "max_uses": (None, None, None, 3, 1),
    "ping_after": (30.0, None, 0, 2.0),
    "keepalive": (None, None, 5.0),
    "reset": ("auto", "auto", "auto", "auto", "always", "transaction", "none"),
    "fail_fast_after": (None, None, 0, 2.0),
    "leak_after": (None, 20.0),
}

TIMEOUTS = (None, None, 0, 0.5, 3.0, 20.0)
SPANS = (0.01, 0.6, 1.0, 3.0, 12.0, 130.0)
STATEMENTS = ("SELECT 1", "DELETE FROM t", "BEGIN", "SET role = admin")
WORK = (
    "execute and fetch: SELECT 1",
    "execute: SELECT 1, 2",
    "execute: INSERT INTO t VALUES (1)",
    "execute: BEGIN",
    "execute: SET role = admin",
    "execute: CREATE TABLE t (x)",
    "execute raw: SET role = admin",
    "execute raw: UPDATE t SET x = 2",
    "set: autocommit",
    "set: note",
    "set: invented",
    "set raw: autocommit",
    "call: commit",
    "call: rollback",
)
FAILING = (
    "connect", "close", "cursor", "execute", "fetch", "commit", "rollback", "is_alive", "ping",
    "reset", "begin",
)  # fmt: skip
HANGING = ("connect", "close", "ping")
HANGING_AT_CHECKIN = ("rollback", "reset")

WHICH = st.integers(0, 7)


@st.composite
def pool_settings(draw: st.DrawFn, sizes: tuple[int, ...] = (1, 2, 3, 4)) -> dict[str, Any]:
    """Settings that a pool accepts."""
    chosen = {name: draw(st.sampled_from(values)) for name, values in OPTIONS.items()}
    chosen["max_size"] = draw(st.sampled_from(sizes))
    chosen["min_size"] = draw(st.sampled_from((0, 0, 1, 2)).filter(chosen["max_size"].__ge__))
    least = chosen["min_size"]
    chosen["max_idle"] = draw(st.none() | st.none() | st.integers(least, chosen["max_size"]))
    return chosen


def do(handle: Any, work: str, cursors: list[Any]) -> None:
    """One of `WORK`; a cursor that this makes goes to `cursors`."""
    kind, what = work.split(": ")
    if kind == "call":
        getattr(handle, what)()
    elif kind == "set":
        setattr(handle, what, True)
    elif kind == "set raw":
        setattr(handle.driver_connection, what, True)
    elif kind == "execute raw":
        handle.driver_connection.execute(what)
    else:
        cursor = handle.cursor()
        cursors.append(cursor)
        cursor.execute(what)
        if kind == "execute and fetch":
            cursor.fetchone()
