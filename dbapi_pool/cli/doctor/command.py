"""`dbapi-pool doctor`: the options, the progress bar and the exit code.

Must never hold a rule, a measurement or SQL: those are its neighbours'.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from . import report
from .advice import advise
from .bench import Bench, CannotConnect
from .examination import examine
from .findings import Findings, Plan
from .target import BadTarget, Target, from_creator, from_url

NOT_OK = 1
NOT_CONNECTED = 2
VARIABLE = "DATABASE_URL"

_positive = click.IntRange(min=1)


@click.command()
@click.argument("url", required=False)
@click.option("--creator", metavar="MODULE[:FUNCTION]", help="A driver instead of a URL.")
@click.option(
    "--arg", "arguments", multiple=True, metavar="[NAME=]VALUE", help="An argument of it."
)
@click.option(
    "--arg-env",
    "secret",
    multiple=True,
    metavar="NAME=VARIABLE",
    help="An argument from the environment: for passwords.",
)
@click.option(
    "--max-size", type=_positive, default=Plan.max_size, show_default=True, help="As you plan it."
)
@click.option(
    "--processes", type=_positive, default=1, show_default=True, help="That have such a pool."
)
@click.option(
    "--timeout", default=10.0, show_default=True, help="Seconds that connecting may take."
)
@click.option("--json", "json", is_flag=True, help="Print one JSON document and nothing else.")
@click.pass_context
def doctor(
    ctx: click.Context,
    url: str | None,
    creator: str | None,
    arguments: tuple[str, ...],
    secret: tuple[str, ...],
    max_size: int,
    processes: int,
    timeout: float,
    json: bool,
) -> None:
    """Examine a database through its driver: what works, what it costs, what to set.

    Without URL and --creator the URL is taken from the environment's DATABASE_URL, so that no
    password stands on the command line. Nothing is written to the database; up to five connections
    are opened. Exit code 0: fine; 1: a promise is broken, or the advice is serious; 2: no connection.
    """
    target = _target(url, creator, arguments, secret)
    try:
        found = _examine(Bench(target, timeout), Plan(max_size, processes))
    except BadTarget as exc:
        raise click.UsageError(str(exc)) from exc
    except CannotConnect as exc:
        click.echo(f"Cannot connect: {exc}\n{exc.hint[:1].upper()}{exc.hint[1:]}.", err=True)
        ctx.exit(NOT_CONNECTED)
    told = report.Report(target, found, advise(found))
    if json:
        click.echo(report.as_json(told))
    else:
        report.show(told, Console())
    ctx.exit(0 if told.ok else NOT_OK)


def _target(
    url: str | None, creator: str | None, arguments: tuple[str, ...], secret: tuple[str, ...]
) -> Target:
    if url is not None and creator is not None:
        raise click.UsageError("give a URL or --creator, not both")
    try:
        if creator is not None:
            return from_creator(creator, arguments, secret, os.environ)
        if arguments or secret:
            raise BadTarget("--arg and --arg-env go with --creator")
        given = url or os.environ.get(VARIABLE)
        if not given:
            raise BadTarget(f"give a URL, --creator, or set {VARIABLE} in the environment")
        return from_url(given, from_environment=url is None)
    except BadTarget as exc:
        raise click.UsageError(str(exc)) from exc


def _examine(bench: Bench, plan: Plan) -> Findings:
    """With a bar on standard error, if that is a terminal: standard output is for the report."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with (
        _quiet(),
        Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        ) as progress,
    ):
        bar = progress.add_task("checks", total=None)
        return examine(
            bench, plan, lambda done, total: progress.update(bar, completed=done, total=total)
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """The checks do on purpose what the pool logs warnings of; without a handler Python prints them."""
    logger, handler = logging.getLogger("dbapi_pool"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
