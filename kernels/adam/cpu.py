"""Adam on the CPU in one pass: four arrays are read and three written, which is all the memory traffic that there has to be.

The same expressions in NumPy make about a dozen passes, each of which writes an array. What depends on t alone is computed
outside the loop. All parameters of a model should come as one vector (see tinygen/flat.py): a call costs as much as 10,000
numbers do. But the gradient may come in parts: to copy large ones together would be two passes more.
"""

import numpy as np

from ..jit import jit
from ..threads import MEMORY, in_parts


def update(p, g, m, v, t, learning_rate, beta1, beta2, eps, weight_decay):
    numbers = beta1, 1 - beta1, beta2, 1 - beta2, 1 / (1 - beta1**t), 1 / (1 - beta2**t), learning_rate, eps, weight_decay
    numbers = np.array(numbers, p.dtype)
    old = [_vector(a, p.dtype) for a in (p, m, v)]
    new = [np.empty(p.size, p.dtype) for _ in range(3)]
    if type(g) is tuple:
        start = 0
        for part in g:
            _update_from(start, _vector(part, p.dtype), old, new, numbers)
            start += part.size
    else:
        _update_from(0, _vector(g, p.dtype), old, new, numbers)
    return tuple(new) if p.ndim == 1 else tuple(a.reshape(p.shape) for a in new)


def _update_from(start, g, old, new, numbers):
    """Update as many numbers from `start` on as g has."""
    in_parts(lambda first, last: _update(start, first, last, g, *old, *new, numbers), g.size, 7 * MEMORY * g.size)


def _vector(a, dtype):
    """The numbers of an array side by side; writeable, or Numba would compile anew."""
    suits = type(a) is np.ndarray and a.ndim == 1 and a.dtype == dtype and a.flags.carray
    return a if suits else np.require(a, dtype, "CW").reshape(-1)


@jit
def _update(start, first, last, g, p, m, v, new_p, new_m, new_v, numbers):
    beta1, rest1, beta2, rest2, scale1, scale2, learning_rate, eps, weight_decay = (
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], numbers[7], numbers[8],
    )  # fmt: skip
    g, first, last = g[first:last], start + first, start + last
    p, m, v = p[first:last], m[first:last], v[first:last]
    new_p, new_m, new_v = new_p[first:last], new_m[first:last], new_v[first:last]
    for i in range(p.size):
        new_m[i] = beta1 * m[i] + rest1 * g[i]
        new_v[i] = beta2 * v[i] + rest2 * (g[i] * g[i])
        step = scale1 * new_m[i] / (np.sqrt(scale2 * new_v[i]) + eps)
        new_p[i] = p[i] - learning_rate * (step + weight_decay * p[i])
