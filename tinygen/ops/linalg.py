r"""Linear algebra: products, solutions, determinants; batches in the leading axes, matrices in the last two.

The derivatives are those of Giles 2008, *Collected matrix derivative results for forward and reverse mode AD*.
"""

import math
from collections import Counter

from .. import kernels
from ..autograd.core import Primitive
from ..autograd.reverse import broadcast_to, stop_gradient, sum_to
from ..backend import array_module, device_of
from .reductions import sum
from .shape import expand_dims, reshape, swapaxes, tril, triu

__all__ = [
    "cholesky", "diagonal", "einsum", "inv", "log_abs_det", "matmul", "outer", "slogdet", "solve", "solve_triangular",
    "trace",
]  # fmt: skip

# Products


@Primitive
def matmul(a, b):
    r"""y_ij = \sum_k a_ik b_kj, for matrices, vectors and batches of matrices, as a @ b in NumPy."""
    return kernels.matmul.product(a, b)


@Primitive
def _einsum(*operands, inputs=(), output=""):
    if device_of(*operands) == "gpu" and len(operands) > 1:
        return _einsum_by_products(operands, inputs, output)
    return array_module(*operands).einsum(f"{','.join(inputs)}->{output}", *operands, optimize=True)


def _einsum_by_products(operands, inputs, output):
    """Two operands at a time, from the left, as a product of matrices for each index that stays and both have."""
    (a, *rest), (a_labels, *rest_labels) = operands, inputs
    for n, (b, b_labels) in enumerate(zip(rest, rest_labels), 1):
        wanted = {label for labels in (*rest_labels[n:], output) for label in labels}
        a, a_labels = _sum_out(a, a_labels, wanted | {*b_labels})
        b, b_labels = _sum_out(b, b_labels, wanted | {*a_labels})
        both = [label for label in a_labels if label in b_labels]
        each, summed = ([label for label in both if (label in wanted) == stays] for stays in (True, False))
        rows, columns = ([label for label in labels if label not in both] for labels in (a_labels, b_labels))
        size = dict(zip(a_labels + b_labels, a.shape + b.shape))

        def matrices(x, labels, *groups, size=size):
            order = [label for group in groups for label in group]
            return x.transpose([labels.index(label) for label in order]).reshape(
                [size[label] for label in groups[0]] + [math.prod(size[label] for label in group) for group in groups[1:]]
            )

        y = kernels.matmul.product(matrices(a, a_labels, each, rows, summed), matrices(b, b_labels, each, summed, columns))
        a_labels = "".join(each + rows + columns)
        a = y.reshape([size[label] for label in a_labels])
    return a.transpose([a_labels.index(label) for label in output])


def _sum_out(x, labels, wanted):
    axes = tuple(i for i, label in enumerate(labels) if label not in wanted)
    return (x.sum(axis=axes), "".join(label for label in labels if label in wanted)) if axes else (x, labels)


def einsum(subscripts, *operands):
    """Einstein's summation: einsum("nij,njk->nik", a, b) multiplies, and sums over the labels that the result lacks.

    Labels are single letters, each at most once in an operand and in the result; without "->" the result has the labels that
    occur once, in alphabetical order. ValueError for an ellipsis or a repeated label: use broadcasting and `diagonal`.
    """
    left, arrow, output = subscripts.replace(" ", "").partition("->")
    inputs = tuple(left.split(","))
    if not arrow:
        output = "".join(sorted(label for label, n in Counter(left.replace(",", "")).items() if n == 1))
    for labels in (*inputs, output):
        if not (labels == "" or labels.isalpha()) or len(set(labels)) < len(labels):
            raise ValueError(f"einsum: {labels!r} in {subscripts!r} must be single letters without repetition")
    if len(inputs) != len(operands) or any(len(labels) != len(x.shape) for labels, x in zip(inputs, operands)):
        raise ValueError(f"einsum: {subscripts!r} does not fit operands of shapes {[tuple(x.shape) for x in operands]}")
    return _einsum(*operands, inputs=inputs, output=output)


def _matmul_rule_a(g, a_shape, b):
    if len(b.shape) == 1:
        return expand_dims(g, -1) * b  # y = a b is one number for each row of a
    if len(a_shape) == 1:
        return _sum_batches(matmul(b, expand_dims(g, -1))[..., 0], a_shape)
    return _sum_batches(matmul(g, _transposed(b)), a_shape)


