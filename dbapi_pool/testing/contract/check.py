"""`Check`: one promise as a function that can be run, and what came of it.

Holds the list of all checks. It must never know a driver, a pool, or a test runner.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .subject import Subject
    from .trial import Trial

__all__ = ["ABILITIES", "PROMISES", "Broken", "Check", "NotApplicable", "Outcome", "all_checks"]

T = TypeVar("T", bound=BaseException)

KEPT = "kept"
BROKEN = "broken"
NOT_APPLICABLE = "not applicable"

PROMISES = (
    "bound", "exclusive", "clean", "alive", "no_lies", "deadline", "nothing_leaks", "fork", "heals",
    "tells", "drop_in", "transactions",
)  # fmt: skip
"""What is promised, in a word each. The name of every test begins with one."""

ABILITIES = {
    "alive": "knows of a dead connection without a round trip",
    "attributes": "restores changed attributes without closing the connection",
    "disconnect": "tells an error of a lost connection from any other",
    "fork": "cuts an inherited connection off",
    "interrupt": "cuts a call that blocks in another thread",
    "retry": "tells a conflict between transactions from any other error",
    "transient": "tells a failed connect that is worth another try from one that is not",
}
"""What a driver may lack: names for `Knowledge.lacks`."""


class Broken(AssertionError):
    """A promise was not kept."""


class NotApplicable(Exception):
    """A check makes no sense here; the text says why."""


@dataclass(frozen=True)
class Outcome:
    """What came of one check."""

    state: str
    """`"kept"`, `"broken"` or `"not applicable"`."""
    detail: str
    """Why; may be empty if it was kept. Never a password of the connect arguments."""
    seconds: float


@dataclass(frozen=True)
class Check:
    """One promise, for one driver."""

    name: str
    """In words with underscores; no other check has it."""
    promise: str
    """One of `PROMISES`."""
    text: str
    """The promise in one line."""
    read_only: bool
    """Whether it runs on any database: it makes no table and writes nothing."""
    needs: tuple[str, ...]
    """Abilities of the driver, by name."""
    function: Callable[[Trial], object]

    def try_on(self, subject: Subject) -> object:
        """Run it. Raises `Broken` or whatever else went wrong, or `NotApplicable`."""
        subject.refuse_what_it_lacks((self.name, *self.needs))
        with subject.trial() as trial:
            return self.function(trial)

    def run(self, subject: Subject) -> Outcome:
        """Run it; what came of it. Raises nothing but what is no `Exception`."""
        start = time.monotonic()
        try:
            state, detail = KEPT, self.try_on(subject) or ""
        except NotApplicable as exc:
            state, detail = NOT_APPLICABLE, str(exc)
        except Broken as exc:
            state, detail = BROKEN, str(exc)
        except Exception as exc:
            state, detail = BROKEN, f"{type(exc).__name__}: {exc}"
        return Outcome(state, subject.redacted(str(detail)), time.monotonic() - start)


_checks: dict[str, Check] = {}


def promise(
    word: str, *, read_only: bool = False, needs: Sequence[str] = ()
) -> Callable[[Callable[[Trial], object]], Callable[[Trial], object]]:
    """Make a function a check. Its name and the first line of its docstring are the check's.

    The function raises `Broken`, or whatever the driver raises, if the promise is not kept, and may
    return words on what it found.
    """
    if word not in PROMISES or not ABILITIES.keys() >= set(needs):
        raise ValueError(f"no such promise or ability: {word!r}, {needs!r}")

    def register(function: Callable[[Trial], object]) -> Callable[[Trial], object]:
        name = function.__name__
        if name in _checks:
            raise ValueError(f"two checks are named {name!r}")
        text = (function.__doc__ or "").partition("\n")[0]
        _checks[name] = Check(name, word, text, read_only, tuple(needs), function)
        return function

    return register


def all_checks() -> Sequence[Check]:
    """Every check that takes no `Dirt`, in the order of `PROMISES`."""
    return sorted(_checks.values(), key=lambda check: PROMISES.index(check.promise))


def require(condition: object, text: str) -> None:
    """Raise `Broken(text)` unless the condition is true."""
    if not condition:
        raise Broken(text)


def same(found: Any, expected: Any, what: str) -> None:
    """Raise `Broken` unless both are equal."""
    require(found == expected, f"{what}: {found!r}, not {expected!r}")


def raises(kind: type[T], act: Callable[[], object], what: str) -> T:
    """The error of class `kind` that `act()` raises. `Broken` if it raises nothing, or another."""
    try:
        act()
    except NotApplicable:
        raise
    except kind as exc:
        return exc
    except Exception as exc:
        raise Broken(f"{what}: raised {type(exc).__name__}: {exc}, not {kind.__name__}") from exc
    raise Broken(f"{what}: raised nothing, not {kind.__name__}")
