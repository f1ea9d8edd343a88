"""`Inside`: who is inside a borrowed connection, for pools that look whether threads share one.

PEP 249 lets most drivers' connections be used by one thread at a time only. Stands in the place of the
plain list `Work.inside`, so that pools that do not look pay nothing. It must never know the pool.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from weakref import WeakMethod

from .member import NOBODY, Member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Report = Callable[[Member, tuple[int, int]], None]


class Inside(list):  # type: ignore[type-arg]
    """Notices a thread that comes in while another one is inside, and reports it, once for each
    borrowing."""

    def __init__(self, member: Member, report: Report) -> None:
        super().__init__()
        self._member = member
        self._report = WeakMethod(report)  # what an idle connection refers to keeps nothing alive
        self._reported = 0  # the value of `uses` for which that was done
        self._last = NOBODY

    def __iadd__(self, call: Any) -> Inside:  # type: ignore[misc]
        mine, other = get_ident(), self._last
        self._last = mine
        taken = bool(self)
        super().__iadd__(call)
        member = self._member
        if taken and other != mine and self._reported != member.uses:
            self._reported = member.uses
            report = self._report()
            if report is not None:
                report(member, (other, mine))
        return self
