"""How commands are told which database to look at, and what they say if it is not there.

Must never know what a command does with it.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from .access import Access, CannotConnect
from .target import BadTarget, Target, from_creator, from_url

NOT_CONNECTED = 2
VARIABLE = "DATABASE_URL"

Command = Callable[..., Any]


def positive(text: str) -> float:
    """An option's value: a number above 0. Click's own ranges let `nan` and `inf` pass."""
    try:
        number = float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a number.") from None
    if not (math.isfinite(number) and number > 0):
        raise click.BadParameter(f"{text} is not in the range x>0.")
    return number


@dataclass(frozen=True)
class Asked:
    """The database that was asked for, and how long connecting may take."""

    target: Target
    timeout: float

    def access(self) -> Access:
        """Raises `BadTarget` and `CannotConnect`, which `told` turns into words."""
        return Access(self.target, self.timeout)


_OPTIONS = (
    click.argument("url", required=False),
    click.option("--creator", metavar="MODULE[:FUNCTION]", help="A driver instead of a URL."),
    click.option(
        "--arg", "arguments", multiple=True, metavar="[NAME=]VALUE", help="An argument of it."
    ),
    click.option(
        "--arg-env",
        "secret",
        multiple=True,
        metavar="NAME=VARIABLE",
        help="An argument from the environment: for passwords.",
    ),
    click.option(
        "--timeout",
        type=positive,
        default=10.0,
        show_default=True,
        help="Seconds that connecting may take.",
    ),
)


def asks_for_database(command: Command) -> Command:
    """Gives a click command a URL or a creator to be told; it gets an `Asked` as `asked`."""

    @functools.wraps(command)
    def wrapper(
        url: str | None,
        creator: str | None,
        arguments: tuple[str, ...],
        secret: tuple[str, ...],
        timeout: float,
        **others: Any,
    ) -> Any:
        with told():
            asked = Asked(_target(url, creator, arguments, secret), timeout)
        return command(asked=asked, **others)

    for option in reversed(_OPTIONS):
        wrapper = option(wrapper)
    return wrapper


def _target(
    url: str | None, creator: str | None, arguments: tuple[str, ...], secret: tuple[str, ...]
) -> Target:
    if url is not None and creator is not None:
        raise click.UsageError("give a URL or --creator, not both")
    if creator is not None:
        return from_creator(creator, arguments, secret, os.environ)
    if arguments or secret:
        raise BadTarget("--arg and --arg-env go with --creator")
    given = url or os.environ.get(VARIABLE)
    if not given:
        raise BadTarget(f"give a URL, --creator, or set {VARIABLE} in the environment")
    return from_url(given, from_environment=url is None)


@contextmanager
def told() -> Iterator[None]:
    """A database that cannot be meant is a usage error; one that is not there is told of in two
    lines, with exit code 2."""
    try:
        yield
    except BadTarget as exc:
        raise click.UsageError(str(exc)) from exc
    except CannotConnect as exc:
        click.echo(f"Cannot connect: {exc}\n{exc.hint[:1].upper()}{exc.hint[1:]}.", err=True)
        click.get_current_context().exit(NOT_CONNECTED)
