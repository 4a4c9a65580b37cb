"""Normalisation on the CPU: an example is read from memory once, and lies in the cache for all passes that are made over it.

    forward     1   the mean of each group    2   the sums over deviations from it    3   y
    backward    1   and 2 again               3   g f'(z), and the sums over it       4   dx

Deviations from the mean need a pass of their own: the shorter way, mean(x^2) - m^2, loses all digits where the mean is large.
Mean and variance are not kept for the backward pass. To find them again takes an eighth of its time for large images, a third
for small ones: x has to come into the cache anyway. (In attention, what is kept would take a product of matrices to find.)

A group is a few channels wide, and a register 16 numbers. So nothing goes group by group. Some positions make a line, and each
loop below runs along a line, with a table of so many numbers that says what holds for each column:

    x          c0 c1 c2 c3 | c0 c1 c2 c3 | c0 c1 c2 c3        a line of three positions of four channels
               c0 c1 c2 c3 | c0 c1 c2 c3 |                    the last line may be shorter
    means      m0 m0 m1 m1 | m0 m0 m1 m1 | m0 m0 m1 m1        two groups

Sums are taken for each column, and become sums of channels and means of groups at the end. Where the group is a whole position,
as in layer normalisation, it lies in a row, and there is another pair of loops.

No loop writes to more than two tables or arrays. LLVM has to ask, whenever a loop begins, whether what is written is also read;
where that would take more than eight questions, it does not ask, and does one number at a time.
"""

import math
from functools import partial

import numpy as np

from ..activations import cpu as activations
from ..jit import inline, jit, part, plain, sum_in_any_order
from ..threads import MEMORY, in_parts, over_rows
from ..vector_math import sigmoid_pair, total

f = np.float32
FAR = f(activations.FAR)
REGISTER, LINE = 16, 256  # numbers: a line has a multiple of the one, and at least the other, if there are so many
BLOCK = 1024  # positions, at least, whose cotangents of scale and shift are summed one after another
NOTHING, RELU, SILU = range(3)
CODES = {None: NOTHING, "relu": RELU, "silu": SILU}


def forward(x, affine, groups, eps, activation):
    if activation and not _fused(x, groups):
        z = forward(x, affine, groups, eps, None)
        return np.maximum(z, 0, out=z) if activation == "relu" else activations.silu(z)
    x = plain(x)
    y = np.empty(x.shape, x.dtype)
    if x.size:
        loop = _loop(_forward_rows, _forward, x, affine, groups, eps, activation)
        over_rows(loop, _examples(x), _examples(y))
    return y


