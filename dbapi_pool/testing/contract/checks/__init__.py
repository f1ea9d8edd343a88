"""The checks, by what they look at. Importing this registers them all."""

from __future__ import annotations

from . import (
    alive,
    attributes,
    clean,
    conformance,
    dirt,
    exclusive,
    forks,
    interrupts,
    limits,
    tells,
    transactions,
)

__all__ = [
    "alive",
    "attributes",
    "clean",
    "conformance",
    "dirt",
    "exclusive",
    "forks",
    "interrupts",
    "limits",
    "tells",
    "transactions",
]
