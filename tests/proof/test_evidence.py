"""The figures of docs/proof.md come from runs."""

from __future__ import annotations

from pathlib import Path

import evidence
import pytest


def test_what_runs_have_shown_becomes_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "_FOLDER", str(tmp_path / "new"))
    for number in (1, 20_000):
        evidence.record("the part", "checkout: fast", points=number, failing=0)
    evidence.record("the part", "checkin", failing="none")
    document = "before\n<!-- generated: the part -->\nold\n<!-- end of the part -->\nafter\n"

    text = evidence.written(tmp_path / "new", document)

    python = f"{evidence.python()} | {'long' if evidence.DEEP else 'short'}"
    assert f"| checkout: fast | {python} | 0 | 20,000 |" in text
    assert f"| checkin | {python} | none |  |" in text
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
