"""The rules: what to set, and why. Each is a function of the findings that gives advice or None.

They must never measure, connect or print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ... import Options
from .findings import ADVICE, NOTE, SERIOUS, Advice, Findings

SLOW_PING = 0.005
"""Seconds that a ping may take before it is worth a word."""
SLOW_CONNECT = 0.05
CLOSE_TO_IDLE_TIMEOUT = 0.8
"""The pool's idle timeout, as a part of the server's."""
POOLER_SESSIONS = 20
"""What PgBouncer has for one user and database (`default_pool_size`) unless it is told otherwise."""

_DEFAULTS = Options()

Rule = Callable[[Findings], Advice | None]


def advise(found: Findings) -> Sequence[Advice]:
    """What all rules say, the serious first."""
    order = (SERIOUS, ADVICE, NOTE)
    said = [advice for rule in RULES if (advice := rule(found)) is not None]
    return sorted(said, key=lambda advice: order.index(advice.severity))


# -- how many connections -------------------------------------------------------------------------


def too_many_connections(found: Findings) -> Advice | None:
    """Whether `max_size` and the number of processes fit into what the server allows."""
    plan, server = found.plan, found.server
    limits = list(_limits(found))
    if not limits or server.pooling:  # the sessions are the pooler's then
        return None
    most, whose, _ = min(limits)
    free = max(0, min(limit - others for limit, _, others in limits))
    if plan.sessions <= free:
        return None
    settings = {"max_size": free // plan.processes} if free >= plan.processes else {}
    return Advice(
        rule="too_many_connections",
        severity=SERIOUS if plan.sessions > most else ADVICE,
        text=f"{_planned(found)}, and there is room for {free}",
        reason=f"the server allows {most} ({whose}), and others hold {_others(found)} now; what"
        " does not fit fails to connect, in other programs too",
        settings=settings,
        code="" if settings else "fewer processes, or a pooler such as PgBouncer or ProxySQL",
    )


def _planned(found: Findings) -> str:
    plan = found.plan
    who = f"{plan.processes} processes with " if plan.processes > 1 else ""
    return f"{who}max_size={plan.max_size} may open {plan.sessions} connections"


def _limits(found: Findings) -> Iterator[tuple[int, str, int]]:
    """The sessions that are allowed, to whom, and how many of them others have."""
    server = found.server
    if server.max_connections:
        reserved = server.reserved_connections or 0
        yield server.max_connections - reserved, "all sessions", _others(found)
    if server.user_connections:
        yield server.user_connections, "this user's sessions", 0
    if server.database_connections:
        others = server.others_in_database or 0
        yield server.database_connections, "sessions in this database", others


def _others(found: Findings) -> int:
    return max(0, (found.server.connections or 1) - 1)  # one of them is the doctor's own


def no_second_connection(found: Findings) -> Advice | None:
    """Whether there can be a pool at all."""
    if not found.refusal:
        return None
    return Advice(
        rule="no_second_connection",
        severity=SERIOUS,
        text="a second connection is refused, so nothing was measured and checked",
        reason=found.refusal,
    )


# -- how long -------------------------------------------------------------------------------------


def server_ends_idle_sessions(found: Findings) -> Advice | None:
    """Whether the server ends sessions before the pool does."""
    theirs, ours = found.server.idle_timeout, _DEFAULTS.idle_timeout
    if not theirs or (ours is not None and ours < theirs) or _is_shared(found):
        return None
    seconds = round(CLOSE_TO_IDLE_TIMEOUT * theirs, 1)
    return Advice(
        rule="server_ends_idle_sessions",
        severity=ADVICE,
        text=f"the server ends a session that is idle for {theirs:g} s; the pool keeps it {ours:g} s",
        reason="idle_timeout below the server's closes connections before that; with min_size,"
        " keepalive pings the ones that are kept",
        settings={"idle_timeout": seconds, "keepalive": round(seconds / 2, 1)},
    )


def server_ends_idle_transactions(found: Findings) -> Advice | None:
    """Whether a borrower that dawdles within a transaction loses it."""
    seconds = found.server.idle_in_transaction_timeout
    if not seconds:
        return None
    return Advice(
        rule="server_ends_idle_transactions",
        severity=NOTE,
        text=f"the server ends a session that idles within a transaction for {seconds:g} s",
        reason="its borrower gets an error; leak_after logs who holds a connection that long",
        settings={"leak_after": round(seconds / 2, 1)},
    )


_STATEMENT_TIMEOUT = {
    "PostgreSQL": "SET statement_timeout = '30s'",
    "MariaDB": "SET SESSION max_statement_time = 30",
    "MySQL": "SET SESSION max_execution_time = 30000",  # of SELECT alone
}


def no_statement_timeout(found: Findings) -> Advice | None:
    """Whether a statement may run for ever."""
    if found.server.statement_timeout != 0:
        return None
    setup = _STATEMENT_TIMEOUT.get(found.server.product or "")
    shared = _is_shared(found)
    return Advice(
        rule="no_statement_timeout",
        severity=NOTE,
        text="the server lets a statement run for ever",
        reason="one that hangs keeps its connection lent, and others wait for it until"
        f" checkout_timeout ({_DEFAULTS.checkout_timeout:g} s)",
        settings={"setup": setup} if setup and not shared else {},
        code="on the server: ALTER ROLE ... SET statement_timeout = '30s'" if shared else "",
    )


def _is_shared(found: Findings) -> bool:
    """Whether a pooler gives one session to many clients: it is the pooler's then, and not theirs."""
    return found.server.pooling in ("transaction", "statement")


