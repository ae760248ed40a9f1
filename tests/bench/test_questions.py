"""Every question of the bench runs, tiny: the numbers mean nothing here, but the suite cannot rot."""

import functools
import json
import math
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import questions
from bench.plan import Plan
from bench.report import Row, Section, at_least, at_most, describe_machine


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
    output = tmp_path / "run.json"
    code = _run(monkeypatch, Row(name="speed", value=3, unit="ms", quality="all", target=at_most(4)), output)
    assert code == 0
    run = json.loads(output.read_text())
    assert run["machine"].split(", load")[0] == describe_machine().split(", load")[0]
    assert run["sections"][0]["rows"][0]["passed"] is True
    assert "speed" in capsys.readouterr().out


def test_missed_gate_fails_the_gates_and_a_missed_target_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = Row(name="slow", value=9, unit="ms", quality="", target=at_most(1))
    assert _run(monkeypatch, slow, tmp_path / "slow.json", "--gates") == 0
    wrong = Row(name="wrong", value=0.1, unit="", quality="", gate=at_least(0.9))
    assert _run(monkeypatch, wrong, tmp_path / "wrong.json", "--gates") == 1
    assert "lookups: wrong" in capsys.readouterr().out


def test_unknown_question_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "speed"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert "unknown: speed" in capsys.readouterr().err


def _run(monkeypatch: pytest.MonkeyPatch, row: Row, output: Path, *options: str) -> int:
    def answer(name: str, plan: Plan) -> Section:
        return Section(question=name, title="", rows=[row], notes=[], seconds=0)

    monkeypatch.setattr(command, "ask", answer)
    arguments = ["bench", "lookups", "--patterns", "1000", "--output", str(output), *options]
    monkeypatch.setattr("sys.argv", arguments)
    return command.main()
