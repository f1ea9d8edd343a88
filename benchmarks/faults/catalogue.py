"""The faults: what is done, for how long, and what a pool owes its borrowers then."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .trial import IDLE, Contender, Holder, Writer
from .world import World

Act = Callable[[World, list[Contender]], None]


def nothing(world: World, contenders: list[Contender]) -> None:
    """No act."""


@dataclass(frozen=True)
class Fault:
    """One fault: `strike`, `lasts` times the pace, `mend`."""

    name: str
    text: str
    """What happens, for readers."""
    strike: Act = nothing
    mend: Act = nothing
    """Called for the contenders of one server at a time."""
    prepare: Act = nothing
    """What comes before the first connection."""
    kinds: tuple[str, ...] = ("postgresql", "mysql")
    idle: int = IDLE
    """Connections that are idle when it strikes."""
    lasts: bool = False
    """Whether it goes on for a while, in which borrowers come; else they come afterwards."""
    holder: type[Holder] | None = None
    """Who is in the middle of something when it strikes."""
    permanent: bool = False
    """Whether waiting would not help, so that borrowers must be told at once."""
    statement: str = "SELECT 1"
    """What borrowers run."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of `connect` in place of the right ones."""
    errors_allowed: int = 0
    """Failed statements that no pool could have spared its borrowers."""
    hangs_allowed: bool = False
    """Whether a statement that was under way may wait: no pool may set an end to it."""


# -- acts ------------------------------------------------------------------------------------------


def on_wires(name: str) -> Act:
    """Something that the relays do."""

    def act(world: World, contenders: list[Contender]) -> None:
        for one in contenders:
            if one.wire is not None:
                getattr(one.wire, name)()

    return act


def _set_on_wires(**values: Any) -> Act:
    def act(world: World, contenders: list[Contender]) -> None:
        for one in contenders:
            for name, value in values.items():
                setattr(one.wire, name, value)

    return act


def _forget_flows(world: World, contenders: list[Contender]) -> None:
    for one in contenders:
        assert one.wire is not None
        one.wire.swallow()
        one.wire.silent = False


def on_servers(name: str) -> Act:
    """Something that the servers of these contenders do."""

    def act(world: World, contenders: list[Contender]) -> None:
        for server in world.servers_of(contenders):
            getattr(server, name)()

    return act


def _then(*acts: Act) -> Act:
    def act(world: World, contenders: list[Contender]) -> None:
        for one in acts:
            one(world, contenders)

    return act


def _down(how: str) -> Act:
    # The server's farewell passes first; then nobody listens.
    return _then(on_servers(how), on_wires("refuse"))


_UP = _then(on_servers("start"), on_wires("heal"))
_HEAL = on_wires("heal")

_IDLE_TIMEOUT = {
    "postgresql": ("ALTER ROLE pool SET idle_session_timeout = '1s'",
                   "ALTER ROLE pool RESET idle_session_timeout"),
    "mysql": ("SET GLOBAL wait_timeout = 1", "SET GLOBAL wait_timeout = 28800"),
}  # fmt: skip


def _idle_timeout(which: int) -> Act:
    def act(world: World, contenders: list[Contender]) -> None:
        for server in world.servers_of(contenders):
            server.query(_IDLE_TIMEOUT[server.kind][which])
            server.forget_admin()  # that session would end, too

    return act


def _wait_for_their_end(world: World, contenders: list[Contender]) -> None:
    end = time.monotonic() + 10
    for server in world.servers_of(contenders):
        while server.sessions() and time.monotonic() < end:
            server.forget_admin()
            time.sleep(0.1)


def _fill(world: World, contenders: list[Contender]) -> None:
    for server in world.servers_of(contenders):
        server.query("SELECT 1")  # an administrator has a place
        with contextlib.suppress(Exception):
            while True:
                world.others.append(world.connect(server))


def _leave(world: World, contenders: list[Contender]) -> None:
    world.close_others()


def _cut_after_insert(world: World, contenders: list[Contender]) -> None:
    for one in contenders:
        assert one.wire is not None
        one.wire.cut_when = lambda data: b"INSERT" in data


def _demote(world: World, contenders: list[Contender]) -> None:
    for server in world.servers_of(contenders):
        world.second(server.kind)  # it takes seconds to start
        server.become_read_only()