def name_may_lead_elsewhere(found: Findings) -> Advice | None:
    """Whether connections could outlive a change of the server's address."""
    if not found.host_is_name:
        return None
    return Advice(
        rule="name_may_lead_elsewhere",
        severity=NOTE,
        text=f"{found.host} is a name, and may lead to another server after a failover",
        reason=f"connections follow it when they are replaced, after max_lifetime"
        f" ({_DEFAULTS.max_lifetime:g} s); managed databases change it within minutes",
        settings={"max_lifetime": 300.0},
    )


# -- the way to the server ------------------------------------------------------------------------

_ENCRYPT = {
    "PostgreSQL": "?sslmode=verify-full&sslrootcert=/path/to/ca.pem",
    "MariaDB": "?ssl_ca=/path/to/ca.pem",
    "MySQL": "?ssl_ca=/path/to/ca.pem",
}


def not_encrypted(found: Findings) -> Advice | None:
    """Whether passwords and data cross a network in the open."""
    if found.server.tls != "" or not found.host:
        return None
    query = _ENCRYPT.get(found.server.product or "")
    return Advice(
        rule="not_encrypted",
        severity=SERIOUS,
        text=f"the connection to {found.host} is not encrypted",
        reason="everybody on the way can read and change what is sent",
        code=f"at the end of the URL: {query}" if query else "",
    )


def pooler_between(found: Findings) -> Advice | None:
    """Whether sessions may not be the server's."""
    if not found.server.pooler:
        return None
    say = _BETWEEN.get(found.server.pooling or "", _perhaps_by_transaction)
    return say(found, f"{found.server.pooler} stands between")


def _perhaps_by_transaction(found: Findings, who: str) -> Advice:
    return Advice(
        rule="pooler_between",
        severity=ADVICE,
        text=who,
        reason="if it pools by transaction, a session ends with each one: SET, temporary tables,"
        " LISTEN and prepared statements do not last, and a full reset cleans nothing. If it pools by"
        " session, leave reset as it is",
        settings={"reset": "transaction"},
    )


def _by_session(found: Findings, who: str) -> Advice:
    sessions = found.plan.sessions
    return Advice(
        rule="pooler_between",
        severity=ADVICE if sessions > POOLER_SESSIONS else NOTE,
        text=f"{who}, and pools by session",
        reason="a connection keeps its session as long as it is open. Where the pooler has fewer than"
        " there are connections, those that are too many get no answer (from PgBouncer, for"
        " query_wait_timeout: 120 s). All else is as without it",
        code=f"in pgbouncer.ini: default_pool_size = {sessions}, or pool_mode = transaction",
    )


