r"""Two ways to a classifier: by p(x | y) and Bayes' rule, or by p(y | x) itself. Why they can meet in one formula.

    p(y | x) = p(y) p(x | y) / \sum_y' p(y') p(x | y')        whatever p(x | y) is
             = softmax_y(w_y x + b_y)                         for independent bits, and for Gaussians of one covariance

The models are those of models/bayes.py. Bits are few enough to sum over all x; and what is integrated out of a Gaussian is
known from its two factors, what is seen, and the rest given it.
"""

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from hypothesis import strategies as st
from numpy.linalg import inv

from .. import ops
from ..autograd import grad
from ..models.bayes import GaussianDiscriminant, NaiveBayes
from .chain import Chain
from .gaussian_kl import log_density
from .instances import covariances, numbers, probabilities, vectors


@dataclass
class Bits:
    """Naive Bayes of two or three classes, and examples x (N, D), of which `seen` says which bits are not missing."""

    model: NaiveBayes
    x: np.ndarray
    labels: np.ndarray
    seen: np.ndarray

    @property
    def prior(self):
        return np.exp(self.model.log_prior)

    @property
    def rates(self):
        """p(x_i = 1 | y), (classes, D)."""
        return 1 / (1 + np.exp(-self.model.logits))

    def likelihoods(self, x):
        """p(x | y), (N, classes): a product over bits."""
        return np.where(x[:, None] == 1, self.rates, 1 - self.rates).prod(axis=2)

    def linear(self, bias):
        """softmax_y(l_y x + b_y), (N, classes)."""
        odds = np.exp(self.x @ self.model.logits.T + bias)
        return odds / odds.sum(axis=1, keepdims=True)


def all_bits(D):
    return np.array(list(product([0.0, 1.0], repeat=D)))


@st.composite
def examples(draw, elements):
    """Examples x (N, D) of every class, and their labels."""
    K, D, more = draw(st.integers(2, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 2))
    labels = np.array([*range(K), *(draw(st.integers(0, K - 1)) for _ in range(more))])
    return draw(elements((K + more, D))), labels


@st.composite
def bits(draw):
    x, labels = draw(examples(lambda shape: vectors(shape, 0, 1).map(np.round)))
    K, D = int(labels.max()) + 1, x.shape[1]
    model = NaiveBayes(np.log(draw(probabilities(K, 0.01))), draw(vectors((K, D), -6, 6)))
    return Bits(model, x, labels, draw(vectors(x.shape, 0, 1)) < 0.5)


classifiers = Chain(
    "classifiers",
    "Generative classifiers: Bayes' rule, what is counted, gaps, and when the posterior is a logistic regression.",
    "Ng & Jordan 2002",
    bits(),
)


@classifiers.equal(
    "bayes_rule",
    r"p(y \mid x) = \frac{p(y)\, p(x \mid y)}{\sum_{y'} p(y')\, p(x \mid y')}",
    because="p(x, y) can be cut in two ways, p(y) p(x | y) and p(x) p(y | x); the sum below is p(x)",
    source="Bayes' rule",
)
def bayes_rule(m):
    return m.model.posterior(m.x).mean, by_bayes(m.prior * m.likelihoods(m.x))


@bayes_rule.wrong("the likelihood alone, as if all classes were equally frequent")
def _(m):
    return m.model.posterior(m.x).mean, by_bayes(m.likelihoods(m.x))


@bayes_rule.wrong("p(x | y) taken for p(y | x)")
def _(m):
    return m.model.posterior(m.x).mean, m.likelihoods(m.x)


def by_bayes(joint):
    return joint / joint.sum(axis=1, keepdims=True)


@classifiers.equal(
    "two_parts",
    r"\log p(x, y) = \log p(y \mid x) + \log p(x)",
    because="the one is all that logistic regression is trained on; who maximises the sum may give up some of it for p(x)",
)
def two_parts(m):
    return joint_of_labels(m), m.model.posterior(m.x).log_prob(m.labels) + m.model.log_prob(m.x).nats


@two_parts.wrong("p(x) forgotten: a generative model trained as a discriminative one")
def _(m):
    return joint_of_labels(m), m.model.posterior(m.x).log_prob(m.labels)


