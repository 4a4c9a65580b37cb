r"""Attention as a layer, and sinusoids that tell a network a position or a time.

    heads        q_h, k_h, v_h = x W_h,  y = concatenate_h(attention(q_h, k_h, v_h)) W + b     Vaswani et al. 2017, 3.2.2
    sinusoids    sin(t w_i), cos(t w_i),  w_i from 1 down to 1 / longest, in geometric steps                        3.5

Attention does not know where a token is: permute the tokens and the results are permuted. Where the position matters, it must
be in the tokens.
"""

import math

from .. import ops
from ..autograd.tree import module
from ..backend import array_module
from .doors import require_last_axis
from .init import glorot_uniform
from .linear import Linear


@module
class SelfAttention:
    """Each token looks at all tokens of its example: x (N, T, d) -> (N, T, d).

    Of an image (N, H, W, d) the pixels are the tokens, row by row. If causal, a token sees itself and those before it.
    """

    project: Linear  # (d, 3 d): queries, keys and values of all heads
    combine: Linear
    heads: int
    causal: bool

    @classmethod
    def init(cls, rng, d, heads, causal=False, initialiser=glorot_uniform, last=None):
        """Weights by the initialiser; `last` is that of the last layer, if another. ValueError unless the heads divide d."""
        if heads < 1 or d % heads:
            raise ValueError(f"SelfAttention: {d} channels cannot be shared out among {heads} heads; take a divisor of {d}")
        project = Linear.init(rng, d, 3 * d, initialiser=_each_for_itself(initialiser, 3))
        return cls(project, Linear.init(rng, d, d, initialiser=last or initialiser), heads, causal)

    def __call__(self, x, key_mask=None):
        """key_mask: boolean (N, T), True for tokens that may be looked at. ValueError unless x is (N, ..., d) with tokens."""
        d = self.combine.weight.shape[0]
        require_last_axis("SelfAttention", x, d, "sequences are (N, T, d), and images (N, H, W, d)")
        if len(x.shape) < 3 or 0 in x.shape:
            raise ValueError(
                f"SelfAttention: x has shape {tuple(x.shape)}, but it must be a sequence (N, T, {d}) or an image (N, H, W, "
                f"{d}), with at least one token"
            )
        tokens = ops.reshape(x, shape=(x.shape[0], -1, d))
        q, k, v = (self._split_heads(part) for part in ops.split(self.project(tokens), 3))
        y = ops.swapaxes(ops.attention(q, k, v, causal=self.causal, key_mask=key_mask), 1, 2)
        return ops.reshape(self.combine(ops.reshape(y, shape=tokens.shape)), shape=tuple(x.shape))  # [attention.heads]

    def _split_heads(self, x):
        N, T, d = x.shape
        return ops.swapaxes(ops.reshape(x, shape=(N, T, self.heads, d // self.heads)), 1, 2)


@ops.opaque
def sinusoids(t, d, longest=10_000.0):
    """sin(t w_i) and cos(t w_i) for d / 2 frequencies w_i from 1 to 1 / longest: t (N,) numbers -> float32 (N, d).

    A constant: no gradient passes. ValueError unless d is even and at least 4.
    """
    if d < 4 or d % 2:
        raise ValueError(
            f"sinusoids: d is {d}, but half of the numbers are sines and half cosines; give an even d of at least 4"
        )
    xp = array_module(t)
    angles = t[:, None] * xp.exp(-math.log(longest) * xp.arange(d // 2) / (d // 2 - 1))
    return xp.concatenate([xp.sin(angles), xp.cos(angles)], axis=1).astype("float32")  # [attention.rotation]


def _each_for_itself(initialiser, n):
    """An initialiser for n maps side by side in one matrix: each as if it stood alone."""
    return lambda rng, shape, fan_in, fan_out: initialiser(rng, shape, fan_in, fan_out // n)
