"""What metrics ask of two sets of examples, and the distances between them, in blocks that fit in memory."""

import numpy as np

from ..backend import to_device

BLOCK = 2**22  # numbers at a time: 32 MiB
ROUNDING = 1e-12  # of |x|^2 + |y|^2: squares of distances that differ by less count as equal


def points(where, least=1, **sets):
    """Each set (n, ...) as float64 (n, d), in the order given.

    ValueError, in the name of the function `where`, for fewer than `least` examples, for NaN or infinity, or where the sets'
    examples differ in shape.
    """
    sets = {name: to_device(x, "cpu") for name, x in sets.items()}
    (first, shape), *others = [(name, np.shape(x)[1:]) for name, x in sets.items()]
    for name, x in sets.items():
        if np.ndim(x) < 2 or 0 in np.shape(x)[1:]:
            raise ValueError(f"{where}: {name} has shape {np.shape(x)}; give one row for each example, (n, d)")
        if len(x) < least:
            raise ValueError(f"{where}: {name} has {len(x)} examples, and needs at least {least}; draw more")
    for name, other in others:
        if other != shape:
            raise ValueError(
                f"{where}: {first} has examples of shape {shape}, and {name} of {other}; give both by the same features"
            )
    for name, x in sets.items():
        check_finite(where, name, x)
    return [np.asarray(x, np.float64).reshape(len(x), -1) for x in sets.values()]


def check_finite(where, name, x):
    """ValueError, in the name of the function `where`, if an example of x (n, ...) has NaN or infinity."""
    bad = ~np.isfinite(x).all(axis=tuple(range(1, np.ndim(x))))
    if bad.any():
        raise ValueError(
            f"{where}: {bad.sum()} of the {len(x)} examples of {name} have NaN or infinity, the first is number "
            f"{bad.argmax()}; a model that makes such samples has diverged, so leave it out, and say so"
        )


def share_below(among, values):
    """Of each value, the share of the numbers `among` that are below it, equal ones counted half: (n,) among, (m,) -> (m,)."""
    among = np.sort(among)
    return (np.searchsorted(among, values, "left") + np.searchsorted(among, values, "right")) / (2 * len(among))


def blocks(n, m):
    """Slices of the n rows of an (n, m) table, each of at most BLOCK numbers or one row."""
    rows = max(1, BLOCK // max(1, m))
    return [slice(i, min(i + rows, n)) for i in range(0, n, rows)]


def squared_distances(x, y, slack=0.0):
    """|x_i|^2 + |y_j|^2 - 2 x_i y_j, yielded as (rows, table): x (n, d), y (m, d), table (rows, m).

    A matrix product is fast, but the result is off by rounding, also below 0. With slack, the two squares are taken that much
    smaller.
    """
    of_x, of_y = ((1 - slack) * (z**2).sum(axis=1) for z in (x, y))
    for rows in blocks(len(x), len(y)):
        yield rows, of_x[rows, None] + of_y - 2 * x[rows] @ y.T
