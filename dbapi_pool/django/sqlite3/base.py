"""The backend as Django loads it."""

from __future__ import annotations

from typing import Any

from django.db.backends.sqlite3 import base

from ..pooling import Pooled, PooledCreation


class Cursor(base.SQLiteCursorWrapper):
    """Django's cursor."""

    sends_as_given = True  # but for the style of its placeholders


class DatabaseCreation(PooledCreation, base.DatabaseCreation):
    """Django's, with a pool."""


class DatabaseWrapper(Pooled, base.DatabaseWrapper):
    """Databases in memory are not pooled: Django never closes their connections."""

    creation_class = DatabaseCreation

    def is_poolable(self) -> bool:
        return not self.is_in_memory_db()

    def has_autocommit(self) -> bool:
        return self.connection.isolation_level is None

    def create_cursor(self, name: str | None = None) -> Any:
        """As Django's, of a class that the pool can see through."""
        return self.connection.cursor(factory=Cursor)
