"""What every test shares: a generator whose seed is shown when the test fails, and Hypothesis without a clock."""

import os
import zlib

import hypothesis
import numpy as np
import pytest

SEED_VARIABLE = "CONSTELLATION_TEST_SEED"

# Two busy cores make any deadline a coin toss; a failing example prints the blob that repeats it.
hypothesis.settings.register_profile("constellation", deadline=None, print_blob=True)
hypothesis.settings.load_profile("constellation")


def pytest_report_header() -> str:
    return f"seed: {os.environ.get(SEED_VARIABLE, 'one for each test, from its name')} ({SEED_VARIABLE}=N sets it)"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The test's own seed, the same in every run unless the environment sets one."""
    given = os.environ.get(SEED_VARIABLE)
    chosen = int(given) if given is not None else zlib.crc32(request.node.nodeid.encode())
    request.node.add_report_section("setup", "seed", f"{SEED_VARIABLE}={chosen}")
    return chosen


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
