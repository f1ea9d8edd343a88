"""The backend as Django loads it. Its driver is mysqlclient, or what poses as that (PyMySQL)."""

from __future__ import annotations

from typing import Any

from django.db.backends.mysql import base

from dbapi_pool import Driver

from ..pooling import Maker, Pooled, PooledCreation


class DatabaseCreation(PooledCreation, base.DatabaseCreation):
    """Django's, with a pool."""


class DatabaseWrapper(Pooled, base.DatabaseWrapper):
    """Django's, with a pool."""

    creation_class = DatabaseCreation

    def pool_source(self, maker: Maker) -> tuple[Any, Driver | None]:
        """The driver itself: only then can a session be reset, for which it logs in again."""
        return base.Database.connect, None

    def has_autocommit(self) -> bool:
        return bool(self.connection.get_autocommit())
