"""How deep the proofs go, and what their runs have shown: the figures of docs/proof.md.

`DBAPI_POOL_TEST_DEPTH=deep` asks for the long run, `DBAPI_POOL_TEST_EVIDENCE=<folder>` keeps the
figures of a run there, one file a figure, so that tests in any process may add to them;
`python tests/support/evidence.py <folder> docs/proof.md` writes them into the document.
It must never measure, nor know what a pool is.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from pathlib import Path

from guarantees import replaced
from proof_tables import part_table

DEEP = os.environ.get("DBAPI_POOL_TEST_DEPTH") == "deep"
"""Whether this is the long run: an hour, not a minute."""

_FOLDER = os.environ.get("DBAPI_POOL_TEST_EVIDENCE")


def depth(default: int, deep: int) -> int:
    """How many of something: in the run that everybody makes, and in the long one."""
    return deep if DEEP else default


def python() -> str:
    """The interpreter at hand, as the document calls it: `3.13`, `3.13t` without the GIL."""
    version = ".".join(platform.python_version_tuple()[:2])
    return version + ("t" if "t" in getattr(sys, "abiflags", "") else "")


def record(part: str, row: str, **figures: object) -> None:
    """What this run has shown, for the table `part` of the document.

    `row` says of what: `kind: case`; how the tables put rows together says `proof_tables.py`. The
    same row shown again replaces the first, but each Python has its own.
    """
    if _FOLDER is None:
        return
    folder = Path(_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", f"{part} {row} {python()}")
    how = "long" if DEEP else "short"
    facts = {"part": part, "row": row, "python": python(), "run": how, "figures": figures}
    (folder / f"{name}.json").write_text(json.dumps(facts), encoding="utf-8")


def written(folder: Path, document: str) -> str:
    """The document with a table for each part that the folder has figures of.

    Raises `ValueError` for a part that the document does not have.
    """
    facts = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    for part in sorted({fact["part"] for fact in facts}):
        mine = [fact for fact in facts if fact["part"] == part]
        document = replaced(document, part, part_table(part, mine))
    return document


if __name__ == "__main__":
    target = Path(sys.argv[2])
    target.write_text(
        written(Path(sys.argv[1]), target.read_text(encoding="utf-8")), encoding="utf-8"
    )
