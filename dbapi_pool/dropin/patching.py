"""`patch`: a driver's own module has a pooled `connect`, until that is undone.

    with patch("pymysql", max_size=20):
        main()  # whoever calls pymysql.connect() there, gets a pooled connection

Here is which names are replaced, and how they come back; what stands in for `connect` is made by
`managed`. This module must never know a pool.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType, TracebackType
from typing import Any

from ..drivers.registry import bare_connect
from ..handles import PooledConnection
from .keyed import Pools
from .managed import MAX_POOLS, ManagedModule, connects, manage, resolve, stand_in

__all__ = ["patch"]

# Guards which stand-in is in the place of which name: patches may start and stop in several threads.
# No I/O is done under it; re-entrant, since importing a driver may start another patch.
_placing = threading.RLock()

_BELOW = "__dbapi_pool_below__"


class patch:  # as `unittest.mock.patch`, called like a function
    """Have `connect` of a DB-API module borrow from a pool, in place, for as long as this lasts.

    Arguments as for `manage`. As a context manager, or by `start()` and `stop()`; both give the same
    thing as `manage`, for `stats()` and `pools()`. Patches may be nested: then the inner one counts.
    The same may be entered again while it lasts: then the last exit ends it.

    Replaced are the module's own names for `connect`, and the same names in modules that have imported
    them from there (`from pymysql import connect`). Whoever keeps it under another name keeps the
    driver's own. When it ends, the pools are closed.
    """

    def __init__(
        self, module_or_name: ModuleType | str, *, max_pools: int = MAX_POOLS, **settings: Any
    ) -> None:
        """Imports the driver. Raises as `manage` does."""
        self._module = resolve(module_or_name)
        self._make = functools.partial(manage, self._module, max_pools=max_pools, **settings)
        self._managed: ManagedModule | None = None
        self._depth = 0
        self._placed: list[_Placed] = []
        Pools(self._module, max_pools, settings)  # refuses now what it would refuse later

    def start(self) -> ManagedModule:
        """Put the pooled `connect` in place."""
        with _placing:
            if self._managed is None:
                self._managed = self._make()
                self._placed = list(_place(self._module, vars(self._managed)["_pools"]))
            self._depth += 1
            return self._managed

    def stop(self) -> None:
        """Put back what was there before, and close the pools. Does nothing if it is not started."""
        with _placing:
            if self._managed is None:
                return
            self._depth -= 1
            if self._depth:
                return
            managed, self._managed = self._managed, None
            for placed in self._placed:
                placed.undo()
            self._placed = []
        managed.close()

    def __enter__(self) -> ManagedModule:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "started" if self._depth else "not started"
        return f"<patch of {self._module.__name__!r}, {state}>"


class _Placed:
    """A function in the place of another one. Those of several patches lie upon each other."""

    def __init__(self, module: Any, name: str, function: Any) -> None:
        self._module = module
        self._name = name
        self._function = function
        setattr(function, _BELOW, getattr(module, name))
        setattr(module, name, function)

    def undo(self) -> None:
        """Take it away from wherever it lies. Where somebody else has put something, that stays."""
        above: Any = None
        found: Any = getattr(self._module, self._name, None)
        while found is not None and found is not self._function:
            above, found = found, getattr(found, _BELOW, None)
        if found is None:
            return
        below = getattr(self._function, _BELOW)
        if above is None:
            setattr(self._module, self._name, below)
        else:
            setattr(above, _BELOW, below)


def _place(module: ModuleType, pools: Pools) -> Iterator[_Placed]:
    for name, connect in connects(module).items():
        for place in _homes(module, name, connect):
            yield _Placed(place, name, stand_in(connect, pools))
    for where in pools.unwrapping:
        yield from _unwrap(*where.split(":"))


def _unwrap(home: str, name: str) -> Iterator[_Placed]:
    """Have a function, wherever that name leads to it, or a method, given the driver's connections."""
    module = importlib.import_module(home)
    kind, _, method = name.rpartition(".")
    if kind:
        owner = getattr(module, kind)
        yield _Placed(owner, method, _unwrapping(getattr(owner, method)))
        return
    function: Callable[..., Any] = getattr(module, name)
    others: list[Any] = list(sys.modules.values())  # it may hold anything
    for place in others:
        if isinstance(place, ModuleType) and vars(place).get(name) is function:
            yield _Placed(place, name, _unwrapping(function))


def _homes(module: ModuleType, name: str, connect: Callable[..., Any]) -> list[ModuleType]:
    """The module, and all that have imported the name from it, but for the driver's own: there it may
    be the class of its connections."""
    root = module.__name__.partition(".")[0]
    homes = [module]
    others: list[Any] = list(sys.modules.values())  # it may hold anything
    for place in others:
        inside = getattr(place, "__name__", None)
        if place is module or not isinstance(place, ModuleType) or not isinstance(inside, str):
            continue
        if bare_connect(vars(place).get(name)) is connect:
            # sqlite3.dbapi2 is a module that programs import.
            if inside.partition(".")[0] != root or inside == f"{root}.dbapi2":
                homes.append(place)
    return homes


def _unwrapping(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that looks in C for the driver's connections, and is given borrowed ones."""

    @functools.wraps(function)
    def unwrapped(*args: Any, **kwargs: Any) -> Any:
        return function(*map(_own, args), **{name: _own(value) for name, value in kwargs.items()})

    return unwrapped


def _own(value: Any) -> Any:
    return value.driver_connection if isinstance(value, PooledConnection) else value
