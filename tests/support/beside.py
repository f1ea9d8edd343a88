"""What stands beside the package in the checkout, and is in no wheel: the benchmarks.

Not by `sys.path`: there the checkout would hide the wheel.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    """A module of the benchmarks."""
    if "benchmarks" not in sys.modules:
        place = ROOT / "benchmarks"
        spec = importlib.util.spec_from_file_location(
            "benchmarks", place / "__init__.py", submodule_search_locations=[str(place)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules["benchmarks"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return importlib.import_module(name)
