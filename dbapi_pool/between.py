"""For code that stands between the pool and its users (a backend, an engine): who called, and whether
settings are any.

It must know neither a pool nor what stands there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from sys import _getframe
from types import FrameType
from typing import Any

from .errors import PoolSettingError
from .options import Options

_BESIDES = frozenset({"driver", "name"})  # what a `Pool` takes besides its options


def outside(*packages: str) -> FrameType:
    """The innermost frame that is neither ours nor in one of these top-level packages, for
    `Pool.lend`; the outermost one if there is no other."""
    skipped = {"dbapi_pool", "contextlib", *packages}
    frame = _getframe(1)
    while frame.f_back is not None and _package(frame) in skipped:
        frame = frame.f_back
    return frame


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise `PoolSettingError` for a setting that is none, or cannot work: a `Pool` takes what is
    none for an argument of its creator."""
    known = {field.name for field in fields(Options)}
    unknown = sorted(settings.keys() - known - _BESIDES)
    if unknown:
        raise PoolSettingError(
            f"{unknown[0]}={settings[unknown[0]]!r}: a pool has no such setting, only"
            f" {', '.join(sorted(known | _BESIDES))}"
        )
    Options(**{name: value for name, value in settings.items() if name in known})
