"""`MissingDriver`: what to say about a `postgresql:` URL when no driver can be imported.

It must never import one.
"""

from __future__ import annotations

from dbapi_pool.drivers.base import Driver, Target

_INSTALL = {"psycopg2": "psycopg2-binary", "psycopg": "psycopg[binary]"}


class MissingDriver(Driver):
    """Stands for a driver that is not installed."""

    name = "postgresql"
    system = "postgresql"

    def __init__(self, wanted: str | None) -> None:
        """`wanted`: the module that the URL names; None: any."""
        super().__init__()
        self._wanted = wanted

    def parse_url(self, url: str) -> Target:
        """Raises `ValueError`: it names what to install."""
        if self._wanted is None:
            raise ValueError(
                "no PostgreSQL driver can be imported: install psycopg2-binary, or psycopg[binary]"
            )
        raise ValueError(
            f"{self._wanted}, which the URL names, cannot be imported: install"
            f" {_INSTALL[self._wanted]}"
        )
