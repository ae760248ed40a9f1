"""Makes `axes.npy`: the main axes of film embeddings, which sketches are taken along. Run it to make the file anew.

Principal axes of the shipped catalogue's embeddings (without centring, as cosines are), the first AXES of 384, turned
by a fixed random rotation so that all components vary alike (Ge et al., Optimized Product Quantization, CVPR 2013,
section 3.2). Sketches only choose which rows are scored exactly, so axes of another corpus cost recall, not truth.
"""

from pathlib import Path

import numpy as np

from kernels.sketches import AXES

FILE = Path(__file__).with_name("axes.npy")
FILMS = Path(__file__).parents[1] / "catalogue" / "films.npz"
_SEED = 7


def main() -> None:
    """Write axes.npy: (AXES, 384) float16, orthonormal rows."""
    vectors = np.load(FILMS)["codes"].astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    main_axes = directions[:, ::-1][:, :AXES]
    rotation, _ = np.linalg.qr(np.random.default_rng(_SEED).standard_normal((AXES, AXES)))
    np.save(FILE, np.ascontiguousarray((main_axes @ rotation).T.astype(np.float16)))


if __name__ == "__main__":
    main()
