r"""Adam for one array of parameters p with gradient g: the definition. Every other version is tested against it.

    m' = beta1 m + (1 - beta1) g            a running mean of the gradient
    v' = beta2 v + (1 - beta2) g^2          and of its square
    p' = p - learning_rate [ m_hat / (sqrt(v_hat) + eps) + weight_decay p ]
    m_hat = m' / (1 - beta1^t),  v_hat = v' / (1 - beta2^t)

m and v start at 0, and so are too small at first by the factors 1 - beta^t, by which m_hat and v_hat divide.
The weight decay is decoupled: it does not pass through m and v. t = 1, 2, ... is the number of this step.
Source: Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2.
"""

import math

import numpy as np


def update(p, g, m, v, t, learning_rate, beta1, beta2, eps, weight_decay, in_place=False):
    """(p', m', v'), new arrays of the shape and dtype of p, from p, g, m and v, which are of that shape too.

    In place, they are p, m and v themselves, with the new numbers; g must then lie elsewhere. On the CPU, g may also be a tuple
    of arrays whose numbers, one after another, are those of the gradient.
    """
    g = np.concatenate(g, axis=None).reshape(p.shape) if type(g) is tuple else g
    new_p, new_m, new_v = np.empty_like(p), np.empty_like(m), np.empty_like(v)
    for i in np.ndindex(p.shape):
        new_m[i] = beta1 * m[i] + (1 - beta1) * g[i]
        new_v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
        m_hat, v_hat = new_m[i] / (1 - beta1**t), new_v[i] / (1 - beta2**t)
        new_p[i] = p[i] - learning_rate * (m_hat / (math.sqrt(v_hat) + eps) + weight_decay * p[i])
    if in_place:
        p[...], m[...], v[...] = new_p, new_m, new_v
        return p, m, v
    return new_p, new_m, new_v


def pace(t, learning_rate, beta1, beta2):
    """(1 / (1 - beta1^t), 1 / (1 - beta2^t), learning_rate): what changes from step to step."""
    return 1 / (1 - beta1**t), 1 / (1 - beta2**t), learning_rate
