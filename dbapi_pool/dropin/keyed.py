"""`Pools`: a pool for each set of arguments that a `connect` is called with.

Here is which pool serves a call, and which calls none can serve; how a borrowed connection behaves is
in `faithful`, what arguments have in common in `keys`. This module must never reach behind `Pool`.
"""

from __future__ import annotations

import atexit
import copy
import functools
import logging
import re
import sys
import time
import weakref
from collections.abc import Mapping
from types import FrameType, ModuleType
from typing import Any

from ..checks import whole
from ..drivers import Driver, registry
from ..drivers.registry import bare_connect
from ..errors import PoolClosed, PoolSettingError
from ..logs import logger_of
from ..options import Options
from ..pool import Pool
from ..process import unused_name
from ..stats import PoolStats
from .faithful import faithful, lent
from .keys import Key, NoKey, key_of
from .saved import ManagedStats, Stopwatch, Sum

__all__ = ["UNLIMITED", "Pools"]

log = logging.getLogger("dbapi_pool.manage")

UNLIMITED = 1_000_000
"""`max_size` where none is given: no program shall wait that would not without a pool. Room that is not
used costs nothing."""

_SETTINGS = frozenset(Pool.__init__.__kwdefaults__ or ())
_NOT_OPTIONS = {"driver": None, "name": None, "clock": None}
_PATIENCE = 1.0  # seconds that a driver gets to close what is idle
_MOST_REFUSED = 1_000  # keys to remember


class _Entry:
    """One pool, and when it was used last."""

    __slots__ = ("__weakref__", "pool", "used")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.used = time.monotonic()

    def is_idle(self) -> bool:
        """Whether nobody has, or waits for, a connection of it."""
        stats = self.pool.stats()
        return not (stats.in_use or stats.opening or stats.waiting or stats.cleaning)


def _keep_off_stderr(name: str) -> None:
    """A program that has set up no logging sees nothing on stderr that it would not see without pools:
    logging writes warnings there that no handler takes."""
    logger = logger_of(name)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


_TOTALS = ("checkouts", "opened", "waits", "wait_time")