def _by_transaction(found: Findings, who: str) -> Advice:
    return Advice(
        rule="pooler_between",
        severity=ADVICE,
        text=f"{who}, and pools by transaction",
        reason="the session of the next transaction may be another one, so no pool can clean it: what"
        " SET, a temporary table, LISTEN or an advisory lock leaves behind, anybody gets. SET LOCAL is"
        " safe, and ALTER ROLE ... SET in place of setup; or the pooler cleans after each transaction",
        settings={"reset": "transaction"},
        code="in pgbouncer.ini: server_reset_query_always = 1",
    )


def _by_statement(found: Findings, who: str) -> Advice:
    return Advice(
        rule="pooler_between",
        severity=SERIOUS,
        text=f"{who}, and pools by statement: there are no transactions",
        reason="it ends a connection that begins one, so nothing was measured and checked. In"
        " autocommit mode the pool works; pool.transaction() and pool.run() do not",
        code="in pgbouncer.ini: pool_mode = transaction",
    )


_BETWEEN: Mapping[str, Callable[[Findings, str], Advice]] = {
    "session": _by_session,
    "transaction": _by_transaction,
    "statement": _by_statement,
}


def server_is_read_only(found: Findings) -> Advice | None:
    """Whether writing will fail."""
    if not found.server.read_only:
        return None
    postgresql = found.server.product == "PostgreSQL"
    return Advice(
        rule="server_is_read_only",
        severity=ADVICE,
        text="the server is read-only: a replica, or set so",
        reason="every write will fail; if this is to be the primary, the address is wrong",
        code="postgresql://user@one,two/database?target_session_attrs=read-write"
        if postgresql
        else "",
    )


# -- what it costs --------------------------------------------------------------------------------


def slow_ping(found: Findings) -> Advice | None:
    """Whether a ping is felt by the borrower that it is done for."""
    ping, times = found.costs.ping, found.costs.in_round_trips("ping")
    if ping is None or ping < SLOW_PING:
        return None
    known = found.can("liveness")
    return Advice(
        rule="slow_ping",
        severity=ADVICE,
        text=f"a ping takes {ping * 1000:.1f} ms"
        + (f", {times:.1f} round trips" if times is not None and times >= 1.5 else ""),
        reason="a connection idle longer than ping_after"
        f" ({_DEFAULTS.ping_after:g} s) is pinged when it is borrowed; "
        + (
            "dead ones are mostly seen without, so it may be rarer"
            if known
            else "keepalive does it in the background instead"
        ),
        settings={"ping_after": 300.0} if known else {"keepalive": 25.0},
    )


def slow_connect(found: Findings) -> Advice | None:
    """Whether a burst waits for connects."""
    connect = found.costs.connect
    if connect is None or connect < SLOW_CONNECT or found.local:
        return None
    return Advice(
        rule="slow_connect",
        severity=ADVICE,
        text=f"connecting takes {connect * 1000:.0f} ms",
        reason="with min_size some stay open, so that the first borrowers after a quiet time need not"
        " wait",
        settings={"min_size": 1},
    )


def reset_by_replacement(found: Findings) -> Advice | None:
    """Whether changing the session costs a connect."""
    connect = found.costs.connect
    if found.can("reset") or found.local or _is_shared(found):
        return None
    if connect is None:  # nothing was measured
        return None
    return Advice(
        rule="reset_by_replacement",
        severity=NOTE,
        text=f"a session that was changed is replaced, which takes {connect * 1000:.1f} ms",
        reason="this driver cannot reset it in place; what every borrower wants belongs into setup,"
        " where it is done once for each connection",
    )


def no_plugin(found: Findings) -> Advice | None:
    """Whether the pool knows no more than PEP 249."""
    if found.plugin:
        return None
    return Advice(
        rule="no_plugin",
        severity=ADVICE,
        text=f"no plugin for {found.module}: portable defaults are used",
        reason="dead connections are only found by pings, changed sessions are replaced, calls that"
        " hang are waited for, and no error is known to be worth another try",
        code="see docs/plugins.md: most of it is a dozen lines",
    )


RULES: tuple[Rule, ...] = (
    no_second_connection,
    too_many_connections,
    not_encrypted,
    server_is_read_only,
    pooler_between,
    server_ends_idle_sessions,
    server_ends_idle_transactions,
    name_may_lead_elsewhere,
    no_statement_timeout,
    slow_connect,
    slow_ping,
    reset_by_replacement,
    no_plugin,
)
