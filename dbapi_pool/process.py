"""All pools of this process, none of which is kept alive by it.

It knows pools only as objects.
"""

from __future__ import annotations

import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .pool import Pool

# By the id of each. Unlike a WeakSet, which may not be looked through while another thread adds to
# it, this gives its references as a list in one step.
_pools: weakref.WeakValueDictionary[int, Pool] = weakref.WeakValueDictionary()


def watch(pool: Pool) -> None:
    """Another pool was made."""
    _pools[id(pool)] = pool


def pools() -> list[Pool]:
    """The pools of this process that are not closed, by name: for dashboards and metrics."""
    return sorted((pool for pool in watched() if not pool.closed), key=lambda pool: pool.name)


def unused_name(name: str) -> str:
    """That name, or with a number if another pool that is not closed has it."""
    taken = {pool.name for pool in watched() if not pool.closed}
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 2))
    return next((one for one in (name, *numbered) if one not in taken), name)


def watched() -> tuple[Pool, ...]:
    """Those that are closed, too."""
    found = (reference() for reference in _pools.valuerefs())
    return tuple(pool for pool in found if pool is not None)
