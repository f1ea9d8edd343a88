"""The examination itself: connect, ask, measure, check. Reads only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from types import ModuleType
from typing import Any

from ...drivers.base import Driver
from ...testing.contract import Check, read_only_checks
from ..access import Access, CannotConnect
from ..versions import version_of
from .abilities import abilities, lacks
from .costs import measure
from .findings import Checked, Costs, Findings, Plan

Progress = Callable[[int, int], object]
"""Told after each check: how many are done, and of how many."""


def examine(access: Access, plan: Plan, progress: Progress) -> Findings:
    """Raises `CannotConnect` if there is no connection to be had."""
    conn = access.connect()
    driver = access.driver
    access.subject.knowledge.lacks = lacks(driver)
    try:
        server = access.server(conn)
        refusal, pooling = _second(access, conn)
        server = replace(server, pooling=pooling)
        # Nothing is to be seen of a connection that gets no transaction.
        whole = not refusal and pooling != "statement"
        costs = measure(access, conn) if whole else Costs()
        checks = _run(access, read_only_checks(), progress) if whole else ()
        able = abilities(driver, conn, costs, checks, pooling)
    finally:
        driver.close(conn)
    return Findings(
        driver=driver.name,
        module=_module(driver, conn),
        plugin=type(driver) is not Driver,
        local=driver.local,
        server=server,
        abilities=able,
        costs=costs,
        checks=checks,
        plan=plan,
        refusal=refusal,
    )


def _second(access: Access, conn: Any) -> tuple[str, str | None]:
    """Why there cannot be a second connection, "" if there can; and what the two say of a pooler."""
    try:
        other = access.connect()
    except CannotConnect as exc:
        return str(exc), None
    driver = access.driver
    try:
        return "", access.within(lambda: driver.pooling(conn, other))
    except TimeoutError as exc:  # a pooler takes in more clients than it has sessions for
        driver.interrupt(other)
        return f"it is taken in and not served: {exc}", None
    except Exception as exc:
        if not driver.is_disconnect(exc, conn):
            driver.rollback(conn)
        return "", None
    finally:
        driver.close(other)


def _run(access: Access, checks: Sequence[Check], progress: Progress) -> tuple[Checked, ...]:
    done: list[Checked] = []
    for check in checks:
        outcome = check.run(access.subject)
        told = asdict(outcome) | {"detail": access.target.redacted(outcome.detail)}
        done.append(Checked(check.name, check.promise, check.text, **told))
        progress(len(done), len(checks))
    return tuple(done)


def _module(driver: Driver, conn: Any) -> str:
    """The DB-API module and its version; the class of the connection if nothing else is known."""
    kind = type(conn)
    module = driver.module
    if not isinstance(module, ModuleType) or not hasattr(module, "connect"):
        module = sys.modules.get(kind.__module__.partition(".")[0])
    if module is None:
        return f"{kind.__module__}.{kind.__qualname__}"
    return f"{module.__name__.lstrip('_')} {version_of(module)}"
