"""`manage`: a driver's module with a pooled `connect`, for programs that call that and nothing else.

Here is what stands for the module; the pools are in `keyed`. This module must never know a driver.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..drivers.registry import STANDS_FOR, bare_connect
from ..errors import PoolSettingError
from ..pool import Pool
from .keyed import Pools
from .saved import ManagedStats

__all__ = ["ManagedModule", "ManagedStats", "manage"]

MAX_POOLS = 32


class ManagedModule(ModuleType):
    """Stands for a DB-API module: `connect` is pooled, everything else is the driver's.

    Writing an attribute reaches the driver's module. Made by `manage`.
    """

    def __init__(self, module: ModuleType, pools: Pools) -> None:
        super().__init__(module.__name__, module.__doc__)
        stand_ins = {name: stand_in(connect, pools) for name, connect in connects(module).items()}
        origin = {
            name: getattr(module, name, None) for name in ("__package__", "__loader__", "__spec__")
        }
        vars(self).update(origin, _module=module, _pools=pools, **stand_ins)

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's. Borrows a connection from the pool for these arguments."""
        raise AssertionError("each module has its own")  # pragma: no cover

    def pools(self) -> tuple[Pool, ...]:
        """The pools there are now, the last one used last."""
        return self._own_pools().pools()

    def stats(self) -> ManagedStats:
        """What became of the calls so far."""
        return self._own_pools().stats()

    def close(self) -> None:
        """Close every pool: idle connections now, lent ones when they are closed. From now on
        `connect` is the driver's."""
        self._own_pools().close()

    def _own_pools(self) -> Pools:
        return vars(self)["_pools"]  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_module"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(vars(self)["_module"], name, value)

    def __delattr__(self, name: str) -> None:
        delattr(vars(self)["_module"], name)

    def __dir__(self) -> list[str]:
        return sorted({*dir(vars(self)["_module"]), "close", "pools", "stats"})

    def __repr__(self) -> str:
        pools = self._own_pools()
        return f"<{self.__name__!r}, with its connects pooled by dbapi_pool: {pools}>"


def manage(
    module_or_name: ModuleType | str, *, max_pools: int = MAX_POOLS, **settings: Any
) -> ManagedModule:
    """A stand-in for a DB-API module whose `connect()` borrows from a pool, and whose connections'
    `close()` gives back.

    max_pools: calls with other arguments have another pool; when there are so many, the one that was
        unused for longest is closed. If all are in use, the call gets a connection of its own.
    settings: those of `Pool`, for each of the pools. `max_size` is a bound for each; without it there
        is none, so that no program waits that would not without a pool.

    Connections that must not be shared (in memory, asynchronous, ...) are the driver's own, as without
    a pool. The pools are closed when the interpreter ends. Raises `PoolSettingError` for a setting that
    cannot work, `ImportError` for a name that is none.
    """
    module = resolve(module_or_name)
    return ManagedModule(module, Pools(module, max_pools, settings))


def resolve(module_or_name: ModuleType | str) -> ModuleType:
    """The driver's own module. Raises `ImportError`, or `PoolSettingError` if it cannot connect."""
    module: Any = module_or_name
    if isinstance(module, str):
        module = importlib.import_module(module)
    if isinstance(module, ManagedModule):
        module = vars(module)["_module"]
    if not callable(getattr(module, "connect", None)):
        name = getattr(module, "__name__", None) or f"an object of type {type(module).__name__}"
        raise PoolSettingError(f"module_or_name: {name} is no DB-API module: it has no connect()")
    return module  # type: ignore[no-any-return]


def connects(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The names under which a module has its `connect`, and the driver's own function.

    A class is taken for it only where it is called as one: `pymysql.connect` is `pymysql.Connection`,
    and that must remain a class.
    """
    connect = bare_connect(module.connect)
    names = [name for name, value in vars(module).items() if bare_connect(value) is connect]
    called = [name for name in names if name.lower() == "connect" or not isinstance(connect, type)]
    return dict.fromkeys([*called, "connect"], connect)


def stand_in(connect: Callable[..., Any], pools: Pools) -> Callable[..., Any]:
    """A function that stands for the driver's `connect`."""

    @functools.wraps(connect, updated=())
    def pooled(*args: Any, **kwargs: Any) -> Any:
        return pools.lend(args, kwargs, sys._getframe(1))

    setattr(pooled, STANDS_FOR, connect)
    return pooled
