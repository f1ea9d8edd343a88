"""Logs that nobody should see: those of what a command does on purpose. A leaf."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """The pool's warnings go nowhere, unless the program has a handler for them; without any, Python
    prints them."""
    logger, handler = logging.getLogger("dbapi_pool"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