def _to_the_new_primary(world: World, contenders: list[Contender]) -> None:
    for one in contenders:
        assert one.wire is not None
        standby = world.second(one.server.kind)
        one.wire.target = (standby.host, standby.port)


def _lose_folder(world: World, contenders: list[Contender]) -> None:
    for server in world.servers_of(contenders):
        server.hide()


def _find_folder(world: World, contenders: list[Contender]) -> None:
    for server in world.servers_of(contenders):
        server.show()


# -- the faults ------------------------------------------------------------------------------------

INSERT = "INSERT INTO faults_seen VALUES ('nobody', 0)"
CANARY = "not-the-password"

FAULTS: tuple[Fault, ...] = (
    Fault("sessions killed while idle",
          "`pg_terminate_backend` or `KILL` of every idle session; borrowers come afterwards",
          on_servers("kill_sessions")),
    Fault("session killed in use",
          "the same while a transaction has one row written; its borrower goes on",
          on_servers("kill_sessions"), holder=Holder),
    Fault("idle timeout of the server",
          "`idle_session_timeout` or `wait_timeout` ends every idle session; borrowers come afterwards",
          _wait_for_their_end, _idle_timeout(1), _idle_timeout(0)),
    Fault("restart", "an orderly restart; borrowers come afterwards",
          _down("stop"), _UP),
    Fault("kill -9 and down",
          "every process of the server is killed, and started again after a while; borrowers come at"
          " once", _down("kill9"), _UP, lasts=True),
    Fault("kill -9 in use", "the same with a transaction under way; borrowers come afterwards",
          _down("kill9"), _UP, holder=Holder),
    Fault("frozen", "SIGSTOP of every process, and SIGCONT after a while",
          on_servers("pause"), on_servers("resume"), lasts=True, hangs_allowed=True),
    Fault("full", "`max_connections` is reached by others for a while; nothing is open",
          _fill, _leave, idle=0, lasts=True),
    Fault("starting up", "the server refuses for a while: \"the database system is not accepting"
          " connections\"; nothing is open", on_servers("begin_to_start"), on_servers("finish_start"),
          kinds=("postgresql",), idle=0, lasts=True),
    Fault("connection refused", "nobody listens for a while; nothing is open",
          on_wires("refuse"), _HEAL, idle=0, lasts=True),
    Fault("black hole with idle ones", "what is open is dead without a word, and new clients are not"
          " answered for a while", on_wires("swallow"), _HEAL, lasts=True),
    Fault("idle ones forgotten", "what is idle is dead without a word (a firewall that forgot it); new"
          " connections work", _forget_flows),
    Fault("black hole while opening", "not even a SYN is answered for a while; nothing is open",
          on_wires("vanish"), _HEAL, idle=0, lasts=True),
    Fault("black hole in use", "as with idle ones, with a transaction under way",
          on_wires("swallow"), _HEAL, lasts=True, holder=Holder, hangs_allowed=True),
    Fault("accepted without answer", "connections are accepted and never answered for a while; nothing"
          " is open", _set_on_wires(silent=True), _HEAL, idle=0, lasts=True),
    Fault("reset by peer while idle", "every idle connection is reset", on_wires("reset")),
    Fault("reset by peer in use", "the same with a transaction under way",
          on_wires("reset"), holder=Holder),
    Fault("half-closed while idle", "an end of file on every idle connection, which takes what is sent",
          on_wires("half_close")),
    Fault("answer lost", "a statement that commits itself is done, and the connection lost before the"
          " answer comes", _cut_after_insert, holder=Writer, idle=0),
    Fault("slow", "every packet is 0.2 s late for a while", _set_on_wires(delay=0.2), _HEAL,
          lasts=True),
    Fault("failover to a new primary",
          "the idle connections lead to a server that became read-only, new ones to its successor;"
          " borrowers write", mend=_to_the_new_primary, prepare=_demote,
          statement=INSERT, errors_allowed=IDLE),
    Fault("wrong password", "borrowers must be told at once", idle=0, lasts=True, permanent=True,
          arguments={"password": CANARY}),
    Fault("unknown database", "borrowers must be told at once", idle=0, lasts=True, permanent=True,
          arguments={"dbname": "no_such_database", "database": "no_such_database"}),
    Fault("folder missing", "the file cannot be opened for a while; nothing is open",
          _lose_folder, _find_folder, kinds=("sqlite",), idle=0, lasts=True),
)  # fmt: skip

NAMES = [fault.name for fault in FAULTS]
