"""Every question of the bench runs, tiny: the numbers mean nothing here, but the suite cannot rot."""

import functools
import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import __main__ as command
from bench import questions
from bench.plan import Plan
from bench.report import Row, Section, Yardstick, at_most, describe_machine


@functools.cache
def tiny_section(question: str) -> Section:
    return questions.ask(question, Plan.tiny())


@pytest.mark.parametrize("question", questions.QUESTIONS)
def test_question_is_answered_with_quality_and_yardstick(question: str) -> None:
    section = tiny_section(question)
    assert section.rows
    for row in section.rows:
        assert math.isfinite(row.value) and row.value >= 0, row
        assert row.yardstick is not None or row.target is None, row
        assert row.ratio is None or math.isfinite(row.ratio), row
        assert row.quality or row.yardstick, row


def test_similarity_is_exact_when_every_list_is_scanned() -> None:
    recalls = [row for row in tiny_section("similarity").rows if row.gate]
    assert len(recalls) == 4
    assert all(row.value > 0.99 and row.passed for row in recalls)


def test_gated_questions_are_those_that_have_gates() -> None:
    gated = {name for name in questions.QUESTIONS if any(row.gate for row in tiny_section(name).rows)}
    assert gated == set(questions.GATED)


def test_run_is_printed_and_saved_with_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Row(name="speed | size", value=3, unit="ms", quality="all", yardstick=Yardstick("x", 2), target=at_most(4))
    assert _run(monkeypatch, row, tmp_path) == 0
    run = json.loads((tmp_path / "bench-1000.json").read_text())
    assert run["machine"].split(", load")[0] == describe_machine().split(", load")[0]
    assert run["sections"][0]["rows"][0]["passed"] is True
    assert "speed" in capsys.readouterr().out
    table = (tmp_path / "bench-1000.md").read_text()
    assert "| speed / size | 3.00 ms | <= 4 ms | pass | all | 1.5 | x: 2.00 ms |" in table
    assert "](bench-1000-lookups.svg)" in table
    plot = ElementTree.fromstring((tmp_path / "bench-1000-lookups.svg").read_text())
    assert [rect.get("class") for rect in plot.iter("{http://www.w3.org/2000/svg}rect")] == ["pass"]


def test_missed_target_does_not_fail_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Row(name="slow", value=9, unit="ms", quality="", target=at_most(1))
    assert _run(monkeypatch, slow, tmp_path) == 0


def test_unknown_question_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "speed"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert "unknown: speed" in capsys.readouterr().err


def _run(monkeypatch: pytest.MonkeyPatch, row: Row, output: Path) -> int:
    def answer(name: str, plan: Plan) -> Section:
        return Section(question=name, title="", rows=[row], notes=[], seconds=0)

    monkeypatch.setattr(command, "ask", answer)
    monkeypatch.setattr("sys.argv", ["bench", "lookups", "--patterns", "1000", "--output", str(output)])
    return command.main()