def backward(g, x, affine, groups, eps, activation):
    if activation and not _fused(x, groups):
        z = forward(x, affine, groups, eps, None)
        g = activations.relu_gradient(g, z) if activation == "relu" else activations.silu_gradient(g, z)
        return backward(g, x, affine, groups, eps, None)
    x, (N, P, C) = plain(x), x.shape
    if not x.size:
        return np.zeros((N * P + 2, C), x.dtype)
    loop, at_once = _loop(_backward_rows, _backward, x, affine, groups, eps, activation), max(1, BLOCK // P)
    d, sums = np.empty((N * P + 2, C), x.dtype), np.zeros((-(-N // at_once), 2, C), x.dtype)
    arrays = _examples(g), _examples(x), d[:-2].reshape(N, P * C)

    def blocks(first, last):
        for block in range(first, last):
            part = slice(block * at_once, (block + 1) * at_once)
            loop(*(a[part] for a in arrays), sums[block])

    in_parts(blocks, len(sums), 3 * MEMORY * x.size)
    sums.sum(axis=0, out=d[-2:])
    return d


def _in_rows(x, groups):
    """Whether a group is a whole position."""
    return x.shape[1] == groups == 1


def _fused(x, groups):
    """Whether there are loops with activations."""
    return x.dtype == f and not _in_rows(x, groups)


def _loop(of_rows, of_groups, x, affine, groups, eps, activation):
    """The one of two loops that fits, given all that is the same for every example."""
    affine, eps = plain(affine), x.dtype.type(eps)
    if _in_rows(x, groups):
        return partial(of_rows, affine, eps)
    return partial(of_groups, affine, groups, eps, CODES[activation], _line(x))


def _line(x):
    """How many numbers make a line: 1, 2, 4, ... positions of them."""
    _, P, C = x.shape
    positions = REGISTER // math.gcd(C, REGISTER)
    while positions * C < LINE:
        positions *= 2
    return C * min(positions, 1 << P.bit_length() - 1)


def _examples(x):
    return plain(x).reshape(len(x), -1)


# Groups of channels


@jit
def _forward(affine, groups, eps, activation, line, x, y):
    C = affine.shape[1]
    means, roots = np.empty(line, x.dtype), np.empty(line, x.dtype)
    scales, shifts = np.empty(line, x.dtype), np.empty(line, x.dtype)
    for c in range(C):  # `shifts[:C] = affine[1]` would take a second to compile
        shifts[c] = affine[1, c]
    _repeat(shifts, C)
    for n in range(x.shape[0]):
        _statistics(x[n], affine, groups, eps, means, roots, scales)
        if activation == NOTHING:
            _normalise(x[n], means, scales, shifts, y[n])
        elif activation == RELU:
            _relu(x[n], means, scales, shifts, y[n])
        else:
            _silu(x[n], means, scales, shifts, y[n])


@jit
def _backward(affine, groups, eps, activation, line, g, x, dx, d):
    """d (2, C): to it are added the cotangents of scale and shift."""
    C, numbers = affine.shape[1], x.shape[1] // groups
    means, roots = np.empty(line, x.dtype), np.empty(line, x.dtype)
    scales, shifts = np.empty(line, x.dtype), np.empty(line, x.dtype)
    sums, sums_x = np.empty(line, x.dtype), np.empty(line, x.dtype)
    for c in range(C):  # `shifts[:C] = affine[1]` would take a second to compile
        shifts[c] = affine[1, c]
    _repeat(shifts, C)
    for n in range(x.shape[0]):
        _statistics(x[n], affine, groups, eps, means, roots, scales)
        if activation == NOTHING:
            _sums(g[n], x[n], means, sums, sums_x)
        else:
            if activation == RELU:
                _relu_gradient(g[n], x[n], means, scales, shifts, dx[n])
            else:
                _silu_gradient(g[n], x[n], means, scales, shifts, dx[n])
            _sums(dx[n], x[n], means, sums, sums_x)
        _fold(sums, C)
        _fold(sums_x, C)
        for c in range(C):
            d[0, c] += sums_x[c] * roots[c]
            d[1, c] += sums[c]
            sums[c] *= scales[c]
            sums_x[c] *= scales[c]
        _group_means(sums[:C], groups, numbers)
        _group_means(sums_x[:C], groups, numbers)
        for c in range(C):
            sums_x[c] *= roots[c] * roots[c]
        _repeat(sums, C)
        _repeat(sums_x, C)
        if activation == NOTHING:
            _input_gradient(g[n], x[n], means, scales, sums, sums_x, dx[n])
        else:
            _replace_by_input_gradient(dx[n], x[n], means, scales, sums, sums_x)


@part
def _statistics(x, affine, groups, eps, means, roots, scales):
    """The tables of m and of r scale, for one example; and r, in as many places as there are channels."""
    C, numbers = affine.shape[1], x.size // groups
    _sum(x, means)
    _fold(means, C)
    _group_means(means[:C], groups, numbers)
    _repeat(means, C)
    _sum_of_squares(x, means, roots)
    _fold(roots, C)
    _group_means(roots[:C], groups, numbers)
    for c in range(C):
        roots[c] = x.dtype.type(1) / np.sqrt(roots[c] + eps)
        scales[c] = affine[0, c] * roots[c]
    _repeat(scales, C)


@part
def _fold(sums, C):
    """The sums of columns -> those of channels, in the first C places."""
    size = sums.size
    while size > C:
        size //= 2
        for j in range(size):
            sums[j] += sums[size + j]


@part
def _repeat(table, C):
    """What the first C places hold -> all over the table."""
    size = C
    while size < table.size:
        for j in range(size):
            table[size + j] = table[j]
        size *= 2


@part
def _group_means(sums, groups, numbers):
    """The sum of each channel -> the mean of its group, in place."""
    width = sums.size // groups
    for i in range(groups):
        group = sums[i * width : (i + 1) * width]
        mean = total(group) / numbers
        for c in range(width):
            group[c] = mean


@part
def _sum(x, sums):
    sums[:] = 0
    for first in range(0, x.size, sums.size):
        a = x[first : first + sums.size]
        for j in range(a.size):
            sums[j] += a[j]


@part
def _sum_of_squares(x, means, sums):
    sums[:] = 0
    for first in range(0, x.size, sums.size):
        a = x[first : first + sums.size]
        for j in range(a.size):
            deviation = a[j] - means[j]
            sums[j] += deviation * deviation


@part
def _sums(g, x, means, sums, sums_x):
    """The sums of g, and of g (x - m)."""
    sums[:] = 0
    sums_x[:] = 0
    for first in range(0, x.size, sums.size):
        a, b = x[first : first + sums.size], g[first : first + sums.size]
        for j in range(a.size):
            sums[j] += b[j]
            sums_x[j] += b[j] * (a[j] - means[j])


@inline
def _normalise(x, means, scales, shifts, y):
    for first in range(0, x.size, means.size):
        a, b = x[first : first + means.size], y[first : first + means.size]
        for j in range(a.size):
            b[j] = (a[j] - means[j]) * scales[j] + shifts[j]


@inline
def _relu(x, means, scales, shifts, y):
    for first in range(0, x.size, means.size):
        a, b = x[first : first + means.size], y[first : first + means.size]
        for j in range(a.size):
            b[j] = max((a[j] - means[j]) * scales[j] + shifts[j], f(0))


@inline
def _silu(x, means, scales, shifts, y):
    for first in range(0, x.size, means.size):
        a, b = x[first : first + means.size], y[first : first + means.size]
        for j in range(a.size):
            z = (a[j] - means[j]) * scales[j] + shifts[j]
            s, _ = sigmoid_pair(z)
            b[j] = max(z, -FAR) * s


@inline
def _relu_gradient(g, x, means, scales, shifts, dz):
    for first in range(0, x.size, means.size):
        a, b, to = x[first : first + means.size], g[first : first + means.size], dz[first : first + means.size]
        for j in range(a.size):
            z = (a[j] - means[j]) * scales[j] + shifts[j]
            to[j] = b[j] if z > f(0) else f(0)


@inline
def _silu_gradient(g, x, means, scales, shifts, dz):
    for first in range(0, x.size, means.size):
        a, b, to = x[first : first + means.size], g[first : first + means.size], dz[first : first + means.size]
        for j in range(a.size):
            z = (a[j] - means[j]) * scales[j] + shifts[j]
            s, rest = sigmoid_pair(z)
            to[j] = b[j] * (s * (f(1) + min(max(z, -FAR), FAR) * rest))


@inline
def _input_gradient(dz, x, means, scales, means_h, means_hx, dx):
    """dx by the tables of r scale, of r times the mean of h, and of r^2 times that of h x_hat."""
    for first in range(0, x.size, means.size):
        a, b, to = x[first : first + means.size], dz[first : first + means.size], dx[first : first + means.size]
        for j in range(a.size):
            to[j] = scales[j] * b[j] - (means_h[j] + (a[j] - means[j]) * means_hx[j])


@inline
def _replace_by_input_gradient(dz, x, means, scales, means_h, means_hx):
    """The same, written where dz was read."""
    for first in range(0, x.size, means.size):
        a, b = x[first : first + means.size], dz[first : first + means.size]
        for j in range(a.size):
            b[j] = scales[j] * b[j] - (means_h[j] + (a[j] - means[j]) * means_hx[j])


# One position, and one group


@jit
def _forward_rows(affine, eps, x, y):
    for n in range(x.shape[0]):
        mean, root = _row_statistics(x[n], eps)
        for c in range(x.shape[1]):
            y[n, c] = (x[n, c] - mean) * (root * affine[0, c]) + affine[1, c]


@jit
def _backward_rows(affine, eps, g, x, dx, d):
    for n in range(x.shape[0]):
        mean, root = _row_statistics(x[n], eps)
        sum_h, sum_hx = _row_sums(g[n], x[n], affine[0], mean)
        mean_h = sum_h / x.dtype.type(x.shape[1])
        mean_hx = sum_hx * root / x.dtype.type(x.shape[1])
        for c in range(x.shape[1]):
            dx[n, c] = root * (affine[0, c] * g[n, c] - mean_h - (x[n, c] - mean) * root * mean_hx)
        for c in range(x.shape[1]):
            d[0, c] += g[n, c] * ((x[n, c] - mean) * root)
            d[1, c] += g[n, c]


@jit
def _row_statistics(x, eps):
    one, numbers = x.dtype.type(1), x.dtype.type(x.size)
    mean = total(x) / numbers
    return mean, one / np.sqrt(_squares(x, mean) / numbers + eps)


@sum_in_any_order
def _squares(x, mean):
    sum = f(0)
    for j in range(x.size):
        sum += (x[j] - mean) * (x[j] - mean)
    return sum


@sum_in_any_order
def _row_sums(g, x, scale, mean):
    """The sums of h, and of h (x - m)."""
    sum_h, sum_hx = f(0), f(0)
    for j in range(x.size):
        sum_h += scale[j] * g[j]
        sum_hx += scale[j] * g[j] * (x[j] - mean)
    return sum_h, sum_hx
