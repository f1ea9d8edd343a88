"""Known bugs for copies of the core: what a search must find, or it proves nothing.

A `Bug` is a function of the core with a part of its source replaced. That part must be there: a bug
that no longer fits the core is an error. Must never be planted but for the time of a search.
"""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from dbapi_pool import handles, keeper, ledger, pool

LOCAL, REMOTE = "local", "remote"


@dataclass(frozen=True)
class Change:
    """In `function`, the first of each pair becomes the second."""

    owner: type | ModuleType
    function: str
    edits: tuple[tuple[str, str], ...]

    def copy(self) -> FunctionType:
        """The function with the bug."""
        original = vars(self.owner)[self.function]
        source = textwrap.dedent(inspect.getsource(original))
        for old, new in self.edits:
            assert source.count(old) == 1, f"not once in {self.function}: {old}"
            source = source.replace(old, new)
        lines = "\n" * (original.__code__.co_firstlineno - 1) + source
        annotations = __future__.annotations.compiler_flag
        code = compile(lines, original.__code__.co_filename, "exec", annotations, True)
        made: dict[str, Any] = {"nullcontext": nullcontext}
        exec(code, original.__globals__, made)
        copy = made[self.function]
        assert isinstance(copy, FunctionType)
        return copy


@dataclass(frozen=True)
class Bug:
    """What is wrong, and the scenario that shows it."""

    name: str
    scenario: str
    place: str
    shows: str  # what the search says of it
    changes: tuple[Change, ...]


@contextmanager
def planted(bug: Bug, watch: Callable[[Any], None] = lambda code: None) -> Iterator[None]:
    """Within, the core has the bug. `watch` is called with the new code."""
    with ExitStack() as stack:
        for change in bug.changes:
            copy = change.copy()
            watch(copy.__code__)
            before = vars(change.owner)[change.function]
            setattr(change.owner, change.function, copy)
            stack.callback(setattr, change.owner, change.function, before)
        yield


def _in_ledger(function: str, *edits: tuple[str, str]) -> Change:
    return Change(ledger.Ledger, function, edits)


def _in_keeper(function: str, *edits: tuple[str, str]) -> Change:
    return Change(keeper.Keeper, function, edits)


def _in_pool(function: str, *edits: tuple[str, str]) -> Change:
    return Change(pool.Pool, function, edits)


_ATOMIC = """\
        lease = self._tether.pop()
    except IndexError:
        return
"""
_TWO_STEPS = """\
        lease = self._tether[0]
    except IndexError:
        return
    self._tether.clear()
"""

