"""Attention on the CPU: a few queries of a few heads at a time, so that their scores stay in the cache.

The matrix of all scores of 8 heads over 1024 positions is 32 MB, and would be written and read at every step from product to
softmax to product. A block of it is at most half a megabyte. The products are BLAS's; and for causal attention a block ends
at the last key that its last query sees, so that almost half of the work is never done:

    keys      0  1  2  3  4  5  6  7
    block 0   x  .  |                     x  seen      .  hidden, inside the block's last square
              x  x  |                     |  where the block ends
    block 1   x  x  x  .  |
              x  x  x  x  |

What a key mask hides is of no matter. What lies in the future has weights of 0 within the block, and 0 times infinity, or NaN,
is NaN: what is not finite may reach other keys and queries of its block. It is not hidden, but for one case: a query whose
scores are all -inf gets 0, as one that sees nothing.

In float32, unless there are only a few queries, tiles are faster than this: kernels/flash.py.
"""

import math

import numpy as np

from .. import flash

ROWS = 64  # queries in a block
SCORES = 2**17  # how many scores a block may hold: half a megabyte of float32


def forward(q, k, v, causal, key_mask):
    if flash.suits(q, k, v):
        return flash.forward(q, k, v, causal, key_mask)
    o, l = np.zeros((*q.shape[:3], v.shape[3]), q.dtype), np.full(q.shape[:3], -np.inf, q.dtype)
    v = _without_hidden(v, key_mask)
    q, k, v, flat_o, flat_l = (x.reshape(-1, *x.shape[2:]) for x in (q, k, v, o, l))
    for heads, rows, keys in _blocks(q, k, causal):
        s = _scores(q, k, causal, key_mask, heads, rows, keys)
        largest = s.max(axis=-1, keepdims=True)
        largest[largest == -np.inf] = 0  # nothing is seen: all weights below are e^-inf = 0
        s -= largest
        p = np.exp(s, out=s)
        total = p.sum(axis=-1, keepdims=True)
        flat_o[heads, rows] = p @ v[heads, keys] / np.where(total == 0, 1, total)
        with np.errstate(divide="ignore"):
            flat_l[heads, rows] = (largest + np.log(total))[..., 0]
    return o, l


def backward(q, k, v, o, l, g, h, causal, key_mask):
    if flash.suits(q, k, v):
        return flash.backward(q, k, v, o, l, g, h, causal, key_mask)
    dq, dk, dv = (np.zeros(x.shape, x.dtype) for x in (q, k, v))
    scale = 1 / math.sqrt(q.shape[3])
    r = np.einsum("nhte,nhte->nht", g, o) - h
    k, v = _without_hidden(k, key_mask), _without_hidden(v, key_mask)
    q, k, v, g, l, r = (x.reshape(-1, *x.shape[2:]) for x in (q, k, v, g, l, r))
    flat_dq, flat_dk, flat_dv = (x.reshape(-1, *x.shape[2:]) for x in (dq, dk, dv))
    l = np.where(l == -np.inf, np.inf, l)  # where nothing is seen, exp(s - l) is to be 0, and not e^(inf - inf)
    for heads, rows, keys in _blocks(q, k, causal):
        s = _scores(q, k, causal, key_mask, heads, rows, keys)
        s -= l[heads, rows, None]
        p = np.exp(s, out=s)
        flat_dv[heads, keys] += p.swapaxes(1, 2) @ g[heads, rows]
        ds = g[heads, rows] @ v[heads, keys].swapaxes(1, 2)
        ds -= r[heads, rows, None]
        ds *= p
        ds *= scale
        flat_dq[heads, rows] = ds @ k[heads, keys]
        flat_dk[heads, keys] += ds.swapaxes(1, 2) @ q[heads, rows]
    return dq, dk, dv


def _without_hidden(x, key_mask):
    """x (N, heads, S, channels) with 0 for keys that are hidden: their weights are 0, but 0 times NaN would be NaN."""
    return x if key_mask is None else np.where(key_mask[:, None, :, None], x, 0)


def _blocks(q, k, causal):
    """Slices (heads, rows, keys) that cover all scores that are seen, with examples and heads counted together."""
    (n, T, _), S = q.shape, k.shape[1]
    blind = max(0, T - S) if causal else 0  # of more queries than keys, the first see nothing
    height = min(ROWS, T - blind)
    at_once = max(1, SCORES // max(1, height * S))
    for first in range(0, n, at_once):
        for top in range(blind, T, ROWS):
            bottom = min(top + ROWS, T)
            yield slice(first, first + at_once), slice(top, bottom), slice(0, bottom + S - T if causal else S)


def _scores(q, k, causal, key_mask, heads, rows, keys):
    """s = q k^T / sqrt(D) of a block, -inf where a query does not see a key."""
    s = (q[heads, rows] * q.dtype.type(1 / math.sqrt(q.shape[2]))) @ k[heads, keys].swapaxes(1, 2)
    if causal:  # everything before the last square is seen by all rows of the block
        height = rows.stop - rows.start
        s[:, :, -height:][:, ~np.tri(height, dtype=bool)] = -np.inf
    if key_mask is not None:
        of_head = key_mask[np.arange(len(q))[heads] // (len(q) // len(key_mask))]  # heads of one example follow one another
        np.copyto(s, -np.inf, where=~of_head[:, None, keys])
    return s
