"""`dbapi-pool bench`: the options, what is refused before anything is measured, and the exit code.

Must never measure, nor hold SQL but the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
from rich.console import Console

from ...drivers.facts import Server
from ..access import Access
from ..database import Asked, asks_for_database, told
from ..limits import limits
from ..picture import draw, svg_file
from ..progress import progress
from ..quiet import quiet
from ..words import duration, several
from . import report
from .comparison import ROUNDS, Failed, compare
from .rounds import Hung
from .statement import BadStatement, refuse_by_text, shown, try_once

FAILED = 1
MOST = 1_000
"""Connections, and threads."""


def sizes_in(text: str) -> tuple[int, ...]:
    """An option's value: sizes, with commas between."""
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of sizes like 1,2,4.") from None
    for size in sizes:
        if not 1 <= size <= MOST:
            raise click.BadParameter(f"{size} is not in the range 1<=x<={MOST}.")
    return tuple(sorted(set(sizes)))


@click.command()
@asks_for_database
@click.option("--sql", default="select 1", show_default=True, help="What each request runs.")
@click.option(
    "--threads", type=click.IntRange(1, MOST), default=16, show_default=True,
    help="That send requests, one after the other.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(0.1, 300.0), default=3.0, show_default=True,
    help="For each way, in all rounds together.",
)  # fmt: skip
@click.option(
    "--sizes", type=sizes_in, default="1,2,4,8,16", show_default=True, metavar="SIZE,...",
    help="Of pools, not above --threads.",
)  # fmt: skip
@click.option("--write", is_flag=True, help="Run what is no SELECT, and commit it.")
@click.option("--plot", type=svg_file, help="Draw the throughput over sizes.")
@click.option("--json", "json", is_flag=True, help="Print one JSON document and nothing else.")
@click.pass_context
def bench(
    ctx: click.Context,
    /,
    asked: Asked,
    sql: str,
    threads: int,
    seconds: float,
    sizes: Sequence[int],
    write: bool,
    plot: Path | None,
    json: bool,
) -> None:
    """Measure your own database: a connection for each request, and pools of several sizes.

    All take turns, in five rounds; medians are told, and the smallest size that is as good as the
    best. Only reads, unless --write is given. Exit code 0: fine; 1: requests failed; 2: no
    connection, or bad input.
    """
    sizes = _used(ctx, sizes, threads)
    try:
        with told(), quiet():
            access = asked.access()
            _prepare(access, sql, write, threads, seconds)
            with progress("rounds") as tell:
                found = compare(access, sql, sizes, threads, seconds, tell)
    except BadStatement as exc:
        raise click.UsageError(str(exc)) from exc
    except Hung as exc:
        raise _Stopped(f"{exc}: the server hangs, or is locked") from exc
    except Failed as exc:
        raise _Stopped(str(exc)) from exc
    said = report.Report(asked.target, access.driver.name, sql, threads, seconds, found)
    if json:
        click.echo(report.as_json(said))
    else:
        report.show(said, Console())
    if plot is not None:
        _draw(said, plot)
    ctx.exit(0 if found.ok else FAILED)


class _Stopped(click.ClickException):
    exit_code = 2


def _used(ctx: click.Context, sizes: Sequence[int], threads: int) -> Sequence[int]:
    """Of the default sizes, those that so many threads can use."""
    if ctx.get_parameter_source("sizes") is click.core.ParameterSource.DEFAULT:
        return [size for size in sizes if size <= threads]
    if sizes[-1] > threads:
        raise click.UsageError(
            f"--sizes {sizes[-1]}: more than --threads {threads} connections are never used"
        )
    return sizes


# -- before anything is measured ------------------------------------------------------------------


def _prepare(access: Access, sql: str, write: bool, threads: int, seconds: float) -> None:
    """Raises `BadStatement`, and `click.UsageError` if the server has too few sessions."""
    if not write:
        refuse_by_text(access.driver, sql)
    conn = access.connect()
    try:
        _refuse_what_does_not_fit(access.server(conn), threads)
        taken = try_once(access, conn, sql, write)
    finally:
        with suppress(Exception):  # it may be lost
            access.driver.close(conn)
    if taken > seconds / ROUNDS:
        raise BadStatement(
            f"{shown(sql)} takes {duration(taken)}, and a round is --seconds {seconds:g} / {ROUNDS}:"
            " too short to say anything"
        )


def _refuse_what_does_not_fit(server: Server, threads: int) -> None:
    """Each thread has a connection at the same time, where there is no pool."""
    tightest = next(iter(limits(server)), None)
    if tightest is None:
        return
    others = server.connections_of_others or 0
    own = max(0, (server.connections or 1) - others - 1)  # without the one that asked
    left = max(0, tightest.left - own)
    if threads > left:
        raise click.UsageError(
            f"--threads {threads} may open {several(threads, 'connection')} at the same time, and"
            f" there is room for {left}: {tightest.most} ({tightest.told}), {tightest.others} of"
            f" others, {own} of this user"
        )


def _draw(said: report.Report, path: Path) -> None:
    try:
        draw(report.picture(said), path)
    except OSError as exc:
        raise click.ClickException(f"--plot: {exc}") from exc
