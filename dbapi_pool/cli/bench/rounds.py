"""One round: threads that send requests, one after the other, for some seconds.

Must never know what a request does.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

PATIENCE = 10.0
"""Seconds that a request may go on after the end of its round; then it is left behind (a daemon
thread), so that every round ends."""
AFTER_ERROR = 0.01
"""Seconds that a thread rests after an error, lest it does nothing else."""
TICK = 0.1


class Hung(Exception):
    """Requests that did not come back."""


@dataclass(frozen=True)
class Round:
    """What one round measured."""

    rate: float
    """Requests per second."""
    taken: Sequence[float]
    """Seconds that each request took, shortest first."""
    errors: int
    """Requests that failed."""
    error: Exception | None
    """What the first of them raised."""
    cpu: float
    """Seconds of this process' processors, for a request."""

    def quantile(self, share: float) -> float:
        """Seconds that this part of the requests took at most."""
        return self.taken[min(int(share * len(self.taken)), len(self.taken) - 1)]


class _Worker:
    """One thread and what it has done."""

    def __init__(self, request: Callable[[], None], begin: threading.Event, number: int) -> None:
        self._request = request
        self._begin = begin
        self.end = 0.0
        self.taken = array("d")
        self.errors = 0
        self.error: Exception | None = None
        self.seconds = 0.0
        self.thread = threading.Thread(target=self._run, name=f"bench-{number}", daemon=True)

    def _run(self) -> None:
        self._begin.wait()
        clock, taken = time.perf_counter, self.taken
        start = now = clock()
        while now < self.end:
            try:
                self._request()
            except Exception as exc:
                self.errors += 1
                self.error = self.error or exc
                time.sleep(AFTER_ERROR)
                now = clock()
            else:
                before, now = now, clock()
                taken.append(now - before)
        self.seconds = now - start


def run_round(request: Callable[[], None], threads: int, seconds: float) -> Round:
    """Raises the first error if no request succeeded, and `Hung` if some do not end."""
    begin = threading.Event()
    workers = [_Worker(request, begin, number) for number in range(threads)]
    try:
        for worker in workers:
            worker.thread.start()
        cpu = time.process_time()
        _begin(workers, begin, seconds)
        _join(workers, seconds + PATIENCE)
    except BaseException:
        _begin(workers, begin, 0.0)
        with suppress(Hung):
            _join(workers, PATIENCE)
        raise
    return _counted(workers, time.process_time() - cpu)


def _begin(workers: Sequence[_Worker], begin: threading.Event, seconds: float) -> None:
    """Also to stop them: by an end that has come."""
    end = time.perf_counter() + seconds
    for worker in workers:
        worker.end = end
    begin.set()


def _join(workers: Sequence[_Worker], patience: float) -> None:
    deadline = time.monotonic() + patience
    for worker in workers:
        while worker.thread.is_alive():
            worker.thread.join(TICK)  # by and by, so that Ctrl-C comes through on every system
            if time.monotonic() > deadline:
                hung = sum(one.thread.is_alive() for one in workers)
                raise Hung(f"{hung} requests take longer than {patience:g} s")


def _counted(workers: Sequence[_Worker], cpu: float) -> Round:
    taken = sorted(seconds for worker in workers for seconds in worker.taken)
    error = next((worker.error for worker in workers if worker.error is not None), None)
    if not taken:
        raise error or Hung("no request was even begun")
    # Each by its own time, so that it does not matter who was the last to end.
    rate = sum(len(worker.taken) / worker.seconds for worker in workers if worker.taken)
    errors = sum(worker.errors for worker in workers)
    return Round(rate, taken, errors, error, cpu / len(taken))