def joint_of_labels(m):
    """log p(x, y), (N,)."""
    return np.log((m.prior * m.likelihoods(m.x))[np.arange(len(m.x)), m.labels])


# Bits


@classifiers.equal(
    "laplace",
    r"\nabla \left(\sum_n \log p(x_n, y_n) + a \sum_{y, i} \log p_{y i} (1 - p_{y i})\right) = 0:"
    r" \quad p_{y i} = \frac{n_{y i} + a}{n_y + 2 a},\ p(y) = \frac{n_y}{n}",
    because="each rate has n_yi + a ones and n_y - n_yi + a zeros to explain: as if every bit had been seen a times either way",
    source="Laplace's rule of succession, for a = 1",
    instances=st.tuples(bits(), numbers(0.1, 3)),
)
def laplace(instance):
    m, a = instance
    return slope(NaiveBayes.fit(m.x, m.labels, a), m, a)


@laplace.wrong("the largest posterior under a Beta(a, a) prior, of which the rule is the mean")
def _(instance):
    m, a = instance
    return slope(NaiveBayes.fit(m.x, m.labels, a), m, a - 1)


@laplace.wrong("classes taken for equally frequent")
def _(instance):
    m, a = instance
    made = NaiveBayes.fit(m.x, m.labels, a)
    return slope(replace(made, log_prior=np.full(len(made.log_prior), -math.log(len(made.log_prior)))), m, a)


def slope(made, m, a):
    """The gradient of what is maximised, in the logits of p(y) and of all rates, and 0."""
    K = len(made.log_prior)

    def objective(v):
        model = NaiveBayes(ops.log_softmax(v[:K]), ops.reshape(v[K:], shape=made.logits.shape))
        of_labels = (model.log_joint(m.x) * np.eye(K)[m.labels]).sum()
        return of_labels - a * (ops.softplus(model.logits) + ops.softplus(-model.logits)).sum()

    found = grad(objective)(np.concatenate([made.log_prior, made.logits.ravel()]))
    return found, np.zeros_like(found)


@classifiers.equal(
    "naive_bayes",
    r"p(y \mid x) = \mathrm{softmax}_y(l_y \cdot x + b_y), \quad b_y = \log p(y) - \sum_i \log(1 + e^{l_{y i}})",
    because="log p(x | y) of independent bits is linear in them, so naive Bayes and logistic regression have one form",
)
def naive_bayes(m):
    return twice(m), np.array([m.linear(m.model.log_prior - silence(m))] * 2)


@naive_bayes.wrong("the bias of the prior alone: bits that are 0 tell something as well")
def _(m):
    return twice(m), np.array([m.linear(m.model.log_prior)] * 2)


@naive_bayes.wrong("the prior left out")
def _(m):
    return twice(m), np.array([m.linear(-silence(m))] * 2)


def twice(m):
    """The posterior as a product over bits, and as the model has it."""
    return np.array([by_bayes(m.prior * m.likelihoods(m.x)), m.model.posterior(m.x).mean])


def silence(m):
    """-log p(all bits are 0 | y), (classes,)."""
    return np.log1p(np.exp(m.model.logits)).sum(axis=1)


@classifiers.equal(
    "gaps_of_bits",
    r"p(x_{seen}, y) = \sum_{x_{missing}} p(x, y)",
    because="each factor of a missing bit sums to 1, and drops out: it is left out, and nothing is put in its place",
)
def gaps_of_bits(m):
    return seen_alone(m), summed_out(m)


@gaps_of_bits.wrong("0 in the place of what is missing")
def _(m):
    return np.exp(m.model.log_joint(np.where(m.seen, m.x, 0))), summed_out(m)


@gaps_of_bits.wrong("the bit's rate in the place of what is missing")
def _(m):
    filled = [m.model.log_joint(np.where(m.seen, m.x, rates))[:, y] for y, rates in enumerate(m.rates)]
    return np.exp(np.stack(filled, axis=1)), summed_out(m)


def seen_alone(m):
    """p(x_seen, y) of the model, (N, classes)."""
    return np.exp(m.model.log_joint(np.where(m.seen, m.x, np.nan)))


