"""Memory that pools take for themselves."""

from __future__ import annotations

import gc
import tracemalloc

from ..adapters import Adapter
from ..drivers import Fake
from ..measuring import Row, Run, measure

MANY = 100


def _bytes(kind: type[Adapter], idle: int) -> int:
    """Of a pool with so many idle connections, each of which was lent once, beyond the driver's
    own.
    """
    driver = Fake()
    driver.ready = [driver.kind(driver) for _ in range(idle)]
    for conn in driver.ready:
        conn.__dict__  # noqa: B018  (what pools write into it is theirs, the dictionary is not)
    gc.collect()
    tracemalloc.start()
    try:
        pool = kind(driver, idle)
        pool.warm(idle)
        driver.ready.clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        pool.close()


@measure("memory", "Memory")
def memory(run: Run) -> list[Row]:
    """Bytes that Python allocates (tracemalloc) for a pool with one idle connection, and for each
    further one; the driver's own objects were made before. Stacks of threads and what a module
    takes are not in it. Ideal: few.
    """
    rows = []
    for kind in run.kinds(wanted=lambda kind: not kind.variant):
        many = min(run.scale(MANY, MANY, 10), kind.largest)
        _bytes(kind, 2)  # imports, caches, classes
        one = _bytes(kind, 1)
        each = (_bytes(kind, many) - one) / (many - 1)
        rows.append(
            {"pool": kind.name, "with one bytes": one, "each further bytes": max(0, round(each))}
        )
    return rows
