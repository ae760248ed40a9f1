"""Packed sketches: the inner product in this machine's instructions is the one that the definition says."""

import numpy as np
import pytest

from kernels import reference
from kernels.compiled import JIT, compiled, has_feature
from kernels.sketches import AXES, HALF, Packed, Sketch, pack, packed_dot, unpack


@compiled
def all_dots(packed: Packed, sketch: Sketch) -> list[np.int32]:
    return [packed_dot(packed, i * HALF, sketch) for i in range(packed.shape[0] // HALF)]


def plain_dot(packed: Packed, sketch: Sketch) -> int:
    components = [byte & 15 for byte in packed.tolist()] + [byte >> 4 for byte in packed.tolist()]
    return sum(n * q for n, q in zip(components, sketch.tolist(), strict=True))


def test_inner_products_of_any_bytes_are_exact(rng: np.random.Generator) -> None:
    packed = rng.integers(0, 256, 50 * HALF).astype(np.uint8)
    for sketch in rng.integers(-128, 128, (20, AXES)).astype(np.int8):
        expected = [plain_dot(packed[i : i + HALF], sketch) for i in range(0, len(packed), HALF)]
        assert all_dots(packed, sketch) == expected


@pytest.mark.parametrize("component", [-128, -1, 127])
def test_the_largest_components_do_not_overflow(component: int) -> None:
    packed = np.full(HALF, 255, np.uint8)
    assert all_dots(packed, np.full(AXES, component, np.int8)) == [15 * AXES * component]


def test_packing_keeps_what_the_twin_keeps(rng: np.random.Generator) -> None:
    sketch = rng.integers(-128, 128, AXES).astype(np.int8)
    packed = np.empty(HALF, np.uint8)
    pack(sketch, packed)
    assert packed.tobytes() == reference.pack(sketch).tobytes()
    unpacked = np.empty(AXES, np.int8)
    unpack(packed, unpacked)
    assert set(np.abs(unpacked).tolist()) <= set(range(1, 16, 2))
    agree = np.sign(unpacked) == np.sign(sketch + 0.5)
    assert agree.all()


@pytest.mark.skipif(not (JIT and has_feature("avx2")), reason="the loop runs on this machine")
def test_machines_with_avx2_use_it() -> None:
    assert packed_dot.__module__ == "kernels.avx2"
