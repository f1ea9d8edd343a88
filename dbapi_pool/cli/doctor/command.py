"""`dbapi-pool doctor`: the options, the progress bar and the exit code.

Must never hold a rule, a measurement or SQL: those are its neighbours'.
"""

from __future__ import annotations

import click
from rich.console import Console

from ..access import Access
from ..database import Asked, asks_for_database, told
from ..progress import progress
from ..quiet import quiet
from . import report
from .advice import advise
from .examination import examine
from .findings import Findings, Plan

NOT_OK = 1

_positive = click.IntRange(min=1)


@click.command()
@asks_for_database
@click.option(
    "--max-size", type=_positive, default=Plan.max_size, show_default=True, help="As you plan it."
)
@click.option(
    "--processes", type=_positive, default=1, show_default=True, help="That have such a pool."
)
@click.option("--json", "json", is_flag=True, help="Print one JSON document and nothing else.")
@click.pass_context
def doctor(ctx: click.Context, asked: Asked, max_size: int, processes: int, json: bool) -> None:
    """Examine a database through its driver: what works, what it costs, what to set.

    Without URL and --creator the URL is taken from the environment's DATABASE_URL, so that no
    password stands on the command line. Nothing is written to the database; up to five connections
    are opened. Exit code 0: fine; 1: a promise is broken, or the advice is serious; 2: no connection.
    """
    with told():
        found = _examine(asked.access(), Plan(max_size, processes))
    said = report.Report(asked.target, found, advise(found))
    if json:
        click.echo(report.as_json(said))
    else:
        report.show(said, Console())
    ctx.exit(0 if said.ok else NOT_OK)


def _examine(access: Access, plan: Plan) -> Findings:
    # The checks do on purpose what the pool logs warnings of.
    with quiet(), progress("checks") as tell:
        return examine(access, plan, tell)
