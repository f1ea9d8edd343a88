"""The arguments of `dbapi-pool run`, and what is prepared before the program runs.

Must never hold how a program is run, nor what is told in the end.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import os
from collections.abc import Sequence
from types import ModuleType

from ...dropin.importing import when_imported
from .program import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...dropin.managed import ManagedModule

USAGE = """dbapi-pool run [--max-size N] [--driver NAME ...] [--stats] PROGRAM [ARGUMENT ...]
       dbapi-pool run [...] -m MODULE [ARGUMENT ...]"""


def main(arguments: Sequence[str]) -> None:
    """Run a program as `python` does: what it raises, `SystemExit` too, is raised here."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not (options.module or options.program):
        parser.error("what shall be run? A PROGRAM, or -m MODULE")
    program = _program(options)
    names = options.driver or _all_drivers()
    settings = {} if options.max_size is None else {"max_size": options.max_size}
    managed: list[ManagedModule] = []

    def patch_driver(module: ModuleType) -> None:
        # Here, since a program that imports no driver shall not wait for these.
        from ... import PoolSettingError, patch
        from ...dropin.keyed import log

        try:
            managed.append(patch(module, **settings).start())
        except PoolSettingError as exc:
            log.warning("%s is not pooled: %s", module.__name__, exc)

    when_imported(names, patch_driver)
    if options.stats:
        atexit.register(_tell, managed, os.getpid())
    program.run()


def _tell(managed: Sequence[ManagedModule], process: int) -> None:
    from .report import report

    if os.getpid() == process:  # not a child that it forked
        report([module.stats() for module in managed])


def _all_drivers() -> list[str]:
    from ...drivers import registry  # which takes longer than all the rest

    plugins = registry.plugin_manager().get_plugins()
    return sorted(name for plugin in plugins for name in getattr(plugin, "serves", ()))


def _program(options: argparse.Namespace) -> Program:
    if options.module:
        return Program.module(options.module[0], options.module[1:])
    return Program.path(options.program, options.arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dbapi-pool run",
        usage=USAGE,
        description="Run an unchanged Python program. Its connections come from pools, one for each set"
        " of arguments of connect(), and go back there when it closes them.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--max-size", type=_size, metavar="N", help="connections of a pool at most; the next waits"
        " for 30 seconds, then gets the driver's OperationalError  [default: no limit]",
    )  # fmt: skip
    parser.add_argument(
        "--driver", action="append", type=_driver, metavar="NAME", help="a DB-API module to pool, such"
        " as pymysql; may be given several times  [default: all that a plugin knows]",
    )  # fmt: skip
    parser.add_argument("--stats", action="store_true", help="tell on stderr what was saved")
    what = parser.add_argument_group("the program")
    what.add_argument(
        "-m", dest="module", nargs=argparse.REMAINDER, metavar="MODULE", help="a module, as `python -m`"
    )  # fmt: skip
    what.add_argument("program", nargs="?", metavar="PROGRAM", help="a file; -: standard input")
    what.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT")
    return parser


def _size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number, 1 or more")
    return int(text)


def _driver(name: str) -> str:
    try:
        found = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise argparse.ArgumentTypeError(f"{name!r}: there is no such module here")
    return name
