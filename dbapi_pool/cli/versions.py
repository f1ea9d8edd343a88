"""Which version a DB-API module is: one answer for all the ways in which they say it.

Must never import a driver.
"""

from __future__ import annotations

from importlib import metadata
from types import ModuleType


def version_of(module: ModuleType) -> str:
    """The driver's version for people; for sqlite3 the library's, which is what matters there."""
    library = getattr(module, "sqlite_version", None)
    if library is not None:
        return f"SQLite {library}"
    names = metadata.packages_distributions().get(module.__name__.partition(".")[0])
    if names:
        return metadata.version(names[0])
    return str(getattr(module, "__version__", "unknown version"))
