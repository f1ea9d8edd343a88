"""Round trips per lease, counted by a relay between driver and server, exactly.

The same work is done on the driver alone and through the pool: the difference is what the pool adds.
The numbers are the table of docs/guarantees.md (tests/support/guarantees.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import servers
from guarantees import DRIVERS, ROUND_TRIPS, SCENARIOS, Scenario
from relay import Relay

from dbapi_pool import Pool

SETTING = {"postgresql": "geqo_threshold", "mysql": "auto_increment_increment"}
WARM = 8  # leases before counting: drivers do some things only once, or from the fifth time on
COUNTED = 4


@pytest.fixture
def relay(request: pytest.FixtureRequest, module: str) -> Iterator[Relay]:
    """Between this driver and its server, which has the table."""
    servers.driver_module(module)
    server = request.getfixturevalue(servers.FIXTURE_OF[module])
    raw = servers.driver_module(module).connect(**server.arguments(module))
    work(raw, Scenario("", "CREATE TABLE IF NOT EXISTS counted (n int)", "commit"))
    raw.close()
    with Relay(server.host, server.port) as relay:
        yield relay


def work(conn: Any, scenario: Scenario) -> None:
    """What the lease does, on a driver's connection or a borrowed one."""
    if scenario.statement:
        cursor = conn.cursor()
        cursor.execute(scenario.statement)
        if cursor.description:
            cursor.fetchall()
        cursor.close()
    if scenario.end:
        getattr(conn, scenario.end)()


def per_lease(relay: Relay, lease: Any) -> int:
    """Round trips of `lease()`, once it is warm: the same each time."""
    for _ in range(WARM):
        lease()
    before = relay.round_trips
    for _ in range(COUNTED):
        lease()
    assert (relay.round_trips - before) % COUNTED == 0
    return (relay.round_trips - before) // COUNTED


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("module", DRIVERS)
def test_a_lease_costs_the_round_trips_that_the_guarantees_tell(
    request: pytest.FixtureRequest, relay: Relay, module: str, name: str
) -> None:
    server = request.getfixturevalue(servers.FIXTURE_OF[module])

    assert measure(server, module, relay, SCENARIOS[name]) == ROUND_TRIPS[name][module]


@pytest.mark.parametrize("module", ["pymysql"])
def test_a_rollback_after_reads_is_not_waited_for(
    request: pytest.FixtureRequest, relay: Relay, module: str
) -> None:
    server = request.getfixturevalue(servers.FIXTURE_OF[module])
    arguments = {**server.arguments(module), "host": relay.host, "port": relay.port}
    with Pool(servers.driver_module(module), max_size=1, **arguments) as pool:
        conn = pool.connection()
        work(conn, Scenario("", "SELECT n FROM counted"))
        relay.hold_when = lambda data: b"ROLLBACK" in data
        before = relay.round_trips
        conn.close()  # returns, though no answer comes
        assert relay.round_trips == before + 1
        relay.release()


def measure(
    server: servers.Server, module: str, relay: Relay, scenario: Scenario
) -> tuple[int, int]:
    """Round trips of a lease, and how many of them the driver alone would not need."""
    dbapi = servers.driver_module(module)
    sql = scenario.statement.format(setting=SETTING[server.kind])
    scenario = replace(scenario, statement=sql)
    arguments = {**server.arguments(module), "host": relay.host, "port": relay.port}
    # psycopg2 takes no such argument.
    setup = set_autocommit if scenario.autocommit and module == "psycopg2" else None
    if scenario.autocommit and not setup:
        arguments["autocommit"] = True

    with Pool(dbapi, max_size=1, setup=setup, **arguments) as pool:

        def lease() -> None:
            conn = pool.connection()
            work(conn, scenario)
            conn.close()

        pooled = per_lease(relay, lease)
        assert pool.stats().opened == 1
    return pooled, pooled - alone(dbapi, relay, arguments, scenario)


def alone(dbapi: Any, relay: Relay, arguments: dict[str, Any], scenario: Scenario) -> int:
    """As much with the driver's own connection, which ends a transaction that was left open."""
    conn = dbapi.connect(**arguments)
    if scenario.autocommit:
        set_autocommit(conn)
    elif scenario.statement and not scenario.end:
        scenario = replace(scenario, end="rollback")
    count = per_lease(relay, lambda: work(conn, scenario))
    conn.close()
    return count


def set_autocommit(conn: Any) -> None:
    """An attribute in most drivers, a method in two."""
    if callable(getattr(conn, "autocommit", None)):
        conn.autocommit(True)
    else:
        conn.autocommit = True
