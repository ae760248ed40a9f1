"""The judge of bucketings, on vectors whose pairs and genres are plain to see."""

import numpy as np
import pytest

from bench.grouping import NEAR, Grouping, Judge

ANGLES = np.arccos(NEAR) * np.array([0.0, 0.9, 1.8, 4.0, 4.9, 8.0])
VECTORS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)
"""Near: 0 and 1, 1 and 2, 3 and 4."""
GENRES = np.array([0, 0, 1, 1, 1, 0], np.int32)


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ([7, 7, 7, 7, 7, 7], Grouping(1, 3 / 6, 1, 6)),
        ([0, 1, 2, 3, 4, 5], Grouping(0, 0, 6, 1)),
        ([4, 4, 9, 2, 2, 9], Grouping(2 / 3, 5 / 6, 3, 2)),
        ([1, 1, 1, 0, 2, 3], Grouping(2 / 3, 2 / 6, 4, 3)),
    ],
)
def test_grouping_is_judged_by_its_near_pairs_and_genres(buckets: list[int], expected: Grouping) -> None:
    judge = Judge(VECTORS, GENRES)
    assert judge.pairs == 3
    assert judge.grouping(np.array(buckets)) == pytest.approx(expected)
