"""P4 alive, on real servers: what was killed while it was idle costs no borrower an error.

`ping_after=None` throughout: no ping helps, the liveness check alone has to see it.
"""

from __future__ import annotations

from typing import Any

import pytest
import servers

from dbapi_pool import Pool

SIZE = 4
ROUNDS = 50  # of SIZE kills each
MODULES = sorted(servers.FIXTURE_OF)


def make_pool(server: servers.Server, module: str, tls: bool = False, **settings: Any) -> Pool:
    settings = {"max_size": SIZE, "ping_after": None, **settings}
    return Pool(servers.driver_module(module), **server.arguments(module, tls=tls), **settings)


def use_all(pool: Pool) -> None:
    """Borrow all at once, so that each idle connection is lent, and use each."""
    lent = [pool.connection(timeout=20) for _ in range(pool.max_size)]
    for number, conn in enumerate(lent):
        cursor = conn.cursor()
        cursor.execute(f"SELECT {number}")
        assert cursor.fetchone()[0] == number
        cursor.close()
        conn.close()


@pytest.fixture
def shared(request: pytest.FixtureRequest, module: str) -> servers.Server:
    """The server that this driver talks to."""
    servers.driver_module(module)
    server: servers.Server = request.getfixturevalue(servers.FIXTURE_OF[module])
    return server


@pytest.fixture
def own(request: pytest.FixtureRequest, module: str) -> servers.Server:
    """A server of this test's own."""
    servers.driver_module(module)
    server: servers.Server = request.getfixturevalue(servers.OWN_FIXTURE_OF[module])
    return server


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("module", MODULES)
def test_200_sessions_killed_while_idle_cost_nobody_an_error(
    shared: servers.Server, module: str, tls: bool
) -> None:
    with make_pool(shared, module, tls) as pool:
        pool.warm_up()
        for _ in range(ROUNDS):
            shared.kill_sessions()
            use_all(pool)
        assert pool.stats().closed == {"dead": SIZE * ROUNDS}


@pytest.mark.parametrize("module", MODULES)
def test_a_restarted_server_costs_nobody_an_error(own: servers.Server, module: str) -> None:
    with make_pool(own, module) as pool:
        use_all(pool)
        own.restart()
        use_all(pool)
        own.kill9()
        own.start()
        use_all(pool)
        assert pool.stats().closed == {"dead": 2 * SIZE}


SESSION_TIMEOUT = {
    "postgresql": "ALTER ROLE pool SET idle_session_timeout = '300ms'",
    "mysql": "SET GLOBAL wait_timeout = 1",
}


@pytest.mark.parametrize("module", MODULES)
def test_sessions_that_the_server_ended_for_idling_cost_nobody_an_error(
    own: servers.Server, module: str
) -> None:
    own.query(SESSION_TIMEOUT[own.kind])
    own.forget_admin()
    with make_pool(own, module) as pool:
        use_all(pool)
        servers.wait_for(lambda: own.sessions() == 0, 20)
        use_all(pool)
        assert pool.stats().closed == {"dead": SIZE}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("module", MODULES)
def test_one_killed_in_use_costs_its_borrower_one_error_of_the_driver_and_is_replaced(
    shared: servers.Server, module: str, tls: bool
) -> None:
    errors = servers.driver_module(module).Error
    with make_pool(shared, module, tls, max_size=1) as pool:
        for _ in range(10):
            conn = pool.connection()
            cursor = conn.cursor()
            cursor.execute("SELECT 1")
            cursor.fetchall()
            shared.kill_sessions()
            with pytest.raises(errors):
                cursor.execute("SELECT 2")
            conn.close()
            use_all(pool)
        assert pool.stats().closed == {"broken": 10}
