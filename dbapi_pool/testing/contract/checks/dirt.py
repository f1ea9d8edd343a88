"""The author's `Dirt`: one check for each."""

from __future__ import annotations

from ..check import Check, require, same
from ..dirt import Dirt
from ..trial import Trial


def dirt_check(dirt: Dirt) -> Check:
    """The check that this dirt is gone for the next borrower."""

    def function(trial: Trial) -> None:
        the_next_borrower_sees_nothing(trial, dirt)

    return Check(
        name=f"dirt:{dirt.name}",
        promise="clean",
        text=f"The next borrower sees nothing of: {dirt.name}.",
        read_only=False,
        needs=(),
        function=function,
    )


def the_next_borrower_sees_nothing(trial: Trial, dirt: Dirt) -> None:
    """`Broken` if it does, or if the connection was replaced without need."""
    baseline = _look_at_a_clean_one(trial, dirt)
    _require_that_it_shows(trial, dirt, baseline)
    pool = trial.pool()
    conn = pool.borrow()
    dirt.act(conn)
    conn.close()
    with pool.borrow() as conn:
        same(dirt.look(conn), baseline, "what the next borrower sees")
    if not dirt.replaced:
        reasons = pool.pool.stats().closed
        same(len(pool.connections), 1, f"connections opened, with reasons to replace: {reasons}")


def _look_at_a_clean_one(trial: Trial, dirt: Dirt) -> object:
    with trial.pool().borrow() as conn:
        return dirt.look(conn)


def _require_that_it_shows(trial: Trial, dirt: Dirt, baseline: object) -> None:
    conn = trial.pool().borrow()  # of its own, since looking may clean
    try:
        dirt.act(conn)
        try:
            found = dirt.look(conn)
        except Exception:
            return  # it shows all too well
        require(found != baseline, f"this dirt shows nothing: {found!r} before and after the act")
    finally:
        conn.invalidate()
