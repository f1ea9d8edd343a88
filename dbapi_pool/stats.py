"""`PoolStats`: a frozen picture of a pool at one moment.

A leaf. Sizes are derived from the ledger's places; only events that leave no trace there are
counted (`Counters`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PoolStats:
    """Sizes now, and totals since the pool was made. Times are seconds."""

    name: str
    min_size: int
    max_size: int
    size: int
    """Driver connections open: idle + in use + being checked or cleaned."""
    idle: int
    in_use: int
    opening: int
    checking: int
    """Being pinged before they are handed out."""
    cleaning: int
    """Being cleaned after they came back."""
    closing: int
    waiting: int
    """Callers in line."""
    checkouts: int
    """Connections lent."""
    waits: int
    """Checkouts that found nothing idle."""
    wait_time: float
    """What those waited, together."""
    timeouts: int
    opened: int
    closed: Mapping[str, int] = field(default_factory=dict)
    """Connections closed, by reason."""
    connect_errors: int = 0
    state: str = "open"
    """"open", "suspended" or "closed"."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "closed": dict(self.closed)}
