"""`Crew`: threads that work off a queue what may take long. It must never know what a job is."""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager

from .logs import Log, whereabouts
from .system import System


class Crew:
    """At most `most` daemon threads working off a queue; each ends when it finds it empty."""

    def __init__(
        self, lock: AbstractContextManager[object], system: System, most: int, log: Log
    ) -> None:
        # Guards the decision to start or end a thread, so that no job is left without one.
        self._lock = lock
        self._system = system
        self._most = most
        self.log = log
        self._jobs: deque[Callable[[], object]] = deque()
        self._hands: list[weakref.ref[_Hand]] = []

    def submit(self, job: Callable[[], object]) -> None:
        """Have `job` done soon, on another thread; in this one if there is no thread to be had."""
        self._jobs.append(job)
        self.tend()

    def tend(self) -> None:
        """Start another thread if there is work. There may be some without a thread if an exception
        struck whoever submitted it, or the thread before it took it."""
        with self._lock:
            hand = self._hire()
        if hand is None:
            return
        try:
            self._system.spawn(hand.work, f"{self.log.name} hands")
        except RuntimeError:
            hand.work()

    def _hire(self) -> _Hand | None:
        """Caller holds the lock."""
        self._hands = [ref for ref in self._hands if ref() is not None]
        if not self._jobs or len(self._hands) >= self._most:
            return None
        hand = _Hand(self)
        self._hands.append(weakref.ref(hand))
        return hand

    def next_job(self, hand: _Hand) -> Callable[[], object] | None:
        """The next job; None tells the hand to end."""
        with self._lock:
            return self._next_job(hand)

    def _next_job(self, hand: _Hand) -> Callable[[], object] | None:
        """Caller holds the lock."""
        if self._jobs:
            return self._jobs.popleft()
        self._hands = [ref for ref in self._hands if ref() not in (None, hand)]
        return None


class _Hand:
    """One thread of a crew. Only its thread holds it, so a thread that died is not counted."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def work(self) -> None:
        while self._do_one():
            pass

    def _do_one(self) -> bool:
        """Do a job, if there is one. In a call of its own, which nobody keeps: whoever keeps the error
        of an earlier job keeps the frame of `work`, and so what is there when an exception strikes."""
        job = self._crew.next_job(self)
        if job is None:
            return False
        try:
            job()
        except BaseException as exc:  # this thread is ours alone
            where = whereabouts(exc)
            self._crew.log.seldom(logging.ERROR, where, "a background job failed: %s", where)
        return True
