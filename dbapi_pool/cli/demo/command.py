"""`dbapi-pool demo`: the options, the temporary folder, and what comes after what.

Must never hold SQL, threads or layout: those are its neighbours'.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from ... import PoolError, PoolSettingError
from ..versions import version_of
from .audit import audit
from .contenders import ConnectionPerOrder, Contender, OnePool
from .database import Database, UnknownDatabase
from .report import Report, Result, as_json, show
from .runner import Outcome, Rush
from .workload import Order, Product, Shop, plan

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

    Both do the same work, one transaction an order, one after the other. Then the books are
    checked: exit code 1 if an order, a unit of stock or a cent is not accounted for.
    """
    with _databases(url) as databases:
        report = _Comparison(*plan(orders), workers, max_size).run(databases)
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
        pool, other = (Path(folder, f"{name}.db").as_posix() for name in ("pool", "per-order"))
        yield _database(f"sqlite:///{pool}"), _database(f"sqlite:///{other}")


def _database(url: str) -> Database:
    try:
        return Database.at(url)
    except UnknownDatabase as exc:
        raise click.BadParameter(str(exc), param_hint="'--url'") from exc


@dataclass(frozen=True)
class _Comparison:
    """What both contenders are given."""

    products: list[Product]
    rush: list[Order]
    workers: int
    max_size: int

    def run(self, databases: tuple[Database, Database]) -> Report:
        with_pool, without = databases
        with _driver_errors(with_pool):
            results = self._contend(with_pool, True), self._contend(without, False)
        name = f"{with_pool.driver.name} ({version_of(with_pool.module)})"
        return Report(name, len(self.rush), self.workers, self.max_size, results)

    def _contend(self, database: Database, pooled: bool) -> Result:
        """One contender's rush in a shop of its own."""
        with database.connection() as conn, _shop(database, conn, self.products) as shop:
            with self._contender(database, shop, pooled) as contender:
                outcome = self._rush(contender)
            checks = audit(conn, shop, len(self.rush), outcome.accepted, outcome.rejected)
            return Result(contender.name, outcome, tuple(checks))

    def _contender(
        self, database: Database, shop: Shop, pooled: bool
    ) -> AbstractContextManager[Contender]:
        if pooled:
            return OnePool.at(database, shop, self.max_size)
        return nullcontext(ConnectionPerOrder(database, shop))

    def _rush(self, contender: Contender) -> Outcome:
        with _progress(contender.name, len(self.rush)) as (progress, task):
            return Rush(contender, self.rush, self.workers).run(
                lambda done: progress.update(task, completed=done)
            )


@contextmanager
def _driver_errors(database: Database) -> Iterator[None]:
    """What the pool or the driver raises becomes a message: their errors are written for people."""
    try:
        yield
    except PoolSettingError as exc:
        raise click.UsageError(str(exc)) from exc
    except (PoolError, database.module.Error) as exc:
        raise click.ClickException(f"{type(exc).__name__}: {exc}") from exc


@contextmanager
def _shop(database: Database, conn: object, products: list[Product]) -> Iterator[Shop]:
    shop = Shop(database.sql)
    try:
        shop.open(conn, products)
        yield shop
    finally:
        shop.close(conn)


@contextmanager
def _progress(name: str, orders: int) -> Iterator[tuple[Progress, TaskID]]:
    """A bar on standard error, if that is a terminal: standard output is for the report."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield progress, progress.add_task(name, total=orders)