def summed_out(m):
    everything = all_bits(m.x.shape[1])
    joint = m.prior * m.likelihoods(everything)
    agree = (everything == m.x[:, None]) | ~m.seen[:, None]
    return agree.all(axis=2) @ joint


# Gaussians


@dataclass
class Gaussians:
    """A Gaussian for each class, and examples x (N, D), of which `seen` says which coordinates are not missing."""

    model: GaussianDiscriminant
    x: np.ndarray
    labels: np.ndarray
    seen: np.ndarray

    def joint(self, cov):
        """log p(x, y), (N, classes), for a covariance of each class, by the density of the chain gaussian_kl."""
        of_each = [log_density(self.x, mean, S) for mean, S in zip(self.model.mean, cov)]
        return self.model.log_prior + np.stack(of_each, axis=1)


@st.composite
def gaussians(draw):
    x, labels = draw(examples(vectors))
    K, D = int(labels.max()) + 1, x.shape[1]
    cov = np.stack([draw(covariances(D)) for _ in range(K)])
    model = GaussianDiscriminant(np.log(draw(probabilities(K, 0.01))), draw(vectors((K, D))), cov)
    return Gaussians(model, x, labels, draw(vectors(x.shape, 0, 1)) < 0.5)


def fits(shared):
    """Fitted to examples that vary, with a drawn shrinkage: (examples, their model, shrinkage)."""
    varied = gaussians().filter(lambda g: g.x.var() > 0.1)
    return st.tuples(varied, numbers(0.1, 0.9)).map(
        lambda drawn: (drawn[0], GaussianDiscriminant.fit(drawn[0].x, drawn[0].labels, shared, drawn[1]), drawn[1])
    )


@classifiers.equal(
    "quadratic",
    r"p(y \mid x) = \mathrm{softmax}_y\left(-\frac{1}{2} (x - \mu_y)^\top S_y^{-1} (x - \mu_y) - \frac{1}{2} \log \det S_y"
    r" + \log p(y)\right)",
    because="what all classes have in common, 2 pi, drops out; with a covariance for each, the boundaries are quadrics",
    source="Hastie et al. 2009, eq. 4.12",
    instances=gaussians(),
)
def quadratic(g):
    return g.model.posterior(g.x).mean, softmax(g.joint(g.model.cov))


@quadratic.wrong("the determinants forgotten: wide classes get too much")
def _(g):
    log_dets = np.linalg.slogdet(g.model.cov)[1]
    return g.model.posterior(g.x).mean, softmax(g.joint(g.model.cov) + 0.5 * log_dets)


@quadratic.wrong("the nearest mean, whatever the covariances")
def _(g):
    return g.model.posterior(g.x).mean, softmax(g.joint(np.broadcast_to(np.eye(g.x.shape[1]), g.model.cov.shape)))


def softmax(scores):
    return by_bayes(np.exp(scores - scores.max(axis=1, keepdims=True)))


@classifiers.equal(
    "one_covariance",
    r"S_y = S: \quad p(y \mid x) = \mathrm{softmax}_y\left(x^\top S^{-1} \mu_y - \frac{1}{2} \mu_y^\top S^{-1} \mu_y"
    r" + \log p(y)\right)",
    because="-x^T S^-1 x / 2 is the same for all classes: a logistic regression; for two, the logit of a GAN's best D as well",
    source="Hastie et al. 2009, eq. 4.10",
    instances=fits(shared=True),
)
def one_covariance(instance):
    g, made, _ = instance
    return made.posterior(g.x).mean, discriminants(g, made)


@one_covariance.wrong("each class with a covariance of its own")
def _(instance):
    g, made, shrinkage = instance
    own = GaussianDiscriminant.fit(g.x, g.labels, False, shrinkage)
    return own.posterior(g.x).mean, discriminants(g, made)


@one_covariance.wrong("the threshold at 0 and not midway between the means")
def _(instance):
    g, made, _ = instance
    return made.posterior(g.x).mean, discriminants(g, made, squares=0.0)


@one_covariance.wrong("the prior left out")
def _(instance):
    g, made, _ = instance
    return made.posterior(g.x).mean, discriminants(g, made, prior=0.0)


