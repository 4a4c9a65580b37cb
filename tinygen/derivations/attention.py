r"""Attention: a mean with weights that queries and keys agree on, its gradients, its order, and how it is computed in parts.

    o_i = \sum_j p_ij v_j,    p_ij = exp(s_ij) / \sum_j exp(s_ij),    s_ij = <q_i, k_j> / sqrt(D)

Every sum here is short enough to be written out, query by query and key by key; the fast kernels, the layer and the sinusoids
are those of the models. Gradients are taken without autograd, by a step along the imaginary axis: Im f(x + ih) / h is f'(x) to
the last digit, since nothing is subtracted.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from hypothesis import strategies as st

from .. import ops
from ..autograd import hvp, jacobian
from ..backend import Generator
from ..kernels import attention as kernel
from ..nn import SelfAttention, sinusoids
from .chain import Chain
from .instances import disturbed, numbers, vectors

STEP = 1e-30  # along the imaginary axis


@dataclass
class Sequence:
    """Queries (T, D), keys (S, D) and values (S, E) of one head; and which keys may be seen (S,)."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    seen: np.ndarray

    @property
    def T(self):
        return len(self.q)

    @property
    def qkv(self):
        return self.q, self.k, self.v

    def fast(self, causal=False, key_mask=None):
        """(o, l) of the kernel that models run."""
        o, l = kernel.forward(*map(one_head, self.qkv), causal, key_mask)
        return o[0, 0], l[0, 0]


def one_head(x):
    """(T, D) -> (1, 1, T, D)."""
    return x[None, None]


def attend(q, k, v):
    """(o, l) of one query (D,) and the keys given: the definition, in sums over keys. It takes complex numbers."""
    s = np.array([np.sum(q * key) / math.sqrt(len(q)) for key in k])
    largest = s.real.max()
    e = np.exp(s - largest)
    return sum(e_j * v_j for e_j, v_j in zip(e, v)) / e.sum(), largest + np.log(e.sum())


def rows(m, keys):
    """o (T, E) by the definition, where query i sees the keys of keys(i), all indices or a boolean mask."""
    return np.array([attend(m.q[i], m.k[keys(i)], m.v[keys(i)])[0] for i in range(m.T)])


@st.composite
def sequences(draw, square=False, sharp=(1, 1, 100)):
    """Also with scores in the hundreds, of which exp is far beyond float64. If square, there are as many keys as queries."""
    T, D, E = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    S = T if square else draw(st.integers(1, 4))
    q, k, v = (draw(vectors(shape)) for shape in ((T, D), (S, D), (S, E)))
    seen = np.array(draw(st.lists(st.sampled_from([True, True, False]), min_size=S, max_size=S)))
    seen[draw(st.integers(0, S - 1))] = True  # the definition divides by the sum of their weights
    return Sequence(q * draw(st.sampled_from(sharp)), k, v, seen)


attention = Chain(
    "attention",
    "Scaled dot-product attention: its weights, gradients, heads and positions; how it is computed in blocks and step by step.",
    "Vaswani et al. 2017",
    sequences(),
)


@attention.equal(
    "softmax_jacobian",
    r"\frac{\partial p_i}{\partial s_j} = p_i (\delta_{ij} - p_j), \quad p = \mathrm{softmax}(s)",
    because="a score raises its own weight, and by the sum that all are divided by lowers every weight, its own among them",
    source="Bishop 2006, eq. 4.106",
    instances=vectors(4, -30, 30) | st.integers(1, 4).flatmap(vectors),
)
def softmax_jacobian(s):
    p = np.exp(s - s.max()) / np.exp(s - s.max()).sum()
    return softmax_jacobians(s), np.array([np.diag(p) - np.outer(p, p)] * 2)


@softmax_jacobian.wrong("the diagonal alone, p (1 - p), as for a sigmoid")
def _(s):
    p = np.exp(s - s.max()) / np.exp(s - s.max()).sum()
    return softmax_jacobians(s), np.array([np.diag(p * (1 - p))] * 2)


@softmax_jacobian.wrong("the sum that all are divided by taken for a constant")
def _(s):
    p = np.exp(s - s.max()) / np.exp(s - s.max()).sum()
    return softmax_jacobians(s), np.array([np.diag(p)] * 2)


def softmax_jacobians(s):
    """By steps along the imaginary axis, and by autograd."""
    e = np.exp(s - s.max() + 1j * STEP * np.eye(len(s)))  # row j: a step of s_j
    return np.array([(e / e.sum(axis=1, keepdims=True)).imag.T / STEP, jacobian(ops.softmax)(s)])


