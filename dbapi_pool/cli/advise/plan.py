"""The plan: what a workload needs, what the server gives, which of them decides, and what to say of it.

Arithmetic and words over plain records. It must never connect, simulate or print.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor, isinf

from ... import sizing
from ...drivers.facts import Server
from ..limits import Limit, limits
from ..words import duration, several
from .workload import Workload

LEAST, MOST = "at least", "at most"

SERIOUS, ADVICE, NOTE = "serious", "advice", "note"


@dataclass(frozen=True)
class Place:
    """Where the fleet is to work."""

    server: Server = Server()
    local: bool = False
    """Whether the database is in the process itself: no server, no sessions."""
    reserve: int = 0
    """Sessions to leave for others."""
    cores: int | None = None
    spindles: int = 1

    @property
    def limit(self) -> Limit | None:
        """The tightest; None if there is none, or none is known."""
        return next(iter(limits(self.server)), None)

    @property
    def room(self) -> int | None:
        """Sessions that the whole fleet may have."""
        limit = self.limit
        return None if limit is None else max(0, limit.left - self.reserve)

    @property
    def at_work(self) -> int | None:
        """Sessions that the machine can work for at the same time: the PostgreSQL project's rule of
        thumb (https://wiki.postgresql.org/wiki/Number_Of_Database_Connections)."""
        return None if self.cores is None else 2 * self.cores + self.spindles


@dataclass(frozen=True)
class Bound:
    """One bound on the size of a process's pool."""

    name: str
    """Stable: for programs."""
    title: str
    kind: str
    size: int
    why: str


@dataclass(frozen=True)
class Remark:
    """Something to know, or to mend."""

    rule: str
    """Stable: for programs."""
    severity: str
    text: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """A size for the pool of each process, and how it came about."""

    workload: Workload
    place: Place

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """All of them; of those with the same size, the first one decides."""
        return tuple(_bounds(self.workload, self.place))

    @property
    def needed(self) -> int:
        """What the workload asks for, whatever the server gives."""
        return self._needs.size

    @property
    def _needs(self) -> Bound:
        least = max((one for one in self.bounds if one.kind == LEAST), key=lambda one: one.size)
        most = [one for one in self.bounds if one.name == "threads" and one.size < least.size]
        return most[0] if most else least

    @property
    def budget(self) -> int | None:
        """What the server gives to each process; None: no limit, or none is known."""
        room = self.place.room
        return None if room is None else room // self.workload.fleet

    @property
    def fits(self) -> bool:
        """Whether every process can have what it needs."""
        return self.budget is None or self.needed <= self.budget

    @property
    def size(self) -> int:
        """The `max_size` to set; 0 if there is not one session for each process."""
        return self.needed if self.budget is None else min(self.needed, self.budget)

    @property
    def decides(self) -> Bound:
        """The bound that `size` comes from."""
        if self.fits:
            return self._needs
        return next(one for one in self.bounds if one.name == "server")

    @property
    def settings(self) -> dict[str, float]:
        """Settings of `Pool`."""
        return settings(self.workload, self.size) if self.size else {}

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """The serious first."""
        order = (SERIOUS, ADVICE, NOTE)
        return tuple(sorted(_remarks(self), key=lambda one: order.index(one.severity)))

    @property
    def ok(self) -> bool:
        """Whether it will work."""
        return all(one.severity != SERIOUS for one in self.remarks)


def settings(workload: Workload, size: int) -> dict[str, float]:
    """As many as are busy on average are kept open. Who waits for much longer than was wished for is
    told so: the load is another one than was planned for."""
    kept = min(size, floor(workload.load))
    timeout = float(min(30, max(1, round(20 * workload.wait))))
    return {"max_size": size, **({"min_size": kept} if kept else {}), "checkout_timeout": timeout}


# -- bounds ---------------------------------------------------------------------------------------


def _bounds(workload: Workload, place: Place) -> Iterator[Bound]:
    yield _by_wait(workload)
    yield _by_average(workload)
    yield _by_deadlock(workload)
    if workload.threads is not None:
        yield _by_threads(workload, workload.threads)
    if place.room is not None and place.limit is not None:
        yield _by_server(workload, place.limit, place.room, place.reserve)


def _by_wait(workload: Workload) -> Bound:
    size = workload.smallest_size()
    longest, fewer = workload.longest_wait(size), workload.longest_wait(max(1, size - 1))
    why = f"with {size} one request in 100 waits longer than {duration(longest)}"
    if not longest:
        why = f"with {size} fewer than one request in 100 waits"
    if size > 1 and not isinf(fewer):
        why += f", with {size - 1} longer than {duration(fewer)}"
    return Bound("wait", f"p99 wait <= {duration(workload.wait)}", LEAST, size, why)


def _by_average(workload: Workload) -> Bound:
    size = sizing.smallest_stable_size(workload.load)
    held = f" x {workload.per_task} connections" if workload.per_task > 1 else ""
    why = f"{workload.rate:g}/s{held} x {workload.time:g} s = {workload.load:.4g} busy on average"
    return Bound("average", "busy on average", LEAST, size, why)


def _by_deadlock(workload: Workload) -> Bound:
    threads, per_task = workload.threads or 1, workload.per_task
    why = "a request holds one connection at a time"
    if per_task > 1:
        why = f"{threads} threads x ({per_task} - 1) + 1: one can always go on"
    return Bound("deadlock", "no deadlock", LEAST, sizing.deadlock_floor(threads, per_task), why)


def _by_threads(workload: Workload, threads: int) -> Bound:
    most, each = threads * workload.per_task, several(workload.per_task, "connection")
    why = f"{several(threads, 'thread')}, {each} each: more are never used"
    return Bound("threads", "threads", MOST, most, why)


def _by_server(workload: Workload, limit: Limit, room: int, reserve: int) -> Bound:
    why = f"{sums(limit, room, reserve)}, over {several(workload.fleet, 'process', 'processes')}"
    return Bound("server", "the server's share", MOST, room // workload.fleet, why)


def sums(limit: Limit, room: int, reserve: int) -> str:
    """How many sessions the fleet may have, as a sum."""
    parts = [f"{limit.most} ({limit.told})"]
    parts += [f"{limit.others} of other users now"] if limit.others else []
    parts += [f"{reserve} in reserve"] if reserve else []
    return f"{' - '.join(parts)} = {room}" if len(parts) > 1 else parts[0]


# -- remarks --------------------------------------------------------------------------------------


def _remarks(plan: Plan) -> Iterator[Remark]:
    for rule in _RULES:
        remark = rule(plan)
        if remark is not None:
            yield remark


def _does_not_fit(plan: Plan) -> Remark | None:
    room, fleet = plan.place.room, plan.workload.fleet
    if plan.fits or room is None:
        return None
    processes = several(fleet, "process", "processes")
    return Remark(
        "does_not_fit",
        SERIOUS,
        f"{processes} x {several(plan.needed, 'connection')} = {fleet * plan.needed},"
        f" and the server gives {room}",
        _with_what_there_is(plan),
    )


def _with_what_there_is(plan: Plan) -> str:
    workload, size = plan.workload, plan.size
    if not size:
        return (
            "not even one for each process: fewer processes with more threads, or a pooler between"
        )
    if size < sizing.deadlock_floor(workload.threads or 1, workload.per_task):
        return f"with {size} in each, threads that hold some and want another wait for each other"
    longest = workload.longest_wait(size)
    if isinf(longest):
        return (
            f"with {size} in each, of which {workload.load:.4g} would be busy on average, the line"
            " grows until checkouts time out"
        )
    return f"with {size} in each, one request in 100 waits longer than {duration(longest)}"


def _too_much(plan: Plan) -> Remark | None:
    load, room = plan.workload.load * plan.workload.fleet, plan.place.room
    if room is None or load < room:
        return None
    return Remark(
        "too_much",
        SERIOUS,
        f"{load:.4g} sessions would be busy on average in all, of {room}",
        "no pooler mends that: hold connections for a shorter time, give the server more sessions"
        " (and the processors to serve them), or have another one serve a part",
    )


def _too_few_threads(plan: Plan) -> Remark | None:
    workload = plan.workload
    busy = sizing.busy(workload.rate, workload.time)
    if workload.threads is None or busy < workload.threads:
        return None
    return Remark(
        "too_few_threads",
        SERIOUS,
        f"{several(workload.threads, 'thread')} for {busy:.4g} requests at the same time on average",
        "requests wait for a thread, ever longer, however many connections there are",
    )


def _too_few_cores(plan: Plan) -> Remark | None:
    place, load = plan.place, plan.workload.load * plan.workload.fleet
    at_work, rule = place.at_work, _rule_of_thumb(place)
    if at_work is None or load <= at_work:
        return None
    return Remark(
        "too_few_cores",
        ADVICE,
        f"{load:.4g} sessions busy on average in all, on a machine good for {at_work} ({rule})",
        "unless they mostly wait (for the program, for locks), each then takes longer than --time",
    )


def _more_than_cores(plan: Plan) -> Remark | None:
    place, workload = plan.place, plan.workload
    most, at_work = plan.size * workload.fleet, place.at_work
    if at_work is None or not workload.load * workload.fleet <= at_work < most:
        return None
    return Remark(
        "more_than_cores",
        NOTE,
        f"{most} sessions at most, on a machine good for {at_work} ({_rule_of_thumb(place)})",
        "in a rush they wait for processors there instead of in line here, which is slower:"
        " `dbapi-pool bench` shows from which size on",
    )


def _rule_of_thumb(place: Place) -> str:
    return f"{several(place.cores or 0, 'core')} x 2 + {several(place.spindles, 'disk')}"


def _cores_unknown(plan: Plan) -> Remark | None:
    if plan.place.cores is not None:
        return None
    return Remark(
        "cores_unknown",
        NOTE,
        "the server does not tell how many processors it has",
        "with --cores the sessions at work can be compared with what it can work for",
    )


def _one_writer(plan: Plan) -> Remark | None:
    if plan.place.server.product != "SQLite":
        return None
    load = plan.workload.load * plan.workload.fleet
    part = "" if load < 1 else f", of which {1 / load:.0%} at most may be spent writing"
    return Remark(
        "one_writer",
        NOTE if load < 1 else ADVICE,
        f"SQLite has one writer at a time, whatever the size; {load:.4g} are busy on average{part}",
        "a larger pool helps readers alone (in WAL mode); writers stand in line for the file",
    )


def _pooler_between(plan: Plan) -> Remark | None:
    pooler = plan.place.server.pooler
    if not pooler:
        return None
    return Remark(
        "pooler_between",
        NOTE,
        f"{pooler} stands between: what the server allows is for it to keep",
        f"its own limit (PgBouncer: max_client_conn) must be {plan.size * plan.workload.fleet} or more",
    )


def _limits_unknown(plan: Plan) -> Remark | None:
    place = plan.place
    if place.limit is not None or place.local or place.server.pooler:
        return None
    return Remark(
        "limits_unknown",
        NOTE,
        "the server does not tell how many sessions it allows",
        f"there may be {plan.size * plan.workload.fleet}: see that these are fewer",
    )


def _sessions_of_this_user(plan: Plan) -> Remark | None:
    server = plan.place.server
    if (
        plan.place.room is None
        or server.connections is None
        or server.connections_of_others is None
    ):
        return None
    own = server.connections - server.connections_of_others - 1  # without the one that asked
    if own < 1:
        return None
    return Remark(
        "sessions_of_this_user",
        NOTE,
        f"{several(own, 'session')} of this user open now, taken for the fleet's own",
        "those that are not belong into --reserve",
    )


_RULES = (
    _does_not_fit,
    _too_much,
    _too_few_threads,
    _too_few_cores,
    _one_writer,
    _more_than_cores,
    _pooler_between,
    _limits_unknown,
    _sessions_of_this_user,
    _cores_unknown,
)
