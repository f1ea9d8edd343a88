"""The `dbapi-pool` command group: which commands there are, and how an interrupt ends them.

Must never hold what a command does.
"""

from __future__ import annotations

from typing import Any

import click

from .advise.command import advise
from .bench.command import bench
from .dashboard.command import dashboard
from .demo.command import demo
from .doctor.command import doctor
from .plugins import plugins
from .run import command
from .top.command import top

INTERRUPTED = 130


class _Interruptible(click.Group):
    """A group whose commands end with 130, as a shell expects, where click would say 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted: stopped and cleaned up.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=_Interruptible, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dbapi-pool", prog_name="dbapi-pool")
def app() -> None:
    """One connection pool for every Python DB-API 2.0 (PEP 249) driver."""


@app.command(
    add_help_option=False,
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run an unchanged program with its connections pooled."""
    command.main(arguments)


app.add_command(advise)
app.add_command(bench)
app.add_command(dashboard)
app.add_command(demo)
app.add_command(doctor)
app.add_command(plugins)
app.add_command(top)
