"""Adam on the CPU in one pass: four arrays are read and three written, which is all the memory traffic that there has to be.

The same expressions in NumPy make about a dozen passes, each of which writes an array. What depends on t alone is computed
outside the loop. It runs in one thread, as a second pool of threads beside that of BLAS would cost more than it gives.
"""

import numpy as np

from ..jit import jit


def update(p, g, m, v, t, learning_rate, beta1, beta2, eps, weight_decay):
    numbers = beta1, 1 - beta1, beta2, 1 - beta2, 1 / (1 - beta1**t), 1 / (1 - beta2**t), learning_rate, eps, weight_decay
    old = [np.require(a, p.dtype, "CW").reshape(-1) for a in (p, g, m, v)]  # W: Numba would compile anew for read-only arrays
    new = [np.empty(p.size, p.dtype) for _ in range(3)]
    _update(*old, *new, *map(p.dtype.type, numbers))
    return tuple(a.reshape(p.shape) for a in new)


@jit
def _update(p, g, m, v, new_p, new_m, new_v, beta1, rest1, beta2, rest2, scale1, scale2, learning_rate, eps, weight_decay):
    for i in range(p.size):
        new_m[i] = beta1 * m[i] + rest1 * g[i]
        new_v[i] = beta2 * v[i] + rest2 * (g[i] * g[i])
        step = scale1 * new_m[i] / (np.sqrt(scale2 * new_v[i]) + eps)
        new_p[i] = p[i] - learning_rate * (step + weight_decay * p[i])
