"""Adam on the CPU in one pass: four arrays are read and three written, which is all the memory traffic that there has to be.

The same expressions in NumPy make about a dozen passes, each of which writes an array. What depends on t alone is computed
outside the loop. All parameters of a model should come as one vector (see tinygen/flat.py): a call costs as much as 10,000
numbers do. But the gradient may come in parts: to copy large ones together would be two passes more.

The loop overwrites p, m and v. Where they are to stay, it is given copies of them, which takes as long again.
"""

import numpy as np

from ..jit import jit
from ..threads import AT_ONCE, MEMORY, in_parts


def update(p, g, m, v, t, learning_rate, beta1, beta2, eps, weight_decay, in_place=False):
    numbers = beta1, 1 - beta1, beta2, 1 - beta2, 1 / (1 - beta1**t), 1 / (1 - beta2**t), learning_rate, eps, weight_decay
    old, dtype = (p, m, v), p.dtype.newbyteorder("=")
    numbers = np.array(numbers, dtype)
    new = [_vector(a if in_place else np.array(a, dtype, order="C"), dtype) for a in old]
    start = 0
    for part in g if type(g) is tuple else (g,):
        _update_from(start, _vector(part, dtype), new, numbers)
        start += part.size
    if in_place:
        for a, b in zip(old, new):
            if a is not b and not np.may_share_memory(a, b):  # what does not lie side by side
                a[...] = b.reshape(a.shape)
        return old
    return tuple(a.reshape(p.shape) for a in new)


def _update_from(start, g, new, numbers):
    """Update as many numbers from `start` on as g has."""
    in_parts(lambda first, last: _update(start, first, last, g, *new, numbers), g.size, 7 * MEMORY * g.size, AT_ONCE)


def _vector(a, dtype):
    """The numbers of an array side by side; writeable, or Numba would compile anew."""
    suits = type(a) is np.ndarray and a.ndim == 1 and a.dtype == dtype and a.flags.carray
    return a if suits else np.require(a, dtype, "CW").reshape(-1)


@jit
def _update(start, first, last, g, p, m, v, numbers):
    beta1, rest1, beta2, rest2, scale1, scale2, learning_rate, eps, weight_decay = (
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], numbers[7], numbers[8],
    )  # fmt: skip
    g, p = g[first:last], p[start + first : start + last]
    m, v = m[start + first : start + last], v[start + first : start + last]
    for i in range(p.size):
        new_m = beta1 * m[i] + rest1 * g[i]  # by names: to read back what was just written would take three times as long
        new_v = beta2 * v[i] + rest2 * (g[i] * g[i])
        step = scale1 * new_m / (np.sqrt(scale2 * new_v) + eps)
        m[i], v[i], p[i] = new_m, new_v, p[i] - learning_rate * (step + weight_decay * p[i])
