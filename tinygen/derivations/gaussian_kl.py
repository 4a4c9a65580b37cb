r"""The divergence between two Gaussians, from the integral that defines it to the closed form in every VAE.

    KL(q || p) = E_q[log q(x) - log p(x)],    q = N(m, S),  p = N(n, T)

The integrals here are exact without their solution: log q - log p is a quadratic function, and a Gauss-Hermite rule of three
nodes in each dimension integrates polynomials of degree five.
"""

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.linalg import inv, slogdet

from .. import ops
from ..distributions import Gaussian, kl
from .chain import Chain
from .exact import normal_nodes
from .instances import covariances, numbers, vectors


@dataclass
class Pair:
    """q = N(m, S) and p = N(n, T) in d dimensions, and an invertible map x -> A x + c."""

    m: np.ndarray
    S: np.ndarray
    n: np.ndarray
    T: np.ndarray
    A: np.ndarray
    c: np.ndarray

    @property
    def d(self):
        return len(self.m)

    def nodes(self):
        """Points (3^d, d) and weights (3^d,) by which the mean over q of a polynomial of degree five is a finite sum."""
        z, weights = normal_nodes(self.d)
        return self.m + z @ np.linalg.cholesky(self.S).T, weights

    def mean(self, f):
        """E_q[f(x)], for a polynomial f of degree five or less."""
        x, weights = self.nodes()
        return weights @ f(x)


def log_density(x, mean, cov):
    deviation = x - mean
    quadratic = np.einsum("ni,ij,nj->n", deviation, inv(cov), deviation)
    return -0.5 * (len(mean) * math.log(2 * math.pi) + slogdet(cov)[1] + quadratic)


def divergence(m, S, n, T):
    """The closed form."""
    back = inv(T)
    return 0.5 * (np.trace(back @ S) + (n - m) @ back @ (n - m) - len(m) + slogdet(T)[1] - slogdet(S)[1])


@st.composite
def pairs(draw):
    d = draw(st.integers(1, 3))
    A = draw(vectors((d, d), -1, 1)) + 2.5 * d * np.eye(d)  # its diagonal dominates: it is invertible
    return Pair(*(draw(kind(d)) for kind in (vectors, covariances, vectors, covariances)), A, draw(vectors(d)))


@st.composite
def diagonal_pairs(draw):
    """Two Gaussians as networks put them out: mean and log-variance."""
    d = draw(st.integers(1, 4))
    return [Gaussian(draw(vectors(d)), draw(vectors(d, -4, 4))) for _ in range(2)]


gaussian_kl = Chain(
    "gaussian_kl",
    "The divergence between two Gaussians: from the integral to the closed form, which is what the VAE trains with.",
    "Kingma & Welling 2014, appendix B",
    pairs(),
)


@gaussian_kl.equal(
    "second_moment",
    r"\mathbb{E}_q[(x - n)(x - n)^\top] = S + (m - n)(m - n)^\top",
    because="write x - n as (x - m) + (m - n): the mixed terms have mean 0",
)
def second_moment(g):
    away = g.m - g.n
    return g.mean(lambda x: np.einsum("ni,nj->nij", x - g.n, x - g.n).reshape(len(x), -1)), (g.S + np.outer(away, away)).ravel()


@second_moment.wrong("the distance of the means forgotten")
def _(g):
    return g.mean(lambda x: np.einsum("ni,nj->nij", x - g.n, x - g.n).reshape(len(x), -1)), g.S.ravel()


@gaussian_kl.equal(
    "quadratic_form",
    r"\mathbb{E}_q[(x - n)^\top T^{-1} (x - n)] = \mathrm{tr}(T^{-1} S) + (m - n)^\top T^{-1} (m - n)",
    because="a number is its own trace, and a trace may be turned: tr(v^T M v) = tr(M v v^T)",
)
def quadratic_form(g):
    back, away = inv(g.T), g.m - g.n
    return g.mean(lambda x: np.einsum("ni,ij,nj->n", x - g.n, back, x - g.n)), np.trace(back @ g.S) + away @ back @ away


@quadratic_form.wrong("the trace of S alone, as if p were N(n, I)")
def _(g):
    back, away = inv(g.T), g.m - g.n
    return g.mean(lambda x: np.einsum("ni,ij,nj->n", x - g.n, back, x - g.n)), np.trace(g.S) + away @ back @ away


