r"""How far apart are two distributions? The answers in use, which of them bounds which, and what can be estimated from samples.

    TV(p, q) = max over events A of |p(A) - q(A)|        KL(p || q) = E_p[log p/q]        JSD: to the average of p and q
    W_1, W_2: the cost of moving p to q, by distance or distance squared; between Gaussians W_2^2 is the Frechet distance of FID

Distributions are over a few values; events, samples, and (as in the chain `wasserstein`) ways to move one to the other, are
all tried.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from hypothesis import strategies as st
from numpy.linalg import eigvals, inv, norm

from ..distributions import Bernoulli, Categorical
from ..distributions import kl as library_kl
from ..metrics import cubic_kernel, frechet_of_gaussians, inception_style_score, kernel_distance
from .chain import Chain
from .exact import entropy, kl
from .gan import jsd
from .gaussian_kl import pairs
from .instances import numbers, probabilities, vectors
from .wasserstein import Placed, placed


@dataclass
class Three:
    """Three distributions over K values, (K,) each: q may be midway between the others."""

    p: np.ndarray
    q: np.ndarray
    r: np.ndarray

    @property
    def variation(self):
        return np.abs(self.p - self.q).sum() / 2


@st.composite
def three(draw):
    K = draw(st.integers(2, 5))
    (p, q, r), part = (draw(probabilities(K)) for _ in range(3)), draw(numbers(0, 1))
    return Three(p, part * q + (1 - part) * (p + r) / 2, r)


divergences_and_metrics = Chain(
    "divergences_and_metrics",
    "Divergences and distances, their inequalities, and the scores of samples made of them: FID, Inception score, KID.",
    "Cover & Thomas 2006",
    three(),
)


@divergences_and_metrics.equal(
    "definition",
    r"\mathrm{KL}(p \,\|\, q) = \sum_i p_i (\log p_i - \log q_i)",
    because="logits are log-probabilities up to a constant, and distributions.kl has to take that constant away",
    instances=st.tuples(three(), numbers(-50, 50)),
)
def definition(pair):
    d, shift = pair
    of_logits = library_kl(Categorical(np.log(d.p) + shift), Categorical(np.log(d.q) - shift))
    return np.array([kl(d.p, d.q), kl(*two_valued(d))]), np.array([of_logits, kl_of_first(d)])


@definition.wrong("the other way round")
def _(pair):
    d, shift = pair
    of_logits = library_kl(Categorical(np.log(d.q) + shift), Categorical(np.log(d.p) - shift))
    return np.array([kl(d.p, d.q), kl(*two_valued(d))]), np.array([of_logits, kl_of_first(d)])


@definition.wrong("logits taken for log-probabilities as they are")
def _(pair):
    d, shift = pair
    of_logits = np.sum(d.p * (np.log(d.p) + shift - np.log(d.q) + shift))
    return np.array([kl(d.p, d.q), kl(*two_valued(d))]), np.array([of_logits, kl_of_first(d)])


def two_valued(d):
    """Of "is it the first value?"."""
    return np.array([d.p[0], 1 - d.p[0]]), np.array([d.q[0], 1 - d.q[0]])


def kl_of_first(d):
    return library_kl(*(Bernoulli(np.log(p / (1 - p))) for p in (d.p[0], d.q[0])))


@divergences_and_metrics.equal(
    "total_variation",
    r"\max_A |p(A) - q(A)| = \frac{1}{2} \sum_i |p_i - q_i|",
    because="the best event has all values with p > q; what p has there in excess q has elsewhere, so the sum counts it twice",
)
def total_variation(d):
    return best_event(d), np.abs(d.p - d.q).sum() / 2


@total_variation.wrong("the half left out")
def _(d):
    return best_event(d), np.abs(d.p - d.q).sum()


def best_event(d):
    events = np.array(list(product([0, 1], repeat=len(d.p))))
    return np.abs(events @ (d.p - d.q)).max()


@divergences_and_metrics.equal(
    "coupling",
    r"\min_\pi P(X \ne Y) = \mathrm{TV}(p, q), \quad X \sim p,\ Y \sim q",
    because="this is W_1 where all ways have length 1: what p and q have in common can stay, and only the rest must move",
    instances=placed(2, 4),
)
def coupling(g):
    return equidistant(g).transport()[0], np.abs(g.p - g.q).sum() / 2


@coupling.wrong("X and Y independent")
def _(g):
    return equidistant(g).transport()[0], 1 - g.p @ g.q


def equidistant(g):
    return Placed(np.eye(len(g.places)) / math.sqrt(2), g.data, g.samples)


@divergences_and_metrics.at_most(
    "pinsker",
    r"2\, \mathrm{TV}(p, q)^2 \le \mathrm{KL}(p \,\|\, q)",
    because="KL only falls if all one sees is whether the best event happens; for two values it is a function of one variable",
    source="Pinsker's inequality",
)
def pinsker(d):
    return 2 * d.variation**2, kl(d.p, d.q)


@pinsker.wrong("the sum of differences for TV, without its half")
def _(d):
    return 2 * (2 * d.variation) ** 2, kl(d.p, d.q)


@divergences_and_metrics.at_most(
    "jensen_shannon",
    r"\frac{1}{2} \mathrm{TV}^2 \le \mathrm{JSD} \le \mathrm{TV} \log 2",
    because="below, Pinsker at half the distance; above, JSD is convex, and what p and q have in common adds 0, the rest log 2",
    source="Lin 1991; Pinsker's inequality",
)
def jensen_shannon(d):
    return np.array([d.variation**2 / 2, jsd(d.p, d.q)]), np.array([jsd(d.p, d.q), d.variation * math.log(2)])


@jensen_shannon.wrong("Pinsker's constant as it is, though the average is only half as far away")
def _(d):
    return 2 * d.variation**2, jsd(d.p, d.q)


@jensen_shannon.wrong("TV squared also above")
def _(d):
    return jsd(d.p, d.q), d.variation**2 * math.log(2)


@divergences_and_metrics.at_most(
    "triangle",
    r"\sqrt{\mathrm{JSD}(p, r)} \le \sqrt{\mathrm{JSD}(p, q)} + \sqrt{\mathrm{JSD}(q, r)}",
    because="the root of JSD is a distance, that of points in a Hilbert space; JSD itself is only a squared one",
    source="Endres & Schindelin 2003",
    rounding=1e-7,  # the root of a JSD near 0 has half the digits
)
def triangle(d):
    root = [math.sqrt(max(0.0, jsd(*two))) for two in ((d.p, d.r), (d.p, d.q), (d.q, d.r))]
    return root[0], root[1] + root[2]


@triangle.wrong("JSD taken for the distance")
def _(d):
    return jsd(d.p, d.r), jsd(d.p, d.q) + jsd(d.q, d.r)


@triangle.wrong("KL taken for a distance")
def _(d):
    return kl(d.p, d.r), kl(d.p, d.q) + kl(d.q, d.r)


@divergences_and_metrics.at_most(
    "earth_mover",
    r"\min_{x \ne y} |x - y|\ \mathrm{TV} \le W_1 \le \max_{x, y} |x - y|\ \mathrm{TV}",
    because="at least TV must move, and no more need, each by no less than the least and no more than the largest distance",
    source="Gibbs & Su 2002, theorem 4",
    instances=placed(2, 4),
)
def earth_mover(g):
    return between(g, g.distance.max())


@earth_mover.wrong("the mean distance above: what moves may have far to go")
def _(g):
    return between(g, g.distance[np.triu_indices(len(g.p), 1)].mean())


@earth_mover.wrong("the sum of differences for TV, without its half, below")
def _(g):
    (least, cost), (_, most) = between(g, g.distance.max())
    return np.array([2 * least, cost]), np.array([cost, most])


def between(g, far):
    cost, variation = g.transport()[0], np.abs(g.p - g.q).sum() / 2
    near = g.distance[np.triu_indices(len(g.p), 1)].min()
    return np.array([near * variation, cost]), np.array([cost, far * variation])


# Frechet distance


def root(S):
    """The positive definite R with R R = S."""
    values, vectors = np.linalg.eigh(S)
    return (vectors * np.sqrt(values)) @ vectors.T


def frechet(g):
    """|m - n|^2 + tr(S + T - 2 (S^1/2 T S^1/2)^1/2): of q = N(m, S) and p = N(n, T)."""
    return frechet_of_gaussians(g.m, g.S, g.n, g.T)


def commuting(g):
    """What the distance would be if S T = T S."""
    return np.sum((g.m - g.n) ** 2) + norm(root(g.S) - root(g.T)) ** 2


@divergences_and_metrics.equal(
    "frechet_distance",
    r"\mathbb{E}_q |x - (n + A(x - m))|^2 = |m - n|^2 + \mathrm{tr}\left(S + T - 2 (S^{1/2} T S^{1/2})^{1/2}\right),"
    r"\quad A S A = T",
    because="A = S^{-1/2} (S^{1/2} T S^{1/2})^{1/2} S^{-1/2} moves N(m, S) to N(n, T); on the right is what that costs",
    source="Dowson & Landau 1982; Heusel et al. 2017, eq. 6",
    instances=pairs(),
)
def frechet_distance(g):
    return moved(g), np.append(frechet(g), g.T)


@frechet_distance.wrong("the roots of S and T multiplied, which is the same only if they commute")
def _(g):
    return moved(g), np.append(commuting(g), g.T)


@frechet_distance.wrong("the 2 in front of the root dropped")
def _(g):
    R = root(g.S)
    return moved(g), np.append(frechet(g) + np.trace(root(R @ g.T @ R)), g.T)


def moved(g):
    """What the map costs, and the covariance of what it makes."""
    R = root(g.S)
    A = inv(R) @ root(R @ g.T @ R) @ inv(R)
    return np.append(g.mean(lambda x: np.sum((x - g.n - (x - g.m) @ A) ** 2, axis=1)), A @ g.S @ A)


@divergences_and_metrics.at_most(
    "frechet_is_least",
    r"|m - n|^2 + \mathrm{tr}(S + T - 2 (S^{1/2} T S^{1/2})^{1/2}) \le \mathbb{E} |x - y|^2, \quad x \sim q,\ y \sim p",
    because="x and y have a covariance S^{1/2} O T^{1/2} with a contraction O: its trace is at most the sum of singular values",
    source="Dowson & Landau 1982",
    instances=pairs(),
)
def frechet_is_least(g):
    return frechet(g), cost(g)


@frechet_is_least.wrong("the roots of S and T multiplied")
def _(g):
    return commuting(g), cost(g)


@frechet_is_least.wrong("independent x and y taken for the best")
def _(g):
    return np.sum((g.m - g.n) ** 2) + np.trace(g.S + g.T), cost(g)


def cost(g):
    """Of two couplings: one drawn at random, and that of largest trace, by singular values. The smaller one."""
    between = root(g.S) @ root(g.T)
    left, _, right = np.linalg.svd(between)
    traces = [np.trace(between @ O) for O in (g.A / norm(g.A, 2), right.T @ left.T)]
    return np.sum((g.m - g.n) ** 2) + np.trace(g.S + g.T) - 2 * max(traces)


@divergences_and_metrics.equal(
    "frechet_by_eigenvalues",
    r"\mathrm{tr}\, (S^{1/2} T S^{1/2})^{1/2} = \sum_i \sqrt{\lambda_i(S T)}",
    because="S^{1/2} T S^{1/2} and S T are similar, so they have the same eigenvalues: no root of a matrix is needed",
    instances=pairs(),
)
def frechet_by_eigenvalues(g):
    R = root(g.S)
    return np.trace(root(R @ g.T @ R)), np.sum(np.sqrt(eigvals(g.S @ g.T).real))


@frechet_by_eigenvalues.wrong("the root of the trace")
def _(g):
    R = root(g.S)
    return np.trace(root(R @ g.T @ R)), np.sqrt(np.sum(eigvals(g.S @ g.T).real))


@dataclass
class Sampled:
    """K points (K, d) with two distributions over them, and a number of samples to draw."""

    points: np.ndarray
    p: np.ndarray
    q: np.ndarray
    n: int

    def samples(self, p):
        """All samples of size n, as indices (K^n, n), and their probabilities."""
        all_of_them = np.array(list(product(range(len(p)), repeat=self.n)))
        return all_of_them, p[all_of_them].prod(axis=1)


@st.composite
def sampled(draw):
    K, d = draw(st.integers(2, 3)), draw(st.integers(1, 2))
    return Sampled(draw(vectors((K, d))), draw(probabilities(K)), draw(probabilities(K)), draw(st.integers(2, 3)))


@divergences_and_metrics.equal(
    "few_samples_look_worse",
    r"\mathbb{E} |\bar x - n|^2 = |m - n|^2 + \frac{1}{N} \mathrm{tr}\, S",
    because="the mean of N samples is itself off by tr S / N: Frechet distances of different N must not be compared",
    source="Binkowski et al. 2018, section 4",
    instances=sampled(),
)
def few_samples_look_worse(s):
    return mean_distance(s), true_distance(s) + spread(s) / s.n


@few_samples_look_worse.wrong("right on average, so that figures of different N could be compared", published=True)
def _(s):
    return mean_distance(s), true_distance(s)


@few_samples_look_worse.wrong("N - 1, which belongs to the estimate of a variance")
def _(s):
    return mean_distance(s), true_distance(s) + spread(s) / (s.n - 1)


def mean_distance(s):
    """E|mean of n samples of p - mean of q|^2, over all samples."""
    chosen, weights = s.samples(s.p)
    return weights @ np.sum((s.points[chosen].mean(axis=1) - s.q @ s.points) ** 2, axis=1)


def true_distance(s):
    return np.sum(((s.p - s.q) @ s.points) ** 2)


def spread(s):
    """tr S."""
    return s.p @ np.sum((s.points - s.p @ s.points) ** 2, axis=1)


# Scores of samples

DRAWN = 20


@st.composite
def classified(draw):
    """p(x) (n,) over images, their shares of DRAWN samples, and a classifier's p(y | x) (n, K): it may be very sure."""
    n, K = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    cuts = sorted(draw(st.lists(st.integers(0, DRAWN), min_size=n - 1, max_size=n - 1)))
    return np.diff([0, *cuts, DRAWN]) / DRAWN, Categorical(draw(vectors((n, K), -15, 15))).mean


