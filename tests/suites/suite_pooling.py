"""Puts a pooled `connect` in the place of a driver's own: everything that a suite's process does to it.

What `dbapi_pool.patch` gives a program is what the suites get.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

from dbapi_pool import Pool, PoolSettingError, patch
from dbapi_pool.drivers import Driver, registry
from dbapi_pool.dropin.faithful import faithful, lent

SETTINGS: dict[str, Any] = {}
"""Of every pool."""


def pool(module: ModuleType, fresh: bool) -> Callable[[], str]:
    """From now on `connect` is pooled: with one pool for each set of arguments, or, `fresh`, with a new
    pool for each call. What is given tells how many connections that were, as JSON."""
    bare: Callable[..., Any] = module.connect
    names = [name for name, value in vars(module).items() if value is bare]
    managed = patch(module, **SETTINGS).start()
    if not fresh:
        return lambda: _told(managed.stats())
    borrow = _pool_each_call(module, bare)
    for name in names:
        if getattr(module, name) is not bare:  # `patch` has replaced it
            setattr(module, name, borrow)
    return lambda: ""


def _told(stats: Any) -> str:
    names = ("connects", "unpooled", "opened")
    return json.dumps({name: getattr(stats, name) for name in names})


def _pool_each_call(module: ModuleType, bare: Callable[..., Any]) -> Callable[..., Any]:
    """Unlike `patch`, this lends also what closing would lose, a database in memory: so that its tests
    meet a borrowed connection, not the driver's own."""

    @functools.wraps(bare, updated=())
    def connect(*args: Any, **kwargs: Any) -> Any:
        driver = faithful(registry.find(module) or Driver(module))
        creator = functools.partial(bare, *args, **kwargs)
        try:
            borrowed = Pool(creator, driver=driver, max_size=1, **SETTINGS).connection()
        except (PoolSettingError, ValueError):  # of a kind that no pool lends
            return bare(*args, **kwargs)
        return lent(borrowed, functools.partial(connect, *args, **kwargs))

    return connect
