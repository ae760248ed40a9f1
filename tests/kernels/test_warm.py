"""Nothing is left to compile once `warm` has run, and cached code is found again."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kernels
from kernels import compiled

SERVE = """
import secrets
import numpy as np
from kernels import centroids, chains, codes, compiled, cursors, keytable, lists, partition, scan, sums, trends, warm

warm.warm()
before = compiled.specialisations()
assert before > 20, before
vectors = np.random.default_rng(1).standard_normal((5, 384)).astype(np.float32)
assert codes.check_vectors(vectors) == -1
column = np.zeros((100, 384), np.int8)
column[:5] = codes.quantise(vectors)
assert codes.check_codes(column[:5]) == -1
inv = np.zeros(100, np.float32)
inv[:5] = codes.inverse_norms(codes.requantise(column[:5]))
codes.format_json(column[:5], inv[:5])
codes.dequantise(column[:5], inv[:5])
rows = np.array([3, 4, 1], np.int32)
live = np.ones(100, np.uint8)
scan.scan_top_k(column, inv, rows, column[2], inv[2], 2)
scan.scan_top_k(column, inv, rows, column[2], float(inv[2]), 2)
scan.scan_all_top_k(column, inv, live, 0, 5, column[2], inv[2], 2)
scan.cosines(column, inv, rows, column[2], inv[2])
coarse = centroids.coarsen(column[:4], inv[:4])
centroids.nearest_centroid(column[:5], column[:4], inv[:4], *coarse)
read_only = np.frombuffer(bytes(column[:4]), np.int8).reshape(4, 384), np.frombuffer(bytes(inv[:4]), np.float32)
centroids.nearest_centroid(column[:5], *read_only, *coarse)
centroids.place(np.zeros(100, np.int32), rows, column, *read_only, *coarse)
scan.pairwise_cosine(column, inv, rows)
partial = sums.empty(8, 384)
args = (np.zeros(5, np.int32), column[:5], inv[:5], np.ones(5, np.float32), np.ones(5, np.uint32), 1000)
sums.accumulate(*partial, *args)
sums.remove(*partial, *args)
sums.finish(partial.sums, partial.weights)
sums.contribution_weight(0.7, 3, 1000)
table = keytable.KeyTable(np.zeros(99, np.int32), np.random.default_rng(1).integers(0, 256, (99, 16), np.uint8),
                          secrets.randbits(128), capacity=8)
table.insert_many(np.arange(50))
table.insert(60)
table.delete(3)
table.find(0, bytes(16))
table.find_many(np.zeros(2), np.zeros((2, 16)))
counts, scores = trends.empty_counts(9), np.zeros(9)
trends.credit(counts, scores, np.int64(3), 490_000, 5)
trends.roll_hours(counts, scores, 9, 490_000, 490_001, 0.95)
trends.debit(counts, scores, 3, 5, 490_001, 490_000, 0.95)
trends.recompute_scores(counts, scores, 0, 9, 490_001, 0.95)
trends.recompute_scores(counts.astype(np.int64), scores, 0, 9, 490_001, 0.95)
trends.top_k(scores, np.ones(9, np.uint8), 5)
trends.top_k(scores.astype(np.float32), np.ones(9, np.uint8), 5)
first, following = np.full(5, -1, np.int32), np.full(9, -1, np.int32)
chains.link(first, following, 3, 4)
chains.rows_of(first, following, 3)
chains.unlink(first, following, 3, 4)
low, high = lists.empty_level(70, 100), lists.empty_level(70, 70)
sketch = np.ones(192, np.int8)
partition.insert(low, high, 7, sketch)
partition.settle(low, high, 0)
lists.search(low, high, column, inv, column[2], sketch, 1, 9, 3)
partition.remove(low, high, 7)
revisions, ids = np.zeros((9, 3), np.uint16), np.zeros((9, 16), np.uint8).view(np.uint64)
words, sent = np.zeros((2, cursors.SLOTS), np.uint32), np.zeros((2, cursors.SLOTS), np.uint16)
cursors.tell(words[1], sent[1], cursors.PENDING, rows, revisions, revisions, ids, ids)
assert compiled.specialisations() == before, "something was compiled after warm()"
hits = sum(sum(f.stats.cache_hits.values()) for m in (codes, scan, sums, keytable, trends) for f in vars(m).values()
           if hasattr(f, "stats"))
print(hits)
"""


def serve(**environment: str) -> int:
    """Run SERVE in a process of its own; how many kernels came from the cache."""
    root = str(Path(kernels.__file__).parent.parent)
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", SERVE],
        env=os.environ | {"PYTHONPATH": root} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    return int(out.stdout)


@pytest.mark.skipif(not compiled.JIT, reason="there is nothing to compile")
def test_nothing_compiles_after_warm_and_the_next_start_loads_from_the_cache() -> None:
    serve()
    assert serve() > 20


def test_code_compiled_from_other_sources_is_not_used(tmp_path: Path) -> None:
    """A constant that changes in one module changes the kernels of another that were compiled with it."""
    package = tmp_path / "kernels"
    shutil.copytree(Path(kernels.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    show = "from kernels import sketches, test_double; print(test_double.doubled_axes())"
    (package / "test_double.py").write_text(
        "from kernels.compiled import compiled\nfrom kernels.sketches import AXES\n\n\n"
        "@compiled\ndef doubled_axes():\n    return 2 * AXES\n"
    )
    seen = []
    for axes in (192, 96):
        source = (package / "sketches.py").read_text()
        (package / "sketches.py").write_text(re.sub(r"^AXES = \d+$", f"AXES = {axes}", source, flags=re.MULTILINE))
        out = subprocess.run(
            [sys.executable, "-c", show],
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        seen.append(int(out.stdout))
    assert seen == [384, 192]