@dataclass
class Coins:
    """Numbers of mean 0 and variance 1 with two values each: for queries the first has the chance a, for keys b. D of them."""

    D: int
    a: float
    b: float

    def all(self, chance):
        """Every vector (2^D, D), and its probability."""
        values = math.sqrt((1 - chance) / chance), -math.sqrt(chance / (1 - chance))
        faces = np.array(list(product((0, 1), repeat=self.D)))
        return np.array(values)[faces], np.array([chance, 1 - chance])[faces].prod(axis=1)

    def moments(self, factor=1.0):
        """Mean and variance of a score, which is the log-sum-exp of attention to one key."""
        (q, p_q), (k, p_k) = self.all(self.a), self.all(self.b)
        everyone = np.broadcast_to(q, (len(k), 1, *q.shape))
        _, s = kernel.forward(np.ascontiguousarray(everyone), k[:, None, None], np.zeros((len(k), 1, 1, 1)), False, None)
        s, p = factor * s[:, 0], np.outer(p_k, p_q)
        mean = np.sum(p * s)
        return np.array([mean, np.sum(p * (s - mean) ** 2)])


@attention.equal(
    "scale",
    r"\mathrm{Var}\left(\frac{1}{\sqrt{D}} \sum_{i=1}^{D} q_i k_i\right) = 1",
    because="for independent numbers of mean 0 and variance 1 each product has variance 1, and D of them add up to D",
    source="Vaswani et al. 2017, section 3.2.1",
    instances=st.builds(Coins, st.integers(1, 4), numbers(0.1, 0.9), numbers(0.1, 0.9)),
)
def scale(coins):
    return coins.moments(), np.array([0.0, 1.0])


@scale.wrong("not scaled: the variance is D, and a softmax of large scores has no gradient")
def _(coins):
    return coins.moments(math.sqrt(coins.D)), np.array([0.0, 1.0])


@scale.wrong("divided by D and not by its root")
def _(coins):
    return coins.moments(1 / math.sqrt(coins.D)), np.array([0.0, 1.0])


@attention.equal(
    "definition",
    r"o_i = \sum_j p_{ij} v_j, \quad p_{ij} = \frac{\exp(s_{ij})}{\sum_{j'} \exp(s_{ij'})},"
    r" \quad s_{ij} = \frac{1}{\sqrt{D}} \sum_c q_{ic} k_{jc}",
    because="each query takes a mean of the values that it may see; on the right, sum by sum",
    source="Vaswani et al. 2017, eq. 1",
)
def definition(m):
    return by_operation(m), rows(m, lambda i: m.seen)


@definition.wrong("the softmax along the queries")
def _(m):
    s = m.q @ m.k.T / math.sqrt(m.q.shape[1])
    return by_operation(m), np.exp(s - s.max(axis=0)) / np.exp(s - s.max(axis=0)).sum(axis=0) @ m.v


@definition.wrong("hidden keys left out after the softmax, whose sum they have entered")
def _(m):
    return by_operation(m), rows_of_zeroed(m, np.broadcast_to(m.seen, (m.T, len(m.seen))))


def by_operation(m, causal=False):
    """What models call."""
    return ops.attention(*map(one_head, m.qkv), causal=causal, key_mask=None if causal else m.seen[None])[0, 0]


def rows_of_zeroed(m, seen):
    """o for weights that are set to 0 where a key is not seen, and not made to sum to 1 again."""
    s = m.q @ m.k.T / math.sqrt(m.q.shape[1])
    p = np.exp(s - s.max(axis=1, keepdims=True))
    return np.where(seen, p / p.sum(axis=1, keepdims=True), 0) @ m.v


@dataclass
class Scored(Sequence):
    """And cotangents g of o and h of l: what is differentiated is <g, o> + <h, l>, of causal attention."""

    g: np.ndarray
    h: np.ndarray

    def by_kernel(self):
        """(dq, dk, dv)."""
        o, l = self.fast(causal=True)
        parts = kernel.backward(*map(one_head, (*self.qkv, o)), l[None, None], one_head(self.g), self.h[None, None], True, None)
        return [part[0, 0] for part in parts]

    def by_imaginary_steps(self):
        """All in one row, from the definition, a number at a time."""
        flat, ends = joined(self.qkv), np.cumsum([x.size for x in self.qkv])[:-1]
        gradient = []
        for n in range(flat.size):
            moved = flat + 1j * STEP * (np.arange(flat.size) == n)
            q, k, v = (part.reshape(x.shape) for part, x in zip(np.split(moved, ends), self.qkv))
            pairs = [attend(q[i], k[: i + 1], v[: i + 1]) for i in range(self.T)]
            gradient.append(sum(self.g[i] @ o + self.h[i] * l for i, (o, l) in enumerate(pairs)).imag / STEP)
        return np.array(gradient)


