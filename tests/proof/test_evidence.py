"""The figures of docs/proof.md come from runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import evidence
import pytest
from proof_tables import part_table


def fact(
    row: str, python: str = "3.11", run: str = "long", part: str = "any", **figures: Any
) -> dict[str, Any]:
    return {"part": part, "row": row, "python": python, "run": run, "figures": figures}


def rows(part: str, *facts: dict[str, Any]) -> list[list[str]]:
    lines = part_table(part, facts).splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "--" not in line
    ]


def test_what_runs_have_shown_becomes_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "_FOLDER", str(tmp_path / "new"))
    for number in (1, 20_000):
        evidence.record("the part", "checkout: fast", points=number, failing=0)
    evidence.record("the part", "checkin", failing="none")
    document = "before\n<!-- generated: the part -->\nold\n<!-- end of the part -->\nafter\n"

    text = evidence.written(tmp_path / "new", document)

    run = f"{evidence.python()}, {'long' if evidence.DEEP else 'short'}"
    assert f"|  | {run} |" in text
    assert "| checkout: fast | 20,000 points, 0 failing |" in text
    assert "| checkin | failing none |" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text


def test_a_part_that_the_document_does_not_have_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "_FOLDER", str(tmp_path))
    evidence.record("nowhere", "row", points=1)
    with pytest.raises(ValueError, match="nowhere"):
        evidence.written(tmp_path, "nothing here")


def test_each_python_and_each_length_of_run_has_a_column_in_order() -> None:
    facts = [fact("a", "3.13t", n=1), fact("a", "3.9", n=2), fact("b", "3.13", n=3)]
    facts += [fact("b", "3.13", "short", n=4)]

    assert rows("any", *facts) == [
        ["", "3.9, long", "3.13, long", "3.13, short", "3.13t, long"],
        ["a", "2 n", "", "", "1 n"],
        ["b", "", "3 n", "4 n", ""],
    ]


def test_what_is_of_one_kind_is_summed_up_and_the_last_row_is_all() -> None:
    facts = [
        fact("close()", points=1, failing=0),
        fact("close(), others wait", points=2, failing=1),
    ]
    facts += [fact("checkin: clean", points=4_000, failing=0)]

    assert rows("exceptions", *facts)[1:] == [
        ["checkin", "4,000 points, 0 failing"],
        ["close()", "2 operations, 3 points, 1 failing"],
        ["**all**", "3 operations, 4,003 points, 1 failing"],
    ]


def test_a_scenario_counts_for_each_of_its_promises_and_once_in_all() -> None:
    facts = [
        fact("a", promise="bound; first come, first served", orders=5, points=7, ended=0),
        fact("b", promise="exclusive: one wins; bound", orders=6, points=8),
    ]

    assert rows("interleavings", *facts)[1:] == [
        ["bound", "2 scenarios, 11 orders"],
        ["exclusive", "6 orders"],
        ["first come, first served", "5 orders"],
        ["**all**", "2 scenarios, 11 orders"],
    ]


def test_a_cell_tells_no_noughts_but_that_nothing_failed_and_is_empty_only_if_nothing_ran() -> None:
    facts = [fact("a", failing=0, lost=0), fact("b", "3.12")]

    assert rows("garbage and threads", *facts)[1:] == [
        ["a", "0 failing", ""],
        ["b", "", "1 cases"],
    ]


def test_of_how_long_something_took_the_longest_is_told_and_of_words_what_all_say() -> None:
    facts = [
        fact("exit: a", ms=30, said="x", met="yes"),
        fact("exit: b", ms=20, said="y", met="yes"),
    ]

    assert rows("garbage and threads", *facts)[1:] == [["exit", "2 cases, 30 ms, met yes"]]
