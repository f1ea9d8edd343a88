"""How the examples of documents are run: on which server, and those that are files or commands.

A comment that nobody sees in the rendered page goes before them:

* `<!-- needs: psycopg2, sqlalchemy -->`: what follows, up to the next such comment, needs these.
  For a DB-API module there is a server too, and the environment says where: `DATABASE_URL`, `DB_HOST`,
  `DB_PORT`, `DB_USER`, `DB_PASSWORD`, `DB_NAME`. Where something is missing, what follows is skipped.
* `<!-- file: app.py -->`: the next Python block is not run, but written to that file.
* `<!-- run -->`: the next console block is run, each line with `$`; the other lines are what it prints.

It must not know what an example is about, nor a pool.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import servers
from sybil import Document, Example, Region
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

DOCS = Path(__file__).parents[2] / "docs"
PATIENCE = 60.0
"""Seconds after which a command hangs, and is killed."""

KINDS = {"postgresql": servers.PostgreSQL, "mysql": servers.MariaDB}
_REQUIRED_AS = {"django": "django"}
"""What `DBAPI_POOL_TEST_REQUIRE` calls a module that is no driver, where that is not `frameworks`."""

_NEEDS = re.compile(r"<!-- needs: (.+) -->")
_MARK = re.compile(r"<!-- (file|run)(?:: (\S+))? -->")
_FILE = re.compile(r"<!-- file: (\S+) -->\s*```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_CONSOLE = re.compile(r"```console\n(.*?)^```", re.DOTALL | re.MULTILINE)


# -- for tests that run what a page shows ------------------------------------------------------------


def files(page: str) -> dict[str, str]:
    """The files that a page of docs/ shows, and what is in them."""
    return dict(_FILE.findall((DOCS / page).read_text("utf-8")))


def commands(page: str) -> list[str]:
    """The commands that it shows."""
    blocks = _CONSOLE.findall((DOCS / page).read_text("utf-8"))
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def command_line(command: str) -> list[str]:
    """A command as it is run here: programs of this interpreter, wherever that is."""
    program, *arguments = shlex.split(command)
    if program == "python":
        return [sys.executable, *arguments]
    return [str(Path(sys.executable).with_name(program)), *arguments]


def environment(server: servers.Server, module: str) -> dict[str, str]:
    """How a program is told of a server, to be reached by that driver."""
    scheme = {"MySQLdb": "mysqldb"}.get(module, module)
    return {
        "DATABASE_URL": server.url(scheme),
        "DB_HOST": server.host,
        "DB_PORT": str(server.port),
        "DB_USER": server.user,
        "DB_PASSWORD": server.password,
        "DB_NAME": server.database,
    }


def require(module: str) -> None:
    """Skip if a module is not installed, or fail where `DBAPI_POOL_TEST_REQUIRE` names its kind."""
    if module in servers.PLUGIN_OF:
        servers.driver_module(module)
    elif importlib.util.find_spec(module) is None:
        servers.missing(_REQUIRED_AS.get(module, "frameworks"), f"{module} is not installed")


# -- what Sybil runs -----------------------------------------------------------------------------------

_running = ExitStack()
_servers: dict[str, servers.Server] = {}


def stop_servers() -> None:
    """At the end of the run."""
    _running.close()
    _servers.clear()


def _server(kind: str) -> servers.Server:
    if kind not in _servers:
        _servers[kind] = _running.enter_context(servers.running(KINDS[kind]))
    return _servers[kind]


class Needs:
    """Parses and obeys `needs`."""

    def __call__(self, document: Document) -> Iterator[Region]:
        for found in _NEEDS.finditer(document.text):
            yield Region(*found.span(), found[1].split(", "), self.obey)

    def obey(self, example: Example) -> None:
        """Skips, and has what follows skipped, if something is missing."""
        namespace = example.namespace
        namespace["_missing"] = "what the page needs here is missing"
        for module in example.parsed:
            require(module)
            kind = servers.PLUGIN_OF.get(module)
            if kind in KINDS:
                os.environ.update(environment(_server(kind), module))
        del namespace["_missing"]


class Marks:
    """Parses `file` and `run`, which say what the next block is."""

    def __call__(self, document: Document) -> Iterator[Region]:
        for found in _MARK.finditer(document.text):
            yield Region(*found.span(), found.groups(), self.note)

    def note(self, example: Example) -> None:
        """For the block that follows."""
        kind, name = example.parsed
        example.namespace[f"_{kind}"] = name or True


class Python(PythonCodeBlockParser):
    """Python blocks: run, or written to a file."""

    def __call__(self, document: Document) -> Iterator[Region]:
        for region in super().__call__(document):
            run = region.evaluator
            region.evaluator = lambda example, run=run: self._evaluate(example, run)
            yield region

    def _evaluate(self, example: Example, run: Any) -> Any:
        _skip_what_misses_something(example)
        name = example.namespace.pop("_file", None)
        if name is None:
            return run(example)
        Path(name).write_text(str(example.parsed), "utf-8")
        return None


class Console(CodeBlockParser):
    """Console blocks: nothing, or run."""

    language = "console"

    def evaluate(self, example: Example) -> str | None:
        """Runs its commands; a text that says what they should have printed."""
        _skip_what_misses_something(example)
        if not example.namespace.pop("_run", False):
            return None
        lines = str(example.parsed).splitlines()
        expected = [line for line in lines if not line.startswith("$ ")]
        printed: list[str] = []
        for command in (line[2:] for line in lines if line.startswith("$ ")):
            done = subprocess.run(
                command_line(command), capture_output=True, text=True, timeout=PATIENCE
            )
            printed += done.stdout.splitlines()
            if done.returncode:
                return f"{command}: ended with {done.returncode}\n{done.stdout}{done.stderr}"
        return None if printed == expected else f"printed {printed}, and not {expected}"


def _skip_what_misses_something(example: Example) -> None:
    if "_missing" in example.namespace:
        pytest.skip(example.namespace["_missing"])


PARSERS = [Needs(), Marks(), Python(), Console()]
