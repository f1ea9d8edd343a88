"""What `advise` prints: a table, the decision in words and code to paste, or one JSON document.

Must never compute a size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..bars import Bar, show_bars
from ..picture import Line, Picture
from ..target import Target
from ..words import duration, several
from .plan import ADVICE, NOTE, SERIOUS, Place, Plan
from .pooler import Pooler
from .simulation import Experiment, Simulated
from .workload import Workload

_COLOURS = {SERIOUS: "red", ADVICE: "yellow", NOTE: "blue"}


@dataclass(frozen=True)
class Report:
    """Everything that is to be shown."""

    target: Target
    plan: Plan
    pooler: Pooler | None = None
    experiment: Experiment | None = None
    simulated: Sequence[Simulated] = ()

    @property
    def marked(self) -> int:
        """The size that is recommended."""
        return self.plan.size


# -- JSON -----------------------------------------------------------------------------------------


def as_json(report: Report) -> str:
    """The whole report as one document: see docs/advise.md."""
    plan, pooler = report.plan, report.pooler
    document = {
        "workload": {**asdict(plan.workload), "load": _number(plan.workload.load)},
        "server": asdict(plan.place.server),
        "room": plan.place.room,
        "at_work": plan.place.at_work,
        "bounds": [asdict(bound) for bound in plan.bounds],
        "needed": plan.needed,
        "budget": plan.budget,
        "size": plan.size,
        "decides": plan.decides.name,
        "mean_wait": _number(plan.workload.mean_wait(plan.size)) if plan.size else None,
        "p99_wait": _number(plan.workload.longest_wait(plan.size)) if plan.size else None,
        "settings": plan.settings,
        "remarks": [asdict(remark) for remark in plan.remarks],
        "pooler": pooler and _pooler(pooler),
        "simulation": report.experiment and _simulation(report.experiment, report.simulated),
        "ok": plan.ok,
    }
    return json.dumps(document, indent=2, allow_nan=False)


def _number(value: float) -> float | None:
    """JSON has no word for what is without end."""
    return round(value, 9) if math.isfinite(value) else None


def _pooler(pooler: Pooler) -> dict[str, Any]:
    return {
        "name": pooler.name,
        "sessions": pooler.sessions,
        "clients": pooler.clients,
        "configuration": pooler.configuration,
        "settings": pooler.settings,
    }


def _simulation(experiment: Experiment, simulated: Sequence[Simulated]) -> dict[str, Any]:
    return {
        "requests": experiment.requests,
        "seed": experiment.seed,
        "connect": experiment.connect,
        "sizes": [
            {
                "size": one.size,
                "mean_wait": _number(one.mean),
                "p99_wait": _number(one.p99),
                "waited": _number(one.waited),
                "busy": _number(one.busy),
                "opened": one.opened,
                "deadlock": one.deadlock,
            }
            for one in simulated
        ],
    }


# -- for people -----------------------------------------------------------------------------------


def show(report: Report, console: Console) -> None:
    """The report for people."""
    plan = report.plan
    _line(console, escape(_place(plan.place)))
    _line(console, _work(plan.workload))
    console.print(_bounds(plan, console))
    _line(console, f"[bold]{escape(_decision(plan))}[/]")
    for remark in plan.remarks:
        colour = _COLOURS[remark.severity]
        _line(console, f"[{colour}]{remark.severity.upper()}[/] {escape(remark.text)}")
        _line(console, f"    {escape(remark.reason)}")
    _curve(report, console)
    _paste(report, console)
    verdict = "[green]OK[/] it will work" if plan.ok else "[red]NOT OK[/] see above"
    _line(console, verdict)


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _place(place: Place) -> str:
    server = place.server
    name = " ".join(filter(None, (server.product, server.version))) or "A server that says nothing"
    where = f" at {server.address}" if server.address else ""
    cores = "" if place.cores is None else f", {several(place.cores, 'core')}"
    return f"{name}{where}{cores}"


def _work(workload: Workload) -> str:
    hosts = f"{workload.hosts} hosts with " if workload.hosts > 1 else ""
    spread = "" if workload.distribution == "exponential" else f" ({workload.distribution})"
    return (
        f"{hosts}{several(workload.processes, 'process', 'processes')}, each with"
        f" {workload.rate:g} requests/s of {duration(workload.time)}{spread}"
    )


def _bounds(plan: Plan, console: Console) -> Table:
    table = Table(box=box.ROUNDED if console.is_terminal else box.ASCII)
    table.add_column("max_size by")
    table.add_column("", justify="right")
    table.add_column("because", overflow="fold")
    for bound in plan.bounds:
        mark = " *" if bound == plan.decides else ""
        table.add_row(bound.title + mark, f"{bound.kind} {bound.size}", escape(bound.why))
    return table


def _decision(plan: Plan) -> str:
    bound, workload = plan.decides, plan.workload
    if not plan.size:
        return f"There is no session for each process: {bound.title} decides."
    longest = workload.longest_wait(plan.size)
    waits = "the line grows for ever"
    if math.isfinite(longest):
        mean = duration(workload.mean_wait(plan.size))
        waits = f"requests wait {mean} on average, one in 100 longer than {duration(longest)}"
    return f"Take max_size={plan.size}: {_WHO[bound.name]} decides; {waits}."


_WHO = {
    "wait": "the wish for a short wait",
    "average": "what is busy on average",
    "deadlock": "the floor against deadlocks",
    "threads": "the number of threads",
    "server": "what the server gives",
}


def _paste(report: Report, console: Console) -> None:
    plan, pooler = report.plan, report.pooler
    if plan.settings:
        _line(console, "To paste:")
        _lines(console, code(report.target.code, plan.settings))
    if pooler is not None:
        _line(console, f"Or {pooler.name} between ({_file(pooler)}), and the processes go to it:")
        _lines(console, pooler.configuration.split("\n"))
        _lines(console, ("", *code(f"...,  # {pooler.name}, port {pooler.port}", pooler.settings)))


def _file(pooler: Pooler) -> str:
    return "pgbouncer.ini" if pooler.name == "PgBouncer" else "on its admin port"


def _lines(console: Console, lines: Sequence[str] | Iterator[str]) -> None:
    for line in lines:
        _line(console, escape(line))


def code(creator: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """A call of `Pool`."""
    first, _, comment = creator.partition("  #")
    yield "pool = Pool("
    yield f"    {first.rstrip(',')}," + (f"  #{comment}" if comment else "")
    for name, value in settings.items():
        yield f"    {name}={json.dumps(value)},"
    yield ")"


# -- the curve ------------------------------------------------------------------------------------


def _curve(report: Report, console: Console) -> None:
    experiment = report.experiment
    if experiment is None:
        return
    workload = report.plan.workload
    _line(
        console,
        f"{experiment.requests:,} requests simulated with the pool itself (seed {experiment.seed}):"
        " wait by size, # mean, = p99"
        if not console.is_terminal
        else f"{experiment.requests:,} requests simulated with the pool itself (seed"
        f" {experiment.seed}): wait by size, dark: mean, light: p99",
    )
    settled = [one.p99 for one in report.simulated if _settles(one, workload)]
    longest = max([*settled, workload.wait])
    show_bars(console, [_bar(one, report) for one in report.simulated], longest)


def _settles(one: Simulated, workload: Workload) -> bool:
    return not one.deadlock and one.size > workload.load


def _bar(one: Simulated, report: Report) -> Bar:
    workload = report.plan.workload
    text = f"{duration(one.mean)}, p99 {duration(one.p99)}"
    if one.deadlock:
        text = "deadlock: requests wait for each other"
    elif not _settles(one, workload):
        text += " (and growing)"
    marked = one.size == report.marked
    arrow = "  <- recommended" if marked else ""
    return Bar(str(one.size), one.p99, text + arrow, inner=one.mean, marked=marked)


def picture(report: Report) -> Picture:
    """The curve, for a file."""
    workload = report.plan.workload
    settled = [one for one in report.simulated if _settles(one, workload)]
    return Picture(
        title=f"{workload.rate:g} requests/s of {duration(workload.time)}, {workload.distribution}",
        across="max_size",
        up="seconds until a request has its connection",
        lines=(
            Line("p99, simulated", [(one.size, one.p99) for one in settled]),
            Line("mean, simulated", [(one.size, one.mean) for one in settled]),
            Line("p99, formula", [(one.size, workload.longest_wait(one.size)) for one in settled]),
        ),
        levels=[(f"p99 wished for: {duration(workload.wait)}", workload.wait)],
        mark=(f"recommended: {report.marked}", report.marked) if report.marked else None,
        logarithmic=True,
    )
