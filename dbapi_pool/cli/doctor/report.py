"""What the doctor prints: tables and advice for people, or one JSON document for programs.

Must never measure, nor decide anything but how it looks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..target import Target
from ..words import duration
from .findings import ADVICE, BROKEN, NO, NOTE, PARTLY, SERIOUS, YES, Advice, Costs, Findings, Plan

_COSTS = {
    "connect": "connect",
    "round_trip": "one round trip: a statement",
    "ping": "ping",
    "transaction": "a statement and a commit",
    "reset": "full reset of a session",
    "checkout": "borrow, return",
    "lease": "borrow, a statement, commit, return",
}
_TIMES = {"idle_timeout", "idle_in_transaction_timeout", "statement_timeout", "lock_timeout"}
_COLOURS = {
    YES: "green", NO: "yellow", PARTLY: "yellow", BROKEN: "red",
    SERIOUS: "red", ADVICE: "yellow", NOTE: "blue",
}  # fmt: skip


@dataclass(frozen=True)
class Report:
    """Everything that is to be shown."""

    target: Target
    findings: Findings
    advice: Sequence[Advice]

    @property
    def ok(self) -> bool:
        """Whether every promise is kept and nothing serious was found."""
        return not self.findings.broken and all(one.severity != SERIOUS for one in self.advice)


# -- JSON -----------------------------------------------------------------------------------------


def as_json(report: Report) -> str:
    """The whole report as one document: see docs/doctor.md."""
    found = report.findings
    document = {
        "driver": {
            "name": found.driver,
            "module": found.module,
            "plugin": found.plugin,
            "local": found.local,
        },
        "server": asdict(found.server),
        "abilities": [asdict(ability) for ability in found.abilities],
        "costs": _costs(found.costs),
        "checks": [asdict(check) for check in found.checks],
        "advice": [asdict(advice) for advice in report.advice],
        "ok": report.ok,
    }
    return json.dumps(document, indent=2)


def _costs(costs: Costs) -> dict[str, Any]:
    return {
        name: None
        if getattr(costs, name) is None
        else {
            "seconds": round(getattr(costs, name), 9),
            "round_trips": _rounded(costs.in_round_trips(name)),
        }
        for name in _COSTS
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 2)


# -- for people -----------------------------------------------------------------------------------


def show(report: Report, console: Console) -> None:
    """The report for people."""
    found = report.findings
    plugin = "" if found.plugin else ", without a plugin"
    _line(console, f"[bold]{escape(found.driver)}[/] ({escape(found.module)}){plugin}")
    console.print(_abilities(found, console))
    console.print(_server(found, console))
    console.print(_measured(found, console))
    _checks(found, console)
    _say(report.advice, console)
    _paste(report, console)
    verdict = "[green]OK[/] nothing serious" if report.ok else "[red]NOT OK[/] see above"
    _line(console, verdict)


def _table(console: Console, *titles: str) -> Table:
    table = Table(box=box.ROUNDED if console.is_terminal else box.ASCII)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _abilities(found: Findings, console: Console) -> Table:
    table = _table(console, "this driver ...", "", "otherwise")
    for ability in found.abilities:
        colour = _COLOURS[ability.answer]
        table.add_row(ability.text, f"[{colour}]{ability.answer}[/]", escape(ability.detail))
    return table


def _server(found: Findings, console: Console) -> Table:
    table = _table(console, "the server", "says")
    for field in fields(found.server):
        value = getattr(found.server, field.name)
        if value is not None:
            table.add_row(field.name.replace("_", " "), escape(_said(field.name, value)))
    if not table.row_count:
        table.add_row("(nothing)", "this driver's plugin does not ask")
    return table


def _said(name: str, value: Any) -> str:
    if name in _TIMES:
        return "none" if value == 0 else f"{value:g} s"
    if name == "tls":
        return str(value) or "not encrypted"
    if name in ("user_connections", "database_connections") and value == 0:
        return "no limit of its own"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _measured(found: Findings, console: Console) -> Table:
    table = _table(console, "costs (median)")
    table.add_column("", justify="right")
    table.add_column("round trips", justify="right")
    for name, title in _COSTS.items():
        seconds = getattr(found.costs, name)
        if seconds is not None:
            times = None if found.local else found.costs.in_round_trips(name)
            table.add_row(title, duration(seconds), "" if times is None else f"{times:.1f}")
    return table


def _checks(found: Findings, console: Console) -> None:
    kept = sum(one.state == "kept" for one in found.checks)
    other = len(found.checks) - kept - len(found.broken)
    _line(console, f"{kept} promises kept, {len(found.broken)} broken, {other} not applicable here")
    for one in found.broken:
        _line(console, f"[red]BROKEN[/] {escape(one.text)}")
        _line(console, f"    {one.name}: {escape(shortened(one.detail))}")


def shortened(text: str, most: int = 300) -> str:
    """A text that may hold anything; `--json` has the whole of it."""
    return text if len(text) <= most else text[:most] + " ..."


def _say(said: Sequence[Advice], console: Console) -> None:
    for advice in said:
        colour = _COLOURS[advice.severity]
        _line(console, f"[{colour}]{advice.severity.upper()}[/] {escape(advice.text)}")
        _line(console, f"    {escape(advice.reason)}")
        if advice.code:
            _line(console, f"    -> {escape(advice.code)}")


def _paste(report: Report, console: Console) -> None:
    settings = settings_of(report.advice)
    if settings and report.findings.plan.max_size != Plan.max_size:
        settings = {"max_size": report.findings.plan.max_size, **settings}
    lines = list(code(report.target.code, settings))
    if lines:
        _line(console, "To paste:")
        for line in lines:
            _line(console, escape(line))


def settings_of(said: Sequence[Advice]) -> Mapping[str, Any]:
    """The settings of all advice; what is more serious wins."""
    merged: dict[str, Any] = {}
    for advice in said:
        for name, value in advice.settings.items():
            merged.setdefault(name, value)
    return merged


def code(creator: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """A call of `Pool` with these settings; nothing if there are none."""
    if not settings:
        return
    yield "pool = Pool("
    yield f"    {creator},"
    for name, value in settings.items():
        yield f"    {name}={json.dumps(value)},"
    yield ")"


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
