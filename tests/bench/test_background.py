"""What storage and federation do to a shard compiles nothing either."""

import os
import subprocess
import sys

import pytest

LIVE = """
from bench.background import measure
from bench.plan import Plan
from kernels.warm import warm
from tests.api.compiles import signatures

warm()
before = signatures()
assert len(list(measure(Plan.tiny()))) > 10
print(sorted(signatures() - before, key=str))
"""


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled without the JIT")
def test_restoring_keeping_and_federating_need_no_kernel_that_is_not_there() -> None:
    ended = subprocess.run([sys.executable, "-c", LIVE], capture_output=True, text=True, timeout=240, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
