"""Makes tinygen/data/digits.npz from the copy of the UCI digits that scikit-learn carries.

    python tests/data/make_digits.py                 writes the file anew, the same to the last bit

Deterministic: the images keep scikit-learn's order, and the split is a seeded permutation of their indices, stored in
the file, so that no reader depends on a random generator staying as it is. Needs scikit-learn; the library does not.
"""

from pathlib import Path

import numpy as np

TARGET = Path(__file__).parents[2] / "tinygen" / "data" / "digits.npz"
SPLIT_SEED = 1998  # the year the data set was published; nothing was tried against another


def arrays():
    """images uint8 (1797, 8, 8) of grey levels 0..16, labels uint8 (1797,), order uint16 (1797,): the split's order."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return {
        "images": digits.images.astype(np.uint8),
        "labels": digits.target.astype(np.uint8),
        "order": np.random.default_rng(SPLIT_SEED).permutation(len(digits.target)).astype(np.uint16),
    }


if __name__ == "__main__":
    np.savez_compressed(TARGET, **arrays())
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")
