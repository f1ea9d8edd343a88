"""`adapt`: a driver like the one that serves a creator, but for what users of a drop-in expect.

What a drop-in changes it says in a class that is mixed in front of the class of the driver, which
may be known only when the first connection is there. This module must never know a pool.
"""

from __future__ import annotations

import copy
import functools
import threading
from types import ModuleType
from typing import Any

from ..drivers import Driver, registry


def adapt(
    driver: Driver | None,
    mixin: Any,
    lends: Any,
    module: ModuleType | type | None = None,
    **attributes: Any,
) -> Driver:
    """A driver like `driver` (None: like the one that the first connection tells of), with `mixin`, a
    class of drivers, in front of its class, and these attributes. What it lends is `lends`, a class of
    handles, in front of the driver's own.

    `module`: what carries the PEP 249 errors, if the driver does not know.
    """
    made: Any
    if driver is None:
        made = _mixed(mixin, _Undiscovered)()
        made._mixin, made._lends = mixin, lends
    else:
        made = copy.copy(driver)
        made.__class__ = _mixed(mixin, _class_of(driver))
    made.handle_base = _in_front(lends, made.handle_base)
    made.module = made.module or module
    made.__dict__.update(attributes)
    return made  # type: ignore[no-any-return]


class _Undiscovered(Driver):
    """Turns into the driver that the first connection belongs to."""

    _mixin: Any  # mypy holds that a type may not be hashable, as a cache's arguments must be
    _lends: Any

    def __init__(self, module: ModuleType | type | None = None) -> None:
        super().__init__(module)
        # Guards the turning, since first connections may be opened at once and the driver found may
        # remember things about the one that it met.
        self._discovering = threading.Lock()

    def connected(self, conn: Any) -> None:
        with self._discovering:
            if isinstance(self, _Undiscovered):
                self._turn(registry.find(type(conn)) or Driver(), type(conn))
        super(self._mixin, self).connected(conn)

    def _turn(self, found: Driver, kind: type) -> None:
        module = self.module or found.module or registry.dbapi_module(kind)
        self.__dict__.update(vars(found), module=module)
        self.handle_base = _in_front(self._lends, _class_of(found).handle_base)
        self.__class__ = _mixed(self._mixin, _class_of(found))


def _class_of(driver: Driver) -> Any:
    return type(driver)


@functools.cache
def _mixed(mixin: Any, kind: Any) -> Any:
    return type(kind.__name__, (mixin, kind), {})


@functools.cache
def _in_front(lends: Any, base: Any) -> Any:
    if base is None or issubclass(lends, base):
        return lends
    return type(lends.__name__, (lends, base), {"__slots__": (), "__doc__": lends.__doc__})
