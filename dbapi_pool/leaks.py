"""`Leaks`: connections that have been lent for longer than `leak_after`, and what became of them.

Decides what is worth a report, and words it. It must never log, nor know the pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from sys import _current_frames, _getframe
from types import FrameType

from .ledger import Census
from .member import Member, Site, line_of

_DEEPEST = 40  # calls of a stack that are kept
_HERE = __name__.partition(".")[0] + "."


class Suspect:
    """One borrowing that takes long. Times are the keeper's."""

    __slots__ = ("member", "since", "site", "uses")

    def __init__(self, member: Member) -> None:
        self.member = member
        self.uses = member.uses
        self.since = member.since
        self.site = line_of(member.code, member.lasti)

    @property
    def is_over(self) -> bool:
        """Whether it has ended. (Another may follow it.)"""
        return self.member.uses != self.uses or self.member.thread == 0

    def ended_at(self, now: float) -> float:
        """When that was; `now` where it is not known."""
        returned = self.member.returned
        return returned if self.since <= returned <= now else now


class Leaks:
    """Those of one pool."""

    def __init__(self, after: float | None) -> None:
        self._after = after
        self._suspects: dict[int, Suspect] = {}  # by connection

    def new(self, census: Census, now: float) -> Iterator[Suspect]:
        """Those that have become suspect since the last look."""
        if self._after is None:
            return
        for place in census.lent:
            member = place.member
            if member is not None and now - member.since >= self._after:
                known = self._suspects.get(member.number)
                if known is None or known.uses != member.uses:
                    self._suspects[member.number] = suspect = Suspect(member)
                    yield suspect

    def over(self) -> Iterator[Suspect]:
        """Those that came back after all, each once."""
        for number, suspect in tuple(self._suspects.items()):
            if suspect.is_over:
                self._suspects.pop(number, None)
                yield suspect

    @property
    def overdue(self) -> int:
        """How many there are now, as of the last look."""
        return sum(not suspect.is_over for suspect in tuple(self._suspects.values()))

    def forget(self, member: Member) -> None:
        """It will not come back: nobody has it any more."""
        self._suspects.pop(member.number, None)


def calls(frame: FrameType | None) -> tuple[Site, ...]:
    """Who called whom, up to that frame; the innermost call comes last, and this package's own at that
    end are left out."""
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
    sites: list[Site] = []
    while frame is not None and len(sites) < _DEEPEST:
        sites.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(reversed(sites))


def callers_line(thread: int) -> str:
    """The `file:line` at which that thread has called into this package."""
    frame = _current_frames().get(thread)
    while frame is not None and not _is_ours(frame):  # it is in the driver
        frame = frame.f_back
    sites = calls(frame)
    return line_of(*sites[-1]) if sites else "?"


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_HERE)


def calls_here() -> tuple[Site, ...]:
    """As `calls`, of whoever calls into this package now."""
    return calls(_getframe(1))


def in_lines(stack: tuple[Site, ...]) -> str:
    """One line for each call: `file:line in function`."""
    return "\n".join(f"  {line_of(code, lasti)} in {code.co_name}" for code, lasti in stack)
