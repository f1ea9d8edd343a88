"""What a pool is called in metrics: its name, and a number after it if an older pool has the same.

Metrics of two pools under one name would be those of none. It must never know a library.
"""

from __future__ import annotations

import itertools
import os
import threading
from weakref import WeakKeyDictionary

from dbapi_pool import Pool

_labels: WeakKeyDictionary[Pool, str] = WeakKeyDictionary()
# Guards the choice of a name. Re-entrant, since a finalizer that is run under it may use a pool.
_choosing = threading.RLock()


def label(pool: Pool) -> str:
    """What this pool is called as long as it lives."""
    known = _labels.get(pool)
    return known if known is not None else _choose(pool)


def _choose(pool: Pool) -> str:
    with _choosing:
        taken = {label for other, label in list(_labels.items()) if not other.closed}
        numbered = (f"{pool.name}-{number}" for number in itertools.count(2))
        names = itertools.chain([str(pool.name)], numbered)
        return _labels.setdefault(pool, next(name for name in names if name not in taken))


def _in_child() -> None:
    global _choosing
    _choosing = threading.RLock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
