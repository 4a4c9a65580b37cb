r"""Is a gradient right? Compare it with central differences, along random directions, in float64.

For y = f(x), a random direction v and a random cotangent u, reverse mode and differences must agree on one number:

    <u, J v>  =  <pullback(u), v>  ~  <u, (8 [f(x + hv) - f(x - hv)] - [f(x + 2hv) - f(x - 2hv)]) / 12h>,   error O(h^4)

The second order is the same check of the function (x, u) -> pullback(u), and so on: a rule that is right at first order and
wrong at second is caught there. Source: Griewank & Walther 2008, ch. 3; the stencil: Fornberg 1988, table 1.
"""

import numpy as np

from . import tree
from .reverse import vjp


def check_grads(f, args, order=2, seed=0, step=1e-3, tolerance=1e-6):
    """The worst relative error at each order, as a list; AssertionError names the order and both values if one is too large.

    f maps the numbers and trees of arrays in the tuple args (converted to float64) to a tree of arrays; it must be smooth
    within 2 * step of them.
    The error is relative to the size of the terms that are summed, |u| |Jv| and |pullback(u)| |v|, so that a product that
    happens to cancel is judged fairly. NaN never passes.
    """
    rng = np.random.default_rng(seed)
    args = tuple(np.array(arg) if isinstance(arg, (int, float)) else arg for arg in args)
    args = tree.map(lambda leaf: np.array(leaf, np.float64), args)
    errors = []
    for k in range(1, order + 1):
        errors.append(_check_first_order(f, args, k, rng, step, tolerance))
        f, args = _pulled_back(f), (*args, _random_like(f(*args), rng))
    return errors


def _check_first_order(f, args, k, rng, step, tolerance):
    name = getattr(f, "__name__", type(f).__name__)
    v = _random_like(args, rng)
    y, pullback = vjp(f, *args)
    u = _random_like(y, rng)

    def at(t):
        return tree.flatten(f(*tree.map(lambda x, v: x + t * v, args, v)))[0]

    near, far = zip(at(step), at(-step)), zip(at(2 * step), at(-2 * step))
    slopes = [(8 * (a - b) - (c - d)) / (12 * step) for (a, b), (c, d) in zip(near, far)]
    cotangents = tree.flatten(pullback(u))[0]
    differences = sum(np.sum(a * b) for a, b in zip(tree.flatten(u)[0], slopes))
    reverse = sum(np.sum(a * b) for a, b in zip(cotangents, tree.flatten(v)[0]))
    scale = max(_norm(u) * _norm(slopes), _norm(cotangents) * _norm(v), 1e-3)
    error = float(abs(differences - reverse) / scale)
    if not error <= tolerance:
        raise AssertionError(
            f"{name}: order {k}: reverse mode gives {reverse:.10g} and central differences {differences:.10g} along the same "
            f"direction (relative error {error:.1e}, allowed {tolerance:.0e}): a rule of {name} is wrong at order {k}, or f is "
            "not smooth here"
        )
    return error


def _pulled_back(f):
    def pulled_back(*args):
        *args, u = args
        return vjp(f, *args)[1](u)

    pulled_back.__name__ = getattr(f, "__name__", type(f).__name__)
    return pulled_back


def _random_like(t, rng):
    return tree.map(lambda leaf: rng.standard_normal(leaf.shape), t)


def _norm(t):
    return float(np.sqrt(sum(np.sum(leaf**2) for leaf in tree.flatten(t)[0])))
