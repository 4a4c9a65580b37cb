r"""Monotone splines: increasing maps of the line that bend as a network says, with inverses and derivatives in closed form."""

import math

from .. import ops

FLOOR = 1e-4  # of a bin's width and height, as parts of the interval, and of a slope: nothing is divided by zero


def rational_quadratic(x, raw, reach, inverse=False):
    r"""(y, log dy/dx): in bin k, with xi = (x - x_k) / w_k and the mean slope s_k = h_k / w_k,

        y = y_k + h_k (s_k xi^2 + d_k xi (1 - xi)) / (s_k + (d_k + d_{k+1} - 2 s_k) xi (1 - xi)).

    The spline passes through the knots (x_k, y_k) with slopes d_k, from (-reach, -reach) to (reach, reach); beyond them y = x.
    x (...), raw (..., 3K - 1) of any size -> (...) and (...): K widths w and K heights h through softmaxes, and K - 1 slopes
    through a softplus; 0 is the identity. With `inverse`, the x of a given y, and log dx/dy.
    ValueError unless raw has 3K - 1 numbers for each of x. Source: Durkan et al. 2019 (neural spline flows), eq. 4-8.
    """
    if raw.shape[:-1] != x.shape or raw.shape[-1] % 3 != 2:
        raise ValueError(
            f"rational_quadratic: x has shape {tuple(x.shape)} and raw {tuple(raw.shape)}, but a spline of K bins has "
            "3K - 1 numbers: raw must be (*x.shape, 3K - 1)"
        )
    inside = ops.clip(x, -reach, reach)
    x_k, y_k, w, h, d, d_next = _bin(inside, _knots(raw, reach), inverse)
    s = h / w
    bend = d + d_next - 2 * s
    if inverse:  # the root of a quadratic, in the form that subtracts no like numbers (eq. 6-8, and 29)
        rise = inside - y_k
        b = h * d - rise * bend
        xi = 2 * s * rise / (b + ops.sqrt(ops.maximum(b * b + 4 * (h * (s - d) + rise * bend) * s * rise, 0)))
    else:
        xi = (inside - x_k) / w  # [couplings.spline]
    both = xi * (1 - xi)
    below = s + bend * both
    y = x_k + w * xi if inverse else y_k + h * (s * xi * xi + d * both) / below
    log_slope = 2 * ops.log(s / below) + ops.log(d_next * xi * xi + 2 * s * both + d * (1 - xi) * (1 - xi))  # eq. 5
    moved = abs(ops.stop_gradient(x)) < reach
    return ops.where(moved, y, x), ops.where(moved, -log_slope if inverse else log_slope, 0)


def _knots(raw, reach):
    """(left, bottom, width, height, slope at the left, slope at the right) of the bins, (..., K) each."""
    K = (raw.shape[-1] + 1) // 3
    *sizes, slopes = ops.split(raw, [K, K, K - 1])
    w, h = (2 * reach * (FLOOR + (1 - K * FLOOR) * ops.softmax(size)) for size in sizes)
    excess = (1 - FLOOR) * (ops.softplus(slopes + math.log(math.e - 1)) - 1)  # over the slope 1, which the ends have
    d = 1 + ops.pad(excess, widths=((0, 0),) * (len(raw.shape) - 1) + ((1, 1),))
    return ops.cumsum(w) - w - reach, ops.cumsum(h) - h - reach, w, h, d[..., :-1], d[..., 1:]


def _bin(x, knots, inverse):
    """The six numbers of the bin that x lies in, (...) each; x is a height, if inverse."""
    starts = ops.stop_gradient(knots[1 if inverse else 0])
    k = (ops.stop_gradient(x)[..., None] >= starts[..., 1:]).sum(axis=-1)
    chosen = ops.take_along_axis(ops.stack(*knots, axis=-2), ops.repeat(k[..., None, None], len(knots), axis=-2))
    return [chosen[..., i, 0] for i in range(len(knots))]
