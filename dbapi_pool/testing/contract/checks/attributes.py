"""Attributes: what a borrower writes reaches the driver's connection, and is put back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....drivers.base import Driver
from ..check import Broken, NotApplicable, promise, require, same
from ..trial import Trial, run


def changes(trial: Trial) -> Mapping[str, Any]:
    """Attributes and values to try: the author's, else `autocommit` where it is one."""
    given = trial.know.attributes
    if given:
        return given
    present = getattr(trial.connect(), "autocommit", None)
    if not isinstance(present, bool):
        raise NotApplicable("no `attributes` are given, and `autocommit` is none")
    return {"autocommit": not present}


def attributes_of(trial: Trial, conn: Any) -> dict[str, Any]:
    """The values of the attributes that are tried; empty if there are none."""
    try:
        names = changes(trial)
    except NotApplicable:
        return {}
    return {name: getattr(conn, name) for name in names}


@promise("drop_in", read_only=True)
def writing_an_attribute_reaches_the_driver(trial: Trial) -> None:
    """An attribute written on the borrowed connection is the driver connection's own."""
    for name, value in changes(trial).items():
        pool = trial.pool()
        with pool.borrow() as conn:
            setattr(conn, name, value)
            same(getattr(pool.raw, name), value, f"{name} of the driver's connection")
            same(getattr(conn, name), value, f"{name} of the borrowed connection")


@promise("clean", read_only=True)
def attributes_are_put_back(trial: Trial) -> None:
    """The next borrower finds every attribute as it was, whatever happened to the connection."""
    for name, value in changes(trial).items():
        pool = trial.pool()
        with pool.borrow() as conn:
            before = getattr(conn, name)
            require(before != value, f"attributes[{name!r}]={value!r} is the usual value")
            setattr(conn, name, value)
        with pool.borrow() as conn:
            same(getattr(conn, name), before, f"{name} for the next borrower")


@promise("clean", read_only=True, needs=("attributes",))
def attributes_cost_no_connection(trial: Trial) -> None:
    """Putting attributes back does not replace the connection."""
    pool = trial.pool()
    for name, value in changes(trial).items():
        with pool.borrow() as conn:
            setattr(conn, name, value)
    with pool.borrow():
        pass
    pool.stays()


@promise("clean", read_only=True)
def restoring_is_idempotent(trial: Trial) -> None:
    """A restore gives back what was, after a change and without one, any number of times."""
    conn, driver = trial.connect(), trial.driver
    if type(driver).restore is Driver.restore:
        raise NotApplicable("the driver restores nothing: a changed connection is closed")
    snapshot, before = driver.snapshot(conn), attributes_of(trial, conn)
    for values in ({}, changes(trial)):
        for name, value in values.items():
            setattr(conn, name, value)
        for _ in range(2):
            driver.rollback(conn)
            driver.restore(conn, snapshot)
            same(attributes_of(trial, conn), before, "attributes after a restore")
    same(run(conn, trial.know.one)[0][0], 1, "what is read after that")


@promise("clean")
def restoring_nothing_asks_the_server_nothing(trial: Trial) -> None:
    """A restore of what was not changed works without a round trip: also on a killed session."""
    conn, driver = trial.connect(), trial.driver
    snapshot = driver.snapshot(conn)
    trial.kill(trial.session_of(conn))
    try:
        driver.restore(conn, snapshot)
    except Exception as exc:
        raise Broken(f"restore has asked the server: {type(exc).__name__}: {exc}") from exc
