"""After any history of syncs a TV has what the shard would tell one that has nothing."""

import os
from collections import Counter

import pytest

from tests.client.histories import World

PARTS = 100 if os.environ.get("CONSTELLATION_SOAK") else 1
HISTORIES = 10_000
"""Of a part."""
HISTORIES_A_WORLD = 200
WORLDS = HISTORIES // HISTORIES_A_WORLD


@pytest.mark.parametrize("part", range(PARTS))
def test_every_history_of_syncs_leads_to_the_full_answer(seed: int, part: int) -> None:
    seen = Counter[str]()
    for number in range(part * WORLDS, (part + 1) * WORLDS):
        world = World(seed + number)
        steps = 0
        try:
            while world.lived < HISTORIES_A_WORLD:
                world.step()
                steps += 1
        except Exception as error:
            error.add_note(f"World({seed + number}), step {steps}")
            raise
        seen += world.seen
    assert seen["brought up to date"] > HISTORIES // 2, seen
    for what in ("whole lists", "deltas", "revised", "gone", "ids of several", "trends unchanged", "resent"):
        assert seen[what] > HISTORIES // 10, (what, seen)
