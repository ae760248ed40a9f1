"""Nothing is left to compile once `warm` has run, and cached code is found again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kernels
from kernels import compiled

SERVE = """
import secrets
import numpy as np
from kernels import codes, compiled, keytable, scan, sums, trends, warm

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
scan.nearest_centroid(column[:5], column[:4], inv[:4])
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
trends.top_k(scores, np.ones(9, np.uint8), 5)
trends.top_k(scores.astype(np.float32), np.ones(9, np.uint8), 5)
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