@st.composite
def scored(draw):
    m = draw(sequences(square=True, sharp=(1, 1, 10)))
    return Scored(*m.qkv, m.seen, draw(vectors(m.v.shape)), draw(vectors(m.T)))


def joined(parts):
    return np.concatenate([*map(np.ravel, parts)])


@attention.equal(
    "gradient",
    r"\nabla v = p^\top g, \quad \nabla s_{ij} = p_{ij} (g_i \cdot v_j - r_i),"
    r" \quad \nabla q = \frac{\nabla s\, k}{\sqrt{D}}, \quad \nabla k = \frac{\nabla s^\top q}{\sqrt{D}}",
    because="o is linear in v; through the softmax the Jacobian above takes from each row its mean, r_i = g_i o_i - h_i",
    source="Dao et al. 2022, appendix B.2",
    instances=scored(),
)
def gradient(m):
    return joined(m.by_kernel()), m.by_imaginary_steps()


@gradient.wrong("only the score's own weight differentiated, p (1 - p)")
def _(m):
    root = math.sqrt(m.q.shape[1])
    p = np.where(np.tri(m.T), np.exp(m.q @ m.k.T / root - m.fast(causal=True)[1][:, None]), 0)
    ds = (p * (1 - p) * (m.g @ m.v.T) + p * m.h[:, None]) / root
    return joined((ds @ m.k, ds.T @ m.q, p.T @ m.g)), m.by_imaginary_steps()


@gradient.wrong("the scale left out on the way back")
def _(m):
    (dq, dk, dv), root = m.by_kernel(), math.sqrt(m.q.shape[1])
    return joined((root * dq, root * dk, dv)), m.by_imaginary_steps()


@attention.equal(
    "second_gradient",
    r"\nabla_{q_i} \left\langle u_i, \nabla_{q_i} \langle g_i, o_i \rangle \right\rangle = \frac{1}{\sqrt{D}}"
    r"\, \mathbb{E}_{p_i}\left[(t - \bar t)(a - \bar a)(k - \bar k)\right],"
    r" \quad t_j = \frac{u_i \cdot k_j}{\sqrt{D}},\ a_j = g_i \cdot v_j",
    because="the first derivative is the covariance of a and k under p_i, and that of a covariance, a third central moment",
    source="the cumulants of an exponential family",
    instances=scored(),
)
def second_gradient(m):
    return by_two_passes(m), third_moments(m, 1 / math.sqrt(m.q.shape[1]))


@second_gradient.wrong("the scale of the scores once, which differentiating twice brings twice")
def _(m):
    return by_two_passes(m), third_moments(m, 1.0)


def by_two_passes(m):
    """Through the backward pass of the operation that models call, along u = the queries in the other order, (T, D)."""
    q, k, v = map(one_head, m.qkv)
    return hvp(lambda q: (one_head(m.g) * ops.attention(q, k, v, causal=True)).sum(), q, one_head(m.q[::-1]))[0, 0]


def third_moments(m, scale):
    rows = []
    for i in range(m.T):
        k, v = m.k[: i + 1], m.v[: i + 1]
        p = np.exp(k @ m.q[i] / math.sqrt(len(m.q[i])) - attend(m.q[i], k, v)[1])
        t, a = scale * k @ m.q[::-1][i], v @ m.g[i]
        t, a, k = t - p @ t, a - p @ a, k - p @ k
        rows.append((p * t * a) @ k / math.sqrt(len(m.q[i])))
    return np.array(rows)


# The layer: heads and positions


@dataclass
class Layer:
    """Self-attention with random numbers in float64, tokens x (T, d), and a permutation of them."""

    layer: SelfAttention
    x: np.ndarray
    order: list

    def __call__(self, x):
        return self.layer(x[None])[0]

    def parts(self):
        """Queries, keys and values of all heads together, (T, d) each."""
        return np.split(self.x @ self.layer.project.weight + self.layer.project.bias, 3, axis=1)

    def combine(self, y):
        return y @ self.layer.combine.weight + self.layer.combine.bias


@st.composite
def layers(draw):
    heads, channels, T = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 4))
    made = SelfAttention.init(Generator(0), heads * channels, heads)
    x = draw(vectors((T, heads * channels)))
    return Layer(draw(disturbed(made)), x, list(draw(st.permutations(range(T)))))


