"""Which statement may be run thousands of times on somebody's database: by its text, and by the server.

Must never measure.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Any

from ...drivers.base import Driver
from ..access import Access

_MORE_THAN_READING = re.compile(
    r"\b(?:INTO|FOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|(?:KEY\s+)?SHARE)|LOCK)\b"
)

ANYWAY = "with --write it is run all the same"


class BadStatement(ValueError):
    """It is not run, or fails; the text is for people."""


def refuse_by_text(driver: Driver, sql: str) -> None:
    """Raises `BadStatement` for what is not one SELECT without a lock and a table to fill.

    A function that it calls may write all the same: see `try_once`.
    """
    bare = driver.dialect.bare(sql)
    if bare is None:
        raise BadStatement(f"{shown(sql)} is not understood as one SELECT; {ANYWAY}")
    words = bare.split(None, 1)
    if not words or words[0] != "SELECT":
        raise BadStatement(f"{shown(sql)} is no SELECT; {ANYWAY}")
    if _MORE_THAN_READING.search(bare):
        raise BadStatement(f"{shown(sql)} does more than read; {ANYWAY}")


def shown(sql: str, most: int = 60) -> str:
    """As an option, in one line."""
    text = " ".join(sql.split())
    return f"--sql {text if len(text) <= most else text[:most] + '...'!r}"


def run(conn: Any, sql: str) -> None:
    """What a request does with its connection: one statement, whose rows are read."""
    cursor = conn.cursor()
    try:
        cursor.execute(sql)
        if cursor.description is not None:
            cursor.fetchall()
    finally:
        cursor.close()


def try_once(access: Access, conn: Any, sql: str, write: bool) -> float:
    """Seconds that it takes, on a clean connection, rolled back. Without `write`: in a read-only
    transaction, so that the server itself refuses what writes; where the driver cannot have one, only
    what is known to be harmless is let pass. Raises `BadStatement`."""
    driver = access.driver
    try:
        return access.within(lambda: _once(driver, conn, sql, write))
    except BadStatement:
        raise
    except TimeoutError as exc:
        driver.interrupt(conn)
        raise BadStatement(f"{shown(sql)}: {exc}; see --timeout") from exc
    except Exception as exc:
        hint = "" if write else f" (in a read-only transaction; {ANYWAY})"
        raise BadStatement(f"{shown(sql)} fails: {access.complaint(exc)}{hint}") from exc


def _once(driver: Driver, conn: Any, sql: str, write: bool) -> float:
    if not write:
        _begin_reading(driver, conn, sql)
    try:
        start = time.perf_counter()
        run(conn, sql)
        return time.perf_counter() - start
    finally:
        with suppress(Exception):  # of a connection that is lost
            driver.rollback(conn)


def _begin_reading(driver: Driver, conn: Any, sql: str) -> None:
    try:
        driver.begin(conn, None, True, {})
    except ValueError as exc:
        if driver.dialect.may_change_session(sql):
            raise BadStatement(
                f"{shown(sql)}: whether it only reads cannot be asked of this server; {ANYWAY}"
            ) from exc