BUGS = [
    Bug(
        "the size is checked, then acted upon, without the lock",
        "two borrow, nothing open, room for one",
        LOCAL,
        "a connection was lost, and found again",
        (_in_ledger("join", ("with self._lock:", "if True:")),),
    ),
    Bug(
        "the size is checked, then acted upon, without the lock, by an opener",
        "two borrow, nothing open, room for one",
        REMOTE,
        "2 open at once",
        (_in_ledger("claim", ("with self._lock:", "if True:")),),
    ),
    Bug(
        "a place is free before its connection is closed",
        "a connection is thrown away while one borrows",
        LOCAL,
        "2 open at once",
        (
            _in_keeper(
                "_close",
                (
                    "        self._driver.close(lease.member.conn)",
                    "        conn = lease.member.conn\n"
                    "        self.vacate(lease)\n"
                    "        self._driver.close(conn)",
                ),
                ("    finally:\n        self.vacate(lease)", "    finally:\n        pass"),
            ),
        ),
    ),
    Bug(
        "no second look after standing in line",
        "a borrower stands in line while a connection comes back",
        LOCAL,
        "only the clock woke ['A']",
        (
            _in_ledger(
                "join",
                (
                    "self.waiters.append(waiter)\n            self._serve()",
                    "self._serve()\n            self.waiters.append(waiter)",
                ),
            ),
            # Else the housekeeper, asked for a look, would make up for it.
            _in_keeper("wish", ("self._ask_for_a_look()", "pass")),
        ),
    ),
    Bug(
        "who returns looks at the line before, not after",
        "a borrower stands in line while a connection comes back",
        LOCAL,
        "a wakeup was lost",
        (
            _in_pool(
                "check_in",
                (
                    "ledger.idle.append(lease)  # as `Keeper.put`, written out like the way there\n",
                    "waiters = len(ledger.waiters)\n        ledger.idle.append(lease)\n",
                ),
                ("if ledger.waiters or", "if waiters or"),
            ),
            _in_keeper(
                "put",
                (
                    "    self._ledger.park(lease)\n",
                    "    waiters = len(self._ledger.waiters)\n    self._ledger.park(lease)\n",
                ),
                ("if self._ledger.waiters or", "if waiters or"),
            ),
        ),
    ),
    Bug(
        "what is handed over at the instant of the timeout is dropped",
        "a connection comes back at the instant of the timeout",
        LOCAL,
        "a connection was lost, and found again",
        (
            _in_pool("_give_up", ("if not waiter.answered:", "if True:")),
            _in_pool("_quit", ("if lease is None:", "if True:")),
        ),
    ),
    Bug(
        "what is handed over at the instant of the timeout is not passed on",
        "the first in line times out while a connection comes back, a second waits",
        REMOTE,
        "a wakeup was lost",
        (
            _in_pool("_give_up", ("if not waiter.answered:", "if True:")),
            _in_pool(
                "_quit",
                ("self._keeper.give(lease)", "lease.pool = None; self._ledger.idle.append(lease)"),
            ),
        ),
    ),
    Bug(
        "a handle is looked at, then emptied: close",
        "one handle is closed by two threads, two in line",
        LOCAL,
        "'NoneType' object has no attribute 'check_in'",
        (Change(handles.PooledConnection, "close", ((_ATOMIC, _TWO_STEPS),)),),
    ),
    Bug(
        "a handle is looked at, then emptied: invalidate",
        "a handle is closed and thrown away at once",
        LOCAL,
        "'NoneType' object has no attribute 'discard'",
        (Change(handles.PooledConnection, "invalidate", ((_ATOMIC, _TWO_STEPS),)),),
    ),
    Bug(
        "late arrivals are forgotten at close",
        "close against a connection that comes back",
        LOCAL,
        "only the clock woke ['X']",
        (_in_ledger("settle", ("self.gate is CLOSED", "False")),),
    ),
    Bug(
        "who returns does not look at the gate",
        "close against a connection that comes back",
        REMOTE,
        "'X'",
        (_in_pool("check_in", (" or ledger.gate is not OPEN", "")),),
    ),
    Bug(
        "idle connections are collected before the pool is shut",
        "close against a borrower, one idle",
        LOCAL,
        "only the clock woke ['X']",
        (
            _in_pool(
                "close",
                ("    self._ledger.shut(CLOSED)\n", ""),
                ("self._keeper.end()", "self._ledger.shut(CLOSED); self._keeper.end()"),
            ),
        ),
    ),
    Bug(
        "an empty place is not offered to the line",
        "a connection is thrown away while one borrows",
        LOCAL,
        "a wakeup was lost",
        (_in_ledger("vacate", ("self._serve()", "pass")),),
    ),
    Bug(
        "doom is looked at before due is set",
        "drain while a connection comes back",
        LOCAL,
        "an outdated connection was lent",
        (
            _in_pool(
                "check_in",
                (
                    "    member.due = due if due < member.expires else member.expires\n",
                    "    doomed = member.doom\n"
                    "    member.due = due if due < member.expires else member.expires\n"
                    "    if doomed is None:\n"
                    "        lease.pool = None\n"
                    "        return self._keeper.put(lease)\n",
                ),
            ),
        ),
    ),
    Bug(
        "what somebody else was quicker to take is taken, too",
        "drain against a borrower, one idle",
        LOCAL,
        "'NoneType' object has no attribute 'part'",
        (_in_ledger("take_idle", ("if not self._take(lease):", "if self._take(lease) is None:")),),
    ),
    Bug(
        "who must wait again stands last",
        "what comes back must be pinged, two in line",
        REMOTE,
        "['B', 'A']",
        (_in_ledger("rejoin", ("insert(before, waiter)", "append(waiter)")),),
    ),
    Bug(
        "who must wait again stands in line too late",
        "what comes back must be pinged, two in line",
        REMOTE,
        "['B', 'A']",
        (
            _in_pool(
                "_inspect",
                ("        rejoin()\n", "        pass\n"),
                ("    return None\n", "    rejoin()\n    return None\n"),
            ),
        ),
    ),
    Bug(
        "a borrower barges in before those in line",
        "two in line, one comes back, a third borrows",
        LOCAL,
        "['C', 'A', 'B']",
        (_in_pool("_borrow", ("if not ledger.waiters and", "if")),),
    ),
    Bug(
        "resize takes what is too many before it sets the bound",
        "resize down while two come back",
        LOCAL,
        "2 open, 1 allowed",
        (
            _in_pool(
                "resize",
                (
                    "    ledger.max_size, ledger.min_size = 0 if nothing else most, least\n"
                    "    try:\n"
                    "        gone = ledger.take_idle(lambda member: True, ledger.excess())\n",
                    "    try:\n"
                    "        excess = max(0, ledger.census().open - most)\n"
                    "        gone = ledger.take_idle(lambda member: True, excess)\n"
                    "        ledger.max_size, ledger.min_size = 0 if nothing else most, least\n",
                ),
            ),
        ),
    ),
    Bug(
        "more room is not offered to the line",
        "resize up with one in line",
        LOCAL,
        "a wakeup was lost",
        (_in_pool("resize", ("ledger.serve()", "pass")),),
    ),
    Bug(
        "resume does not serve the line",
        "suspend and resume while a connection comes back to one in line",
        LOCAL,
        "a wakeup was lost",
        (_in_ledger("shut", ("self._serve()", "pass")),),
    ),
    Bug(
        "a suspended pool serves the line",
        "suspend against a borrower, one idle",
        LOCAL,
        "lent while suspended",
        (_in_ledger("_next", ("if self.gate is not OPEN:", "if self.gate is CLOSED:")),),
    ),
    Bug(
        "the housekeeper looks whether it is needed, then resigns, without the lock",
        "the housekeeper goes while one borrows",
        LOCAL,
        "nobody keeps house",
        (
            _in_keeper(
                "_may_end",
                ("with self._lock:", "if True:"),  # under which the order would not matter
                (
                    "        self._housekeeper = _nobody\n        if self._is_quiet():\n",
                    "        if self._is_quiet():\n            self._housekeeper = _nobody\n",
                ),
            ),
        ),
    ),
    Bug(
        "an opener takes the generation when it is done",
        "drain against a borrower, nothing open",
        LOCAL,
        "an outdated connection was lent",
        (
            _in_keeper(
                "open",
                ("generation = self._ledger.generation", "pass"),
                ("if generation !=", "generation = self._ledger.generation\n    if generation !="),
            ),
        ),
    ),
    Bug(
        "what is done with a place is read twice (this one was in the core)",
        "the pool is looked at while one is cleaned",
        REMOTE,
        "KeyError: None",
        (
            _in_ledger(
                "_census",
                ("census.tasks[task] if task else", "census.tasks[place.task] if place.task else"),
            ),
        ),
    ),
    Bug(
        "a lost lease tells nobody",
        "a handle is dropped while a borrower gets in line",
        LOCAL,
        "a wakeup was lost",
        (Change(keeper.Alarm, "__call__", (("self.signal.set()", "pass"),)),),
    ),
]
