"""Telling plugins what happens: the pluggy event hooks, and nothing at all while nobody listens.

A listener never harms a borrower: what it raises is logged. Called without any lock held.
"""

from __future__ import annotations

import logging
import weakref
from typing import Any

from .drivers import registry

log = logging.getLogger("dbapi_pool")


class Events:
    """The event hooks on behalf of one pool."""

    def __init__(self, pool: Any) -> None:
        self._pool = weakref.ref(pool)
        self._hook = registry.plugin_manager().hook

    def heard(self, name: str) -> bool:
        """Whether anybody listens to that event now."""
        return bool(getattr(self._hook, name).get_hookimpls())

    def tell(self, name: str, **facts: Any) -> None:
        """Call every listener of the event."""
        if not self.heard(name):
            return
        try:
            getattr(self._hook, name)(pool=self._pool(), **facts)
        except Exception:
            log.exception("a listener of %s raised; the pool goes on", name)
