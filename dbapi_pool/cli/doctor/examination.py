"""The examination itself: connect, ask, measure, check. Reads only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from types import ModuleType
from typing import Any

from ...drivers.base import Driver
from ...drivers.facts import Server
from ...testing.contract import Check, read_only_checks
from ..versions import version_of
from .abilities import abilities
from .bench import Bench, CannotConnect
from .costs import measure
from .findings import Checked, Costs, Findings, Plan

Progress = Callable[[int, int], object]
"""Told after each check: how many are done, and of how many."""


def examine(bench: Bench, plan: Plan, progress: Progress) -> Findings:
    """Raises `CannotConnect` if there is no connection to be had."""
    conn = bench.connect()
    driver = bench.driver
    try:
        server = _server(bench, conn)
        refusal = _refusal(bench)
        costs = Costs() if refusal else measure(bench, conn)
        checks = () if refusal else _run(bench, read_only_checks(), progress)
        able = abilities(driver, conn, costs, checks)
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


def _refusal(bench: Bench) -> str:
    """Why there cannot be a second connection; "" if there can."""
    try:
        bench.driver.close(bench.connect())
    except CannotConnect as exc:
        return str(exc)
    return ""


def _server(bench: Bench, conn: Any) -> Server:
    """Facts are no reason to fail: a user may lack the right to ask. A lost connection is."""
    try:
        return bench.driver.server(conn)
    except Exception as exc:
        if bench.driver.is_disconnect(exc, conn):
            raise bench.complaint(exc) from exc
        bench.driver.rollback(conn)
        return Server()


def _run(bench: Bench, checks: Sequence[Check], progress: Progress) -> tuple[Checked, ...]:
    done: list[Checked] = []
    for check in checks:
        outcome = check.run(bench.subject)
        told = asdict(outcome) | {"detail": bench.target.redacted(outcome.detail)}
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
