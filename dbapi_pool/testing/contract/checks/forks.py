"""Fork: a child starts with an empty pool, and the parent notices nothing.

Each check is acted out in a new process (`..forked`), since a test runner must not fork itself.
"""

from __future__ import annotations

import os

from ..check import NotApplicable, promise
from ..forked import act_out
from ..trial import Trial


def _needs_fork() -> None:
    if not hasattr(os, "fork"):
        raise NotApplicable("this platform has no os.fork")


@promise("fork", needs=("fork",))
def a_child_starts_with_an_empty_pool(trial: Trial) -> None:
    """In a child the pool is empty and works; the parent's handles are dead there."""
    _needs_fork()
    act_out(trial.subject, "child_starts_empty")


@promise("fork", needs=("fork",))
def both_sides_can_work(trial: Trial) -> None:
    """Parent and child run statements at the same time, each on sessions of its own."""
    _needs_fork()
    act_out(trial.subject, "both_sides_work")


@promise("fork", needs=("fork",))
def the_parents_transaction_survives_the_childs_exit(trial: Trial) -> None:
    """A child that just ends does not hurt the parent's open transaction, nor its idle sessions."""
    _needs_fork()
    act_out(trial.subject, "child_exits")


@promise("fork", needs=("fork",))
def the_parents_transaction_survives_what_the_child_forgets(trial: Trial) -> None:
    """Nor does one that drops the inherited connections and collects its garbage."""
    _needs_fork()
    act_out(trial.subject, "child_forgets")


@promise("fork", needs=("fork",))
def the_parents_transaction_survives_what_the_child_closes(trial: Trial) -> None:
    """Nor does one that closes inherited connections, cursors and the pool."""
    _needs_fork()
    act_out(trial.subject, "child_closes")