def discriminants(g, made, squares=0.5, prior=1.0):
    w = made.mean @ inv(made.cov[0])
    return softmax(g.x @ w.T - squares * (w * made.mean).sum(axis=1) + prior * made.log_prior)


@classifiers.equal(
    "shrinkage",
    r"\sum_y p(y) \left(S_y + (1 - a) (\mu_y - \mu)(\mu_y - \mu)^\top\right) = (1 - a)\, S + \frac{a}{D} \mathrm{tr}(S)\, I,"
    r" \quad S = \mathrm{Cov}[x]",
    because="variance is within classes or between them (the law of total variance), and the sphere has as much of it as all x",
    source="after Friedman 1989, eq. 18",
    instances=st.one_of(fits(shared=True), fits(shared=False)),
)
def shrinkage(instance):
    return within_and_between(instance), shrunk(instance)


@shrinkage.wrong("within classes alone, as if they had one mean")
def _(instance):
    return within_and_between(instance, between=0.0), shrunk(instance)


@shrinkage.wrong("a sphere of variance 1, whatever the unit of x")
def _(instance):
    g, _, a = instance
    return within_and_between(instance), shrunk(instance) + a * (1 - g.x.var(axis=0).mean()) * np.eye(g.x.shape[1])


@shrinkage.wrong("the unbiased estimate, divided by n - 1, for the covariance of all x")
def _(instance):
    return within_and_between(instance), shrunk(instance, bias=False)


def within_and_between(instance, between=1.0):
    _, made, a = instance
    p = np.exp(made.log_prior)
    away = made.mean - p @ made.mean
    return np.einsum("y,yij->ij", p, made.cov) + between * (1 - a) * (p * away.T) @ away


def shrunk(instance, bias=True):
    g, _, a = instance
    S, D = np.atleast_2d(np.cov(g.x.T, bias=bias)), g.x.shape[1]
    return (1 - a) * S + a / D * np.trace(S) * np.eye(D)


@classifiers.equal(
    "gaps_of_numbers",
    r"\log p(x_s, y) = \log p(x, y) - \log \mathcal{N}\left(x_m; \mu_m - \Lambda_{mm}^{-1} \Lambda_{ms} (x_s - \mu_s),"
    r" \Lambda_{mm}^{-1}\right), \quad \Lambda = S_y^{-1}",
    because="p(x) is what is seen, times the rest given it; on the left, the missing rows and columns of S are left out",
    source="Bishop 2006, eq. 2.96 and 2.98",
    instances=gaussians(),
)
def gaps_of_numbers(g):
    return of_seen(g), less_the_rest(g)


@gaps_of_numbers.wrong("the mean of the class in the place of what is missing")
def _(g):
    filled = [g.model.log_joint(np.where(g.seen, g.x, mean))[:, y] for y, mean in enumerate(g.model.mean)]
    return np.stack(filled, axis=1), less_the_rest(g)


@gaps_of_numbers.wrong("the rows and columns of S^-1 left out, and not those of S: the others held fast, not integrated")
def _(g):
    marginal = [
        [log_normal(x[seen], mean[seen], inv(inv(S)[np.ix_(seen, seen)])) for mean, S in zip(g.model.mean, g.model.cov)]
        for x, seen in zip(g.x, g.seen)
    ]
    return g.model.log_prior + np.array(marginal), less_the_rest(g)


def of_seen(g):
    return g.model.log_joint(np.where(g.seen, g.x, np.nan))


def less_the_rest(g):
    rest = [[log_rest(x, seen, *of_class) for of_class in zip(g.model.mean, g.model.cov)] for x, seen in zip(g.x, g.seen)]
    return g.joint(g.model.cov) - np.array(rest)


def log_rest(x, seen, mean, S):
    """log p(x_missing | x_seen) under N(mean, S)."""
    precision, gone = inv(S), ~seen
    covariance = inv(precision[np.ix_(gone, gone)])
    regressed = mean[gone] - covariance @ precision[np.ix_(gone, seen)] @ (x[seen] - mean[seen])
    return log_normal(x[gone], regressed, covariance)


def log_normal(x, mean, cov):
    return log_density(x[None], mean, cov)[0]
