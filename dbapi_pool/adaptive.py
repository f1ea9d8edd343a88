"""`Adaptive`: how many connections a pool may have now, between `min_size` and `max_size`.

Arithmetic over what the housekeeper sees. It must never know a pool, a clock, or a connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import ceil

from .checks import seconds, whole

_MORE = 1.25
"""A step up is to so many times as many, and one down leaves so many times what is needed."""
_LESS = 0.75
"""What is kept where the server has no more to give."""


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """Settings for `Pool(sizing=...)`. Times are seconds. Raises `PoolSettingError`.

    The pool begins with `start` connections at most, and is allowed more, up to `max_size`, while
    borrowers wait for longer than `wait`. It is allowed fewer, down to `min_size`, when for `calm`
    seconds nobody had to wait so long and it never used that many. When the server refuses a
    connection since it has too many, the pool makes do with three quarters of what it has, and asks
    for more after `hold`: several pools that do so come to equal parts.
    """

    wait: float = 0.01
    """How long a borrower may wait before the pool is allowed more."""
    calm: float = 60.0
    """For how long it must have been too large before it is allowed less."""
    hold: float = 30.0
    """For how long it is not allowed more after the server had none left."""
    start: int | None = None
    """With how many it begins; None: `min_size`, 1 at least."""

    def __post_init__(self) -> None:
        for field in fields(self):
            check = whole(1, optional=True) if field.name == "start" else seconds(above_zero=True)
            check(field.name, getattr(self, field.name))


@dataclass(frozen=True)
class Sight:
    """What the housekeeper sees, at one moment."""

    now: float
    least: int
    """`min_size`, 1 at least."""
    most: int
    """`max_size`."""
    open: int
    """Connections that are open or opening."""
    used: Sequence[float]
    """Of each that is open: when it was last given back, or this moment if it is not. As the one that
    came back last is lent first, so many were needed at once as were used at all."""
    waiting_for: float
    """How long the first in line has waited; 0: nobody waits."""
    waited: float
    """Seconds that borrowers have waited in all, since the pool began."""
    checkouts: int
    refused: int
    """Borrowers that were refused a connection."""
    full: int
    """How often the server was found to have no connection left."""


class Governor:
    """The limit of one pool, as time goes by."""

    def __init__(self, settings: Adaptive, least: int, most: int) -> None:
        self._settings = settings
        self.limit = min(max(settings.start or least, least, 1), most)
        self._before: Sight | None = None
        self._calm_since = 0.0
        self._held_until = float("-inf")

    @property
    def pace(self) -> float:
        """Seconds between two looks while somebody waits."""
        return self._settings.wait

    @property
    def rest(self) -> float:
        """And while nobody does."""
        return self._settings.calm / 10

    def look(self, sight: Sight) -> int:
        """The limit from now on."""
        before, self._before = self._before, sight
        if before is None:
            self._begin_anew(sight)
        elif sight.full > before.full:
            self._give_back(sight)
        elif self._is_short(before, sight):
            self._grow(sight)
        else:
            self._shrink(sight)
        self.limit = min(max(self.limit, sight.least), sight.most)
        return self.limit

    def _is_short(self, before: Sight, sight: Sight) -> bool:
        """Whether borrowers wait for too long, and for a connection more."""
        if sight.open < self.limit:  # it is not the limit that they wait for
            return False
        if sight.refused > before.refused or sight.waiting_for > self._settings.wait:
            return True
        served = sight.checkouts - before.checkouts
        return served > 0 and (sight.waited - before.waited) / served > self._settings.wait

    def _grow(self, sight: Sight) -> None:
        self._begin_anew(sight)
        if sight.now >= self._held_until:
            self.limit = max(self.limit + 1, int(self.limit * _MORE))

    def _give_back(self, sight: Sight) -> None:
        self._begin_anew(sight)
        self._held_until = sight.now + self._settings.hold
        # Not of what is opening: that is what the server has no room for.
        self.limit = int(min(self.limit, len(sight.used)) * _LESS)

    def _shrink(self, sight: Sight) -> None:
        if sight.now - self._calm_since < self._settings.calm:
            return
        needed = sum(one > self._calm_since for one in sight.used)
        # One more, so that it is not at its limit as soon as it has shrunk.
        self.limit = min(self.limit, ceil(needed * _MORE) + 1)
        self._begin_anew(sight)

    def _begin_anew(self, sight: Sight) -> None:
        self._calm_since = sight.now
