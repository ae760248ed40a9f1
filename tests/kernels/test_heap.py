"""The k best of a stream, in every order of a small one."""

import itertools

import numpy as np
import pytest

from kernels import heap


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6, 8])
def test_every_order_of_six_gives_the_same_k_best(k: int) -> None:
    entries = [(1.0, 4), (1.0, 2), (3.0, 9), (-1.0, 0), (3.0, 1), (1.0, 7)]
    wanted = sorted(entries, key=lambda entry: (-entry[0], entry[1]))[:k]
    for order in itertools.permutations(entries):
        scores, rows = np.zeros(k), np.zeros(k, np.int32)
        size = 0
        for score, row in order:
            size = heap.offer(scores, rows, size, score, row)
        heap.sort(scores, rows, size)
        assert list(zip(scores[:size].tolist(), rows[:size].tolist(), strict=True)) == wanted
