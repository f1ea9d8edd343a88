"""`dbapi-pool demo`: the options, the temporary folder, the progress bars, and the exit code.

Must never hold SQL, threads or measurements: those are its neighbours'.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ... import PoolError, PoolSettingError
from ..versions import version_of
from .comparison import Comparison, Result
from .contenders import NAMES
from .database import Database, UnknownDatabase
from .report import Report, as_json, show
from .workload import plan

ORDERS = 10_000
WORKERS = 16
MAX_SIZE = 8

_positive = click.IntRange(min=1)


@click.command()
@click.option("--orders", type=_positive, default=ORDERS, show_default=True, help="How many.")
@click.option("--workers", type=_positive, default=WORKERS, show_default=True, help="Threads.")
@click.option(
    "--max-size", type=_positive, default=MAX_SIZE, show_default=True, help="The pool's bound."
)
@click.option(
    "--url",
    metavar="URL",
    help="A database that a plugin knows, in which tables are made and dropped again."
    "  [default: SQLite in a temporary folder]",
)
@click.option("--json", "json", is_flag=True, help="Print one JSON document and nothing else.")
@click.pass_context
def demo(
    ctx: click.Context, orders: int, workers: int, max_size: int, url: str | None, json: bool
) -> None:
    """Process a rush of orders through one pool, and with a connection per order.

    Both do the same work, one transaction an order, in turns. Then the books are checked: exit
    code 1 if an order, a unit of stock or a cent is not accounted for.
    """
    comparison = Comparison(*plan(orders), workers, max_size)
    with _databases(url) as databases, _driver_errors(databases[0]):
        results = _run(comparison, databases)
        name = f"{databases[0].driver.name} ({version_of(databases[0].module)})"
    report = Report(name, orders, workers, max_size, results)
    if json:
        click.echo(as_json(report))
    else:
        show(report, Console())
    ctx.exit(0 if report.ok else 1)


@contextmanager
def _databases(url: str | None) -> Iterator[tuple[Database, Database]]:
    """Where each of the two contenders works."""
    if url is not None:
        yield _database(url), _database(url)
        return
    # Left-overs are ignored because Windows keeps the files of a worker that had to be left behind.
    with TemporaryDirectory(prefix="dbapi-pool-demo-", ignore_cleanup_errors=True) as folder:
        pool, other = (quote(Path(folder, name).as_posix()) for name in ("pool.db", "order.db"))
        yield _database(f"sqlite:///{pool}"), _database(f"sqlite:///{other}")


def _database(url: str) -> Database:
    try:
        return Database.at(url)
    except UnknownDatabase as exc:
        raise click.BadParameter(str(exc), param_hint="'--url'") from exc


@contextmanager
def _driver_errors(database: Database) -> Iterator[None]:
    """What the pool or the driver raises becomes a message: their errors are written for people."""
    try:
        yield
    except PoolSettingError as exc:
        raise click.UsageError(str(exc)) from exc
    except (PoolError, database.module.Error) as exc:
        raise click.ClickException(f"{type(exc).__name__}: {exc}") from exc


def _run(comparison: Comparison, databases: tuple[Database, Database]) -> tuple[Result, ...]:
    """With bars on standard error, if that is a terminal: standard output is for the report."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        orders = len(comparison.rush)
        bars = {name: progress.add_task(name, total=orders) for name in NAMES}
        return comparison.run(
            databases, lambda name, done: progress.update(bars[name], completed=done)
        )