@attention.equal(
    "heads",
    r"y = \left[o^{(1)}, \ldots, o^{(H)}\right] W + b,"
    r" \quad o^{(h)} = \mathrm{attention}(x W_q^{(h)}, x W_k^{(h)}, x W_v^{(h)})",
    because="each head has channels of its own, which follow one another; the one matrix product makes them for all heads",
    source="Vaswani et al. 2017, section 3.2.2",
    instances=layers(),
)
def heads(m):
    channels = m.x.shape[1] // m.layer.heads
    each = zip(*(np.split(part, m.layer.heads, axis=1) for part in m.parts()))
    outputs = [[attend(q_i, k, v)[0] for q_i in q] for q, k, v in each]
    return m(m.x), m.combine(np.concatenate(outputs, axis=1).reshape(-1, m.layer.heads * channels))


@heads.wrong("heads made by a reshape without exchanging axes, which mixes tokens")
def _(m):
    each = zip(*(part.reshape(m.layer.heads, len(m.x), -1) for part in m.parts()))
    outputs = [[attend(q_i, k, v)[0] for q_i in q] for q, k, v in each]
    return m(m.x), m.combine(np.array(outputs).reshape(m.x.shape))


@attention.equal(
    "equivariance",
    r"f(x_{\sigma(1)}, \ldots, x_{\sigma(T)})_t = f(x_1, \ldots, x_T)_{\sigma(t)}",
    because="a sum over keys has no order, and each query is answered for itself: without positions, a sequence is a set",
    source="Vaswani et al. 2017, section 3.5",
    instances=layers(),
)
def equivariance(m):
    return m(m.x[m.order]), m(m.x)[m.order]


@equivariance.wrong("invariant: as if the outputs stayed where they were")
def _(m):
    return m(m.x[m.order]), m(m.x)


@equivariance.wrong("with positions in the tokens")
def _(m):
    positions = sinusoids(np.arange(len(m.x)), 6)[:, : m.x.shape[1]]
    return m(m.x[m.order] + positions), m(m.x + positions)[m.order]


