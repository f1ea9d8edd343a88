"""Threads for checks: started together, and joined with a limit. It must never know a pool."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .check import require

__all__ = ["Doing", "together"]

PATIENCE = 60.0
"""Seconds after which a thread counts as hung."""


class Doing:
    """Something done in a thread of its own; what it gives or raises is seen by `result`."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self._value: object = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="contract", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._act()
        except BaseException as exc:
            self.error = exc

    @property
    def going_on(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def ends(self, seconds: float = PATIENCE) -> bool:
        """Whether it ends within so many seconds."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self, seconds: float = PATIENCE) -> object:
        """What it gives; raises what it raised, or `Broken` if it has not ended by then."""
        require(self.ends(seconds), f"a thread still hangs after {seconds:g} s")
        if self.error is not None:
            raise self.error
        return self._value


def together(count: int, act: Callable[[int], object]) -> None:
    """Run `act(number)` in so many threads, which start at once. Raises the first error."""
    barrier = threading.Barrier(count)

    def begin(number: int) -> None:
        barrier.wait(PATIENCE)
        act(number)

    threads = [Doing(lambda number=number: begin(number)) for number in range(count)]  # type: ignore[misc]
    for thread in threads:
        thread.result()