@divergences_and_metrics.equal(
    "inception_score",
    r"\log \mathrm{IS} = \mathbb{E}_x[\mathrm{KL}(p(y \mid x) \,\|\, p(y))] = H(y) - H(y \mid x)",
    because="it is what x tells about y: much if all classes occur, and every image clearly shows one",
    source="Salimans et al. 2016, section 4",
    instances=classified(),
)
def inception_score(c):
    p, given_x = c
    return math.log(score(c)), entropy(p @ given_x) - sum(weight * entropy(row) for weight, row in zip(p, given_x))


@inception_score.wrong("the mean of the exponentials in place of the exponential of the mean")
def _(c):
    p, given_x = c
    of_means = math.log(sum(weight * math.exp(kl(row, p @ given_x)) for weight, row in zip(p, given_x)))
    return of_means, entropy(p @ given_x) - sum(weight * entropy(row) for weight, row in zip(p, given_x))


@inception_score.wrong("the entropy of all classes alone")
def _(c):
    p, given_x = c
    return math.log(score(c)), entropy(p @ given_x)


def score(c):
    p, given_x = c
    return inception_style_score(np.repeat(given_x, np.rint(p * DRAWN).astype(int), axis=0))


@divergences_and_metrics.at_most(
    "inception_range",
    r"1 \le \mathrm{IS} \le K",
    because="a divergence is at least 0; H(y) is at most log K, and H(y | x) at least 0",
    source="Barratt & Sharma 2018",
    instances=classified(),
)
def inception_range(c):
    return np.array([1, score(c)]), np.array([score(c), c[1].shape[1]])


