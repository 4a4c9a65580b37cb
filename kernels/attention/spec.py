r"""Scaled dot-product attention: the definition, slow on purpose. Every other version is tested against it.

For each example and head, a query q_i looks at the keys k_j that it may see, and takes a weighted mean of their values:

    s_ij = <q_i, k_j> / sqrt(D)         how well they match                             Vaswani et al. 2017, eq. 1
    l_i  = log sum_j exp(s_ij)          over the keys that i may see
    o_i  = sum_j p_ij v_j               p_ij = exp(s_ij - l_i), the softmax of row i

The row statistics l are all that the backward pass needs to know of the T x S matrix p: it is made again from q, k and l, part
by part (Dao et al. 2022, appendix B.2). With cotangents g of o and h of l, and r_i = <g_i, o_i> - h_i,

    dv_j = sum_i p_ij g_i      ds_ij = p_ij (<g_i, v_j> - r_i)      dq_i = sum_j ds_ij k_j / sqrt(D)      dk_j likewise

Which keys a query sees: with a key mask (N, S), those where it is True. If causal, the queries are the last T of S positions,
so query i sees the keys up to j = i + S - T, itself among them. A query
that sees nothing has o_i = 0, l_i = -inf, and no gradients.

q (N, heads, T, D), k (N, heads, S, D), v (N, heads, S, E) -> o (N, heads, T, E), l (N, heads, T); one floating dtype.
"""

import math

import numpy as np


def forward(q, k, v, causal, key_mask):
    """(o, l): the attention of each query, and the log-sum-exp of its scores. key_mask is boolean (N, S), or None."""
    o = np.zeros((*q.shape[:3], v.shape[3]), q.dtype)
    l = np.full(q.shape[:3], -np.inf, q.dtype)
    for n, h, i in np.ndindex(q.shape[:3]):
        seen = _seen(n, i, q.shape[2], k.shape[2], causal, key_mask)
        if seen:
            s = _scores(q[n, h, i], k[n, h], seen)
            l[n, h, i] = s.max() + np.log(np.exp(s - s.max()).sum())
            for j, s_j in zip(seen, s):
                o[n, h, i] += np.exp(s_j - l[n, h, i]) * v[n, h, j]
    return o, l


def backward(q, k, v, o, l, g, h, causal, key_mask):
    """(dq, dk, dv) for cotangents g of o and h of l, where (o, l) = forward(q, k, v, causal, key_mask)."""
    dq, dk, dv = (np.zeros(x.shape, x.dtype) for x in (q, k, v))
    scale = 1 / math.sqrt(q.shape[3])
    for at in np.ndindex(q.shape[:3]):
        n, head, i = at
        seen = _seen(n, i, q.shape[2], k.shape[2], causal, key_mask)
        r = (g[at] * o[at]).sum() - h[at]
        for j, s in zip(seen, _scores(q[at], k[n, head], seen)):
            p = np.exp(s - l[at])
            ds = p * ((g[at] * v[n, head, j]).sum() - r)
            dq[at] += ds * scale * k[n, head, j]
            dk[n, head, j] += ds * scale * q[at]
            dv[n, head, j] += p * g[at]
    return dq, dk, dv


def _seen(n, i, T, S, causal, key_mask):
    """The keys that query i of example n may look at."""
    last = i + S - T if causal else S - 1
    return [j for j in range(last + 1) if key_mask is None or key_mask[n, j]]


def _scores(q, k, seen):
    scale = q.dtype.type(1 / math.sqrt(len(q)))
    return np.array([(q * k[j]).sum() * scale for j in seen], q.dtype)
