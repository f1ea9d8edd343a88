"""Where the fleet needs more sessions than the server gives: one line for all of its processes.

Writes the settings of the pooler to put between (`pgbouncer.ini`, or ProxySQL's admin statements),
with the sums that they come from. It must never connect or print.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from ... import sizing
from ...drivers.facts import Server
from ..words import duration, several
from .plan import Plan, settings, sums

SPARE = 10
"""Clients beyond the fleet's: consoles, checks, a deployment's last ones."""

PORTS = {"PgBouncer": 6432, "ProxySQL": 6033}


@dataclass(frozen=True)
class Pooler:
    """One to put between the fleet and its server."""

    name: str
    sessions: int
    """On the server, for the whole fleet."""
    clients: int
    """Connections of the fleet, at most."""
    plan: Plan

    @property
    def port(self) -> int:
        """Where it listens unless told otherwise."""
        return PORTS[self.name]

    @property
    def settings(self) -> dict[str, object]:
        """Settings of each process's `Pool`. Behind PgBouncer a session is one transaction's, so
        that there is nothing to reset; ProxySQL keeps a session for who has changed it."""
        chosen = settings(self.plan.workload, self.plan.needed)
        return {**chosen, "reset": "transaction"} if self.name == "PgBouncer" else dict(chosen)

    @property
    def configuration(self) -> str:
        """The lines to paste."""
        lines = _pgbouncer(self) if self.name == "PgBouncer" else _proxysql(self)
        return "\n".join(lines)


def pooler_for(plan: Plan) -> Pooler | None:
    """None if there is no need for one, or it would not help: on average more sessions would be busy
    than there are."""
    name = {"PostgreSQL": "PgBouncer", "MySQL": "ProxySQL", "MariaDB": "ProxySQL"}.get(
        plan.place.server.product or ""
    )
    room, workload = plan.place.room, plan.workload
    if name is None or plan.fits or room is None or workload.load * workload.fleet >= room:
        return None
    sessions = min(room, max(workload.smallest_size(workload.fleet), _floor(plan)))
    return Pooler(name, sessions, plan.needed * workload.fleet, plan)


def _floor(plan: Plan) -> int:
    """Sessions with which the fleet cannot deadlock."""
    workload = plan.workload
    return sizing.deadlock_floor((workload.threads or 1) * workload.fleet, workload.per_task)


def _sums(pooler: Pooler) -> Iterator[str]:
    """How the numbers come about, a line each."""
    plan, workload, place = pooler.plan, pooler.plan.workload, pooler.plan.place
    assert place.limit is not None
    assert place.room is not None
    processes = several(workload.fleet, "process", "processes")
    yield f"clients: {processes} x {plan.needed} = {pooler.clients}, and {SPARE} for others"
    yield f"sessions: {sums(place.limit, place.room, place.reserve)} at most"
    yield (
        f"all in one line: {workload.load * workload.fleet:.4g} busy on average; with"
        f" {pooler.sessions} one request in 100 waits"
    )
    longest = workload.longest_wait(pooler.sessions, workload.fleet)
    kept = "as wished" if longest <= workload.wait else f"wished for: {duration(workload.wait)}"
    yield f"longer than {duration(longest)} ({kept})"
    if pooler.sessions < _floor(plan):
        yield f"fewer than {_floor(plan)}: requests that hold some and want another may wait for"
        yield "each other, until query_wait_timeout or checkout_timeout ends it"


def _address(server: Server) -> tuple[str, str]:
    """Host and port, as far as the driver tells."""
    address = (server.address or "127.0.0.1").partition(" via ")[0]
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or address.startswith("/"):
        return address, ""
    return host.strip("[]"), port


def _pgbouncer(pooler: Pooler) -> Iterator[str]:
    """https://www.pgbouncer.org/config.html, and docs/postgresql.md for the why."""
    host, port = _address(pooler.plan.place.server)
    timeout = settings(pooler.plan.workload, pooler.plan.needed)["checkout_timeout"]
    yield from (f"; {line}" for line in _sums(pooler))
    yield "[databases]"
    yield f"* = host={host}" + (f" port={port}" if port else "")
    yield ""
    yield "[pgbouncer]"
    yield "listen_addr = 127.0.0.1"
    yield f"listen_port = {pooler.port}"
    yield "auth_type = scram-sha-256"
    yield "auth_file = /etc/pgbouncer/userlist.txt"
    yield "pool_mode = transaction"
    yield f"default_pool_size = {pooler.sessions}"
    yield f"max_db_connections = {pooler.sessions}"
    yield f"max_client_conn = {pooler.clients + SPARE}"
    yield "server_reset_query = DISCARD ALL"
    yield "server_reset_query_always = 1"
    yield "server_login_retry = 1"
    yield f"query_wait_timeout = {ceil(timeout)}"


def _proxysql(pooler: Pooler) -> Iterator[str]:
    """https://proxysql.com/documentation/main-runtime/ (mysql_servers), global-variables."""
    host, port = _address(pooler.plan.place.server)
    quoted = host.replace("'", "''")
    where = f"hostname = '{quoted}'" + (f" AND port = {port}" if port else "")
    yield from (f"-- {line}" for line in _sums(pooler))
    yield f"UPDATE mysql_servers SET max_connections = {pooler.sessions} WHERE {where};"
    yield f"SET mysql-max_connections = {pooler.clients + SPARE};"
    yield "LOAD MYSQL SERVERS TO RUNTIME; LOAD MYSQL VARIABLES TO RUNTIME;"
    yield "SAVE MYSQL SERVERS TO DISK; SAVE MYSQL VARIABLES TO DISK;"