@gaussian_kl.equal(
    "entropy",
    r"-\mathbb{E}_q[\log q(x)] = \frac{1}{2}(d + d \log 2\pi + \log \det S)",
    because="the quadratic form of q under q itself has mean tr(S^{-1} S) = d",
)
def entropy(g):
    closed = 0.5 * (g.d + g.d * math.log(2 * math.pi) + slogdet(g.S)[1])
    return -g.mean(lambda x: log_density(x, g.m, g.S)), closed


@entropy.wrong("log det of the standard deviations where that of the covariance belongs")
def _(g):
    closed = 0.5 * (g.d + g.d * math.log(2 * math.pi) + 0.5 * slogdet(g.S)[1])
    return -g.mean(lambda x: log_density(x, g.m, g.S)), closed


@gaussian_kl.equal(
    "closed_form",
    r"\mathrm{KL}(q \,\|\, p) = \frac{1}{2}\left(\mathrm{tr}(T^{-1} S) + (m - n)^\top T^{-1} (m - n) - d"
    r" + \log\det T - \log\det S\right)",
    because="add the two steps before; the terms with 2 pi cancel",
)
def closed_form(g):
    return g.mean(lambda x: log_density(x, g.m, g.S) - log_density(x, g.n, g.T)), divergence(g.m, g.S, g.n, g.T)


@closed_form.wrong("the divergence the other way round")
def _(g):
    return g.mean(lambda x: log_density(x, g.m, g.S) - log_density(x, g.n, g.T)), divergence(g.n, g.T, g.m, g.S)


@closed_form.wrong("the dimension d forgotten")
def _(g):
    right = divergence(g.m, g.S, g.n, g.T) + g.d / 2
    return g.mean(lambda x: log_density(x, g.m, g.S) - log_density(x, g.n, g.T)), right


@gaussian_kl.equal(
    "diagonal",
    r"\mathrm{KL} = \sum_i \frac{1}{2}\left(\frac{s_i}{t_i} + \frac{(m_i - n_i)^2}{t_i} - 1 + \log t_i - \log s_i\right)",
    because="inverses, traces and determinants of diagonal matrices are taken entry by entry; this is distributions.kl",
    instances=diagonal_pairs(),
)
def diagonal(pair):
    q, p = pair
    return divergence(q.mean, np.diag(np.exp(q.log_var)), p.mean, np.diag(np.exp(p.log_var))), kl(q, p).sum()


@diagonal.wrong("exp(log_var) taken for the standard deviation, as in samples of the same code", published=True)
def _(pair):
    q, p = pair
    return divergence(q.mean, np.diag(np.exp(2 * q.log_var)), p.mean, np.diag(np.exp(2 * p.log_var))), kl(q, p).sum()


@diagonal.wrong("the mean over dimensions where the sum belongs")
def _(pair):
    q, p = pair
    return divergence(q.mean, np.diag(np.exp(q.log_var)), p.mean, np.diag(np.exp(p.log_var))), kl(q, p).mean()


@gaussian_kl.equal(
    "standard_prior",
    r"\mathrm{KL}(q \,\|\, \mathcal{N}(0, I)) = -\frac{1}{2} \sum_i \left(1 + \log s_i - m_i^2 - s_i\right)",
    because="put n = 0 and t = 1",
    source="Kingma & Welling 2014, eq. 10",
    instances=diagonal_pairs(),
)
def standard_prior(pair):
    q, _ = pair
    return kl(q, Gaussian(0.0, np.zeros(1))).sum(), -0.5 * np.sum(1 + q.log_var - q.mean**2 - np.exp(q.log_var))


@standard_prior.wrong("the sign of the log-variance turned")
def _(pair):
    q, _ = pair
    return kl(q, Gaussian(0.0, np.zeros(1))).sum(), -0.5 * np.sum(1 - q.log_var - q.mean**2 - np.exp(q.log_var))


