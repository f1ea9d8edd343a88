"""One fault against all pools at once: strike, watch, mend, watch."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..adapters import _is_installed
from . import pools
from .catalogue import Fault
from .trial import SIZE, TIMEOUT, Contender, Crowd, Deferred
from .wire import Wire
from .world import World

_PATIENCE = 10.0  # seconds for what is not looked at: opening, closing


@dataclass(frozen=True)
class Pace:
    """How long a fault lasts, and how long we wait for healing."""

    lasts: float = 2.5
    cap: float = 4.0


FULL, QUICK = Pace(), Pace(1.5, 2.0)


class Restless:
    """How late this machine wakes whoever sleeps for 10 ms: what a promise of 50 ms is up against."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            begin = time.monotonic()
            time.sleep(0.01)
            self.worst = max(self.worst, time.monotonic() - begin - 0.01)

    def stop(self) -> float:
        """Seconds, at worst."""
        self._stop.set()
        self._thread.join()
        return self.worst


class Round:
    """One fault, its contenders, and what they see."""

    def __init__(self, world: World, fault: Fault, attempts: pools.Attempts, pace: Pace) -> None:
        self._world = world
        self._fault = fault
        self._attempts = attempts
        self._pace = pace
        self.contenders: list[Contender] = []
        self._crowds: list[Crowd] = []

    def run(self, modules: list[str], names: list[str]) -> list[Contender]:
        """All of it; afterwards every server is as it was."""
        restless = Restless()
        try:
            self._enter(modules, names)
            self._strike_and_mend()
            self._watch()
        finally:
            late = restless.stop()
            self._leave()
        for one in self.contenders:
            one.seen.machine_late = late
        if self._fault.holder:
            for holder in self._holders:
                holder.look_for_lies()
        return self.contenders

    # -- before ------------------------------------------------------------------------------------

    def _enter(self, modules: list[str], names: list[str]) -> None:
        pairs = list(self._world.modules(self._fault.kinds, modules))
        places = [_Place(self._world.server(kind)) for kind, _ in pairs]
        self._fault.prepare(self._world, places)  # type: ignore[arg-type]
        for kind, module in pairs:
            for pool in pools.KINDS:
                wanted = not names or any(name in pool.name for name in names)
                if wanted and pools.take_part(pool, module) and self._is_here(pool):
                    self.contenders.append(self._contender(kind, module, pool))
        warm = [
            Deferred(lambda one=one: one.pool.warm(self._fault.idle)) for one in self.contenders
        ]
        end = time.monotonic() + _PATIENCE
        for call in warm:
            call.ended(end - time.monotonic())
        holder = self._fault.holder
        self._holders = [holder(one) for one in self.contenders] if holder else []
        for one in self._holders:
            one.ready(_PATIENCE)

    def _is_here(self, pool: Any) -> bool:
        missing = [name for name in pool.needs if not _is_installed(name)]
        if missing:
            self._world.skipped[pool.name] = f"not installed: {', '.join(missing)}"
        return not missing

    def _contender(self, kind: str, module: str, pool: Any) -> Contender:
        server = self._world.server(kind)
        arguments = server.arguments(module)
        arguments.update((k, v) for k, v in self._fault.arguments.items() if k in arguments)
        wire = None
        if kind != "sqlite":
            wire = Wire(server.host, server.port)
            arguments.update(host=wire.host, port=wire.port)
        made = pool(pools.driver(module, arguments), SIZE, TIMEOUT)
        tag = f"{self._fault.name}/{module}/{pool.name}/{time.monotonic_ns()}"
        return Contender(
            module, pool, made, wire, server, tag, arguments.get("port", arguments.get("database")),
            self._fault.statement,
            lambda sql: self._world.rows(server, sql),
        )  # fmt: skip

    # -- the fault ---------------------------------------------------------------------------------

    def _strike_and_mend(self) -> None:
        fault = self._fault
        fault.strike(self._world, self.contenders)
        before = {one.tag: self._connects(one) for one in self.contenders}
        begin = time.monotonic()
        if fault.lasts:
            self._send_crowds(self.contenders)
            self._go_on()
            time.sleep(self._pace.lasts)
        if fault.lasts and not fault.permanent:
            seconds = time.monotonic() - begin
            for one in self.contenders:
                one.seen.connects_per_second = (self._connects(one) - before[one.tag]) / seconds
        if not fault.permanent:
            self._mend()
        if not fault.lasts:
            self._send_crowds(self.contenders)
            self._go_on()

    def _mend(self) -> None:
        for server in self._world.servers_of(self.contenders):
            mine = [one for one in self.contenders if one.server is server]
            self._fault.mend(self._world, mine)
            for one in mine:
                one.mended_at = time.monotonic()

    def _send_crowds(self, contenders: list[Contender]) -> None:
        for one in contenders:
            if not self._fault.lasts:  # it was over before; for them it ends when they come
                one.mended_at = time.monotonic()
            self._crowds.append(Crowd(one))

    def _go_on(self) -> None:
        for one in self._holders:
            one.go_on()

    def _connects(self, one: Contender) -> int:
        return self._attempts[one.where]

    def _watch(self) -> None:
        """Until everybody was served, or we give up."""
        end = time.monotonic() + (0.0 if self._fault.permanent else self._pace.cap)
        while time.monotonic() < end and not all(crowd.served for crowd in self._crowds):
            time.sleep(0.02)
        for crowd in self._crowds:
            crowd.finish()
        for holder in self._holders:
            holder.finish()

    # -- after -------------------------------------------------------------------------------------

    def _leave(self) -> None:
        for one in self.contenders:
            if one.wire is not None:
                one.wire.close()
        calls: list[Callable[[float], bool]] = [
            borrower.ended for crowd in self._crowds for borrower in crowd.borrowers
        ]
        calls += [Deferred(one.pool.close).ended for one in self.contenders]
        end = time.monotonic() + _PATIENCE / 4
        for call in calls:
            call(end - time.monotonic())
        self._world.repair()


@dataclass(eq=False)
class _Place:
    """Stands for contenders that are not made yet."""

    server: Any
    wire: None = None


@contextlib.contextmanager
def counted(world: World, kinds: tuple[str, ...]) -> Iterator[pools.Attempts]:
    """Attempts to connect of every driver."""
    modules = [pools.driver(module, {}).creator for _, module in world.modules(kinds, [])]
    with pools.Attempts().of(modules) as attempts:
        yield attempts
