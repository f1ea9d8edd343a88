"""Telling plugins what happens: the pluggy event hooks, and nothing at all while nobody listens.

A listener never harms a borrower: what it raises is logged, once. Called without any lock held.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .drivers import registry
from .logs import logger_of

if TYPE_CHECKING:
    import pluggy


class Events:
    """The event hooks on behalf of one pool: its own listeners, and those of every pool."""

    def __init__(self, pool: Any) -> None:
        self._pool = weakref.ref(pool)
        self._everywhere = registry.plugin_manager()
        self._here: pluggy.PluginManager | None = None  # a new one for each change of `_listeners`
        self._listeners: tuple[object, ...] = ()
        self._blamed: set[tuple[str, str]] = set()
        self._logger = logger_of(pool.name)

    def register(self, listener: object) -> None:
        """Let an object with event hooks listen to this pool. Raises `ValueError` if it has none, or
        one that there is not, or listens already."""
        self._listen((*self._listeners, listener))

    def unregister(self, listener: object) -> None:
        """Let it listen no more. Raises `ValueError` if it did not."""
        left = tuple(one for one in self._listeners if one is not listener)
        if len(left) == len(self._listeners):
            raise ValueError(f"{_kind(listener)} does not listen to this pool")
        self._listen(left)

    def _listen(self, listeners: tuple[object, ...]) -> None:
        self._here = registry.listening(listeners) if listeners else None
        self._listeners = listeners

    def heard(self, name: str) -> bool:
        """Whether anybody listens to that event now."""
        return any(True for _ in self._impls(name))

    def tell(self, name: str, **facts: Any) -> None:
        """Call every listener of the event."""
        for impl in self._impls(name):
            try:
                self._call(impl, facts)
            except Exception as exc:
                self._blame(impl, name, exc)

    def look_at_health(self) -> None:
        """Have the pool tell if its health has changed."""
        pool = self._pool()
        if pool is not None:
            pool.look_at_health()

    def _impls(self, name: str) -> Iterator[pluggy.HookImpl]:
        """Not by calling the hook: there the first one that raises would silence the others."""
        for manager in (self._here, self._everywhere):
            if manager is not None:
                yield from reversed(getattr(manager.hook, name).get_hookimpls())

    def _call(self, impl: pluggy.HookImpl, facts: dict[str, Any]) -> None:
        facts = {"pool": self._pool(), **facts}
        impl.function(*[facts[name] for name in impl.argnames])

    def _blame(self, impl: pluggy.HookImpl, name: str, exc: Exception) -> None:
        key = (impl.plugin_name, name)
        if key in self._blamed:
            return
        self._blamed.add(key)
        self._logger.error(
            "a listener of %s raised, and is not complained of again; the pool goes on: %s",
            name,
            _kind(impl.plugin),
            exc_info=exc,
        )


def _kind(listener: object) -> str:
    return str(getattr(listener, "__name__", f"an object of type {type(listener).__name__}"))
