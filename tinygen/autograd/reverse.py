r"""Reverse mode: pulling cotangents back through what `core.py` recorded, and the derivatives that follow from it.

Let y = f(x) be a chain of primitives, y = p_n(... p_2(p_1(x))), with Jacobians J_1, ..., J_n. Reverse mode computes

    g^T J_n J_{n-1} ... J_1        from left to right: vectors only, never a Jacobian.

`vjp` is that product; `grad`, `jacobian`, `jvp` and `hvp` are short words for uses of it. All take trees of arrays (see
`tree.py`), and all can be nested to any order.

Source: Griewank & Walther 2008, *Evaluating Derivatives*, ch. 3.
"""

import math
from functools import wraps

from .. import kernels
from ..backend import array_module
from . import tree
from .core import Node, Primitive, Tracer, levels, recorders


def _pull_back(roots):
    """Cotangents of every leaf below the roots, a list of pairs (node, cotangent), by the order of the leaf's node.

    Nodes are visited from the youngest to the oldest: all consumers of a value come before it, so each node is visited once,
    with its whole cotangent. (Recursion would walk every path of a shared graph: 2^40 of them in a chain of 40 diamonds.)
    """
    reachable = {node.order: node for node, _ in roots}
    stack = list(reachable.values())
    while stack:
        for _, parent in stack.pop().parents:
            if parent.order not in reachable:
                reachable[parent.order] = parent
                stack.append(parent)
    cotangents = {}
    for node, g in roots:
        _accumulate(cotangents, node, g)
    for order in sorted(reachable, reverse=True):
        node = reachable[order]
        if not node.parents or order not in cotangents:
            continue
        g, together = cotangents.pop(order), {}
        for i, parent in node.parents:
            rule, wants = node.primitive.rule_for(i)
            contribution = together.get(rule) or rule(g, *[i if name == "i" else node.kept[name] for name in wants])
            if type(contribution) is tuple:
                together[rule], contribution = contribution, contribution[i]
            if contribution is not None:
                _accumulate(cotangents, parent, _conform(contribution, parent, node.primitive))
    return cotangents


def _accumulate(cotangents, node, g):
    """Add, out of place: a cotangent may be shared between rules, and is read-only to them."""
    cotangents[node.order] = cotangents[node.order] + g if node.order in cotangents else g


def _conform(g, node, primitive):
    """Bring a cotangent to the shape and dtype of its value: the one place where broadcasting is undone."""
    if g.shape != node.shape:
        missing = len(g.shape) - len(node.shape)
        if missing < 0 or any(n not in (1, m) for n, m in zip(node.shape, g.shape[missing:])):
            raise ValueError(
                f"a rule of {primitive.__name__} returned a cotangent of shape {g.shape} for a value of shape {node.shape}; it "
                "must have that shape, or one that the value broadcasts to"
            )
        g = sum_to(g, shape=node.shape)
    return g if g.dtype == node.dtype else cast(g, dtype=node.dtype)


def vjp(f, *args, has_aux=False):
    """The value y = f(*args) and the pullback g -> (g^T df/dargs[0], g^T df/dargs[1], ...).

    args and y are trees of floating arrays; g has the shapes of y, each cotangent those of its argument. With has_aux, f
    returns (y, aux) and vjp returns (y, pullback, aux). TypeError for integer arguments.
    """
    level = next(levels)
    leaves, structure = tree.flatten(tuple(_differentiable(f, i, a) for i, a in enumerate(args)))
    inputs = [Tracer(leaf, level, Node(leaf)) for leaf in leaves]
    result = f(*structure.unflatten(inputs))
    if has_aux and not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"{_name(f)} must return a pair (y, aux) when has_aux=True; it returned {type(result).__name__}: return y, {{}} if "
            "there is nothing else to report"
        )

    def lower(x):
        return x.value if type(x) is Tracer and x.level == level else x

    outputs, form = tree.flatten(result[0] if has_aux else result)
    nodes = [y.node if type(y) is Tracer and y.level == level else None for y in outputs]

    def pullback(g):
        cotangents = tree.flatten(_array(g))[0]
        if [c.shape for c in cotangents] != [y.shape for y in outputs]:
            raise ValueError(
                f"pullback of {_name(f)}: the cotangent has shapes {[c.shape for c in cotangents]}, the result has "
                f"{[y.shape for y in outputs]}; they must agree"
            )
        roots = [(node, _conform(c, node, f)) for node, c in zip(nodes, cotangents) if node is not None]
        found = _pull_back(roots)
        cotangents = (found.get(x.node.order) for x in inputs)
        return structure.unflatten([_zeros_like(x) if c is None else c for x, c in zip(inputs, cotangents)])

    y = form.unflatten([lower(y) for y in outputs])
    return (y, pullback, tree.map(lower, result[1])) if has_aux else (y, pullback)


