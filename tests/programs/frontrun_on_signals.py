"""What frontrun says of a thread that sleeps until another wakes it, by three kinds of signal.

`system.Signal` is a lock that one thread takes and another releases. Argument: "thread lock",
"lock", "event".
"""

from __future__ import annotations

import _thread
import json
import os
import sys
import threading
from typing import Any

os.environ["FRONTRUN_ACTIVE"] = "1"

import frontrun


class ByLock:
    """As `system.Signal`."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._lock.acquire()

    def set(self) -> None:
        self._lock.release()

    def wait(self) -> None:
        self._lock.acquire()


SECONDS = 2.0 if sys.argv[1:] == ["thread lock"] else 60.0  # for one run

KINDS = {
    "thread lock": lambda: ByLock(_thread.allocate_lock()),
    "lock": lambda: ByLock(threading.Lock()),
    "event": lambda: threading.Event(),  # frontrun puts its own there
}


class World:
    def __init__(self) -> None:
        self.line: list[Any] = []
        self.ready = False


def sleep(world: World) -> None:
    signal = KINDS[sys.argv[1]]()
    world.line.append(signal)
    if not world.ready:
        signal.wait()


def wake(world: World) -> None:
    world.ready = True
    if len(world.line):
        world.line[0].set()


if __name__ == "__main__":
    result = frontrun.explore(
        setup=World,
        workers=[sleep, wake],
        invariant=lambda world: world.ready,
        detect_io=False,
        reproduce_on_failure=0,
        max_executions=50,
        timeout_per_run=SECONDS,
        deadlock_timeout=SECONDS,
    )
    why = result.inconclusive_reason or result.explanation or ""
    print(json.dumps({"holds": result.property_holds, "why": why}), flush=True)
    os._exit(0)  # threads may be left behind
