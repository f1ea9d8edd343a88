"""What a `Pool` lends through another pool's door: handles that know it, drivers for whom nobody waits.

The users of these doors are refused at once when nothing is free, unless they ask for more. What the
`Pool` lends by itself (in `transaction()`, or to whoever asks it directly) stays the pool's own kind.
This module must never know which door it is.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from ..drivers import Driver, registry
from ..errors import PoolError, PoolSettingError, PoolTimeout, for_driver
from ..handles import PooledConnection
from ..pool import Pool
from .adapting import adapt


class LoanedConnection(PooledConnection):
    """A `PooledConnection` that may have come through a door."""

    # Not empty, as that of a plugin's must be: a driver's own class goes behind this one.
    __slots__ = ("_loan",)

    _may_be_hidden = False
    _loan: Any


# Past `__setattr__` and `__getattr__`, which are the driver's.
_note: Callable[[PooledConnection, object], None] = vars(LoanedConnection)["_loan"].__set__
_noted: Callable[[PooledConnection, type], Any] = vars(LoanedConnection)["_loan"].__get__


def loan_of(handle: Any) -> Any:
    """What was noted about a handle when it came through a door; None for any other object."""
    kind = type(handle)
    if not issubclass(kind, LoanedConnection):
        return None
    try:
        return _noted(handle, kind)
    except AttributeError:
        return None


class AtTheDoor(Driver):
    """Mixed in front of the class of the driver that was found."""

    patient: bool

    def check_settings(
        self, settings: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Who does not wait for others waits for a connect all the same, and no less long."""
        if not settings["checkout_timeout"]:
            settings = {**settings, "checkout_timeout": None}
        super().check_settings(settings, args, kwargs)

    def is_transient(self, exc: BaseException) -> bool:
        """Who has a deadline may hope until then; others are told at once that a server is down."""
        return self.patient and super().is_transient(exc)


def make_pool(
    creator: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    settings: Mapping[str, Any],
    lends: type[LoanedConnection],
    words: str,
) -> Pool:
    """A `Pool` that lends `lends`, with all of `args` and `kwargs` for the creator.

    Raises `PoolSettingError`, with `words` added, or the driver's own error.
    """
    driver = adapt(
        settings.get("driver") or registry.find(creator),
        AtTheDoor,
        lends,
        registry.dbapi_module(creator),
        patient=bool(settings.get("checkout_timeout")),
    )
    # A partial, since the creator's arguments may be named like settings.
    connect = functools.partial(getattr(creator, "connect", creator), *args, **kwargs)
    try:
        return Pool(connect, **{**settings, "driver": driver})
    except PoolSettingError as exc:
        raise PoolSettingError(f"{exc} ({words})") from exc


def lend(pool: Pool, loan: object) -> Any:
    """A handle of `pool`, borrowed where the program last left its own code, with `loan` noted."""
    handle = pool.lend(_borrower())
    _note(handle, loan)
    return handle


def _borrower() -> FrameType:
    """The frame outside of this package that is asking."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    return frame


def refusal(exc: PoolError, kind: type[PoolError], full: str, words: str, pool: Pool) -> PoolError:
    """The error of a door, of a class derived from `kind`, for one of the pool.

    `full`: what the other pool says when all are lent; `words`: what settings are called here.
    """
    cannot_connect = isinstance(exc, PoolTimeout) and exc.__cause__ is not None
    told = str(exc) if cannot_connect else f"{full}: {exc}"
    return for_driver(kind, pool.driver.module)(f"{told} ({words})")
