r"""Attention in float32 by tiles: scores are made, used and forgotten in the cache, and hidden ones are never made.

A query sees the first so many of the keys, once those that a key mask hides are left out: this number is all that masks and
causality are here. The scores of a few tiles of queries (8 each, see tiles.py) are one product, q (k / sqrt(D))^T; along each
row, the largest is found, and the exponentials and their sum; a second product makes the outputs:

    keys         0 ... 31 | 32 ... 63 | ...
     8 queries   s s s s s s s s s . .|            s  scores that some query of the tile sees: . are 0 in p = e^(s - m)
     8 queries   s s s s s s s s s s s|s s . . |   |  where scores end, in steps of 32; p v ends at the last s

Backwards, a block of keys stays in the second-level cache with its dk and dv, and all queries pass by (Dao et al. 2022,
algorithm 4). The weights p are made again from the row statistics l; with ds from spec.py, the five products are

    s = q k^T      g v^T      dv += p^T g      dq += ds k      dk += ds^T q

Heads are divided among threads, and each is computed by one, so that their number changes no bit of the result. As in spec.py,
what hidden keys hold is of no matter, with one exception: a causal query may multiply weights of 0 with the values of the few
keys that the rest of its tile sees, and 0 times infinity, or NaN, is NaN.
"""

import math

import numpy as np

from .jit import inline, jit, part
from .threads import in_parts
from .tiles import FAST, ROWS, WIDE, pixel_code, plain, product, row_code, row_sums, tile_for, width_for
from .vector_math import exp, largest, total

f = np.float32
QUERIES = 7  # tiles of queries in a block,
KEYS = 8 * WIDE  # and keys in a block of the backward pass: two blocks of scores have 120 KiB with AVX-512
FEW = 8  # with so few queries, putting the keys in order for tiles would take longer than their products
APART = 16  # rows of scores whose distance is a power of two would be in one another's place in the first-level cache


def suits(q, k, v):
    """Whether this file is the fast way: float32, and more than a few queries."""
    return FAST and q.dtype == k.dtype == v.dtype == np.float32 and q.shape[2] > FEW and 0 not in (q.size, k.size, v.size)


def forward(q, k, v, causal, key_mask):
    """(o, l), as in attention/spec.py."""
    o, l = np.empty((*q.shape[:3], v.shape[3]), f), np.empty(q.shape[:3], f)
    flat, seen = _by_heads(q, k, v, o, l), _seen(q.shape[2], k.shape[2], causal, key_mask)
    tile, width, scale = tile_for(q.shape[2]), width_for(v.shape[3]), f(1 / math.sqrt(q.shape[3]))
    codes = pixel_code(tile, WIDE), pixel_code(tile, width)
    rest = *flat, *seen, scale, tile, width, *codes
    in_parts(lambda first, last: _forward(first, last, *rest), len(flat[0]), 2 * q.size * k.shape[2])
    return o, l


def backward(q, k, v, o, l, g, h, causal, key_mask):
    """(dq, dk, dv), as in attention/spec.py."""
    d = tuple(np.zeros(x.shape, f) for x in (q, k, v))
    r = np.einsum("nhte,nhte->nht", g, o) - h
    flat, seen = _by_heads(q, k, v, l, r, g, *d), _seen(q.shape[2], k.shape[2], causal, key_mask)
    tile, widths, scale = tile_for(q.shape[2]), [width_for(x.shape[3]) for x in (k, v)], f(1 / math.sqrt(q.shape[3]))
    codes = pixel_code(tile, WIDE), pixel_code(tile, widths[0]), *map(row_code, widths)
    rest = *flat, *seen, scale, tile, *widths, *codes
    in_parts(lambda first, last: _backward(first, last, *rest), len(flat[0]), 5 * q.size * k.shape[2])
    return d


def _by_heads(*arrays):
    """Examples and heads counted together."""
    return [plain(x).reshape(-1, *x.shape[2:]) for x in arrays]


def _seen(T, S, causal, key_mask):
    """For each example, or for all: the keys in order, (n, S), those that are not masked first; and how many of these a query
    sees, (n, T): never fewer than the one before.
    """
    mask = np.ones((1, S), bool) if key_mask is None else key_mask
    order, counts = np.argsort(~mask, axis=1, kind="stable"), mask.cumsum(axis=1)
    if not causal:
        return order, np.repeat(counts[:, -1:], T, axis=1)
    return order, np.pad(counts, ((0, 0), (max(0, T - S), 0)))[:, -T:].copy()  # of more queries than keys, the first see none


