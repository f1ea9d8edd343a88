"""`Crowd`: the threads of one virtual clock, and what they complain about.

It starts threads, strikes them where they wait and takes in how they ended. It must never know a pool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from troubles import Struck

from dbapi_pool.testing import Task, VirtualClock


class Crowd:
    """Threads under one clock."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.tasks: list[Task] = []
        self.complaints: list[str] = []
        self.doing: dict[int, str] = {}  # by thread: the step that it is at

    def complain(self, text: str) -> None:
        """A promise was broken, in the step that the calling thread is at."""
        me = self.clock.get_ident()
        step = self.doing.get(me, "-")
        self.complaints.append(f"{text} [thread {me}, at {self.clock.monotonic():.2f}, in {step}]")

    def start(self, act: Callable[..., None], *args: Any, name: str = "borrower") -> None:
        """Do that in a thread of its own."""
        # Without a result or an error, which the clock would keep for a while.
        self.tasks.append(self.clock.start(act, *args, name=name))

    def interrupt(self, which: int) -> None:
        """Something is raised in a thread that waits; rather in one that was just woken."""
        alive = [task for task in self.tasks if not task.done]
        turn = which % len(alive) if alive else 0
        for task in sorted([*alive[turn:], *alive[:turn]], key=lambda task: task.blocked):
            try:
                # A class: an instance would make a cycle with its own frames, for the collector.
                task.throw(Struck)  # type: ignore[arg-type]
            except RuntimeError:  # it does not wait
                continue
            return

    def collect(self) -> None:
        """Take in what the threads ended with."""
        ended = [task for task in self.tasks if task.done]
        self.tasks = [task for task in self.tasks if not task.done]
        for task in ended:
            task.result()

    def check(self) -> None:
        """Raise the first complaint."""
        if self.complaints:
            raise AssertionError("; ".join(self.complaints[:3]))