def _differentiable(f, i, arg):
    """The argument as a tree of floating arrays; Python numbers become arrays, integers are refused."""
    arg = _array(arg)
    leaves, structure = tree.flatten(arg)
    if not leaves:
        raise TypeError(
            f"{_name(f)}: argument {i} ({type(arg).__name__}) holds no arrays to differentiate; see tinygen.autograd.tree"
        )
    wrong = next((n for n, leaf in enumerate(leaves) if leaf.dtype.kind != "f"), None)
    if wrong is not None:
        path = structure.paths()[wrong]
        raise TypeError(
            f"{_name(f)}: argument {i}{path and ' at ' + path} has dtype {leaves[wrong].dtype}, and derivatives exist only for "
            "floating arrays; convert it with .astype(float), or differentiate with respect to another argument"
        )
    return arg


def _array(x):
    """A Python number as an array; anything else as it is."""
    return array_module().asarray(x) if isinstance(x, (bool, int, float)) else x


def _name(f):
    return getattr(f, "__name__", type(f).__name__)


def value_and_grad(f, argnums=0, has_aux=False):
    """x -> (f(x), df/dx) for scalar f; argnums is one argument number or a tuple of them.

    With has_aux, f returns (loss, aux), and the result is ((loss, aux), gradients). TypeError where f is not a scalar.
    """

    @wraps(f, assigned=("__module__", "__name__", "__doc__"), updated=())
    def run(*args, **kwargs):
        which = argnums if isinstance(argnums, tuple) else (argnums,)
        if not all(-len(args) <= i < len(args) for i in which):
            raise TypeError(f"{_name(f)}: argnums={argnums} but it was called with {len(args)} positional arguments")
        which = tuple(i % len(args) for i in which)

        def of_chosen(*chosen):
            full = list(args)
            for i, x in zip(which, chosen):
                full[i] = x
            return f(*full, **kwargs)

        of_chosen.__name__ = _name(f)
        chosen = [_differentiable(f, i, args[i]) for i in which]
        y, pullback, *aux = vjp(of_chosen, *chosen, has_aux=has_aux)
        if getattr(y, "shape", None) != ():
            seen = f"shape {y.shape}" if hasattr(y, "shape") else f"a {type(y).__name__}"
            raise TypeError(
                f"grad: {_name(f)} returned {seen}, and a gradient needs a scalar; reduce it with .sum() or .mean(), use "
                "has_aux=True if it returns (loss, aux), or use vjp with a cotangent of that shape"
            )
        gradients = pullback(array_module(_lowest(y)).ones((), y.dtype))
        return (y, *aux) if has_aux else y, gradients if isinstance(argnums, tuple) else gradients[0]

    return run


def grad(f, argnums=0, has_aux=False):
    """x -> df/dx, a tree of the shape of x, for scalar f; with has_aux, x -> (df/dx, aux)."""
    both = value_and_grad(f, argnums, has_aux)

    @wraps(f, assigned=("__module__", "__name__", "__doc__"), updated=())
    def gradient(*args, **kwargs):
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient


def jvp(f, args, tangents):
    """The value f(*args) and the directional derivative (df/dargs) v along the tangents v, shaped like args.

    The pullback u -> u^T J is linear in u, so its own pullback is v -> J v: reverse mode twice is forward mode.
    """
    if not (isinstance(args, tuple) and isinstance(tangents, tuple)):
        raise TypeError("jvp: args and tangents must be tuples, with a tangent for each argument; give (x,) and (v,)")
    y, pullback = vjp(f, *args)
    _, push_forward = vjp(pullback, tree.map(_zeros_like, y))
    return y, push_forward(tuple(_array(v) for v in tangents))[0]


