"""The gate fails a build that is slower or does more, and passes one that is as it was, however busy the machine.

Builds are copies of the service with a line added, measured by turns as `bench ab` and `bench gate` do it.
"""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench import gate, paired
from bench.ab import ROOT, compared, time_row
from bench.gate import Baselines
from bench.paired import Compared, built
from bench.probes import YARDSTICKS
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
        until = thread_time() + 0.2 * (thread_time() - began_at)
        while thread_time() < until:
            pass
        return result
    return slowly


Shard.answer = _slowed(Shard.answer)
"""
"""Every answer takes a fifth longer."""
LOOKS_AT_MORE = "\n\nROWS_SCANNED_BASE, ROWS_SCANNED_PER_RESULT = 2_300, 207\n"
"""15% more rows, and nothing else."""


def build_with(directory: Path, module: str, added: str) -> Path:
    """A copy of the service with something added to one of its modules; its kernels are those of this checkout."""
    shutil.copytree(ROOT / "constellation", directory / "constellation", ignore=shutil.ignore_patterns("__pycache__"))
    with (directory / "constellation" / module).open("a") as file:
        file.write(added)
    return directory


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    changes = {"slowed": ("shard/shard.py", SLOWED), "looks at more": ("shard/similarity.py", LOOKS_AT_MORE)}
    return {name: build_with(tmp_path_factory.mktemp("build"), *change) for name, change in changes.items()}


def test_slowed_build_is_found_by_turns_and_what_is_as_it_was_is_not(builds: dict[str, Path]) -> None:
    probes = ANSWER, SEARCH, STORE
    found = {row.probe: row for row in paired.compare(ROOT, builds["slowed"], probes, PATTERNS).compared}
    assert found[ANSWER].lost, found[ANSWER]
    assert not found[SEARCH].lost and not found[STORE].lost, found


def test_build_that_does_more_is_found_by_its_work_alone(builds: dict[str, Path]) -> None:
    with built(ROOT, builds["looks at more"], ROOT, patterns=PATTERNS) as (one, more, same):
        before, now, again = (count(build, [SEARCH, STORE]) for build in (one, more, same))
    assert [row.name for row in work_rows(now, before, "before") if row.missed_gate] == [f"{SEARCH}: rows looked at"]
    assert [row.name for row in work_rows(again, before, "before") if row.missed_gate] == []
    assert before[STORE]["bytecodes"] == again[STORE]["bytecodes"]
    assert before[STORE]["bytes made"] > 1_000


def test_probe_that_a_build_cannot_do_is_told_and_fails_nothing(tmp_path: Path) -> None:
    broken = build_with(tmp_path, "shard/shard.py", "\n\ndel Shard.answer\n")
    section = compared(broken, ROOT, "before", PATTERNS, pairs=2)
    assert any("AttributeError" in note and ANSWER in note for note in section.notes)
    assert SEARCH in {row.name for row in section.rows}


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


def test_committed_baselines_know_every_probe() -> None:
    baselines = msgspec.json.decode(gate.BASELINES.read_bytes(), type=Baselines)
    with built(ROOT, patterns=PATTERNS) as (build,):
        assert baselines.ratios.keys() | set(YARDSTICKS) == set(build.probes)
    assert baselines.work.keys() == baselines.ratios.keys()


def test_ratio_that_looks_worse_is_decided_by_turns(monkeypatch: pytest.MonkeyPatch, builds: dict[str, Path]) -> None:
    """The baselines are of a commit that was as fast as this checkout; what is measured here is slowed."""
    monkeypatch.setattr(gate.probes, "PATTERNS", PATTERNS)
    monkeypatch.setattr(gate.ab, "checked_out", lambda commit: ROOT)
    before = Baselines("this machine", gate.python_version(), {ANSWER: 1.0, SEARCH: 1.0}, {})
    now = msgspec.structs.replace(before, ratios={ANSWER: 1.3, SEARCH: 1.02})
    monkeypatch.setattr(gate.ab, "ROOT", builds["slowed"])
    assert missed_gates([gate.judged(now, before)]) == [f"speed: {ANSWER}"]
    monkeypatch.setattr(gate.ab, "ROOT", ROOT)
    assert missed_gates([gate.judged(now, before)]) == []


def test_without_a_commit_only_what_no_machine_explains_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(path: Path) -> str:
        raise gate.ab.NoCommit("git is not installed")

    monkeypatch.setattr(gate.ab, "last_change", nothing)
    before = Baselines("one machine", gate.python_version(), {ANSWER: 1.0, SEARCH: 1.0}, {})
    now = msgspec.structs.replace(before, machine="another", ratios={ANSWER: 1.3, SEARCH: 2.0})
    section = gate.judged(now, before)
    assert missed_gates([section]) == [f"speed: {SEARCH}"]
    assert any("git is not installed" in note for note in section.notes)