def _matmul_rule_b(g, a, b_shape):
    if len(b_shape) == 1:
        return _sum_batches(sum(a * expand_dims(g, -1), axis=-2) if len(a.shape) > 1 else a * g, b_shape)
    if len(a.shape) == 1:
        return _sum_batches(expand_dims(a, -1) * expand_dims(g, -2), b_shape)
    if len(b_shape) == 2 and len(a.shape) > 2:  # a batch of left factors is one tall matrix
        rows = math.prod(a.shape[:-1])
        a, g = reshape(a, shape=(rows, a.shape[-1])), reshape(g, shape=(rows, g.shape[-1]))
    return _sum_batches(matmul(_transposed(a), g), b_shape)


def _sum_batches(g, shape):
    return g if g.shape == shape else sum_to(g, shape=shape)


def _einsum_rule(g, operands, i, inputs, output):
    """The cotangent of one operand is the product of g and the others, repeated along the labels that only it has."""
    others = [*inputs[:i], output, *inputs[i + 1 :]]
    mine, shape = inputs[i], operands[i].shape
    shared = "".join(label for label in mine if any(label in labels for labels in others))
    y = _einsum(*operands[:i], g, *operands[i + 1 :], inputs=tuple(others), output=shared)
    wide = reshape(y, shape=tuple(n if label in shared else 1 for label, n in zip(mine, shape)))
    return broadcast_to(wide, shape=shape)


def _transposed(x):
    return swapaxes(x, -1, -2)


matmul.rule(a=_matmul_rule_a, b=_matmul_rule_b)
_einsum.rule(operands=_einsum_rule)


def outer(a, b):
    """y_ij = a_i b_j, for vectors or batches of vectors."""
    return expand_dims(a, -1) * expand_dims(b, -2)


# Inverses and determinants


@Primitive
def inv(a):
    """The inverse of square matrices. LinAlgError for a singular one."""
    return array_module(a).linalg.inv(a)


@Primitive
def solve(a, b):
    """y with a y = b, for square a (..., n, n) and b (..., n, k), or one vector b (n,). LinAlgError for a singular a."""
    return array_module(a, b).linalg.solve(a, b)


@Primitive
def log_abs_det(a):
    """log |det a| of square matrices; -inf for a singular one."""
    return array_module(a).linalg.slogdet(a)[1]


@Primitive
def cholesky(a):
    """The lower triangular L with positive diagonal and L L^T = a, for symmetric positive definite a."""
    return array_module(a).linalg.cholesky(a)


def _solve_rule_a(g, a, b_shape, y):
    gb = _solve_rule_b(g, a, b_shape)
    return -outer(gb, y) if len(b_shape) == 1 else -matmul(gb, _transposed(y))


def _solve_rule_b(g, a, b_shape):
    if len(b_shape) == 1:  # then g is one vector for each matrix
        return solve(_transposed(a), expand_dims(g, -1))[..., 0]
    return solve(_transposed(a), g)


def _cholesky_rule(g, y):
    """a = L L^T, so da is symmetric: L^-T P(L^T g) L^-1, where P takes the lower triangle and half of the diagonal."""
    s = matmul(_transposed(y), g)
    lower = tril(s) - 0.5 * (tril(s) - tril(s, -1))
    inverse = inv(y)
    half = matmul(matmul(_transposed(inverse), lower), inverse)
    return 0.5 * (half + _transposed(half))


inv.rule(a=lambda g, y: -matmul(matmul(_transposed(y), g), _transposed(y)))
solve.rule(a=_solve_rule_a, b=_solve_rule_b)
log_abs_det.rule(a=lambda g, a: g[..., None, None] * _transposed(inv(a)))
cholesky.rule(a=_cholesky_rule)


def slogdet(a):
    """The sign of det a, a constant, and log |det a|."""
    constant = stop_gradient(a)
    return array_module(constant).linalg.slogdet(constant)[0], log_abs_det(a)


def solve_triangular(a, b, lower=True):
    """y with a y = b, where only the lower (or upper) triangle of a is read."""
    return solve(tril(a) if lower else triu(a), b)


def diagonal(a):
    """The diagonals of square matrices, (..., n)."""
    n = a.shape[-1]
    every = list(range(n))
    return a[..., every, every]


def trace(a):
    r"""\sum_i a_ii of square matrices."""
    return sum(diagonal(a), axis=-1)
