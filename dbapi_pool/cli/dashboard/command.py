"""The arguments of `dbapi-pool dashboard`, and what runs beside the page: a program, or a demo.

A pool lives in one process, so the page must too. Must never hold how a program is run.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import click

from ...dashboard import Server, serve
from ..run import command as pooled_run
from ..run.program import Program
from .shop import open_shop

_SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "allow_interspersed_args": False,
    "ignore_unknown_options": True,
}


@click.command(context_settings=_SETTINGS)
@click.option("--host", default="127.0.0.1", show_default=True, help="Who else may reach the page.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="  [default: any that is free]"
)
@click.option(
    "--orders", is_flag=True, help="With buttons that drain, resize, suspend and resume; the address"
    " that is printed brings the token for them."
)  # fmt: skip
@click.option("--pooled", is_flag=True, help="Pool the program's connects, as `dbapi-pool run`.")
@click.option("--demo", "demo", is_flag=True, help="Show a small shop at work, until Ctrl-C.")
@click.option("-m", "module", metavar="MODULE", help="Run a module, as `python -m`.")
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="[PROGRAM] [ARGUMENT]...")
def dashboard(
    host: str,
    port: int,
    orders: bool,
    pooled: bool,
    demo: bool,
    module: str | None,
    program: tuple[str, ...],
) -> None:
    """Run a program, and serve a page of its pools until it ends.

    The program sees what it would see under `python`, and can do the same by itself:
    `dbapi_pool.dashboard.serve()`.
    """
    if demo == bool(module or program):
        raise click.UsageError("what shall be shown? A PROGRAM, -m MODULE, or --demo")
    if demo and pooled:
        raise click.UsageError("--pooled is for a program")
    token = secrets.token_urlsafe(24) if orders else None
    with _serve(host, port, token) as server:
        click.echo(f"dbapi-pool: dashboard at {_address(server, token)}", err=True)
        if demo:
            open_shop()
        else:
            _run(module, program, pooled)


def _serve(host: str, port: int, token: str | None) -> Server:
    try:
        return serve(host, port, token, quiet=True)
    except OSError as exc:
        raise click.ClickException(f"--host {host} --port {port}: {exc.strerror or exc}") from exc


def _address(server: Server, token: str | None) -> str:
    # Behind the #, which a browser sends to nobody.
    return server.url if token is None else f"{server.url}#token={token}"


def _run(module: str | None, arguments: Sequence[str], pooled: bool) -> None:
    if pooled:
        return pooled_run.main([*(["-m", module] if module else []), *arguments])
    if module:
        return Program.module(module, arguments).run()
    Program.path(arguments[0], arguments[1:]).run()