class Pools:
    """The pools of one module.

    No lock: a fork could copy it locked. What several threads change are dictionaries, in single steps.
    """

    def __init__(self, module: ModuleType, max_pools: int, settings: Mapping[str, Any]) -> None:
        """Raises `PoolSettingError`."""
        whole(1)("max_pools", max_pools)
        self.module = module
        self._connect = bare_connect(module.connect)
        self._max_pools = max_pools
        self._settings = _checked({"max_size": UNLIMITED, **settings})
        if self._settings.get("native"):
            from ..native import NOT_BY_A_DROP_IN

            raise PoolSettingError(NOT_BY_A_DROP_IN)
        self._entries: dict[Key, _Entry] = {}
        self._refused: dict[Key, None] = {}
        self._past = {name: Sum() for name in _TOTALS}  # of pools that are closed
        self._last: tuple[PoolStats, ...] = ()
        self._made = 0
        self._unpooled = Sum()
        self._stopwatch = Stopwatch()
        self._closed = False
        _all.add(self)

    # -- borrowing --------------------------------------------------------------------------------

    def lend(self, args: tuple[Any, ...], kwargs: dict[str, Any], frame: FrameType | None) -> Any:
        """A connection for these arguments: from a pool, or one of its own."""
        try:
            key = key_of(args, kwargs, self._driver.bare.environment)
        except NoKey as exc:
            log.debug("%s: not pooled: %s", self.module.__name__, exc)
            return self._unshared(args, kwargs)
        while (entry := self._entry(key, args, kwargs)) is not None:
            entry.used = time.monotonic()
            try:
                borrowed: Any = entry.pool.lend(frame or sys._getframe(1))
            except ValueError as exc:  # the driver's connection, or its arguments: nothing to lend
                log.debug("%s: not pooled: %s", self.module.__name__, exc)
                self._retire(key, entry)
                self._refused[key] = None
                return self._unshared(args, kwargs)
            except PoolClosed:  # it was idle for longest until now
                if not entry.pool.closed:
                    raise
                self._entries.pop(key, None)
                continue
            return lent(borrowed, functools.partial(self.lend, args, kwargs, None))
        return self._unshared(args, kwargs)

    def _unshared(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        conn = self._connect(*args, **kwargs)
        self._unpooled.add(1)
        return conn

    @functools.cached_property
    def _driver(self) -> Driver:
        """What is known about the driver, whatever the arguments are."""
        return self._new_driver()

    @property
    def unwrapping(self) -> tuple[str, ...]:
        """See `Bare`."""
        return self._driver.bare.unwrapping

    def _new_driver(self) -> Driver:
        given = self._settings.get("driver")
        if given is not None:
            return copy.copy(given)  # type: ignore[no-any-return]
        return registry.find(self.module) or Driver(self.module)

    def _entry(self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Entry | None:
        """The pool for a call; None: there can be none."""
        entry = self._entries.get(key)
        if entry is not None or self._closed or key in self._refused:
            return entry
        pool = self._make_pool(args, kwargs)
        if pool is None:
            if len(self._refused) >= _MOST_REFUSED:
                self._refused = {}
            self._refused[key] = None
            return None
        return self._enter(key, pool)

    def _make_pool(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pool | None:
        self._made += 1
        prefix = self._settings.get("name") or self.module.__name__
        name = " ".join(filter(None, [f"{prefix}-{self._made}", _place(kwargs)]))
        driver = faithful(self._new_driver())
        settings = {**self._settings, "driver": driver, "name": unused_name(name)}
        connect = self._connect
        if driver.bare.connects_later:
            vars(driver)["connected"] = self._stopwatch.timing(driver.connected)
        else:
            connect = self._stopwatch.timing(connect)
        creator = functools.partial(connect, *args, **kwargs)  # whatever they are called
        _keep_off_stderr(settings["name"])
        try:
            pool = Pool(creator, **settings)
        except PoolSettingError as exc:
            log.debug("%s: not pooled: %s", self.module.__name__, exc)
            return None
        if not driver.expendable:
            log.debug("%s: not pooled: closing a connection ends its data", self.module.__name__)
            pool.close(timeout=0)
            return None
        return pool

    def _enter(self, key: Key, pool: Pool) -> _Entry | None:
        mine = _Entry(pool)
        entry = self._entries.setdefault(key, mine)
        if entry is not mine:  # another thread was quicker
            pool.close(timeout=0)
        elif self._closed or not self._make_room(key):
            self._retire(key, mine)
            return None
        return entry

    def _make_room(self, key: Key) -> bool:
        """Close pools, longest unused first, until there are no more than allowed; none of them is
        that of `key`."""
        others = [(one.used, id(one), at) for at, one in self._entries.copy().items() if at != key]
        for _, _, at in sorted(others):
            if len(self._entries) <= self._max_pools:
                break
            entry = self._entries.get(at)
            if entry is not None and entry.is_idle():
                self._retire(at, entry)
        if len(self._entries) <= self._max_pools:
            return True
        log.debug("%s: not pooled: %s pools are in use", self.module.__name__, self._max_pools)
        return False

    def _retire(self, key: Key, entry: _Entry) -> None:
        if self._entries.pop(key, None) is entry:
            entry.pool.close(timeout=0)
            stats = entry.pool.stats()
            for name, total in self._past.items():
                total.add(getattr(stats, name))

    # -- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Close every pool; calls get connections of their own from now on."""
        self._closed = True
        pools = self.pools()
        for key, entry in self._entries.copy().items():
            self._retire(key, entry)
        end = time.monotonic() + _PATIENCE
        for pool in pools:
            if pool.stats().closing:
                pool.close(timeout=max(0.0, end - time.monotonic()))
        self._last = self._last or tuple(pool.stats() for pool in pools)

    # -- what can be seen -------------------------------------------------------------------------

    def pools(self) -> tuple[Pool, ...]:
        """The last one used last."""
        entries = sorted(self._entries.copy().values(), key=lambda entry: entry.used)
        return tuple(entry.pool for entry in entries)

    def stats(self) -> ManagedStats:
        """Totals, those of closed pools included."""
        present = tuple(pool.stats() for pool in self.pools())
        totals = {
            name: past.value + sum(getattr(stats, name) for stats in present)
            for name, past in self._past.items()
        }
        unpooled = int(self._unpooled.value)
        return ManagedStats(
            module=self.module.__name__,
            connects=unpooled + int(totals["checkouts"]),
            unpooled=unpooled,
            opened=int(totals["opened"]),
            connect_time=self._stopwatch.total.value,
            first_connect_time=self._stopwatch.first or 0.0,
            waits=int(totals["waits"]),
            wait_time=totals["wait_time"],
            pools=present or self._last,
        )

    def __repr__(self) -> str:
        stats = self.stats()
        state = "closed" if self._closed else f"{len(stats.pools)} pools"
        return f"{state}, {stats.connects} connects, {stats.opened} opened"


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(settings.keys() - _SETTINGS)
    if unknown:
        raise PoolSettingError(
            f"{unknown[0]}={settings[unknown[0]]!r}: is no setting of a pool; what connect() needs is"
            " passed to connect()"
        )
    Options(**{name: settings[name] for name in settings if name not in _NOT_OPTIONS})
    driver = settings.get("driver")
    if driver is not None and not isinstance(driver, Driver):
        raise PoolSettingError(f"driver={driver!r}: must be a Driver instance, or None")
    return settings


_SHOWN = ("user", "host", "unix_socket", "port", "database", "dbname", "db")
_HARMLESS = re.compile(r"[\w./-]+", re.ASCII).fullmatch  # nothing that a URL needs for a password


def _place(kwargs: Mapping[str, Any]) -> str:
    """Where arguments lead, for people, as far as they say so by themselves."""
    given = [str(kwargs[name]) for name in _SHOWN if isinstance(kwargs.get(name), (str, int))]
    return f"({' '.join(given)})" if given and all(map(_HARMLESS, given)) else ""


# -- the end of the process ------------------------------------------------------------------------

_all: weakref.WeakSet[Pools] = weakref.WeakSet()


def _at_exit() -> None:
    for pools in tuple(_all):
        pools.close()


atexit.register(_at_exit)
