"""The backend as Django loads it; for psycopg and psycopg2."""

from __future__ import annotations

import functools
from typing import Any

from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import is_psycopg3

import dbapi_pool_postgresql
from dbapi_pool import Driver

from ..pooling import Maker, Pooled, PooledCreation


class DatabaseCreation(PooledCreation, base.DatabaseCreation):
    """Django's, with a pool."""


class DatabaseWrapper(Pooled, base.DatabaseWrapper):
    """Django's, with a pool of ours in place of psycopg's."""

    creation_class = DatabaseCreation
    pool = None  # which Django would make of the option

    def pool_source(self, maker: Maker) -> tuple[Any, Driver | None]:
        if is_psycopg3:
            return maker.connect, dbapi_pool_postgresql.PsycopgDriver(creator=base.Database)
        return maker.connect, dbapi_pool_postgresql.Psycopg2Driver(creator=base.Database)

    def has_autocommit(self) -> bool:
        return bool(self.connection.autocommit)

    def get_connection_params(self) -> dict[str, Any]:
        """As Django's, with cursors of a class that the pool can see through."""
        params = super().get_connection_params()
        if is_psycopg3:
            params["cursor_factory"] = _transparent(params["cursor_factory"])
        return params

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Borrow one, and note its isolation level as Django does."""
        conn = super().get_new_connection(conn_params)
        level = self.settings_dict["OPTIONS"].get("isolation_level")
        self.isolation_level = base.IsolationLevel(level or base.IsolationLevel.READ_COMMITTED)
        return conn

    def get_raw_connection(self, conn_params: dict[str, Any]) -> Any:
        conn = super().get_raw_connection(conn_params)
        if is_psycopg3:
            conn.server_cursor_factory = self._named_cursor_class()
        return conn

    def create_cursor(self, name: str | None = None) -> Any:
        """As Django's. It makes named cursors of psycopg by calling their class; a borrowed connection
        makes its cursors itself, so it is told the class."""
        if name is None or not is_psycopg3 or not self._is_pooled():
            return super().create_cursor(name)
        conn = self.connection
        if conn.server_cursor_factory is not (kind := self._named_cursor_class()):
            conn.server_cursor_factory = kind
        return conn.cursor(name, scrollable=False, withhold=conn.autocommit)

    def _named_cursor_class(self) -> Any:
        by_client = getattr(base, "ServerSideCursor", None)  # since Django 5
        if by_client is None or self.settings_dict["OPTIONS"].get("server_side_binding") is True:
            return base.Database.ServerCursor
        return _transparent(by_client)


@functools.cache
def _transparent(cls: type) -> type:
    if cls.__module__ != base.__name__:
        return cls
    return type(cls.__name__, (cls,), {"__module__": cls.__module__, "sends_as_given": True})