@jit
def _forward(first, last, q, k, v, o, l, order, counts, scale, tile, width, to_scores, to_outputs):
    (_, T, D), (_, S, E) = q.shape, v.shape
    height, length = QUERIES * tile, -(-S // WIDE) * WIDE + APART
    keys, values = np.empty((length // WIDE, D, WIDE), f), np.empty((-(-E // width), S, width), f)
    queries, scores = np.zeros((height, D), f), np.empty((height, length), f)
    sums, totals = np.zeros((height, len(values) * width), f), np.empty(height, f)
    for head in range(first, last):
        example = head // (len(q) // len(order))
        seen, of = counts[example], order[example]
        _across(k[head], of[: seen[-1]], scale, keys)
        _along(v[head], of[: seen[-1]], values)
        for top in range(0, T, height):
            rows = min(height, T - top)
            _copy(q[head, top : top + rows], queries)
            _all_scores(queries, keys, seen[top : top + rows], tile, to_scores, scores)
            for i in range(rows):
                end = seen[top + min(i // tile * tile + tile, rows) - 1]
                l[head, top + i], totals[i] = _to_weights(scores[i], seen[top + i], end)
            _weighted(scores, values, seen[top : top + rows], tile, to_outputs, sums)
            for i in range(rows):
                inverse = f(1) / totals[i] if totals[i] != f(0) else f(0)
                for e in range(E):
                    o[head, top + i, e] = sums[i, e] * inverse


@jit
def _backward(
    first, last, q, k, v, l, r, g, dq, dk, dv, order, counts, scale, tile, D_width, E_width, to_scores, to_dq, to_dk, to_dv
):  # fmt: skip
    (_, T, D), (_, S, E) = q.shape, v.shape
    height, depth = QUERIES * tile, min(KEYS, -(-S // WIDE) * WIDE)
    D_blocks, E_blocks = -(-D // D_width), -(-E // E_width)
    keys_across, values_across = np.empty((depth // WIDE, D, WIDE), f), np.empty((depth // WIDE, E, WIDE), f)
    keys = np.empty((D_blocks, depth, D_width), f)
    all_rows = -(-T // height) * height
    queries, gradients = np.zeros((all_rows, D_blocks * D_width), f), np.zeros((all_rows, E_blocks * E_width), f)
    dq_sums, dq_part = np.empty_like(queries), np.zeros((height, D_blocks * D_width), f)
    dk_sums, dv_sums = np.empty((depth, D_blocks * D_width), f), np.empty((depth, E_blocks * E_width), f)
    p, ds = np.empty((height, depth + APART), f), np.empty((height, depth + APART), f)
    for head in range(first, last):
        example = head // (len(q) // len(order))
        _copy(q[head], queries)
        _copy(g[head], gradients)
        dq_sums[:] = f(0)
        for start in range(0, counts[example, T - 1], depth):
            seen = np.minimum(np.maximum(counts[example] - start, 0), depth)  # of this block of keys
            of = order[example, start : start + seen[-1]]
            _across(k[head], of, scale, keys_across)
            _across(v[head], of, f(1), values_across)
            _along(k[head], of, keys)
            dk_sums[:] = f(0)
            dv_sums[:] = f(0)
            for top in range(0, T, height):
                rows = min(height, T - top)
                here = seen[top : top + rows]
                if here[-1] > 0:
                    _all_scores(queries[top:], keys_across, here, tile, to_scores, p)
                    _all_scores(gradients[top:], values_across, here, tile, to_scores, ds)
                    for i in range(rows):
                        end = here[min(i // tile * tile + tile, rows) - 1]
                        _to_gradients(p[i], ds[i], here[i], end, l[head, top + i], r[head, top + i])
                    _weighted(ds, keys, here, tile, to_dq, dq_part)
                    for i in range(rows):
                        for d in range(D):
                            dq_sums[top + i, d] += dq_part[i, d]
                    _add_to_keys(p, gradients[top:], here, E_width, to_dv, dv_sums)
                    _add_to_keys(ds, queries[top:], here, D_width, to_dk, dk_sums)
            for j in range(len(of)):
                row = of[j]
                for d in range(D):
                    dk[head, row, d] = dk_sums[j, d] * scale
                for e in range(E):
                    dv[head, row, e] = dv_sums[j, e]
        for i in range(T):
            for d in range(D):
                dq[head, i, d] = dq_sums[i, d] * scale


@inline
def _copy(x, larger):
    """larger[: len(x), : x.shape[1]] = x, which would take a second to compile: for the words in which it would complain."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            larger[i, j] = x[i, j]


@part
def _across(x, order, scale, packed):
    """packed[b, d, j] = scale x[order[32 b + j], d], and 0 beyond: what scores are multiplied with, 32 keys side by side."""
    n, D = len(order), x.shape[1]
    for j in range(-(-n // WIDE) * WIDE):
        block, column = j // WIDE, j % WIDE
        if j < n:
            row = order[j]
            for d in range(D):
                packed[block, d, column] = scale * x[row, d]
        else:
            packed[block, :, column] = f(0)


@part
def _along(x, order, packed):
    """packed[b, j, e] = x[order[j], width b + e], and 0 beyond: what weights are multiplied with."""
    E, width = x.shape[1], packed.shape[2]
    for b in range(len(packed)):
        used = min(width, E - b * width)
        for j in range(len(order)):
            row = order[j]
            for e in range(used):
                packed[b, j, e] = x[row, b * width + e]
            for e in range(used, width):
                packed[b, j, e] = f(0)


@part
def _all_scores(x, across, seen, tile, code, scores):
    """scores[i, j] = <x[i], key j>, for as many blocks of 32 keys as some row of a tile sees."""
    D, x_row, length = across.shape[1], x.shape[1], scores.shape[1]
    rows, at_x, keys, at_scores = len(seen), x.ctypes.data, across.ctypes.data, scores.ctypes.data
    first, end = 0, -(-rows // tile) * tile
    for j in range(0, seen[-1], WIDE):
        while seen[min(first + tile, rows) - 1] <= j:
            first += tile
        target = at_scores + 4 * (first * length + j)
        product(code, end - first, at_x + 4 * first * x_row, x_row, D, keys + 4 * j * D, target, length)


@part
def _weighted(weights, values, seen, tile, code, sums):
    r"""sums[i] = \sum_j weights[i, j] values[j]"""
    (_, length), (blocks, S, width), row = weights.shape, values.shape, sums.shape[1]
    rows, at_weights, at_values, at_sums = len(seen), weights.ctypes.data, values.ctypes.data, sums.ctypes.data
    for i in range(0, rows, tile):
        end = seen[min(i + tile, rows) - 1]
        if end == 0:
            sums[i : i + tile] = f(0)
            continue
        for b in range(blocks):
            block, target = at_values + 4 * b * S * width, at_sums + 4 * (i * row + b * width)
            product(code, tile, at_weights + 4 * i * length, length, end, block, target, row)


@part
def _add_to_keys(weights, x, seen, width, code, sums):
    r"""sums[j] += \sum_i weights[i, j] x[i], over the queries that see key j: all from the first one that does."""
    length, row, first, j = weights.shape[1], x.shape[1], 0, 0
    at_weights, at_x, at_sums = weights.ctypes.data, x.ctypes.data, sums.ctypes.data
    while j < seen[-1]:
        while seen[first] <= j:
            first += 1
        keys = -(-(seen[first] - j) // ROWS) * ROWS  # that have the same first query
        w, n = at_weights + 4 * (first * length + j), len(seen) - first
        for b in range(0, row, width):
            row_sums(code, keys, w, 0, length, at_x + 4 * (first * row + b), 0, row, 1, n, at_sums + 4 * (j * row + b), row)
        j += keys


@inline
def _to_weights(s, n, end):
    """Turn a row of scores, of which n are seen, into e^(s - m), and 0 up to the tile's end; (log-sum-exp, sum)."""
    m = largest(s[:n]) if n > 0 else f(0)
    for j in range(n):
        s[j] = exp(s[j] - m)
    s[n:end] = f(0)
    sum_of_all = total(s[:n])
    return m + f(np.log(sum_of_all)), sum_of_all


@inline
def _to_gradients(p, ds, n, end, l, r):
    """Turn a row of scores into the weights p, and a row of <g, v> into ds = p (<g, v> - r); 0 where keys are not seen."""
    for j in range(n):
        p[j] = exp(p[j] - l)
        ds[j] = p[j] * (ds[j] - r)
    end = -(-end // ROWS) * ROWS
    p[n:end] = f(0)
    ds[n:end] = f(0)
