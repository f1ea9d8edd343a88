"""Gets the suites: from the package registry into a folder, once.

`Unavailable` says that one is not to be had here. Must never run one, nor know a pool.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from suite_catalogue import Distribution, Suite

PATIENCE = 300  # seconds


class Unavailable(Exception):
    """A suite, its driver or its server is not to be had here."""


def unpacked(suite: Suite, cache: Path) -> Path | None:
    """The folder of the suite; None if it is a part of Python. Raises `Unavailable`."""
    if suite.source is None:
        for name in suite.modules:
            if importlib.util.find_spec(name) is None:
                raise Unavailable(
                    f"this Python has no {name} (Debian: the package libpython3-testsuite)"
                )
        return None
    folder = cache / suite.source.folder
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            _download(suite.source, Path(work))
            _unpack(Path(work), suite.source, cache)
    return folder


def _download(source: Distribution, folder: Path) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    stubs = folder / "programs"
    missing = [name for name in source.needs if shutil.which(name) is None]
    if missing:
        # Only asked for where a compiler would find things. Nothing is compiled here.
        stubs.mkdir()
        for name in missing:
            (stubs / name).write_text("#!/bin/sh\necho /nowhere 1.0\n", encoding="utf-8")
            (stubs / name).chmod(0o755)
        environment["PATH"] = f"{stubs}{os.pathsep}{environment['PATH']}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
    ]
    try:
        subprocess.run(
            [*command, "--no-binary", source.package, source.pin],
            env=environment, check=True, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
    except subprocess.CalledProcessError as exc:
        story = (exc.stderr or exc.stdout).strip()[-500:]
        raise Unavailable(f"{source.pin} could not be downloaded: {story}") from exc
    except subprocess.TimeoutExpired as exc:
        raise Unavailable(f"{source.pin} was not downloaded within {PATIENCE} s") from exc


def _unpack(folder: Path, source: Distribution, cache: Path) -> None:
    [archive] = [path for path in folder.iterdir() if path.is_file()]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(folder)
    else:
        with tarfile.open(archive) as tarred:
            tarred.extractall(folder, **({"filter": "data"} if _CAN_FILTER else {}))
    if not (folder / source.folder).is_dir():
        raise Unavailable(f"{archive.name} holds no folder {source.folder}")
    try:
        (folder / source.folder).rename(cache / source.folder)
    except OSError:  # another run was quicker
        if not (cache / source.folder).is_dir():
            raise


_CAN_FILTER = hasattr(tarfile, "data_filter")