@inception_range.wrong("the divergence the other way round, which has no bound")
def _(c):
    p, given_x = c
    reverse = math.exp(sum(weight * kl(p @ given_x, row) for weight, row in zip(p, given_x)))
    return np.array([1, reverse]), np.array([reverse, given_x.shape[1]])


@divergences_and_metrics.equal(
    "kid",
    r"\mathbb{E}\left[\frac{\sum_{i \ne j} k(x_i, x_j)}{n (n - 1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{n (n - 1)}"
    r" - \frac{2}{n^2} \sum_{i, j} k(x_i, y_j)\right] = \mathrm{MMD}^2(p, q)",
    because="each term is the mean over pairs of independent samples, if no sample is paired with itself: right for every n",
    source="Gretton et al. 2012, lemma 6; Binkowski et al. 2018, section 4",
    instances=sampled(),
)
def kid(s):
    return mean_estimate(s, lambda x, y: kernel_distance(x, y).value), discrepancy(s)


@kid.wrong("pairs of a sample with itself counted, which makes few samples look worse")
def _(s):
    return mean_estimate(s, with_itself), discrepancy(s)


@kid.wrong("the cross term counted once")
def _(s):
    across = s.p @ cubic_kernel(s.points, s.points) @ s.q
    return mean_estimate(s, lambda x, y: kernel_distance(x, y).value), discrepancy(s) + across


def with_itself(x, y):
    return cubic_kernel(x, x).mean() + cubic_kernel(y, y).mean() - 2 * cubic_kernel(x, y).mean()


def discrepancy(s):
    return (s.p - s.q) @ cubic_kernel(s.points, s.points) @ (s.p - s.q)


def mean_estimate(s, estimate):
    """The mean over all samples from p and from q."""
    (x, of_x), (y, of_y) = s.samples(s.p), s.samples(s.q)
    estimates = [[estimate(s.points[i], s.points[j]) for j in y] for i in x]
    return of_x @ np.array(estimates) @ of_y
