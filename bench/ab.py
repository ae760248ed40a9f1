"""`python -m bench ab COMMIT`: is this checkout slower than a commit, and does it do more work?

The commit's service is taken from git into build/ab/ and measured by turns with the one that lies here, by the probes
of this checkout (`bench.probes`, `bench.paired`). Exits 1 if something takes 15% longer, or does that much more.
"""

import argparse
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

from rich.console import Console

from bench import paired, probes
from bench.report import Row, Section, Target, Yardstick, print_section
from bench.work import count, work_rows

ROOT = Path(__file__).resolve().parents[1]
_SERVICE = ("constellation", "kernels")


class NoCommit(Exception):
    """Git does not have it here; says what it said."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench ab", description="This checkout against a commit.")
    parser.add_argument("commit", help="as git takes it: a hash, a branch, HEAD~1")
    parser.add_argument("--pairs", type=int, default=paired.PAIRS, metavar="N", help="default %(default)s")
    parser.add_argument("--patterns", type=int, default=probes.PATTERNS, metavar="N", help="default %(default)s")
    asked = parser.parse_args(arguments)
    console = Console()
    try:
        base = checked_out(asked.commit)
    except NoCommit as why:
        console.print(f"python -m bench ab: {why}")
        return 2
    section = compared(base, ROOT, asked.commit, asked.patterns, asked.pairs)
    print_section(section, console)
    lost = [row.name for row in section.rows if row.missed_gate]
    console.print(f"[red]slower, or more work:[/] {'; '.join(lost)}" if lost else "nothing is slower by more than 15%")
    return bool(lost)


def compared(base: Path, other: Path, name: str, patterns: int, pairs: int) -> Section:
    """Every probe of two builds; a row misses its gate if it has lost."""
    with paired.built(base, other, patterns=patterns) as builds:
        names = sorted(set(builds[0].probes) - set(probes.YARDSTICKS))
        before, now = (count(build, names) for build in builds)
    found = paired.compare(base, other, names, patterns, pairs)
    rows = [time_row(row, name) for row in found.compared] + work_rows(now, before, name)
    notes = [f"not compared: {why}" for why in found.unable]
    return Section("ab", f"is this slower than {name}?", rows, notes, 0.0)


def time_row(found: paired.Compared, name: str) -> Row:
    """Its gate is the alarm, once the interval leaves no doubt."""
    return Row(
        name=found.probe,
        value=found.ms,
        unit="ms",
        quality=f"CPU; ratio {found.low:.3f} to {found.high:.3f} of {found.pairs} pairs",
        yardstick=Yardstick(name, found.base_ms),
        target=Target("<=", paired.LOSS, "ratio"),
        gate=Target("<=", found.ms / found.base_ms - 0.001, "ratio") if found.lost else None,
    )


def checked_out(commit: str) -> Path:
    """The service of a commit in a directory of its own; its kernels only where they differ from the ones here, as
    compiling them takes a minute. Raises `NoCommit`."""
    full = _git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}").decode().strip()
    directory = ROOT / "build" / "ab" / full
    if not directory.exists():
        partly = directory.with_suffix(".partly")
        shutil.rmtree(partly, ignore_errors=True)
        with tarfile.open(fileobj=io.BytesIO(_git("archive", full, *_SERVICE))) as archive:
            archive.extractall(partly, filter="data")
        partly.rename(directory)
    kernels = directory / "kernels"
    if kernels.exists() and _sources(kernels) == _sources(ROOT / "kernels"):
        shutil.rmtree(kernels)
    return directory


def last_change(path: Path) -> str:
    """The commit that touched a file last. Raises `NoCommit`."""
    commit = _git("log", "-1", "--format=%H", "--", str(path)).decode().strip()
    if not commit:
        raise NoCommit(f"{path.name} is in no commit that is here")
    return commit


def _sources(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("*.py")}


def _git(*arguments: str) -> bytes:
    command = ["git", "-c", "safe.directory=*", *arguments]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise NoCommit("git is not installed") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise NoCommit(f"git {' '.join(arguments)} failed: {said or 'there is no such commit'}") from None