@dataclass
class Times:
    """Two times and how many numbers tell them."""

    t: float
    s: float
    d: int

    def frequencies(self, last=1):
        """From 1 to 1 / 10,000 in d / 2 geometric steps, the end counted if last is 1."""
        return 10_000.0 ** (-np.arange(self.d // 2) / (self.d // 2 - last))

    def encoded(self, *times):
        return sinusoids(np.array(times), self.d).astype(np.float64)


times = st.builds(Times, numbers(-1000, 1000), numbers(-1000, 1000), st.sampled_from([4, 6, 8]))
ROUNDED = {"rounding": 1e-5, "instances": times, "source": "Vaswani et al. 2017, section 3.5"}  # sinusoids are float32


@attention.equal(
    "rotation",
    r"e(t + s) = R(s)\, e(t), \quad R(s)\ \mathrm{turns\ each}\ (\sin \omega_i t, \cos \omega_i t)\ \mathrm{by}\ \omega_i s",
    because="the addition theorems: a shift in time is one linear map, whatever the time, so a layer can learn to look s back",
    **ROUNDED,
)
def rotation(m):
    return m.encoded(m.t + m.s)[0], turned(m, m.frequencies() * m.s)


@rotation.wrong("turned the other way")
def _(m):
    return m.encoded(m.t + m.s)[0], turned(m, -m.frequencies() * m.s)


@rotation.wrong("the frequencies of one published spacing, 2 i / d, for those of another")
def _(m):
    return m.encoded(m.t + m.s)[0], turned(m, m.frequencies(last=0) * m.s)


@rotation.wrong("encodings added like times")
def _(m):
    return m.encoded(m.t + m.s)[0], m.encoded(m.t, m.s).sum(axis=0)


def turned(m, angles):
    sines, cosines = np.split(m.encoded(m.t)[0], 2)
    return np.append(sines * np.cos(angles) + cosines * np.sin(angles), cosines * np.cos(angles) - sines * np.sin(angles))


@attention.equal(
    "distance",
    r"\langle e(t), e(s) \rangle = \sum_i \cos \omega_i (t - s)",
    because="both are turned from one vector, and rotations keep inner products: a match depends on the distance alone",
    **ROUNDED,
)
def distance(m):
    t, s = m.encoded(m.t, m.s)
    return t @ s, np.cos(m.frequencies() * (m.t - m.s)).sum()


@distance.wrong("the sum of the times for their difference")
def _(m):
    t, s = m.encoded(m.t, m.s)
    return t @ s, np.cos(m.frequencies() * (m.t + m.s)).sum()


# In order, in blocks, step by step


@attention.equal(
    "causal",
    r"o_i = \mathrm{attention}(q_i, (k_1, \ldots, k_i), (v_1, \ldots, v_i))",
    because="a score of minus infinity is a weight of 0 also in the sum that all are divided by: later keys might not exist",
    source="Vaswani et al. 2017, section 3.2.3",
    instances=sequences(square=True),
)
def causal(m):
    return by_operation(m, causal=True), rows(m, lambda i: slice(0, i + 1))


@causal.wrong("weights of later keys set to 0 after the softmax")
def _(m):
    return by_operation(m, causal=True), rows_of_zeroed(m, np.tri(m.T, dtype=bool))


@causal.wrong("the mask a place too far: each sees the one that it is to predict")
def _(m):
    return by_operation(m, causal=True), rows(m, lambda i: slice(0, i + 2))


@attention.equal(
    "online_softmax",
    r"m' = \max(m, s_j), \quad \ell' = e^{m - m'} \ell + e^{s_j - m'}, \quad a' = e^{m - m'} a + e^{s_j - m'} v_j:"
    r" \quad o = \frac{a}{\ell}",
    because="a and l are sums of exp(s - m); a larger score brings them to its own scale, so no exponential overflows",
    source="Milakov & Gimelshein 2018, algorithm 3; Dao et al. 2022, section 3.1",
    instances=st.tuples(sequences(), st.integers(1, 4)),
)
def online_softmax(instance):
    m, size = instance
    return in_blocks(m, size, lambda old, new: np.exp(old - new)), np.column_stack(m.fast())


@online_softmax.wrong("the sums so far left on their old scale")
def _(instance):
    m, size = instance
    return in_blocks(m, size, lambda old, new: np.isfinite(old) * 1.0), np.column_stack(m.fast())


@online_softmax.wrong("each block's softmax for itself, and the mean of the blocks")
def _(instance):
    m, size = instance
    blocks = [rows(m, lambda i: slice(start, start + size)) for start in range(0, len(m.k), size)]  # noqa: B023
    return np.column_stack([np.mean(blocks, axis=0), m.fast()[1]]), np.column_stack(m.fast())


def in_blocks(m, size, rescale):
    """(o, l) side by side, (T, E + 1), in one pass over keys and values, `size` of them at a time."""
    largest, total, sums = np.full(m.T, -np.inf), np.zeros(m.T), np.zeros((m.T, m.v.shape[1]))
    for start in range(0, len(m.k), size):
        block = slice(start, start + size)
        s = m.q @ m.k[block].T / math.sqrt(m.q.shape[1])
        new = np.maximum(largest, s.max(axis=1))
        p, factor = np.exp(s - new[:, None]), rescale(largest, new)
        largest, total, sums = new, factor * total + p.sum(axis=1), factor[:, None] * sums + p @ m.v[block]
    return np.column_stack([sums / total[:, None], largest + np.log(total)])


@attention.equal(
    "cached",
    r"\mathrm{attention}(q_{a \ldots b}, k_{1 \ldots b}, v_{1 \ldots b}) = o_{a \ldots b}",
    because="no earlier output depends on what is new, so keys and values are kept, and only the new queries are asked",
    source="Shazeer 2019",
    instances=st.tuples(sequences(square=True), st.integers(1, 3)),
)
def cached(instance):
    m, size = instance
    return decoded(m, size, lambda a, b, i: slice(0, i + 1), by_kernel=True), m.fast(causal=True)[0]


@cached.wrong("the new queries counted from the first key, so that the mask hides what is near")
def _(instance):
    m, size = instance
    return decoded(m, size, lambda a, b, i: slice(0, i - a + 1)), m.fast(causal=True)[0]


@cached.wrong("the new keys written only after the query")
def _(instance):
    m, size = instance
    return decoded(m, size, lambda a, b, i: slice(0, max(a, 1))), m.fast(causal=True)[0]


def decoded(m, size, keys, by_kernel=False):
    """o (T, E), `size` queries at a time with the keys up to theirs; or by the definition, query i seeing keys(a, b, i)."""
    parts = []
    for a in range(0, m.T, size):
        b = min(a + size, m.T)
        if by_kernel:
            parts.append(ops.attention(one_head(m.q[a:b]), one_head(m.k[:b]), one_head(m.v[:b]), causal=True)[0, 0])
        else:
            parts += [attend(m.q[i], m.k[keys(a, b, i)], m.v[keys(a, b, i)])[0][None] for i in range(a, b)]
    return np.concatenate(parts)