@gaussian_kl.grad_equal(
    "gradient",
    r"\nabla_m \mathrm{KL} = T^{-1} (m - n), \quad \nabla_{\log s} \mathrm{KL} = \frac{1}{2}\left(\frac{s}{t} - 1\right)",
    because="differentiate the closed form; on the right, autograd differentiates the linear function with these coefficients",
    instances=diagonal_pairs(),
)
def gradient(pair):
    q, p = pair
    t, s = np.exp(p.log_var), np.exp(q.log_var)

    def tangent(v):
        m, log_s = ops.split(v, 2)
        return ((q.mean - p.mean) / t * m).sum() + (0.5 * (s / t - 1) * log_s).sum()

    return lambda v: kl(Gaussian(*ops.split(v, 2)), p).sum(), tangent, np.concatenate([q.mean, q.log_var])


@gradient.wrong("the half in front of the log-variance dropped")
def _(pair):
    q, p = pair
    t, s = np.exp(p.log_var), np.exp(q.log_var)

    def tangent(v):
        m, log_s = ops.split(v, 2)
        return ((q.mean - p.mean) / t * m).sum() + ((s / t - 1) * log_s).sum()

    return lambda v: kl(Gaussian(*ops.split(v, 2)), p).sum(), tangent, np.concatenate([q.mean, q.log_var])


@gaussian_kl.at_most(
    "not_negative",
    r"0 \le \mathrm{KL}(q \,\|\, p)",
    because="Jensen: -E_q[log p/q] >= -log E_q[p/q] = -log 1",
)
def not_negative(g):
    return 0.0, divergence(g.m, g.S, g.n, g.T)


@not_negative.wrong("the log-determinants exchanged")
def _(g):
    return 0.0, divergence(g.m, g.S, g.n, g.T) - slogdet(g.T)[1] + slogdet(g.S)[1]


@gaussian_kl.at_most(
    "zero_only_at_equality",
    r"-2 \log \int \sqrt{q p} \le \mathrm{KL}(q \,\|\, p)",
    because="Jensen again: -2 log E_q[sqrt(p/q)] <= -2 E_q[log sqrt(p/q)]; the left side is 0 only for q = p (Cauchy-Schwarz)",
)
def zero_only_at_equality(g):
    return bhattacharyya(g), divergence(g.m, g.S, g.n, g.T)


@zero_only_at_equality.wrong("the 2 in front counted twice")
def _(g):
    return 2 * bhattacharyya(g), divergence(g.m, g.S, g.n, g.T)


def bhattacharyya(g):
    r"""-2 log \int sqrt(q p), in closed form."""
    middle, away = (g.S + g.T) / 2, g.m - g.n
    return 0.25 * away @ inv(middle) @ away + slogdet(middle)[1] - 0.5 * (slogdet(g.S)[1] + slogdet(g.T)[1])


@gaussian_kl.equal(
    "invariance",
    r"\mathrm{KL}(A q + c \,\|\, A p + c) = \mathrm{KL}(q \,\|\, p)",
    because="the density of either is divided by the same |det A|, which cancels in the ratio",
)
def invariance(g):
    mapped = divergence(g.A @ g.m + g.c, g.A @ g.S @ g.A.T, g.A @ g.n + g.c, g.A @ g.T @ g.A.T)
    return mapped, divergence(g.m, g.S, g.n, g.T)


@invariance.wrong("only q mapped, p left where it was")
def _(g):
    return divergence(g.A @ g.m + g.c, g.A @ g.S @ g.A.T, g.n, g.T), divergence(g.m, g.S, g.n, g.T)


@gaussian_kl.equal(
    "asymmetry",
    r"\mathrm{KL}(q \| p) - \mathrm{KL}(p \| q) = \sinh u - u,\quad s = e^u,\ t = 1,\ m = n,\ d = 1",
    because="1/2 (e^u - 1 - u) - 1/2 (e^-u - 1 + u): it costs more to be wide where p is narrow than the reverse",
    instances=numbers(-4, 4),
)
def asymmetry(u):
    wide, narrow = Gaussian(np.zeros(1), np.full(1, u)), Gaussian(np.zeros(1), np.zeros(1))
    return kl(wide, narrow).sum() - kl(narrow, wide).sum(), math.sinh(u) - u


@asymmetry.wrong("symmetric, like a distance")
def _(u):
    wide, narrow = Gaussian(np.zeros(1), np.full(1, u)), Gaussian(np.zeros(1), np.zeros(1))
    return kl(wide, narrow).sum() - kl(narrow, wide).sum(), 0.0
