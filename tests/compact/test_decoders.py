"""The decoder in C that docs/compact.md is enough for, and the one in Python: the same of every block, good or bad.

It is compiled with the system's compiler and, where that has them, sanitizers, which end it at the first byte that it
reads out of bounds.
"""

import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from constellation import codebook
from tests.compact.lines import REFUSED, Kind, decoded
from tests.compact.make import CORPUS, HERE, VECTORS, corpus, vectors
from tests.compact.material import BOOK, HELD, damaged, similar_block, trends_block

Blocks = Sequence[tuple[Kind, bytes]]

SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
REPLIES, HOSTILE = 60, 3_000


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that decodes."""
    folder = tmp_path_factory.mktemp("decoder")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (folder / "codebook.bin").write_bytes(codebook.encode(BOOK))
    build = [compiler, "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(folder / "decode")]
    source = [str(HERE / "decode.c"), "-lm"]
    if subprocess.run([*build, *SANITIZERS, *source], check=False, capture_output=True).returncode:
        subprocess.run([*build, *source], check=True)
    return [str(folder / "decode"), str(folder / "codebook.bin")]


def by_c(decoder: list[str], blocks: Blocks) -> list[str]:
    framed = b"".join(kind.encode() + struct.pack("<I", len(block)) + block for kind, block in blocks)
    ended = subprocess.run(decoder, input=framed, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout.decode().splitlines()


def by_python(blocks: Blocks) -> list[str]:
    return [line for kind, block in blocks for line in decoded(kind, block, HELD)]


def files(folder: Path) -> list[tuple[Path, Kind, bytes]]:
    found = sorted(folder.glob("*.bin"))
    return [(path, "s" if path.suffixes[0] == ".s" else "t", path.read_bytes()) for path in found]


def test_vectors_are_what_their_script_makes() -> None:
    for folder, made in ((VECTORS, vectors()), (CORPUS, corpus())):
        kept = {path.name: content for path, _, content in files(folder)}
        assert kept == {f"{name}.{kind}.bin": block for name, kind, block in made}


def test_both_say_of_the_vectors_what_is_written_down(decoder: list[str]) -> None:
    assert len(files(VECTORS)) == 5
    for path, kind, block in files(VECTORS):
        written = path.with_suffix(".txt").read_text().splitlines()
        assert decoded(kind, block, HELD) == written
        assert by_c(decoder, [(kind, block)]) == written


def test_both_refuse_what_is_in_the_corpus(decoder: list[str]) -> None:
    for path, kind, block in files(CORPUS):
        assert decoded(kind, block, HELD) == REFUSED, path.name
        assert by_c(decoder, [(kind, block)]) == REFUSED, path.name


def test_both_say_the_same_of_random_replies(decoder: list[str]) -> None:
    blocks: list[tuple[Kind, bytes]] = [("s", similar_block(seed)) for seed in range(REPLIES)]
    blocks += [("t", trends_block(seed)) for seed in range(REPLIES)]
    said = by_python(blocks)
    assert REFUSED[0] not in said and len(said) > 10 * REPLIES
    assert by_c(decoder, blocks) == said


def test_both_say_the_same_of_damaged_and_of_hostile_blocks(decoder: list[str], rng: np.random.Generator) -> None:
    good: list[tuple[Kind, bytes]] = [("s", similar_block(seed, n)) for seed, n in enumerate((1, 2, 7, 30, 100))]
    good += [("t", trends_block(seed)) for seed in range(3)]
    good += [(kind, block) for folder in (VECTORS, CORPUS) for _, kind, block in files(folder) if block]
    blocks: list[tuple[Kind, bytes]] = []
    for _ in range(HOSTILE):
        kind, block = good[rng.integers(len(good))]
        blocks.append((kind, damaged(block, rng)))
    said = by_python(blocks)
    assert HOSTILE / 10 < said.count(REFUSED[0]) < HOSTILE, "some of both"
    assert by_c(decoder, blocks) == said
