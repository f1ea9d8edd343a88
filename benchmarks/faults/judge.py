"""What a pool owes its borrowers under a fault, and who is better than ours.

Looks at what was seen alone; must never run anything.
"""

from __future__ import annotations

from typing import Any

from .catalogue import FAULTS, Fault
from .trial import FAILED, HANGS_AT_CHECKOUT, HANGS_IN_USE, IDLE, TIMEOUT, Seen

GRACE = 0.05
"""Seconds beyond the timeout that a checkout may take; and what the machine itself was late by, up to
`_MOST_LATE`: no pool can wake a thread sooner than that."""
_MOST_LATE = 0.1
HEALS_WITHIN = 1.0
TOLD_WITHIN = 0.5
CONNECTS_PER_SECOND = 10.0
"""What a server that is coming back can bear from one pool, whatever the crowd before it."""
_NOTICED, _SECONDS, _RATE = 1.5, 0.1, 2.0
"""By how much, in times, in seconds and in connects a second, a better figure is no noise."""

BY_NAME = {fault.name: fault for fault in FAULTS}


def broken(fault: Fault, seen: Seen) -> list[str]:
    """The promises that were not kept, in words."""
    return [
        word
        for word, kept in (
            ("lies", not seen.wrong),
            ("late", _in_time(seen)),
            ("errors", seen.ends[FAILED] <= fault.errors_allowed),
            ("hangs", fault.hangs_allowed or not _hangs(seen)),
            ("silent", not fault.permanent or _told(seen)),
            ("does not heal", fault.permanent or _heals(seen)),
            ("storm", fault.kinds == ("sqlite",) or _bearable(seen)),
            ("not told", fault.holder is None or _holder_told(fault, seen)),
        )
        if not kept
    ]


def _in_time(seen: Seen) -> bool:
    return not seen.ends[HANGS_AT_CHECKOUT] and seen.longest <= _allowed(seen)


def _allowed(seen: Seen) -> float:
    return TIMEOUT + GRACE + min(seen.machine_late, _MOST_LATE)


def _hangs(seen: Seen) -> bool:
    return bool(seen.ends[HANGS_IN_USE])


def _told(seen: Seen) -> bool:
    return seen.first_told is not None and seen.first_told <= TOLD_WITHIN


def _bearable(seen: Seen) -> bool:
    return (seen.connects_per_second or 0) <= CONNECTS_PER_SECOND


def _heals(seen: Seen) -> bool:
    return seen.healed is not None and seen.healed <= HEALS_WITHIN


def _holder_told(fault: Fault, seen: Seen) -> bool:
    if seen.held == "hangs":
        return fault.hangs_allowed
    return seen.held is not None and not seen.wrong


# -- who is better ---------------------------------------------------------------------------------


def better(ours: Seen, theirs: Seen, fault: Fault) -> list[str]:
    """In what another pool did better, in words."""
    mine, other = broken(fault, ours), broken(fault, theirs)
    kept = [word for word in mine if word not in other]
    itself = f" (itself: {', '.join(other)})" if other else ""
    found = [f"ours: {', '.join(kept)}{itself}"] if kept else []
    if set(other) - set(mine):
        return found  # a figure is not better that was got by breaking a promise
    if _clearly(ours.healed, theirs.healed, _SECONDS):
        found.append(f"back after {theirs.healed:.2f} s instead of {_seconds(ours.healed)}")
    if _clearly(ours.connects_per_second, theirs.connects_per_second, _RATE):
        found.append(
            f"{theirs.connects_per_second:.0f} connects/s instead of {ours.connects_per_second:.0f}"
        )
    mistakes = [one.ends[FAILED] + one.ends[HANGS_IN_USE] for one in (ours, theirs)]
    if mistakes[1] < mistakes[0]:
        found.append(f"{mistakes[1]} failed statements instead of {mistakes[0]}")
    return found


def _clearly(ours: float | None, theirs: float | None, least: float) -> bool:
    if theirs is None:
        return False
    return ours is None or (ours > theirs * _NOTICED and ours - theirs > least)


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"


# -- in words --------------------------------------------------------------------------------------


def cell(fault: Fault, seen: Seen) -> str:
    """What is shown of one pool under one fault: what its borrowers saw, and the promises broken."""
    parts = [*_work(seen), *_checkouts(seen), *_use(fault, seen), *_healing(fault, seen)]
    text = ", ".join(parts)
    wrong = broken(fault, seen)
    return f"✗ {text} ({', '.join(wrong)})" if wrong else f"✓ {text}"


def _work(seen: Seen) -> list[str]:
    words = [] if seen.held is None else [f"in use: {seen.held}"]
    return words + ([f"**{seen.wrong}**"] if seen.wrong else [])


def _checkouts(seen: Seen) -> list[str]:
    words = []
    told = sorted(key.partition(": ")[2] for key in seen.errors if key.startswith("checkout"))
    if told:
        words.append(f"{'/'.join(told)} after {seen.first_told or 0:.2f} s")
    if seen.ends[HANGS_AT_CHECKOUT]:
        words.append("checkout hangs")
    elif seen.longest > _allowed(seen):
        words.append(f"longest checkout {seen.longest:.2f} s")
    return words


def _use(fault: Fault, seen: Seen) -> list[str]:
    words = []
    if seen.ends[FAILED]:
        words.append(f"{seen.ends[FAILED]} statements fail")
    if seen.ends[HANGS_IN_USE]:
        words.append(f"{min(seen.ends[HANGS_IN_USE], IDLE)} statements hang")
    return words


def _healing(fault: Fault, seen: Seen) -> list[str]:
    words = []
    if seen.connects_per_second is not None:
        words.append(f"{seen.connects_per_second:.1f} connects/s")
    if not fault.permanent:
        words.append("no healing seen" if seen.healed is None else f"back in {seen.healed:.2f} s")
    return words


def as_dict(seen: Seen) -> dict[str, Any]:
    """For JSON."""
    found = dict(vars(seen))
    return {**found, "ends": dict(seen.ends), "errors": dict(seen.errors)}
