"""`Server`: what a database server says about itself, in the same words for every database.

A leaf: a plain record, filled by `Driver.server` and shown to people. It must never know a driver.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Server"]


@dataclass(frozen=True)
class Server:
    """Facts of one server, and of the session that asked. None: unknown, or there is no such thing.
    Times are seconds; 0 means "no limit", as it does on most servers."""

    product: str | None = None
    """`"PostgreSQL"`, `"MariaDB"`, ..."""
    version: str | None = None
    address: str | None = None
    """Where it was reached, or the file."""
    tls: str | None = None
    """Protocol version and cipher of this connection; `""`: not encrypted."""
    pooler: str | None = None
    """What stands between, if that can be seen: `"PgBouncer 1.18"`."""
    pooling: str | None = None
    """For how long that gives a client a session: `"session"`, `"transaction"`, `"statement"`."""
    read_only: bool | None = None
    """Whether it refuses to write: a replica, or set so."""
    max_connections: int | None = None
    """Sessions that it allows in all."""
    reserved_connections: int | None = None
    """Of these, those kept for administrators."""
    user_connections: int | None = None
    """Sessions that it allows this user, if that is less; 0: no limit."""
    database_connections: int | None = None
    """Sessions that it allows in this database, if that is less; 0: no limit."""
    extra_connections: int | None = None
    """Sessions that administrators may have beyond `max_connections`."""
    connections: int | None = None
    """Sessions open now, whoever's they are, as far as this user may see."""
    connections_of_others: int | None = None
    """Of these, those of other users."""
    others_in_database: int | None = None
    """Of those, the ones in this database."""
    cores: int | None = None
    """Processors of the machine that it runs on."""
    idle_timeout: float | None = None
    """After so long it ends an idle session."""
    idle_in_transaction_timeout: float | None = None
    """After so long it ends a session that idles within a transaction."""
    statement_timeout: float | None = None
    lock_timeout: float | None = None
