"""What is released is looked at before: `python release.py CHECKOUT FOLDER`.

Builds sdist and wheel into the folder, has twine check them, unpacks the sdist, and runs the fast tests
that are in it on the wheel that is built from it. It must never upload anything.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

FAST = ["tests", "-m", "not servers and not proof"]


def python(*arguments: str, cwd: Path) -> None:
    """Run that, and raise unless it succeeds."""
    subprocess.run([sys.executable, "-m", *arguments], cwd=cwd, check=True)


def unpacked(sdist: Path, folder: Path) -> Path:
    """The one folder in an sdist, unpacked."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / sdist.name.removesuffix(".tar.gz")


def main(checkout: Path, folder: Path) -> None:
    """See above."""
    python("build", "--outdir", str(folder), str(checkout), cwd=folder)
    files = sorted(folder.glob("dbapi_pool-*"))
    python("twine", "check", "--strict", *map(str, files), cwd=folder)
    source = unpacked(next(file for file in files if file.suffix == ".gz"), folder)
    python("tox", "-e", "py", "--", *FAST, cwd=source)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
