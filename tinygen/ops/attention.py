r"""Scaled dot-product attention, with a fused backward pass.

    o_i = sum_j p_ij v_j,   p_ij = softmax_j(<q_i, k_j> / sqrt(D))                        Vaswani et al. 2017, eq. 1

Three gradients come out of one backward pass, which makes the matrix p again; three rules, one for each of q, k and v, would
make it three times. So underneath `attention` lies a primitive of one argument, q, k and v joined into one flat array, with one
rule: the joined dq, dk and dv, of which the derivative of the joining hands each its part, as a view. The same goes for what
comes out: the output and the log-sum-exp of each row are one flat array, so that the backward pass finds both in y.

`decomposed` says the same in smaller primitives. It is what the fused passes are tested against, and the derivative of the
backward pass is its second derivative: the first order is fast, and every order is right.
"""

import math

from .. import kernels
from ..autograd.core import Primitive
from ..autograd.reverse import jvp, stop_gradient, vjp
from ..backend import array_module
from .elementwise import where
from .linalg import matmul
from .reductions import logsumexp, softmax
from .shape import concatenate, flatten, reshape, split, swapaxes

__all__ = ["attention"]


def attention(q, k, v, causal=False, key_mask=None):
    """o_i = sum_j p_ij v_j with p_ij = softmax_j(<q_i, k_j> / sqrt(D)), over the keys j that query i may see.

    q (N, heads, T, D), k (N, heads, S, D), v (N, heads, S, E) -> (N, heads, T, E). key_mask: boolean (N, S), True for keys
    that may be seen. causal: the queries are the last T of the S positions, and none sees a later one. Where nothing is seen,
    the output is 0.

    TypeError for arrays that are not floating and a mask that is not boolean, ValueError for shapes that do not fit together.
    """
    key_mask = stop_gradient(key_mask)
    _check(q, k, v, causal, key_mask)
    shapes = tuple(tuple(x.shape) for x in (q, k, v))
    y = _attention(_join(q, k, v), shapes=shapes, causal=causal, key_mask=key_mask)
    return _part(y, _output_shapes(shapes))[0]  # [attention.definition]


def decomposed(q, k, v, causal=False, key_mask=None):
    """(o, l): the attention and the log-sum-exp of each row of scores, in smaller primitives, with the whole matrix p."""
    seen = _seen(array_module(stop_gradient(q)), q.shape[2], k.shape[2], causal, key_mask)
    s = matmul(q, swapaxes(k, 2, 3)) * (1 / math.sqrt(q.shape[3]))
    p = where(seen, softmax(where(seen, s, -1e30)), 0)  # not -inf: in a row that sees nothing it would be inf - inf
    return matmul(p, v), logsumexp(where(seen, s, -math.inf), axis=-1)  # [attention.second_gradient]


@Primitive
def _attention(qkv, shapes=(), causal=False, key_mask=None):
    """The joined (o, l) of the joined (q, k, v), whose shapes are given."""
    return _join(*kernels.attention.forward(*_part(qkv, shapes), causal, key_mask))


@Primitive
def _attention_gradient(dy, qkv, y=None, shapes=(), causal=False, key_mask=None):
    """The joined (dq, dk, dv) for a cotangent dy of y = _attention(qkv), a constant, which is computed if it is None."""
    y = _attention(qkv, shapes=shapes, causal=causal, key_mask=key_mask) if y is None else y
    parts = *_part(qkv, shapes), *_part(y, _output_shapes(shapes)), *_part(dy, _output_shapes(shapes))
    return _join(*kernels.attention.backward(*parts, causal, key_mask))


def _slow(shapes, causal, key_mask):
    """`_attention` by the decomposition, as a function of qkv."""
    return lambda qkv: _join(*decomposed(*_part(qkv, shapes), causal, key_mask))


def _rule_dy(g, qkv, shapes, causal, key_mask):
    """dy -> J^T dy is linear, and g -> J g its adjoint."""
    return jvp(_slow(shapes, causal, key_mask), (qkv,), (g,))[1]


def _rule_qkv(g, dy, qkv, shapes, causal, key_mask):
    slow = _slow(shapes, causal, key_mask)
    return vjp(lambda qkv: vjp(slow, qkv)[1](dy)[0], qkv)[1](g)[0]


_attention.rule(
    qkv=lambda g, qkv, y, shapes, causal, key_mask: _attention_gradient(
        g, qkv, y=stop_gradient(y), shapes=shapes, causal=causal, key_mask=key_mask
    )
)
_attention_gradient.rule(dy=_rule_dy, qkv=_rule_qkv)


def _join(*arrays):
    return concatenate(*(flatten(x) for x in arrays))


def _part(joined, shapes):
    parts = split(joined, [math.prod(shape) for shape in shapes])
    return [reshape(part, shape=shape) for part, shape in zip(parts, shapes)]


def _output_shapes(shapes):
    """Of o and l."""
    (*rows, _), _, (*_, E) = shapes
    return (*rows, E), tuple(rows)


def _seen(xp, T, S, causal, key_mask):
    """Which keys each query may see, boolean, of a shape that broadcasts to (N, heads, T, S)."""
    seen = xp.tri(T, S, S - T if causal else S, dtype=bool)
    return seen if key_mask is None else seen & key_mask[:, None, None, :]


def _check(q, k, v, causal, key_mask):
    for name, x in (("q", q), ("k", k), ("v", v)):
        dtype = getattr(x, "dtype", None)
        if dtype is None or dtype.kind != "f":
            raise TypeError(f"attention: {name} must be a floating array, not {dtype or type(x).__name__}; convert it")
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not len(q.shape) == len(k.shape) == len(v.shape) == 4:
        raise ValueError(f"attention: q, k and v must be (N, heads, positions, channels), got {shapes}; one head is x[:, None]")
    if 0 in (*q.shape, *k.shape, *v.shape):
        raise ValueError(
            f"attention: there are no positions, heads or channels to attend to: {shapes}; each must be at least 1"
        )
    if not (q.shape[:2] == k.shape[:2] == v.shape[:2] and q.shape[3] == k.shape[3] and k.shape[2] == v.shape[2]):
        raise ValueError(
            f"attention: {shapes} do not fit together: all three need the same N and heads, q and k the same channels, and k "
            "and v the same positions"
        )
    if causal and q.shape[2] > k.shape[2]:
        raise ValueError(
            f"attention: causal attention of {q.shape[2]} queries to {k.shape[2]} keys ({shapes}): the queries are the last of "
            "the keys' positions, so there cannot be more of them; give all keys, or causal=False"
        )
    if key_mask is not None:
        if getattr(getattr(key_mask, "dtype", None), "kind", None) != "b":
            seen = getattr(key_mask, "dtype", type(key_mask).__name__)
            raise TypeError(f"attention: key_mask must be a boolean array, True for keys that may be seen, not {seen}")
        if tuple(key_mask.shape) != (k.shape[0], k.shape[2]):
            raise ValueError(
                f"attention: key_mask has shape {tuple(key_mask.shape)}, but there are {k.shape[2]} keys for each of "
                f"{k.shape[0]} examples; it must be {(k.shape[0], k.shape[2])}"
            )
