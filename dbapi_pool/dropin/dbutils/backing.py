"""`Backed`: the `Pool` behind each of DBUtils' classes, made anew after it was closed.

It puts the parameters, the driver and the settings of `Pool` together. What a parameter means is
known to who derives from it. It must never reach behind `Pool`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import FrameType
from typing import Any, ClassVar

from ...errors import PoolClosed, PoolDeadlock, PoolError, PoolSettingError, PoolTimeout
from ...handles import PooledConnection
from ...pool import Pool
from .handles import LegacyConnection
from .legacy import Legacy, adapt

UNLIMITED = 1_000_000
"""`max_size` where DBUtils has no limit. Room that is not used costs nothing."""

_POOL_SETTINGS = frozenset(Pool.__init__.__kwdefaults__ or ())


class Backed:
    """Whatever lends the connections of a `Pool` of its own."""

    pool_settings: ClassVar[Mapping[str, Any]] = {}
    """For subclasses: settings of `Pool` that win over those made from the parameters."""

    _handle_base: ClassVar[type[LegacyConnection]] = LegacyConnection
    _words: ClassVar[str] = ""  # said with a setting that `Pool` refuses

    def _back(
        self,
        legacy: Legacy,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> None:
        """Remember what the pool is made of. Raises nothing, opens nothing."""
        self._legacy = legacy
        self._args = args
        self._kwargs = kwargs
        self._settings = {**settings, **self.pool_settings}
        # The present pool under the one key None; `close` puts another dict in its place. Not a lock:
        # `setdefault` is atomic too, and a fork cannot copy it half done.
        self._present: dict[None, Pool] = {}

    @property
    def pool(self) -> Pool:
        """The `Pool` behind it, for `stats()` and the like; after it was closed it is another one."""
        return self._pool()

    def _pool(self) -> Pool:
        present = self._present
        return present.get(None) or present.setdefault(None, self._make_pool())

    def _make_pool(self) -> Pool:
        connect, kwargs = self._legacy.connect, self._kwargs
        clashing = {name: kwargs[name] for name in kwargs if name in _POOL_SETTINGS}
        if clashing:
            connect = partial(connect, **clashing)
            kwargs = {name: kwargs[name] for name in kwargs if name not in clashing}
        found = self._settings.get("driver") or self._legacy.driver()
        driver = adapt(found, self._legacy, self._handle_base)
        try:
            return Pool(connect, *self._args, **{**self._settings, **kwargs, "driver": driver})
        except PoolSettingError as exc:
            raise PoolSettingError(f"{exc}{self._words}") from exc

    def _lend(self, frame: FrameType) -> PooledConnection:
        # The way of every borrowing, so it makes no call that it can avoid.
        while True:
            pool = self._present.get(None) or self._pool()
            try:
                return pool.lend(frame)
            except PoolClosed:
                self._forget(pool)
            except (PoolTimeout, PoolDeadlock) as exc:
                raise self._refusal(exc, pool) from exc.__cause__

    def _refusal(self, exc: PoolError, pool: Pool) -> PoolError:
        """What the borrower is told instead."""
        return exc

    def _forget(self, pool: Pool) -> None:
        if self._present.get(None) is pool:
            self._present = {}
        pool.close()
