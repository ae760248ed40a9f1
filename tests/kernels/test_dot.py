"""The inner product in this machine's instructions is the one that arithmetic says, and it is vectorised."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kernels
from kernels import compiled
from kernels.compiled import JIT, has_feature
from kernels.dot import Code, dot


@compiled.compiled
def of_rows(a: Code, b: Code) -> list[np.int32]:
    return [dot(a[i], b[i]) for i in range(a.shape[0])]


@pytest.mark.parametrize("d", [1, 12, 31, 32, 33, 192, 384, 400])
def test_inner_products_are_exact(rng: np.random.Generator, d: int) -> None:
    a, b = rng.integers(-127, 128, (2, 50, d)).astype(np.int8)
    assert of_rows(a, b) == (a.astype(np.int64) * b).sum(axis=1).tolist()


@pytest.mark.parametrize(("x", "y"), [(127, 127), (-127, 127), (127, -127), (-127, -127), (0, -127)])
def test_the_largest_components_do_not_overflow(x: int, y: int) -> None:
    a, b = np.full((1, 384), x, np.int8), np.full((1, 384), y, np.int8)
    assert of_rows(a, b) == [384 * x * y]


LISTING = """
import numpy as np
from kernels import scan
scan.cosines(np.ones((2, 384), np.int8), np.ones(2, np.float32), np.zeros(1, np.int32), np.ones(384, np.int8), 1.0)
print(*scan.cosines.inspect_asm().values())
"""


@pytest.mark.skipif(not JIT, reason="machine code is what this looks at")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the instruction is x86's")
def test_dot_is_vectorised(tmp_path: Path) -> None:
    """As multiply-adds of int16 pairs: a scan is ten times slower without. Cached code has no listing: compile anew."""
    root = str(Path(kernels.__file__).parent.parent)
    out = subprocess.run(
        [sys.executable, "-c", LISTING],
        env=os.environ | {"PYTHONPATH": root, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pmaddwd" in out.stdout


@pytest.mark.skipif(not (JIT and has_feature("avx2")), reason="the loop runs on this machine")
def test_machines_with_avx2_use_it() -> None:
    assert dot.__name__ == "_dot_avx2"
