"""`dbapi-pool plugins`: which plugins are installed, and which drivers they would serve here.

A plugin tells the DB-API modules that it serves in an attribute `serves`, a tuple of their names.
Must never connect to anything.
"""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module

import click
from rich import box
from rich.console import Console
from rich.table import Table

from ..drivers import registry
from .versions import version_of


@dataclass(frozen=True)
class Served:
    """A DB-API module that a plugin serves; `version` is None where it cannot be imported."""

    module: str
    version: str | None


@dataclass(frozen=True)
class Plugin:
    """An installed plugin."""

    name: str
    distribution: str
    version: str
    drivers: tuple[Served, ...]


@click.command()
@click.option("--json", "json", is_flag=True, help="Print one JSON document and nothing else.")
def plugins(json: bool) -> None:
    """List the installed plugins, and the drivers that they find here."""
    found = _installed()
    if json:
        click.echo(json_format.dumps([asdict(plugin) for plugin in found], indent=2))
    else:
        _show(found, Console())


def _installed() -> list[Plugin]:
    manager = registry.plugin_manager()
    return [
        Plugin(name, distribution, version, _served(manager.get_plugin(name)))
        for name, distribution, version in registry.installed()
    ]


def _served(plugin: object) -> tuple[Served, ...]:
    names: Sequence[str] = getattr(plugin, "serves", ())
    return tuple(Served(name, _version(name)) for name in names)


def _version(name: str) -> str | None:
    try:
        return version_of(import_module(name))
    except Exception:  # a driver can fail in any way when its C library is missing or too old
        return None


def _show(found: Sequence[Plugin], console: Console) -> None:
    if not found:
        console.print("No plugin is installed; every PEP 249 driver works with portable defaults.")
        return
    table = Table(box=box.ROUNDED if console.is_terminal else box.ASCII)
    for title in "plugin", "distribution", "serves", "found here":
        table.add_column(title)
    for plugin in found:
        drivers = plugin.drivers or (Served("(does not say)", ""),)
        table.add_row(
            plugin.name,
            f"{plugin.distribution} {plugin.version}",
            "\n".join(driver.module for driver in drivers),
            "\n".join("no" if driver.version is None else driver.version for driver in drivers),
        )
    console.print(table)
