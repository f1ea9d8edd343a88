"""The progress bar of the commands that take some seconds.

On standard error, and only if that is a terminal: standard output is for the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


@contextmanager
def progress(of_what: str) -> Iterator[Callable[[int, int], object]]:
    """Gives what is to be told how many are done, and of how many."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as shown:
        bar = shown.add_task(of_what, total=None)
        yield lambda done, total: shown.update(bar, completed=done, total=total)
