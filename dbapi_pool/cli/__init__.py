"""The command line, `dbapi-pool`: its entry point, and the word to those who lack its libraries.

Must never import click or rich at the top: they are an extra. Nothing here or below may use more
of the package than its public face and what that documents.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

# What `pip install "dbapi-pool[cli]"` adds, and what it needs in turn.
_EXTRA = frozenset({"click", "rich", "pygments", "markdown_it"})


def main() -> None:
    """Run `dbapi-pool` with the arguments of this process."""
    if sys.argv[1:2] == ["run"]:  # which needs none of these libraries, and shall start quickly
        from .run import command

        return command.main(sys.argv[2:])
    try:
        from .app import app
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        sys.exit(_say_missing(missing))
    app(prog_name="dbapi-pool")


def _say_missing(library: str) -> int:
    hint = 'pip install "dbapi-pool[cli]"'
    print(f"dbapi-pool: the command line needs {library}: {hint}", file=sys.stderr)
    return 2
