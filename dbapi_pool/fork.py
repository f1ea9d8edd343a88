"""What happens to pools in a forked child: each starts anew, and never speaks on the parent's sockets.

Holds the references that must outlive everything: the parent's connections, which no finalizer here
may end. It knows pools only as objects with `_after_fork`.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable

from .cursors import fence
from .errors import ConnectionReturned
from .process import watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from .drivers.base import Driver
    from .logs import Log
    from .member import Member


_WARNING = 30  # `logging.WARNING`: this is imported with the package, and logging takes long
_parents: list[Any] = []


def keep_for_ever(conn: Any) -> None:
    """A connection of the parent: never closed, never collected."""
    _parents.append(conn)


def abandon(driver: Driver, member: Member, log: Log) -> None:
    """Cut a connection of the parent off from this process. Raises nothing: others must follow."""
    cursors = member.work.open_cursors() if member.work is not None else []
    _try(lambda: driver.abandon_after_fork(member.conn), log)
    for cursor in cursors:
        _try(functools.partial(fence, cursor), log)


def _try(act: Callable[[], object], log: Log) -> None:
    try:
        act()
    except Exception as exc:
        kind = type(exc).__name__
        log(_WARNING, "after a fork, a connection was not cut off whole: %s", kind)


def _in_child() -> None:
    for pool in watched():
        pool._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)

_heeded: list[object] = []


def heed_uwsgi() -> None:
    """uWSGI forks its workers from C and tells Python nothing of it, unless `py-call-osafterfork` is
    set; it calls a hook of its own, of which `uwsgidecorators` makes a list
    (https://uwsgi-docs.readthedocs.io/en/latest/PythonModule.html). To be called by whoever makes a
    pool; its module is there from the start in what it runs."""
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None or uwsgi in _heeded:
        return
    _heeded.append(uwsgi)
    try:
        from uwsgidecorators import postfork_chain
    except Exception:  # not installed, or there is no master, and then it cannot be imported later
        uwsgi.post_fork_hook = functools.partial(_in_worker, getattr(uwsgi, "post_fork_hook", None))
    else:
        postfork_chain.insert(0, _in_child)


def _in_worker(before: Callable[[], object] | None) -> None:
    _in_child()
    if before is not None:
        before()


class ParentsMember:
    """Stands in a child for the member of a handle that was lent in the parent."""

    def __init__(self, error: type[ConnectionReturned]) -> None:
        self.__dict__["_error"] = error

    def __getattr__(self, name: str) -> NoReturn:
        raise self.__dict__["_error"](
            "this connection was borrowed before the fork and belongs to the parent process;"
            " borrow another with pool.connection()"
        )


class ParentsDesk:
    """Stands in a child for the pool of such a handle: giving back does nothing."""

    def check_in(self, lease: Any) -> None:
        """Nothing to give back here."""

    def discard(self, lease: Any, reason: str) -> None:
        """Nothing to throw away here."""

    def release(self, lease: Any) -> Any:
        """Raises: it is not this process's to take."""
        return lease.member.conn

    def __repr__(self) -> str:
        return "<the pool of the parent process>"
