"""`dbapi-pool advise`: the options, and the exit code.

Must never hold arithmetic or SQL: those are its neighbours'.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ... import sizing
from ...drivers.facts import Server
from ..access import Access
from ..database import Asked, asks_for_database, positive, told
from ..picture import draw, svg_file
from ..places import host_of
from ..progress import progress
from . import report
from .plan import Place, Plan
from .pooler import pooler_for
from .simulation import Experiment, Simulated, simulate
from .workload import VARIATIONS, BadWorkload, Workload

NOT_OK = 1

MOST_SIZES = 8
LARGEST = 500
"""A size that is simulated: each connection has a thread."""

_whole = click.IntRange(min=1)


@click.command()
@asks_for_database
@click.option("--processes", type=_whole, required=True, help="Processes on each host.")
@click.option("--rate", type=positive, required=True, help="Requests per second, in each process.")
@click.option(
    "--time",
    type=positive,
    required=True,
    help="Seconds that a request holds its connection, on average.",
)
@click.option(
    "--p99",
    "wait",
    type=positive,
    help="Seconds that one request in 100 may wait for longer.  [default: as --time]",
)
@click.option("--hosts", type=_whole, default=1, show_default=True)
@click.option(
    "--reserve",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Sessions to leave for consoles, migrations and whoever else.",
)
@click.option("--threads", type=_whole, help="Threads of a process that borrow.")
@click.option(
    "--per-task",
    type=_whole,
    default=1,
    show_default=True,
    help="Connections that a request holds at the same time.",
)
@click.option("--cores", type=_whole, help="Of the server, where it does not tell.")
@click.option(
    "--spindles",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Disks that the server seeks on.",
)
@click.option(
    "--distribution",
    type=click.Choice(tuple(VARIATIONS)),
    default="exponential",
    show_default=True,
    help="How the times are spread.",
)
@click.option("--simulate", "simulated", is_flag=True, help="Run the pool itself on this workload.")
@click.option(
    "--requests", type=click.IntRange(100, 1_000_000), default=5_000, show_default=True,
    help="To simulate, for each size.",
)  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Of the simulated requests.")
@click.option(
    "--connect",
    type=positive,
    default=0.01,
    show_default=True,
    help="Seconds that a simulated connect takes.",
)
@click.option("--plot", type=svg_file, help="Draw the simulated waits.")
@click.option("--json", "json", is_flag=True, help="Print one JSON document and nothing else.")
@click.pass_context
def advise(ctx: click.Context, /, asked: Asked, json: bool, **options: Any) -> None:
    """Say how large the pool of each process should be, and why.

    Asks the database for its limits, with one connection, and computes the rest from the numbers
    given (`pool.stats()` of a running pool has them: checkouts per second, and `hold.mean`).
    Exit code 0: it will work; 1: it will not, or not so; 2: no connection, or bad input.
    """
    workload = _workload(options)
    _refuse_what_goes_together_with_simulation(ctx, options)
    with told():
        place = _place(asked.access(), options)
    plan = Plan(workload, place)
    said = report.Report(asked.target, plan, pooler_for(plan), *_experiment(plan, options))
    if json:
        click.echo(report.as_json(said))
    else:
        report.show(said, Console())
    if options["plot"] is not None:
        _draw(said, options["plot"])
    ctx.exit(0 if plan.ok else NOT_OK)


def _workload(options: dict[str, Any]) -> Workload:
    names = ("processes", "rate", "time", "hosts", "threads", "per_task", "distribution")
    try:
        return Workload(
            wait=options["wait"] or options["time"], **{name: options[name] for name in names}
        )
    except BadWorkload as exc:
        raise click.UsageError(str(exc)) from exc


def _refuse_what_goes_together_with_simulation(ctx: click.Context, options: dict[str, Any]) -> None:
    if options["simulated"]:
        return
    for name in ("requests", "seed", "connect", "plot"):
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name} goes with --simulate")


# -- the place ------------------------------------------------------------------------------------


def _place(access: Access, options: dict[str, Any]) -> Place:
    conn = access.connect()
    try:
        server = access.server(conn)
    finally:
        with suppress(Exception):  # it may be lost
            access.driver.close(conn)
    local = access.driver.local
    return Place(
        server=server,
        local=local,
        reserve=options["reserve"],
        cores=options["cores"] or server.cores or _cores_here(server, local),
        spindles=options["spindles"],
    )


def _cores_here(server: Server, local: bool) -> int | None:
    """This machine's, if the server is here too."""
    here = local or (
        server.address is not None and not server.pooler and not host_of(server.address)
    )
    return os.cpu_count() if here else None


# -- the simulation -------------------------------------------------------------------------------


def _experiment(
    plan: Plan, options: dict[str, Any]
) -> tuple[Experiment | None, Sequence[Simulated]]:
    if not options["simulated"]:
        return None, ()
    sizes = sizes_around(plan)
    if sizes[-1] > LARGEST:
        raise click.UsageError(f"--simulate: {sizes[-1]} connections are more than {LARGEST}")
    experiment = Experiment(plan.workload, options["connect"], options["requests"], options["seed"])
    with progress("sizes") as tell:
        return experiment, simulate(experiment, sizes, tell)


def sizes_around(plan: Plan) -> list[int]:
    """Those worth a look: from where the line grows for ever to where there is hardly one."""
    stable = sizing.smallest_stable_size(plan.workload.load)
    first, last = max(1, stable - 1), plan.needed + 3
    musts = {size for size in (stable, plan.size, plan.needed) if size}
    step = max(1, -(-(last - first) // (MOST_SIZES - 1)))
    return sorted({*range(first, last + 1, step), *musts})


def _draw(said: report.Report, path: Path) -> None:
    try:
        draw(report.picture(said), path)
    except OSError as exc:
        raise click.ClickException(f"--plot: {exc}") from exc
