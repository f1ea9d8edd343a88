"""The contract kit: every promise of the pool, as tests for one driver on a database of its own.

    from dbapi_pool.testing.contract import DriverContract

    class TestAcme(DriverContract):
        creator = acme_db
        arguments = {"host": "localhost"}

Needs pytest for `DriverContract` alone. See docs/contract.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .check import ABILITIES, PROMISES, Broken, Check, NotApplicable, Outcome, all_checks
from .dirt import Dirt
from .knowledge import Knowledge
from .report import Report, checks_for, examine, read_only_checks, run_contract
from .subject import Subject

if TYPE_CHECKING:
    from .suite import DriverContract as DriverContract

# Without DriverContract, so that `import *` needs no pytest.
__all__ = [
    "ABILITIES",
    "PROMISES",
    "Broken",
    "Check",
    "Dirt",
    "Knowledge",
    "NotApplicable",
    "Outcome",
    "Report",
    "Subject",
    "all_checks",
    "checks_for",
    "examine",
    "read_only_checks",
    "run_contract",
]


def __getattr__(name: str) -> object:
    if name != "DriverContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported here, since it needs pytest.
    from .suite import DriverContract

    globals()[name] = DriverContract
    return DriverContract