def hvp(f, x, v):
    """The Hessian of scalar f at x times v, without the Hessian: the gradient of x -> <grad f(x), v>."""
    return grad(lambda x: tree.dot(grad(f)(x), _array(v)))(x)


def jacobian(f, argnums=0):
    """x -> df/dx as an array of shape f(x).shape + x.shape, one pullback for each element of f(x); x an array or a tree.

    TypeError where f(x) is no array.
    """

    def rows(*args, **kwargs):
        i = argnums % len(args)
        y, pullback = vjp(lambda x: f(*args[:i], x, *args[i + 1 :], **kwargs), args[i])
        if not tree.is_leaf(y):
            raise TypeError(f"jacobian: {_name(f)} returned a {type(y).__name__}; give a function of one result, an array")
        basis = array_module(_lowest(y)).eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
        found = [pullback(e)[0] for e in basis]
        leaves = zip(*(tree.flatten(row)[0] for row in found))
        stacked = [stack(*column).reshape((*y.shape, *column[0].shape)) for column in leaves]
        return tree.flatten(_differentiable(f, i, args[i]))[1].unflatten(stacked)

    return rows


def stop_gradient(x):
    """x as a constant: the same values, cut off from every derivative that is running; x an array or a tree."""
    return tree.map(_lowest, x)


def opaque(function):
    """A function of arrays that derivatives do not look into: to them its result is a constant, and a program calls it whole.

    For what NumPy does and no rule describes: comparisons, rounding, tables. It must be pure, and its positional arguments are
    the arrays. If it returns None it is a check, which may raise, and is made again whenever a program runs.
    """
    primitive = Primitive(function)

    @wraps(function)
    def run(*args, **static):
        args = [_lowest(a) for a in args]
        return (primitive if any(type(a) is Tracer for a in args) else function)(*args, **static)

    run.primitive = primitive
    return run


def _lowest(x):
    while type(x) is Tracer and x.level not in recorders:  # a program's own values vary from call to call
        x = x.value
    return x


def _zeros_like(x):
    return array_module(_lowest(x)).zeros(x.shape, x.dtype)


@Primitive
def sum_to(x, shape=()):
    """Sum over the axes along which `shape` was broadcast to x.shape: the adjoint of `broadcast_to`."""
    more = x.ndim - len(shape)
    if more and x.dtype.kind == "f" and x.flags.c_contiguous and x.size:  # a product is ten times as fast as sum(axis=0)
        rows = math.prod(x.shape[:more])
        x = kernels.matmul.product(array_module(x).ones(rows, x.dtype), x.reshape(rows, -1)).reshape(x.shape[more:])
    elif more:
        x = x.sum(axis=tuple(range(more)))
    units = tuple(i for i, n in enumerate(shape) if n == 1 and x.shape[i] != 1)
    return x.sum(axis=units, keepdims=True) if units else x


@Primitive
def broadcast_to(x, shape=()):
    """x repeated along new and unit axes to `shape`, without copying: the adjoint of `sum_to`."""
    return array_module(x).broadcast_to(x, shape)


@Primitive
def cast(x, dtype=None):
    """x converted to a floating dtype. TypeError for any other, through which no derivative passes."""
    y = array_module(x).asarray(x, dtype=dtype)
    if y.dtype.kind != "f":
        raise TypeError(f"cast: {y.dtype} numbers have no derivatives; convert stop_gradient(x), or a comparison of x")
    return y


@Primitive
def stack(*arrays, axis=0):
    """Arrays of one shape side by side along a new axis."""
    return array_module(*arrays).stack(arrays, axis)


sum_to.rule(x=lambda g, x_shape: broadcast_to(g, shape=x_shape))
broadcast_to.rule(x=lambda g: g)  # the core sums the cotangent back ...
cast.rule(x=lambda g: g)  # ... and casts it
stack.rule(arrays=lambda g, i, axis: g[(slice(None),) * (axis % len(g.shape)) + (i,)])
