"""What a driver can do beyond PEP 249: which methods its `Driver` overrides, and what checks showed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ...drivers.base import Driver
from ...drivers.portable import PORTABLE
from .findings import BROKEN, NO, PARTLY, YES, Ability, Checked, Costs

_SHOWN_BY = {
    "liveness": "a_closed_connection_is_not_lent",
    "ping": "a_ping_leaves_no_transaction",
    "disconnect": "a_closed_connection_counts_as_lost",
    "attributes": "attributes_are_put_back",
}
"""The check of the contract kit that shows whether an ability is real."""


_METHODS = {
    "alive": "is_alive",
    "attributes": "restore",
    "disconnect": "is_disconnect",
    "fork": "abandon_after_fork",
    "interrupt": "interrupt",
    "retry": "is_retryable",
    "transient": "is_transient",
}
"""The method behind each of the contract kit's abilities."""


def lacks(driver: Driver) -> dict[str, str]:
    """Abilities of the kit that it does not claim to have, with the reason: what needs them is not
    held against it."""
    return {
        ability: f"the driver has no {method} of its own"
        for ability, method in _METHODS.items()
        if not overrides(driver, method)
    }


def abilities(
    driver: Driver,
    conn: Any,
    costs: Costs,
    checks: Sequence[Checked],
    pooling: str | None = None,
) -> tuple[Ability, ...]:
    """`conn`: a clean connection of this driver. `pooling`: as in `Server`."""
    states = {one.name: one for one in checks}
    found = [*_sessions(driver, conn, costs), *_failures(driver, conn), *_comfort(driver)]
    if pooling in ("transaction", "statement"):
        found = [_not_its_own(one) if one.name == "reset" else one for one in found]
    return tuple(
        _as_shown(ability, states.get(_SHOWN_BY.get(ability.name, ""))) for ability in found
    )


def _not_its_own(reset: Ability) -> Ability:
    """A pooler gives the reset to whichever session is free."""
    return replace(reset, answer=NO, detail="the pooler may give it another")


def _as_shown(ability: Ability, check: Checked | None) -> Ability:
    if check is None or check.state != BROKEN or ability.answer == NO:
        return ability
    return Ability(ability.name, ability.text, BROKEN, "see below")


def overrides(driver: Driver, *names: str) -> bool:
    """Whether its class has its own answer to each of these."""
    return all(getattr(type(driver), name) is not getattr(Driver, name) for name in names)


def _ability(name: str, text: str, can: bool, otherwise: str, detail: str = "") -> Ability:
    return Ability(name, text, YES if can else NO, detail if can else otherwise)


def _sessions(driver: Driver, conn: Any, costs: Costs) -> Iterator[Ability]:
    yield _ability(
        "liveness",
        "sees dead connections without asking",
        overrides(driver, "is_alive"),
        "only pings tell",
    )
    # That it does is the check's answer; a driver without a check of its own word is believed.
    yield Ability("ping", "leaves no transaction after a ping", YES)
    yield _ability(
        "transaction_state",
        "knows whether a transaction is open",
        driver.in_transaction(conn) is not None,
        "the pool goes by what it saw",
    )
    yield _ability(
        "reset",
        "resets a changed session in place",
        costs.reset is not None,
        "it is replaced by a new one",
    )
    yield _ability(
        "attributes",
        "puts changed attributes back",
        overrides(driver, "restore"),
        "the connection is replaced",
    )
    yield _statements(driver)


def _statements(driver: Driver) -> Ability:
    knows = driver.dialect is not PORTABLE or overrides(driver, "may_change_session")
    return _ability(
        "statements",
        "knows harmless statements by its SQL",
        knows,
        "only what is harmless everywhere",
    )


def _failures(driver: Driver, conn: Any) -> Iterator[Ability]:
    yield _ability(
        "interrupt",
        "cuts calls that hang",
        overrides(driver, "interrupt"),
        "they are left to end by themselves",
    )
    yield _fork(driver, conn)
    yield _ability(
        "disconnect",
        "knows errors of lost connections",
        overrides(driver, "is_disconnect"),
        "`closed`, Python's own errors",
    )
    yield _ability(
        "transient",
        "knows which connects to try again",
        overrides(driver, "is_transient"),
        "after Python's own errors",
    )
    yield _ability(
        "retry",
        "knows conflicts, for pool.run",
        overrides(driver, "is_retryable"),
        "only lost connections are tried again",
    )
    yield _ability(
        "failover",
        "notices a server turned read-only",
        overrides(driver, "is_failover"),
        "not known, or no such thing",
    )


def _fork(driver: Driver, conn: Any) -> Ability:
    text = "keeps forked children off"
    if overrides(driver, "abandon_after_fork"):
        return Ability("fork", text, YES)
    if callable(getattr(conn, "fileno", None)):
        return Ability("fork", text, YES, "by its descriptor")
    return Ability("fork", text, PARTLY, "unless a child closes what it inherits")


def _comfort(driver: Driver) -> Iterator[Ability]:
    yield _ability(
        "cursors",
        "lends cursors of the driver's class",
        overrides(driver, "open_cursor"),
        "they are wrapped",
    )
    yield _ability(
        "begin",
        "begins read-only, isolated transactions",
        overrides(driver, "begin"),
        "only plain ones",
    )
    yield _ability(
        "server", "asks the server about itself", overrides(driver, "server"), "no facts below"
    )
