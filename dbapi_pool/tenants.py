"""`Tenants`: many pools under one budget, one for each tenant, shard or database.

It decides how many connections each pool may have, by `Pool.resize`, and lets the pools do the rest.
It must never reach behind the public face of `Pool`, and has no thread of its own.

The budget is not counted but derived. A pool may have `max_size` connections; where that was lowered it
has more until they are closed. `total`, less the larger of the two for every pool, is free; so a pool
is given more only while that is above 0, and what is taken from one is given to the next when the
driver has closed it.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, Protocol, TypeVar

from .checks import check_count, check_timeout
from .drivers import hookimpl
from .errors import PoolClosed, PoolFull, PoolSettingError, PoolTimeout
from .handles import PooledConnection
from .health import LEVELS, Health
from .pool import Pool
from .stats import PoolStats
from .system import REAL, System
from .transactions import Terms, Transaction

T = TypeVar("T")

Key = Any
"""Whatever names a tenant: hashable, and shown in names and errors by `str`."""


class Factory(Protocol):
    """Makes the pool of one tenant:
    `lambda tenant, **settings: Pool(psycopg2, dsn[tenant], **settings)`.

    The settings must be passed on; others may be added, but for the sizes.
    """

    def __call__(self, tenant: Key, /, **settings: Any) -> Pool: ...


@dataclass(frozen=True, kw_only=True)
class Tier:
    """What a tenant may have."""

    min_size: int = 0
    """Connections kept open, and never taken away, while the tenant's pool is there."""
    max_size: int = 10
    """Connections open at most."""
    weight: float = 1.0
    """Its share when all want more than there is, compared with others."""

    def __post_init__(self) -> None:
        check_count("min_size", self.min_size)
        check_count("max_size", self.max_size)
        if not 0 <= self.min_size <= self.max_size or not self.max_size:
            raise PoolSettingError(
                f"min_size={self.min_size!r}, max_size={self.max_size!r}: must be 0 or more, and 1 or"
                " more, and the second not less than the first"
            )
        if isinstance(self.weight, bool) or not isinstance(self.weight, (int, float)):
            raise PoolSettingError(f"weight={self.weight!r}: must be a number")
        if not 0 < self.weight < float("inf"):
            raise PoolSettingError(f"weight={self.weight!r}: must be more than 0 and finite")


@dataclass(frozen=True, kw_only=True)
class TenantsStats:
    """A picture of all. `occupied`: connections open, opening or being closed, never more than
    `total`."""

    name: str
    total: int
    occupied: int
    pools: int
    waiting: int
    """Callers in line, for whatever tenant."""
    by_tenant: Mapping[str, PoolStats] = field(default_factory=dict)
    """The tenants that have borrowed most."""
    others: Mapping[str, int] = field(default_factory=dict)
    """The sums of all the others: `pools`, `size`, `in_use`, `waiting`, `checkouts`, `timeouts`."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        by_tenant = {tenant: stats.as_dict() for tenant, stats in self.by_tenant.items()}
        return {**values, "by_tenant": by_tenant, "others": dict(self.others)}


class _Tenant:
    """One tenant with its pool."""

    __slots__ = ("__weakref__", "asking", "key", "pool", "returning", "tier", "used")

    def __init__(self, key: Key, tier: Tier, pool: Pool, now: float) -> None:
        self.key = key
        self.tier = tier
        self.pool = pool
        self.used = now
        # One thing for each caller who waits, and who gives back; appending and removing are atomic.
        self.asking: list[object] = []
        self.returning: list[object] = []

    @property
    def overhang(self) -> int:
        """Connections above the bound that are not closed yet."""
        return max(0, self.pool.occupied - self.pool.max_size)

    @property
    def is_active(self) -> bool:
        """Whether it has, may have or wants a connection; one that was evicted does not count here."""
        pool = self.pool
        if pool.closed:
            return False
        return bool(self.asking or pool.max_size or self.tier.min_size or pool.occupied)

    def demand(self, gone: int) -> int:
        """How many it can use now; `gone`: how many it has that are in a pool which was evicted."""
        used = max(self.pool.busy - len(self.returning), 0)
        wanted = max(used + len(self.asking), self.tier.min_size)
        return min(self.tier.max_size - gone, wanted)

    def turn(self, given: int) -> tuple[float, bool, float]:
        """Its place in the order in which connections are given out, when it was given so many: who
        has least, by its weight. Among equals who has it already, since to change hands costs a
        connect; but the first one goes to who was not served for longest."""
        keeps = given > 0 and self.pool.max_size > given
        return given / self.tier.weight, not keeps, self.used

    def resize(self, max_size: int) -> None:
        """Set what it may have."""
        least = min(self.tier.min_size, max_size)
        self.pool.resize(max_size=max_size, min_size=least, ceiling=self.tier.max_size)


class _Ears:
    """What a tenant's pool tells."""

    def __init__(self, tenants: Tenants, tenant: _Tenant) -> None:
        self._tenants = weakref.ref(tenants)
        self._tenant = weakref.ref(tenant)

    @hookimpl
    def dbapi_pool_closed(self) -> None:
        """A place is free."""
        self._balance()

    @hookimpl
    def dbapi_pool_connect_failed(self) -> None:
        """A place is free."""
        self._balance()

    @hookimpl
    def dbapi_pool_retired(self, reason: str) -> None:
        """Of one that is taken out of its pool nobody hears again."""
        if reason == "detached":
            self._balance()

    def _balance(self) -> None:
        tenants = self._tenants()
        if tenants is not None:
            tenants.balance()

    @hookimpl
    def dbapi_pool_checked_in(self) -> None:
        """One is about to be idle: if somebody else is in need, it is not in use here any more."""
        tenants, tenant = self._tenants(), self._tenant()
        if tenants is None or tenant is None or not tenants.in_need:
            return
        tenant.returning.append(self)
        try:
            tenants.balance()
        finally:
            tenant.returning.remove(self)


