"""Whether those who wait wait for themselves: a suspicion, and its proof.

Suspicious is a pool whose every connection was borrowed by a thread that now waits for another one.
But a borrowed connection may have been passed on, to a thread that will return it. So the proof is
that no other thread can get at one: none has it at hand, and none has anything by which the garbage
collector's own map of references leads to it. In doubt nothing is said, and the waiter's timeout
decides. This module reads the ledger, does no I/O, and must never know a driver.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import ModuleType

from .ledger import Ledger, Stuck, Waiter
from .member import NEVER
from .system import System

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TWICE = 0.05  # seconds between the two proofs that it takes where other threads live
_DOUBT_FIRST = 1.0  # seconds until a doubtful case is looked at again, then twice as many, up to
_DOUBT_MOST = 16.0
_MANY = 1000  # so many things that lead to a connection are not worth following further
_PROBE = [object()]  # to see whether what a thing refers to is on the map


class Inspector:
    """Looks for deadlocks in one pool, and not too often: it reads the whole map of references."""

    def __init__(self, ledger: Ledger, system: System) -> None:
        self._ledger = ledger
        self._system = system
        self._doubted: list[Any] = []  # the case that was looked at last; it keeps nothing alive
        self._next = NEVER  # not before: that same case
        self._pause = _DOUBT_FIRST
        self._sure = NEVER  # from then on another proof counts

    def look(self, waiter: Waiter, now: float) -> tuple[list[Stuck], float]:
        """Those who wait for each other, if `waiter` is one of them; it is out of the line then. Else
        an empty list, and the seconds after which to look again."""
        suspects = self._ledger.stuck(waiter)
        if not suspects:
            return [], NEVER
        case = [(one.place.ref, one.uses) for one in suspects]
        if case != self._doubted:
            self._doubted, self._next, self._pause = case, now, _DOUBT_FIRST
            self._sure = NEVER
        if now < self._next:
            return [], self._next - now
        at_hand = self._system.in_reach_of_others({one.waiter.thread for one in suspects})
        if self._is_proven(suspects, at_hand):
            if not at_hand or now >= self._sure:
                return self._ledger.leave_stuck(waiter, suspects), NEVER
            # What a thread passes on at this moment is in none of its variables: it may have got it
            # from a thread that has ended, and whose number a thread that waits has now.
            self._sure = self._next = now + _TWICE
            return [], _TWICE
        self._sure = NEVER
        pause, self._pause = self._pause, min(2 * self._pause, _DOUBT_MOST)
        self._next = now + pause
        return [], pause

    def _is_proven(self, suspects: list[Stuck], at_hand: list[Any] | None) -> bool:
        if at_hand is None:
            return False
        if at_hand and leads_to(at_hand, [one.place.ref() for one in suspects]):
            return False
        # What is in a cycle that nobody can reach will come back: `leave_stuck` sees it.
        self._system.collect_garbage()
        return True


def leads_to(starts: list[Any], ends: list[Any]) -> bool:
    """Whether one may get from one of `starts`, or from a module, to one of `ends`; when in doubt:
    yes. Weak references do not count."""
    near = {id(thing) for thing in (*starts, *_globals())}
    here = list(ends)
    seen = {id(thing): thing for thing in here}  # kept, so that no other gets its number
    while here:
        if not near.isdisjoint(map(id, here)) or any(map(_is_module, here)):
            return True
        known = {id(ends), id(here), id(seen), *seen}
        here = [thing for thing in _referrers(here) if id(thing) not in known]
        seen.update((id(thing), thing) for thing in here)
        if len(seen) > _MANY:
            return True
    # By `gc.freeze`, what existed then is taken off the map: also this one.
    return not any(thing is _PROBE for thing in _referrers(_PROBE))


def _globals() -> Iterator[Any]:
    for module in tuple(sys.modules.values()):
        if _is_module(module):
            namespace = vars(module)
            yield namespace  # not always on the map without the GIL, hence:
            yield from tuple(namespace.values())


def _referrers(things: list[Any]) -> list[Any]:
    """What refers to these. Without a comprehension: what that is made of would be on the map too."""
    found = []
    mark = (
        object()
    )  # by which to know the call's own arguments: on some Pythons they are found, too
    for thing in gc.get_referrers(*things, mark):
        if not (type(thing) is tuple and thing and thing[-1] is mark):
            found.append(thing)
    return found


def _is_module(thing: Any) -> bool:
    return issubclass(type(thing), ModuleType)
