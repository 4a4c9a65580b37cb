r"""The gradient of an expectation whose distribution is what changes, in two ways, and what each of them costs.

    \nabla E_q[f(z)],   q = N(m, s) with m and log s the parameters
        = E[\nabla f(m + sqrt(s) eps)],  eps ~ N(0, I)         the path of the sample: f must have a derivative
        = E_q[f(z) \nabla log q(z)]                            the score of q: f need only have values

The samples and densities are those of distributions.py. In place of random numbers its Gaussian is given the nodes of a
quadrature, so that the mean and the variance of an estimator are sums, exact for the polynomials here.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from .. import ops
from ..autograd import grad, jacobian
from ..distributions import Bernoulli, Gaussian
from ..nn import Sequential
from .chain import Chain
from .elbo import linear
from .exact import Given, gauss_hermite, normal_nodes
from .gaussian_kl import log_density
from .instances import numbers, vectors


@dataclass
class Mean:
    """q = N(m, e^log_s) in d dimensions, and f(z) = a z + z B z / 2 + c z^3 / 6: (d,), (d, d), (d,)."""

    q: Gaussian
    a: np.ndarray
    B: np.ndarray
    c: np.ndarray

    @property
    def parameters(self):
        """m and log s, (2 d,): where the gradients are taken."""
        return parameters(self.q)

    @property
    def s(self):
        return np.exp(self.q.log_var)

    def f(self, z):
        """(n, d) -> (n,)."""
        return z @ self.a + ((z @ self.B) * z).sum(axis=1) / 2 + z**3 @ self.c / 6

    def exact(self, v):
        """E_q[f], from the moments m, m^2 + s and m^3 + 3 m s."""
        m, log_s = ops.split(v, 2)
        s = ops.exp(log_s)
        return (
            (m * self.a).sum() + ((m @ self.B) * m + self.B.diagonal() * s).sum() / 2 + ((m**3 + 3 * m * s) * self.c).sum() / 6
        )

    def nodes(self):
        """eps (n, d) and weights (n,): a mean over N(0, I), exact up to degree eleven in each dimension."""
        return normal_nodes(len(self.a), 6)

    def z(self):
        """The samples that belong to the nodes, as constants."""
        return samples(self.parameters, self.nodes()[0])


def parameters(q):
    return np.concatenate([q.mean, q.log_var])


def gaussian(v, shape):
    """N(m, e^log_s) for v = (m, log_s), spread over an array of samples."""
    return Gaussian(*(ops.broadcast_to(part, shape=shape) for part in ops.split(v, 2)))


def samples(v, eps):
    return gaussian(v, eps.shape).sample(Given(eps))


def log_q(v, z):
    """(n,)."""
    return gaussian(v, z.shape).log_prob(z).sum(axis=1)


@st.composite
def means(draw):
    d = draw(st.integers(1, 3))
    q = Gaussian(draw(vectors(d)), draw(vectors(d, -4, 2)))
    return Mean(q, draw(vectors(d)), draw(vectors((d, d), -2, 2)), draw(vectors(d, -2, 2)))


reparameterisation = Chain(
    "reparameterisation",
    "Gradients through random numbers: by the path of the sample and by the score of its density; the variance of both.",
    "Kingma & Welling 2014, section 2.4",
    means(),
)


@reparameterisation.equal(
    "density",
    r"\log q(g(\epsilon)) = \log \mathcal{N}(\epsilon; 0, I) - \log \left|\det \frac{\partial g}{\partial \epsilon}\right|,"
    r"\quad g(\epsilon) = m + \sqrt{s}\, \epsilon",
    because="samples and densities belong together if the map from noise to samples changes volumes as the densities say",
)
def density(e):
    eps = e.a  # any number will do
    log_det = np.linalg.slogdet(jacobian(lambda eps: e.q.sample(Given(eps)))(eps))[1]
    return e.q.log_prob(e.q.sample(Given(eps))).sum(), standard_log_density(eps) - log_det


@density.wrong("the volume forgotten")
def _(e):
    return e.q.log_prob(e.q.sample(Given(e.a))).sum(), standard_log_density(e.a)


@density.wrong("samples with exp(log_var) for the standard deviation", published=True)
def _(e):
    z = e.q.mean + np.exp(e.q.log_var) * e.a
    return e.q.log_prob(z).sum(), standard_log_density(e.a) - e.q.log_var.sum()


def standard_log_density(eps):
    return log_density(eps[None], np.zeros(len(eps)), np.eye(len(eps)))[0]


@reparameterisation.equal(
    "variance",
    r"\mathbb{E}[(g(\epsilon) - m)^2] = e^{\log s}",
    because="sqrt(s) eps has variance s: a network's log_var is the logarithm of a variance",
)
def variance(e):
    return e.nodes()[1] @ (e.z() - e.q.mean) ** 2, np.exp(e.q.log_var)


@variance.wrong("exp(log_var) taken for the standard deviation")
def _(e):
    return e.nodes()[1] @ (e.z() - e.q.mean) ** 2, np.exp(e.q.log_var) ** 2


@st.composite
def waves(draw):
    """A Gaussian on the line, and cos(k z + phase): (q, k, phase)."""
    q = Gaussian(draw(vectors(1)), draw(vectors(1, -2, 2)))
    return q, draw(numbers(-2, 2)), draw(numbers())


def integral(f, half, n=4001):
    """The integral of f (n, 1) -> (n,) from -half to half: for smooth f that vanish at both ends, sums like this are exact."""
    x = np.linspace(-half, half, n)
    return f(x[:, None]).sum(axis=0) * (x[1] - x[0])


def normal(eps):
    return np.exp(-0.5 * eps[:, 0] ** 2) / math.sqrt(2 * math.pi)


@reparameterisation.equal(
    "change_of_variables",
    r"\int q(z) f(z)\, dz = \int \mathcal{N}(\epsilon; 0, 1) f(g(\epsilon))\, d\epsilon",
    because="substitute z = g(eps): the density of z times dz is that of eps times d eps; the parameters are now inside f",
    instances=waves(),
)
def change_of_variables(w):
    q, k, phase = w
    by_noise = integral(lambda eps: normal(eps) * np.cos(k * samples(parameters(q), eps)[:, 0] + phase), 12)
    return over_density(w), by_noise


@change_of_variables.wrong("exp(log_var) taken for the standard deviation")
def _(w):
    q, k, phase = w
    by_noise = integral(lambda eps: normal(eps) * np.cos(k * (q.mean + np.exp(q.log_var) * eps)[:, 0] + phase), 12)
    return over_density(w), by_noise


def over_density(w):
    q, k, phase = w
    return integral(lambda z: (np.exp(q.log_prob(z)) * np.cos(k * z + phase))[:, 0], 45)


@reparameterisation.grad_equal(
    "pathwise",
    r"\nabla_{m, \log s}\, \mathbb{E}_q[f(z)] = \mathbb{E}_\epsilon[\nabla_{m, \log s}\, f(g(\epsilon))]",
    because="eps does not depend on the parameters, so the gradient may be taken inside its mean",
)
def pathwise(e):
    eps, weights = e.nodes()
    return e.exact, lambda v: (weights * e.f(samples(v, eps))).sum(), e.parameters


@pathwise.wrong("the deviation held constant: no gradient reaches log s")
def _(e):
    eps, weights = e.nodes()
    fixed = np.sqrt(e.s) * eps
    return e.exact, lambda v: (weights * e.f(ops.split(v, 2)[0] + fixed)).sum() + 0 * v.sum(), e.parameters


@pathwise.wrong("exp(log_var) taken for the standard deviation")
def _(e):
    eps, weights = e.nodes()

    def at(v):
        m, log_s = ops.split(v, 2)
        return (weights * e.f(m + ops.exp(log_s) * eps)).sum()

    return e.exact, at, e.parameters


@reparameterisation.equal(
    "score",
    r"\mathbb{E}_q[\nabla_{m, \log s} \log q(z)] = 0",
    because="it is the gradient of the integral of q, which is 1 for all parameters",
    source="Williams 1992",
)
def score(e):
    weights, z = e.nodes()[1], e.z()
    return grad(lambda v: (weights * log_q(v, z)).sum())(e.parameters), np.zeros(2 * len(e.a))


@score.wrong("z not held constant: then it is minus the gradient of the entropy")
def _(e):
    eps, weights = e.nodes()
    return grad(lambda v: (weights * log_q(v, samples(v, eps))).sum())(e.parameters), np.zeros(2 * len(e.a))


@reparameterisation.grad_equal(
    "score_function",
    r"\nabla_{m, \log s}\, \mathbb{E}_q[f(z)] = \mathbb{E}_q[f(z) \nabla_{m, \log s} \log q(z)]",
    because="the gradient of q f under the integral is q (grad log q) f; f itself is not differentiated",
    source="Williams 1992",
)
def score_function(e):
    weights, z = e.nodes()[1], e.z()
    return e.exact, lambda v: (weights * e.f(z) * log_q(v, z)).sum(), e.parameters


@score_function.wrong("the gradient of q in place of that of log q, as if z had been drawn evenly")
def _(e):
    weights, z = e.nodes()[1], e.z()
    return e.exact, lambda v: (weights * e.f(z) * ops.exp(log_q(v, z))).sum(), e.parameters


@score_function.wrong("z not held constant, so that both kinds of gradient are added")
def _(e):
    eps, weights = e.nodes()

    def at(v):
        z = samples(v, eps)
        return (weights * e.f(z) * log_q(v, z)).sum()

    return e.exact, at, e.parameters


@reparameterisation.grad_equal(
    "baseline",
    r"\nabla\, \mathbb{E}_q[f(z)] = \mathbb{E}_q[(f(z) - b) \nabla \log q(z)]",
    because="the score has mean 0, and so has b times it, for any b that does not depend on z",
    source="Williams 1992",
    instances=st.tuples(means(), numbers()),
)
def baseline(pair):
    e, b = pair
    weights, z = e.nodes()[1], e.z()
    return e.exact, lambda v: (weights * (e.f(z) - b) * log_q(v, z)).sum(), e.parameters


@baseline.wrong("a baseline that sees z, and is not added again")
def _(pair):
    e, b = pair
    weights, z = e.nodes()[1], e.z()
    return e.exact, lambda v: (weights * (e.f(z) - b * z.sum(axis=1)) * log_q(v, z)).sum(), e.parameters


@reparameterisation.equal(
    "bonnet",
    r"\mathbb{E}_q[f(z) (z - m)] = s\, \mathbb{E}_q[\nabla f(z)]",
    because="by parts, as s grad q = -(z - m) q: the score of m on the left, the path of m on the right",
    source="Bonnet's theorem; Stein's lemma",
)
def bonnet(e):
    weights, z = e.nodes()[1], e.z()
    return weights * e.f(z) @ (z - e.q.mean), e.s * (weights @ grad(lambda z: e.f(z).sum())(z))


@bonnet.wrong("the standard deviation in front")
def _(e):
    weights, z = e.nodes()[1], e.z()
    return weights * e.f(z) @ (z - e.q.mean), np.sqrt(e.s) * (weights @ grad(lambda z: e.f(z).sum())(z))


@reparameterisation.equal(
    "price",
    r"\mathbb{E}\left[\nabla f(z) \cdot \frac{1}{2} \sqrt{s}\, \epsilon\right]"
    r" = \frac{s}{2} \mathbb{E}\left[\frac{\partial^2 f}{\partial z^2}\right]",
    because="by parts once more: the path of log s is half of eps grad f, and moves f only where f is curved",
    source="Price's theorem; Rezende et al. 2014, section 3",
)
def price(e):
    (eps, weights), z = e.nodes(), e.z()
    path = grad(lambda z: e.f(z).sum())(z)
    return weights @ (path * 0.5 * np.sqrt(e.s) * eps), e.s / 2 * (weights @ (e.B.diagonal() + e.c * z))


@price.wrong("the half dropped, as if the parameter were log of the deviation")
def _(e):
    (eps, weights), z = e.nodes(), e.z()
    path = grad(lambda z: e.f(z).sum())(z)
    return weights @ (path * np.sqrt(e.s) * eps), e.s / 2 * (weights @ (e.B.diagonal() + e.c * z))


# What the estimators cost


@dataclass
class Estimators:
    """Of the gradient with respect to m, from one sample of N(m, s) on the line: f (n,) -> (n,), a mean over eps as a sum."""

    q: Gaussian
    f: object
    eps: np.ndarray
    weights: np.ndarray

    def path(self):
        """The gradient of f along the sample, one for each eps."""
        return self.gradient(lambda q: self.f(q.sample(Given(self.eps))))

    def score(self, b=0.0):
        """(f - b) grad log q, one for each eps."""
        z = self.wide().sample(Given(self.eps))
        return self.gradient(lambda q: (self.f(z) - b) * q.log_prob(z))

    def wide(self, m=None):
        """q once for each eps, so that each has a gradient of its own."""
        n = len(self.eps)
        return Gaussian(np.full(n, self.q.mean) if m is None else m, np.full(n, self.q.log_var))

    def gradient(self, f):
        return grad(lambda m: f(self.wide(m)).sum())(self.wide().mean)

    def mean(self, values):
        return self.weights @ values

    def variance(self, values):
        return self.mean(values**2) - self.mean(values) ** 2


@st.composite
def squares(draw):
    """f(z) = a z + c z^2 / 2 + k, and the square itself as the simplest: (estimators, m, s)."""
    m, log_s = draw(numbers()), draw(numbers(-2, 2))
    eps, weights = gauss_hermite(6)
    a, c, k = draw(vectors(3))
    f = (lambda z: a * z + c * z**2 / 2 + k), (lambda z: z**2)
    return [Estimators(Gaussian(np.array(m), np.array(log_s)), f, eps, weights) for f in f], m, math.exp(log_s)


@reparameterisation.equal(
    "variance_of_both",
    r"f = z^2: \quad \mathrm{Var}[2 z] = 4 s, \quad"
    r" \mathrm{Var}\left[z^2 \frac{z - m}{s}\right] = \frac{m^4}{s} + 14 m^2 + 15 s",
    because="moments up to the sixth, 1, 3, 15, less the square of the mean 2 m: as s falls to 0, the score's variance grows",
    source="Mohamed et al. 2020",
    instances=squares(),
)
def variance_of_both(instance):
    (_, e), m, s = instance
    return np.array([e.variance(e.path()), e.variance(e.score())]), np.array([4 * s, m**4 / s + 14 * m**2 + 15 * s])


@variance_of_both.wrong("the square of the mean not subtracted")
def _(instance):
    (_, e), m, s = instance
    return np.array([e.variance(e.path()), e.variance(e.score())]), np.array([4 * s, m**4 / s + 18 * m**2 + 15 * s])


@variance_of_both.wrong("the deviation where the variance belongs")
def _(instance):
    (_, e), m, s = instance
    return np.array([e.variance(e.path()), e.variance(e.score())]), np.array([4 * s**0.5, m**4 / s + 14 * m**2 + 15 * s])


@reparameterisation.at_most(
    "path_varies_less",
    r"\mathrm{Var}[f'(z)] \le \mathrm{Var}\left[(f(z) - b) \frac{z - m}{s}\right] \quad (f\ \mathrm{quadratic, any}\ b)",
    because="for f(g(eps)) - b = a + c eps + d eps^2, s times these are 4 d^2, and (a + 3 d)^2 + 2 c^2 + 6 d^2",
    source="Mohamed et al. 2020",
    instances=st.tuples(squares(), numbers(-20, 20)),
)
def path_varies_less(pair):
    ((e, _), _, _), b = pair
    return e.variance(e.path()), e.variance(e.score(b))


@path_varies_less.wrong("with the best baseline the score varies less")
def _(pair):
    ((e, _), _, _), _ = pair
    best = e.mean(e.f(e.wide().sample(Given(e.eps))) * e.eps**2)
    return e.variance(e.score(best)), e.variance(e.path())


@st.composite
def fast_waves(draw):
    """cos(k z + phase) that turns twice or more within a deviation: estimators of the gradient of its mean."""
    m, log_s = draw(numbers()), draw(numbers(-2, 2))
    k, phase = draw(numbers(2, 6)) / math.exp(log_s / 2), draw(numbers())
    eps = np.linspace(-12, 12, 1001)
    density = normal(eps[:, None])
    return Estimators(Gaussian(np.array(m), np.array(log_s)), lambda z: ops.cos(k * z + phase), eps, density / density.sum())


@reparameterisation.at_most(
    "but_not_for_every_f",
    r"\mathrm{Var}\left[f(z) \frac{z - m}{s}\right] \le \mathrm{Var}[f'(z)] \quad (f = \cos(k z + c),\ k \ge 2 / \sqrt{s})",
    because="|f| stays at 1, and the score with it at 1 / s, while f' grows with k: for rough f the path is the worse one",
    source="Mohamed et al. 2020",
    instances=fast_waves(),
)
def but_not_for_every_f(e):
    return e.variance(e.score()), e.variance(e.path())


@but_not_for_every_f.wrong("the path better for these as well")
def _(e):
    return e.variance(e.path()), e.variance(e.score())


# Where there is no path, and where models use it


@reparameterisation.grad_equal(
    "choices",
    r"\nabla_l\, \mathbb{E}[f(b)] = \sum_b p(b) f(b) \nabla_l \log p(b), \quad b \in \{0, 1\},\ p(1) = \frac{1}{1 + e^{-l}}",
    because="a choice moves in jumps, so that no path leads through it; its score is as good as any",
    source="Williams 1992",
    instances=st.tuples(numbers(-8, 8), vectors(2)),
)
def choices(instance):
    logit, (a, c) = instance
    f, b = np.array([0.0, a + c]), np.array([0.0, 1.0])  # f(b) = a b + c b^2
    p = np.exp(Bernoulli(np.full(2, logit)).log_prob(b))
    return lambda l: f[1] * ops.sigmoid(l), lambda l: (p * f * Bernoulli(l).log_prob(b)).sum(), np.array(logit)


@choices.wrong("straight through: as if b moved with p; true only if f is linear between 0 and 1")
def _(instance):
    logit, (a, c) = instance
    p = 1 / (1 + math.exp(-logit))
    slope = (1 - p) * a + p * (a + 2 * c)  # the mean of f'(b)
    return lambda l: (a + c) * ops.sigmoid(l), lambda l: slope * ops.sigmoid(l), np.array(logit)


@reparameterisation.grad_equal(
    "model_gradient",
    r"\nabla_{\mathrm{encoder}}\, \mathbb{E}_\epsilon[\mathtt{VAE.elbo}(x)] = -\nabla_{\mathrm{encoder}}\,"
    r" \mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x))",
    because="the two add up to log p(x), in which there is no encoder; on the left, the paths of samples through a whole model",
    source="Kingma & Welling 2014, eq. 10",
    instances=linear(),
)
def model_gradient(m):
    return mean_elbo(m), lambda v: -divergence_from_posterior(m, v), m.model.encoder[-1].bias


@model_gradient.wrong("the divergence from the prior, which the decoder's term opposes")
def _(m):
    def to_prior(v):
        q = with_bias(m, v).encode(m.x)
        return -0.5 * (q.mean**2 + ops.exp(q.log_var) - q.log_var).sum()

    return mean_elbo(m), to_prior, m.model.encoder[-1].bias


def with_bias(m, v):
    """The model with another bias of the encoder's last layer, through which all changes of q can go."""
    *layers, last = m.model.encoder
    return replace(m.model, encoder=Sequential([*layers, replace(last, bias=v)]))


def mean_elbo(m):
    return lambda v: m.mean_over_noise(lambda rng: with_bias(m, v).elbo(m.x, rng).nats[0])


def divergence_from_posterior(m, v):
    """KL(q || p(z | x)) of the one example, without terms in which there is no q."""
    q, (mean, covariance) = with_bias(m, v).encode(m.x), m.posterior()
    precision, away = np.linalg.inv(covariance), q.mean[0] - mean
    return 0.5 * ((precision.diagonal() * ops.exp(q.log_var[0])).sum() + (away @ precision * away).sum() - q.log_var.sum())