class Tenants:
    """Pools made on demand, one for each tenant, with at most `total` connections together.

    factory: makes a tenant's pool; see `Factory`
    total: driver connections open, opening or being closed at most, over all pools
    tier: what a tenant may have: a `Tier`, or a function of the tenant that gives one
    max_pools: pools at most; before one more is made, that which was used least recently and is not in
        use is closed
    checkout_timeout, idle_timeout, fail_fast_after: as for `Pool`, for each of them; so a database that
        is down costs the other tenants nothing but its share of `total`
    name: shown in errors, and in front of the pools' names

    When `total` is reached, a tenant that needs one more gets what another has idle, the longest unused
    first; else one of a tenant that has more than its share, when it is returned. Callers of one tenant
    are served first come, first served. A thread that wants connections of several tenants at once may
    wait for itself, as with one pool, without being told so before `checkout_timeout`.

    Raises `PoolSettingError` for a setting that cannot work.
    """

    def __init__(
        self,
        factory: Factory,
        total: int,
        *,
        tier: Tier | Callable[[Key], Tier] = Tier(),
        max_pools: int = 1000,
        checkout_timeout: float | None = 30.0,
        idle_timeout: float | None = 60.0,
        fail_fast_after: float | None = 5.0,
        name: str = "tenants",
        clock: System | None = None,
    ) -> None:
        for setting, value in (("total", total), ("max_pools", max_pools)):
            check_count(setting, value)
            if value == 0:
                raise PoolSettingError(f"{setting}=0: must be 1 or more")
        if not callable(factory):
            raise PoolSettingError(f"factory={factory!r}: must be callable")
        self.name = name
        self.total = total
        self.max_pools = max_pools
        self._factory = factory
        self._tier = tier
        self._settings = {
            "checkout_timeout": checkout_timeout,
            "idle_timeout": idle_timeout,
            "fail_fast_after": fail_fast_after,
            "clock": clock,
        }
        self._system = clock or REAL
        self._closed = False
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        # Guards `_tenants`, `_leaving` and every raising of a pool's `max_size`. Under it nothing is
        # closed and no driver is called: what is taken away is taken outside.
        self._lock = self._system.lock()
        self._tenants: dict[Key, _Tenant] = {}
        self._active: dict[
            _Tenant, None
        ] = {}  # who has, may have, or wants a connection; in this order
        self._leaving: list[_Tenant] = []  # closed, but not all of their connections are
        self._listeners: list[object] = []
        self.in_need = False  # somebody waits, and nothing is free or coming

    # -- borrowing ----------------------------------------------------------------------------------

    def connection(self, tenant: Key, timeout: float | None = None) -> PooledConnection:
        """Borrow a connection of that tenant. Raises as `Pool.connection`, and `PoolFull` if there are
        `max_pools` and all are in use."""
        return self._lend(tenant, timeout, sys._getframe(1))

    def transaction(
        self,
        tenant: Key,
        isolation: str | None = None,
        readonly: bool | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Transaction:
        """As `Pool.transaction`, for that tenant."""
        return _TenantsTransaction(self, tenant, Terms(isolation, readonly, timeout, options))

    def run(
        self,
        tenant: Key,
        fn: Callable[[PooledConnection], T],
        retries: int = 3,
        isolation: str | None = None,
        readonly: bool | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> T:
        """As `Pool.run`, for that tenant."""
        frame = sys._getframe(1)
        terms = Terms(isolation, readonly, timeout, options)
        return self.served(tenant, lambda pool, turn: pool.run_at(frame, turn(fn), retries, terms))

    def _lend(self, key: Key, timeout: float | None, frame: FrameType) -> PooledConnection:
        return self.served(key, lambda pool, _: pool.lend(frame, timeout))

    def served(self, key: Key, ask: Callable[[Pool, _Turn], T]) -> T:
        """What `ask` gets from the tenant's pool, which is given what it needs for that."""
        while True:
            tenant = self._tenant(key)
            turn = _Turn(tenant)
            try:
                if tenant.pool.exhausted:
                    self._active[tenant] = None
                    self.balance()
                got = ask(tenant.pool, turn)
                if len(tenant.asking) > 1 and tenant.pool.exhausted:
                    self.balance()  # another one saw as idle what this one got
                tenant.used = self._system.monotonic()
                return got
            except PoolClosed:
                if self._closed or self._tenants.get(key) is tenant:
                    raise
            except PoolTimeout as exc:
                raise self._worded(exc) from exc.__cause__
            finally:
                turn.end()

    def _worded(self, exc: PoolTimeout) -> PoolTimeout:
        """With the budget, which may be the reason."""
        occupied = self.occupied
        return type(exc)(f"{exc} (of {self.name}: {occupied} of total={self.total} occupied)")

    # -- pools --------------------------------------------------------------------------------------

    def pool(self, tenant: Key) -> Pool:
        """The pool of a tenant, made if need be: for `drain()`, `stats()` and the like. Its sizes are
        not yours to set."""
        return self._tenant(tenant).pool

    def _tenant(self, key: Key) -> _Tenant:
        return self._tenants.get(key) or self._admit(key)

    def _admit(self, key: Key) -> _Tenant:
        if self._closed:
            raise PoolClosed(f"{self.name}: closed")
        tier = self._tier if isinstance(self._tier, Tier) else self._tier(key)
        made = _Tenant(key, tier, self._make(key), self._system.monotonic())
        made.pool.register(_Ears(self, made))
        with self._lock:
            found = self._tenants.get(key)
            gone = [] if found is not None else self._make_room()
            if found is None and gone is not None:
                self._tenants[key] = made
        if found is not None or gone is None:
            made.pool.close(timeout=0)  # nothing was opened yet
        if found is not None:
            return found
        if gone is None:
            raise PoolFull(f"{self.name}: all of max_pools={self.max_pools} are in use")
        for pool in gone:
            pool.close(timeout=0)
        if tier.min_size:
            self._active[made] = None
            self.balance()
        return made

    def _make(self, key: Key) -> Pool:
        name = f"{self.name}: {key}"
        pool = self._factory(key, name=name, min_size=0, max_size=1, **self._settings)
        if not isinstance(pool, Pool):
            raise PoolSettingError(
                f"factory: gave an object of type {type(pool).__name__} for {key}; must be a Pool"
            )
        if pool.max_size != 1 or pool.min_size:
            raise PoolSettingError(
                f"factory: the pool of {key} has min_size={pool.min_size}, max_size={pool.max_size};"
                " pass on the settings that it is called with: sizes are set here"
            )
        pool.resize(max_size=0, ceiling=1)
        for listener in self._listeners:
            pool.register(listener)
        return pool

    def _make_room(self) -> list[Pool] | None:
        """Pools to be closed so that there is room for one more; None: there is none. Caller holds the
        lock."""
        if len(self._tenants) < self.max_pools:
            return []
        unused = [one for one in self._tenants.values() if not one.asking and _is_unused(one.pool)]
        if not unused:
            return None
        oldest = min(unused, key=lambda one: one.used)
        del self._tenants[oldest.key]
        self._leaving.append(oldest)
        return [oldest.pool]

    # -- the budget ---------------------------------------------------------------------------------

    @property
    def occupied(self) -> int:
        """Connections open, opening or being closed now, over all pools."""
        return sum(one.pool.occupied for one in [*tuple(self._tenants.values()), *self._leaving])

    def balance(self) -> None:
        """Give what is free to those who need it, and take it from where it is not needed. Done by
        itself whenever that may have changed."""
        while True:
            with self._lock:
                takings = self._decide()
            if not takings:
                return
            for tenant, size in takings:
                if tenant.pool.max_size > size:
                    tenant.resize(size)

    def _decide(self) -> list[tuple[_Tenant, int]]:
        """Gives; and says from whom to take, and what is to be left to it. Caller holds the lock."""
        self._leaving = [one for one in self._leaving if one.pool.occupied]
        for one in tuple(self._active):
            if not one.is_active:
                self._active.pop(one, None)
        active = tuple(self._active)
        gone = Counter(one.key for one in self._leaving for _ in range(one.pool.occupied))
        demands = {one: demand for one in active if (demand := one.demand(gone[one.key])) > 0}
        fair = self._fair(demands)
        free = self._free()
        missing = 0
        for one, size in fair.items():
            lacks = size - one.pool.max_size
            given = min(lacks, free)
            if given > 0:
                one.resize(one.pool.max_size + given)
                free -= given
            missing += max(0, lacks - max(0, given))
        # Also those whose turn it is not yet: it comes with whatever is returned.
        self.in_need = any(demand > one.pool.max_size for one, demand in demands.items())
        return self._takings(fair, missing - self._coming())

    def _fair(self, demands: dict[_Tenant, int]) -> dict[_Tenant, int]:
        """What each should have that can use any: what it is promised, and the rest one by one."""
        fair = {one: min(one.tier.min_size, demand) for one, demand in demands.items()}
        left = self.total - sum(fair.values())
        line = [(one.turn(fair[one]), number, one) for number, one in enumerate(demands)]
        heapq.heapify(line)
        while left > 0 and line:
            _, number, one = heapq.heappop(line)
            if fair[one] < demands[one]:
                fair[one] += 1
                left -= 1
                heapq.heappush(line, (one.turn(fair[one]), number, one))
        return fair

    def _free(self) -> int:
        pools = [one.pool for one in tuple(self._active) if not one.pool.closed]
        taken = sum(max(pool.max_size, pool.occupied) for pool in pools)
        return self.total - taken - sum(one.pool.occupied for one in self._leaving)

    def _takings(self, fair: dict[_Tenant, int], wanted: int) -> list[tuple[_Tenant, int]]:
        """From whom to take so many: who needs them least recently first."""
        takings = []
        givers = [one for one in tuple(self._active) if one.pool.max_size > fair.get(one, 0)]
        for one in sorted(givers, key=lambda one: (bool(one.asking), one.used)):
            if wanted <= 0:
                break
            size = max(fair.get(one, one.tier.min_size), one.pool.max_size - wanted)
            wanted -= one.pool.max_size - size
            takings.append((one, size))
        return takings

    def _coming(self) -> int:
        """What will be free as soon as it is closed."""
        overhang = sum(one.overhang for one in tuple(self._active))
        return overhang + sum(one.pool.occupied for one in self._leaving)

    # -- life cycle ---------------------------------------------------------------------------------

    def warm_up(self, tenant: Key, count: int, timeout: float | None = None) -> None:
        """Have `count` connections of a tenant open, as far as `total` has room for them without taking
        any from others. Raises as `Pool.warm_up`; `PoolSettingError` for more than its tier allows."""
        check_count("count", count)
        one = self._tenant(tenant)
        if count > one.tier.max_size:
            raise PoolSettingError(
                f"count={count!r}: must not be more than max_size={one.tier.max_size}"
            )
        with self._lock:
            more = min(count - one.pool.max_size, self._free())
            if more > 0:
                self._active[one] = None
                one.resize(one.pool.max_size + more)
        one.pool.warm_up(min(count, one.pool.max_size), timeout)

    def register(self, listener: object) -> None:
        """Let an object listen to every pool, as `Pool.register`."""
        for one in tuple(self._tenants.values()):
            one.pool.register(listener)
        self._listeners.append(listener)

    def evict(self, tenant: Key) -> None:
        """Close a tenant's pool: its connections now, or when they come back. It is made anew when it
        is needed again."""
        with self._lock:
            one = self._tenants.pop(tenant, None)
            if one is not None:
                self._leaving.append(one)
        if one is not None:
            one.pool.close(timeout=0)
            self.balance()

    def close(self, timeout: float = 5.0) -> bool:
        """Close every pool, waiting up to `timeout` seconds in all; says whether all connections were
        closed by then."""
        check_timeout(timeout)
        self._closed = True
        with self._lock:
            pools = [one.pool for one in [*self._tenants.values(), *self._leaving]]
            self._tenants.clear()
            self._leaving = []
        for pool in pools:
            pool.close(timeout=0)
        end = self._system.monotonic() + timeout
        ended = [pool.close(max(end - self._system.monotonic(), 0)) for pool in pools]
        return all(ended)

    def __enter__(self) -> Tenants:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _after_fork(self) -> None:
        """In a child: the lock may be held by a thread that is not here, and nobody asks."""
        tenants, active, listeners = self._tenants, self._active, self._listeners
        self._begin()
        self._tenants, self._active, self._listeners = tenants, active, listeners
        for one in tenants.values():
            one.asking, one.returning = [], []

    # -- what can be seen ---------------------------------------------------------------------------

    def stats(self, most: int = 20) -> TenantsStats:
        """A picture of all pools, with those of the `most` tenants that have borrowed most: however
        many tenants there are, what is told of them is not more."""
        check_count("most", most)
        pictures = [(str(one.key), one.pool.stats()) for one in tuple(self._tenants.values())]
        pictures.sort(key=lambda picture: -picture[1].checkouts)
        return TenantsStats(
            name=self.name,
            total=self.total,
            occupied=self.occupied,
            pools=len(pictures),
            waiting=sum(stats.waiting for _, stats in pictures),
            by_tenant=dict(pictures[:most]),
            others=_summed([stats for _, stats in pictures[most:]]),
        )

    def health(self, most: int = 20) -> Health:
        """That of the pool which does worst, with the reasons of the `most` that do worst."""
        check_count("most", most)
        found = [(str(one.key), one.pool.health()) for one in tuple(self._tenants.values())]
        found.sort(key=lambda one: -LEVELS.index(one[1].level))
        reasons = [f"{key}: {text}" for key, health in found[:most] for text in health.reasons]
        return Health(found[0][1].level if found else "ok", tuple(reasons))

    def __iter__(self) -> Iterator[Key]:
        """The tenants that have a pool now."""
        return iter(tuple(self._tenants))

    def __len__(self) -> int:
        return len(self._tenants)

    def __repr__(self) -> str:
        return f"<Tenants {self.name!r}: {self.occupied} of {self.total}, {len(self)} pools>"


class _Turn:
    """One caller who asks for a connection of a tenant, until it is served."""

    def __init__(self, tenant: _Tenant) -> None:
        self._asking = tenant.asking
        self._begin()

    def _begin(self) -> None:
        self._asking.append(self)

    def end(self) -> None:
        """It is served, or goes."""
        with contextlib.suppress(ValueError):  # it was before, or this is a child process
            self._asking.remove(self)

    def __call__(self, fn: Callable[[PooledConnection], T]) -> Callable[[PooledConnection], T]:
        """`fn`, called with a connection: meanwhile nothing is asked for, and afterwards perhaps
        again."""

        def served(conn: PooledConnection) -> T:
            self.end()
            try:
                return fn(conn)
            finally:
                self._begin()

        return served


class _TenantsTransaction(Transaction):
    """`Tenants.transaction`."""

    __slots__ = ("_key", "_tenants")

    def __init__(self, tenants: Tenants, key: Key, terms: Terms) -> None:
        super().__init__(tenants.pool(key), terms)
        self._tenants, self._key = tenants, key

    def __enter__(self) -> PooledConnection:
        return self.enter_at(sys._getframe(1))

    def enter_at(self, frame: FrameType) -> PooledConnection:
        """As entering it: see `Pool.lend`."""

        def enter(pool: Pool, _: _Turn) -> PooledConnection:
            self._pool = pool  # the tenant's may have been closed, and made anew
            return super(_TenantsTransaction, self).enter_at(frame)

        return self._tenants.served(self._key, enter)


def _is_unused(pool: Pool) -> bool:
    stats = pool.stats()
    return not (stats.in_use or stats.waiting or stats.opening or stats.checking or stats.cleaning)


def _summed(pictures: list[PoolStats]) -> dict[str, int]:
    names = ("size", "in_use", "waiting", "checkouts", "timeouts")
    sums = {name: sum(getattr(stats, name) for stats in pictures) for name in names}
    return {"pools": len(pictures), **sums}


_all: weakref.WeakSet[Tenants] = weakref.WeakSet()


def _in_child() -> None:
    for tenants in tuple(_all):
        tenants._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
