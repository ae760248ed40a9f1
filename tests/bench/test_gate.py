"""The gate fails a build that is slower or does more, and passes one that is as it was, however busy the machine.

Builds are copies of the service with a line added, measured by turns as `bench ab` and `bench gate` do it.
"""

import itertools
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench import ab, gate, paired
from bench.ab import ROOT, time_row
from bench.gate import Baselines
from bench.paired import Compared, Comparison, built
from bench.probes import YARDSTICKS
from bench.probing import answer
from bench.report import missed_gates
from bench.work import count, work_rows

PATTERNS = 2_000
ANSWER, SEARCH, STORE = "an answer, whole", "search: the 100 nearest", "store: two patterns, and back"
SLOWED = """

from time import thread_time


def _slowed(answer):
    def slowly(*arguments):
        began_at = thread_time()
        result = answer(*arguments)
        until = thread_time() + 0.4 * (thread_time() - began_at)
        while thread_time() < until:
            pass
        return result
    return slowly


Shard.answer = _slowed(Shard.answer)
"""
"""Every answer takes two fifths longer: what any noise lets through. Losses of 15% are told below, by work and by
ratios that are drawn."""
LOOKS_AT_MORE = "\n\nROWS_SCANNED_BASE, ROWS_SCANNED_PER_RESULT = 2_300, 207\n"
"""15% more rows, and nothing else."""


def build_with(directory: Path, module: str, added: str) -> Path:
    """A copy of the service with something added to one of its modules; its kernels are those of this checkout."""
    shutil.copytree(ROOT / "constellation", directory / "constellation", ignore=shutil.ignore_patterns("__pycache__"))
    with (directory / "constellation" / module).open("a") as file:
        file.write(added)
    return directory


@pytest.fixture(scope="module")
def slowed(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """This checkout by turns with a copy that is slower."""
    build = build_with(tmp_path_factory.mktemp("slowed"), "shard/shard.py", SLOWED)
    return paired.compare(ROOT, build, (ANSWER, STORE), PATTERNS)


def test_slowed_build_is_found_by_turns_and_what_is_as_it_was_is_not(slowed: Comparison) -> None:
    found = {row.probe: row for row in slowed.compared}
    assert found[ANSWER].lost, found
    assert not found[STORE].lost, found
    assert len(slowed.lost) == 1 and slowed.lost[0].startswith(ANSWER)


def test_build_that_does_more_is_found_by_its_work_alone(tmp_path: Path) -> None:
    more = build_with(tmp_path, "shard/similarity.py", LOOKS_AT_MORE)
    with built(ROOT, more, patterns=PATTERNS) as (one, other):
        before, now, again = count(one, [SEARCH, STORE]), count(other, [SEARCH, STORE]), count(one, [STORE])
        probes = set(one.probes)
    assert [row.name for row in work_rows(now, before, "before") if row.missed_gate] == [f"{SEARCH}: rows looked at"]
    assert before[STORE]["bytecodes"] == now[STORE]["bytecodes"] and before[STORE]["bytes made"] > 1_000
    assert [row.name for row in work_rows(again, before, "before") if row.missed_gate] == []
    baselines = msgspec.json.decode(gate.BASELINES.read_bytes(), type=Baselines)
    assert baselines.ratios.keys() == baselines.work.keys() == probes - set(YARDSTICKS)


def test_probe_that_a_build_cannot_do_is_told() -> None:
    def operation(number: int) -> int:
        raise AttributeError("answer")

    for operations in (0, 3):
        assert answer(operation, itertools.count(), operations).failure == "AttributeError: answer"


@pytest.mark.parametrize(
    ("ratios", "lost"),
    [
        ([1.0] * 100, False),
        ([0.8, 1.25] * 50, False),
        ([1.02] * 100, False),
        ([1.15] * 100, True),
        (np.random.default_rng(3).normal(1.15, 0.15, 400).tolist(), True),
        (np.random.default_rng(3).normal(1.0, 0.15, 400).tolist(), False),
    ],
)
def test_loss_is_told_from_noise(ratios: list[float], lost: bool) -> None:
    median = float(np.median(ratios))
    found = Compared("probe", 1.0, median, median, *paired.interval(np.array(ratios)), len(ratios))
    assert found.lost == lost
    assert time_row(found, "before").missed_gate == lost


def test_ratio_that_looks_worse_is_decided_by_turns(monkeypatch: pytest.MonkeyPatch, slowed: Comparison) -> None:
    asked: list[list[str]] = []

    def compare(base: Path, other: Path, probes: list[str], patterns: int) -> Comparison:
        asked.append(probes)
        return slowed

    monkeypatch.setattr(ab, "checked_out", lambda commit: ROOT)
    monkeypatch.setattr(paired, "compare", compare)
    before = Baselines(gate.machine(), gate.python_version(), {ANSWER: 1.0, STORE: 1.0, SEARCH: 1.0}, {})
    now = msgspec.structs.replace(before, ratios={ANSWER: 1.3, STORE: 1.3, SEARCH: 1.02})
    assert missed_gates([gate.judged(now, before)]) == [f"speed: {ANSWER}"]
    elsewhere = msgspec.structs.replace(before, machine="another machine")
    assert missed_gates([gate.judged(before, elsewhere)]) == [f"speed: {ANSWER}"]
    assert missed_gates([gate.judged(before, before)]) == []
    assert asked == [[ANSWER, STORE], [ANSWER, STORE, SEARCH]]


def test_without_a_commit_only_what_no_machine_explains_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(path: Path) -> str:
        raise ab.NoCommit("git is not installed")

    monkeypatch.setattr(ab, "last_change", nothing)
    before = Baselines("one machine", gate.python_version(), {ANSWER: 1.0, SEARCH: 1.0}, {})
    now = msgspec.structs.replace(before, machine="another", ratios={ANSWER: 1.3, SEARCH: 2.0})
    section = gate.judged(now, before)
    assert missed_gates([section]) == [f"speed: {SEARCH}"]
    assert any("git is not installed" in note for note in section.notes)
