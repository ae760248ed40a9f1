"""No request compiles: what a fresh process does before its ports open is all that requests need."""

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled without the JIT")
def test_no_request_needs_a_kernel_that_is_not_there() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.api.compiles"], capture_output=True, text=True, timeout=240, check=True
    )
    assert ended.stdout == ""
