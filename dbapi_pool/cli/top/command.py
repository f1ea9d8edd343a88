"""`dbapi-pool top`: the options, and looking again until Ctrl-C or until the process is gone."""

from __future__ import annotations

import functools
import json as json_format
import time
from collections.abc import Callable

import click
from rich.console import Console, RenderableType
from rich.live import Live

from .screen import Screen
from .source import Gone, Source


@click.command()
@click.argument("url")
@click.option(
    "--every", type=click.FloatRange(min=0.1), default=1.0, show_default=True,
    help="Seconds between two looks.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Print one picture, and end.")
@click.option("--json", "json", is_flag=True, help="Print one JSON document and nothing else.")
def top(url: str, every: float, once: bool, json: bool) -> None:
    """Show the pools of a process whose dashboard is at URL, until Ctrl-C.

    Exit code 1 if nothing answers there, or nothing does any more.
    """
    try:
        source = Source(url)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="'URL'") from exc
    console = Console()
    look = functools.partial(_draw, Screen(), source, console)
    try:
        if json:
            click.echo(json_format.dumps(source.look(), indent=2))
        elif once:
            console.print(look())
        else:
            _watch(console, look, every)
    except Gone as exc:
        raise click.ClickException(str(exc)) from exc


def _watch(console: Console, look: Callable[[], RenderableType], every: float) -> None:
    """Until Ctrl-C, which is how it is meant to end."""
    try:
        first = look()
        if console.is_terminal:
            # Its other screen, so that what was there is there again in the end.
            with Live(first, console=console, screen=True, auto_refresh=False) as live:
                _go_on(functools.partial(live.update, refresh=True), look, every)
        else:  # one picture below the other
            console.print(first)
            _go_on(console.print, look, every)
    except KeyboardInterrupt:
        return


def _go_on(
    show: Callable[[RenderableType], object], look: Callable[[], RenderableType], every: float
) -> None:
    while True:
        time.sleep(every)
        show(look())


def _draw(screen: Screen, source: Source, console: Console) -> RenderableType:
    told = source.look()
    try:
        return screen.draw(told, console.is_terminal)
    except (LookupError, TypeError, AttributeError) as exc:
        raise Gone(f"{source.page} tells of pools in another way: is its version another?") from exc
