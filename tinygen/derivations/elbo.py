r"""Why a VAE trains on a bound, which bound it is, and when it is tight.

    log p(x) = log \sum_z p(z) p(x | z)        a sum over all explanations z, of which there are too many
             = L(q) + KL(q || p(z | x))        for any q: the ELBO L, and what it misses

Where z takes a few values, every expectation is a sum, and nothing is estimated. The VAE itself is checked on linear networks,
for which log p(x) is known (probabilistic PCA), with the nodes of a quadrature in place of random numbers.
"""

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from hypothesis import strategies as st

from ..autograd import tree
from ..backend import Generator
from ..models import vae
from ..models.vae import VAE
from ..optim import SGD, begin
from .chain import Chain
from .exact import Given, kl, normal_nodes
from .gaussian_kl import divergence, log_density
from .instances import numbers, probabilities, vectors


@dataclass
class Discrete:
    """A prior p(z) over K values, the likelihoods p(x | z) of one x, and any q(z): each (K,)."""

    prior: np.ndarray
    likelihood: np.ndarray
    q: np.ndarray

    @property
    def evidence(self):
        """p(x)."""
        return np.sum(self.prior * self.likelihood)

    @property
    def posterior(self):
        """p(z | x), by Bayes' rule."""
        return self.prior * self.likelihood / self.evidence

    @property
    def weights(self):
        """w = p(x, z) / q(z)."""
        return self.prior * self.likelihood / self.q

    def elbo(self):
        """E_q[log p(x, z) - log q(z)]."""
        return np.sum(self.q * np.log(self.weights))

    def iwae(self, k):
        """E[log 1/k sum_i w_i] over all K^k choices of k samples."""
        total = 0.0
        for chosen in product(range(len(self.q)), repeat=k):
            some = list(chosen)
            total += self.q[some].prod() * math.log(self.weights[some].mean())
        return total


@st.composite
def discrete(draw):
    K = draw(st.integers(2, 4))
    return Discrete(draw(probabilities(K)), draw(vectors(K, 1e-3, 1.0)), draw(probabilities(K)))


elbo = Chain(
    "elbo",
    "The evidence lower bound: log p(x) apart from a divergence; its forms, its gap, and the tighter bounds of IWAE.",
    "Kingma & Welling 2014, eq. 1-3",
    discrete(),
)


@elbo.equal(
    "decomposition",
    r"\log p(x) = \mathbb{E}_q[\log p(x, z) - \log q(z)] + \mathrm{KL}(q(z) \,\|\, p(z \mid x))",
    because="log p(x) = log p(x, z) - log p(z | x) for every z; take the mean over q, and add and subtract log q",
)
def decomposition(m):
    return math.log(m.evidence), m.elbo() + kl(m.q, m.posterior)


@decomposition.wrong("the divergence the other way round")
def _(m):
    return math.log(m.evidence), m.elbo() + kl(m.posterior, m.q)


@decomposition.wrong("the divergence from the prior, which belongs to the ELBO")
def _(m):
    return math.log(m.evidence), m.elbo() + kl(m.q, m.prior)


@elbo.equal(
    "reconstruction_form",
    r"\mathbb{E}_q[\log p(x, z) - \log q(z)] = \mathbb{E}_q[\log p(x \mid z)] - \mathrm{KL}(q(z) \,\|\, p(z))",
    because="log p(x, z) = log p(x | z) + log p(z); the second goes to log q",
    source="Kingma & Welling 2014, eq. 3",
)
def reconstruction_form(m):
    return m.elbo(), np.sum(m.q * np.log(m.likelihood)) - kl(m.q, m.prior)


@reconstruction_form.wrong("the divergence added")
def _(m):
    return m.elbo(), np.sum(m.q * np.log(m.likelihood)) + kl(m.q, m.prior)


@elbo.equal(
    "energy_form",
    r"\mathbb{E}_q[\log p(x, z) - \log q(z)] = \mathbb{E}_q[\log p(x, z)] + H(q)",
    because="-E_q[log q] is the entropy: q should put its mass where p(x, z) is large, but keep it wide",
    source="Kingma & Welling 2014, eq. 2",
)
def energy_form(m):
    return m.elbo(), np.sum(m.q * np.log(m.prior * m.likelihood)) - np.sum(m.q * np.log(m.q))


@energy_form.wrong("the entropy subtracted")
def _(m):
    return m.elbo(), np.sum(m.q * np.log(m.prior * m.likelihood)) + np.sum(m.q * np.log(m.q))


@elbo.at_most(
    "bound",
    r"L(q) \le \log p(x)",
    because="what is missing is a divergence, which is never negative",
)
def bound(m):
    return m.elbo(), math.log(m.evidence)


@bound.wrong("the divergence from the prior with a weight of 1/2: with beta < 1 the objective is no bound")
def _(m):
    return np.sum(m.q * np.log(m.likelihood)) - 0.5 * kl(m.q, m.prior), math.log(m.evidence)


@bound.wrong("log q left out")
def _(m):
    return np.sum(m.q * np.log(m.likelihood)), math.log(m.evidence)


@elbo.equal(
    "tightness",
    r"L(p(z \mid x)) = \log p(x)",
    because="with q the posterior, the weight p(x, z) / q(z) is p(x), whatever z is",
)
def tightness(m):
    return replace(m, q=m.posterior).elbo(), math.log(m.evidence)


@tightness.wrong("q the prior")
def _(m):
    return replace(m, q=m.prior).elbo(), math.log(m.evidence)


@elbo.equal(
    "weights",
    r"\mathbb{E}_q[w] = p(x), \quad w = p(x, z) / q(z)",
    because="q cancels: the sum over z of p(x, z) is p(x)",
    source="Burda et al. 2016, section 3",
)
def weights(m):
    return np.sum(m.q * m.weights), m.evidence


@weights.wrong("the prior left out of the weight")
def _(m):
    return np.sum(m.q * m.likelihood / m.q), m.evidence


@elbo.equal(
    "one_sample",
    r"L_1 = \mathbb{E}[\log w] = L(q)",
    because="IWAE's bound L_k is the mean of log (w_1 + ... + w_k) / k; with one weight this is the ELBO",
    source="Burda et al. 2016, eq. 8",
)
def one_sample(m):
    return m.iwae(1), m.elbo()


@one_sample.wrong("the logarithm outside of the mean")
def _(m):
    return math.log(np.sum(m.q * m.weights)), m.elbo()


@elbo.at_most(
    "more_samples",
    r"L_k \le L_{k+1}",
    because="k + 1 weights are the mean over which of them is left out; Jensen moves the logarithm inside",
    source="Burda et al. 2016, theorem 1",
)
def more_samples(m):
    return np.array([m.iwae(1), m.iwae(2), m.iwae(3)]), np.array([m.iwae(2), m.iwae(3), m.iwae(4)])


@more_samples.wrong("the sum of the weights where their mean belongs, which grows faster than log p(x) allows")
def _(m):
    sums = np.array([m.iwae(k) + math.log(k) for k in (1, 2, 3)])
    return sums, np.full(3, math.log(m.evidence))


@more_samples.wrong("the other way round")
def _(m):
    return np.array([m.iwae(2), m.iwae(3)]), np.array([m.iwae(1), m.iwae(2)])


@elbo.at_most(
    "iwae_bound",
    r"L_k \le \log p(x)",
    because="Jensen: E[log mean w] <= log E[mean w] = log p(x)",
    source="Burda et al. 2016, theorem 1",
)
def iwae_bound(m):
    return m.iwae(4), math.log(m.evidence)


@iwae_bound.wrong("the weights without q")
def _(m):
    return replace(m, q=np.full(len(m.q), 1 / len(m.q))).iwae(4) + math.log(len(m.q)), math.log(m.evidence)


# The VAE's own functions, on linear networks


@dataclass
class Linear:
    """A VAE of linear networks in float64, and one example x (1, D)."""

    model: VAE
    x: np.ndarray

    @property
    def latent(self):
        return self.model.latent

    def mean_over_noise(self, f):
        """E[f(rng)], where the model asks rng for its N(0, 1) numbers, (1, d), and gets the nodes one after another."""
        points, weights = normal_nodes(self.latent)
        return sum(weight * f(Given(point[None])) for point, weight in zip(points, weights))

    def decoder(self):
        """W (D, d), b (D,) and the variance: x = W z + b + noise."""
        b = self.model.decode(np.zeros((1, self.latent))).mean[0]
        W = self.model.decode(np.eye(self.latent)).mean - b
        return W.T, b, math.exp(self.model.log_var)

    def log_evidence(self):
        """log N(x; b, W W^T + variance I)."""
        W, b, variance = self.decoder()
        return log_density(self.x, b, W @ W.T + variance * np.eye(len(b)))[0]

    def posterior(self):
        """Mean and covariance of p(z | x). Source: Bishop 2006, eq. 2.116."""
        W, b, variance = self.decoder()
        covariance = np.linalg.inv(np.eye(self.latent) + W.T @ W / variance)
        return covariance @ W.T @ (self.x[0] - b) / variance, covariance


@st.composite
def linear(draw):
    D, d = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    made = VAE.mlp(Generator(0), (D,), d, hidden=(), likelihood="gaussian", mean=0.0)
    return Linear(tree.map(lambda leaf: draw(vectors(leaf.shape, -1, 1)), made), draw(vectors((1, D))))


@elbo.equal(
    "model_elbo",
    r"\mathbb{E}_\epsilon[\mathtt{VAE.elbo}(x)] + \mathrm{KL}(q \,\|\, p(z \mid x)) = \log p(x)",
    because="the first step, for Gaussians: the mean over the noise by quadrature, the others in closed form",
    source="Kingma & Welling 2014, eq. 10",
    instances=linear(),
)
def model_elbo(m):
    q = m.model.encode(m.x)
    missing = divergence(q.mean[0], np.diag(np.exp(q.log_var[0])), *m.posterior())
    return m.mean_over_noise(lambda rng: m.model.elbo(m.x, rng).nats[0]) + missing, m.log_evidence()


@model_elbo.wrong("samples with exp(log_var) for the standard deviation", published=True)
def _(m):
    q = m.model.encode(m.x)
    missing = divergence(q.mean[0], np.diag(np.exp(2 * q.log_var[0])), *m.posterior())
    return m.mean_over_noise(lambda rng: m.model.elbo(m.x, rng).nats[0]) + missing, m.log_evidence()


@elbo.equal(
    "model_closed_form",
    r"\mathbb{E}_\epsilon[\log q(z) - \log p(z)] = \mathrm{KL}(q \,\|\, p(z)), \quad z = \mu + \sigma \epsilon",
    because="the KL in closed form and the one estimated from the same sample have one mean",
    instances=linear(),
)
def model_closed_form(m):
    def terms(closed_form):
        return m.mean_over_noise(lambda rng: m.model.elbo_terms(m.x, rng, closed_form)[1][0])

    return terms(False), terms(True)


@model_closed_form.wrong("the closed form with half of its log-variance")
def _(m):
    q = m.model.encode(m.x)

    def terms(closed_form):
        return m.mean_over_noise(lambda rng: m.model.elbo_terms(m.x, rng, closed_form)[1][0])

    return terms(False), terms(True) + 0.25 * q.log_var.sum()


@dataclass
class Weighted:
    """A linear VAE with its example, and noise (k, 1, d) for k samples."""

    linear: Linear
    noise: np.ndarray

    def log_weights(self, deviation=lambda log_var: np.exp(0.5 * log_var)):
        """log p(x, z_i) - log q(z_i | x), (k,), where (x, z) is one Gaussian, with the covariance of all its numbers."""
        W, b, variance = self.linear.decoder()
        x, d, q = self.linear.x, self.linear.latent, self.linear.model.encode(self.linear.x)
        z = q.mean + deviation(q.log_var) * self.noise[:, 0]
        covariance = np.block([[W @ W.T + variance * np.eye(len(b)), W], [W.T, np.eye(d)]])
        both = np.concatenate([np.broadcast_to(x, (len(z), len(b))), z], axis=1)
        joint = log_density(both, np.append(b, np.zeros(d)), covariance)
        return joint - log_density(z, q.mean[0], np.diag(np.exp(q.log_var[0])))

    def of_model(self):
        """IWAE's bound, and the estimate of log p(x) that decodes the same k samples twice."""
        model, x, k = self.linear.model, self.linear.x, len(self.noise)
        bounds = model.iwae(x, Given(self.noise), k), model.log_prob_estimate(x, Given(self.noise), 2 * k, k)
        return np.array([bound.nats[0] for bound in bounds])


@st.composite
def weighted(draw):
    m = draw(linear())
    return Weighted(m, draw(vectors((draw(st.integers(1, 4)), 1, m.latent))))


@elbo.equal(
    "model_iwae",
    r"\mathtt{VAE.iwae}(x) = \log \frac{1}{k} \sum_i w_i, \quad w_i = \frac{p(x, z_i)}{q(z_i \mid x)},"
    r"\ z_i = \mu + \sigma \epsilon_i",
    because="p(x | z) p(z), as the decoder gives it, is the density of one Gaussian (x, z); the mean is that of the weights",
    source="Burda et al. 2016, eq. 8",
    instances=weighted(),
)
def model_iwae(m):
    return m.of_model(), np.full(2, math.log(np.exp(m.log_weights()).mean()))


@model_iwae.wrong("the mean of the logarithms: the ELBO of k samples")
def _(m):
    return m.of_model(), np.full(2, m.log_weights().mean())


@model_iwae.wrong("the sum of the weights where their mean belongs")
def _(m):
    return m.of_model(), np.full(2, math.log(np.exp(m.log_weights()).sum()))


@model_iwae.wrong("samples with exp(log_var) for the standard deviation")
def _(m):
    return m.of_model(), np.full(2, math.log(np.exp(m.log_weights(np.exp)).mean()))


@elbo.equal(
    "model_loss",
    r"\mathrm{loss} = \frac{1}{N} \sum_n \left(\beta\, \mathrm{KL}(q_n \,\|\, p) - \log p(x_n \mid z_n)\right)",
    because="what is descended in training: summed over pixels and latents, averaged over examples, the KL alone scaled",
    source="Higgins et al. 2017, eq. 4",
    instances=st.tuples(linear(), numbers(0, 4)),
)
def model_loss(instance):
    return trained_loss(*instance), by_parts(*instance)


@model_loss.wrong("the mean over pixels in the reconstruction", published=True)
def _(instance):
    m, beta = instance
    return trained_loss(m, beta), by_parts(m, beta, pixels=1 / m.x.shape[1])


@model_loss.wrong("the reconstruction scaled")
def _(instance):
    m, beta = instance
    return trained_loss(m, beta), by_parts(m, 1.0, pixels=beta)


@model_loss.wrong("the mean over latent dimensions, too")
def _(instance):
    m, beta = instance
    return trained_loss(m, beta), by_parts(m, beta / m.latent)


def two_examples(m):
    return np.concatenate([m.x, m.x[:, ::-1]])


def trained_loss(m, beta):
    """What a training step on two examples reports, with no noise in z."""
    step = vae.train_step(SGD(0.1), beta=beta)
    return step(begin(m.model, SGD(0.1)), two_examples(m), Given(0.0))[1]["loss"]


def by_parts(m, beta, pixels=1.0):
    (W, b, variance), losses = m.decoder(), []
    for x in two_examples(m):
        q = m.model.encode(x[None])
        kl = divergence(q.mean[0], np.diag(np.exp(q.log_var[0])), np.zeros(m.latent), np.eye(m.latent))
        reconstruction = log_density(x[None], W @ q.mean[0] + b, variance * np.eye(len(b)))[0]
        losses.append(beta * kl - pixels * reconstruction)
    return np.mean(losses)


@elbo.equal(
    "mean_over_pixels",
    r"\frac{1}{D} \log p(x \mid z) - \mathrm{KL} = \frac{1}{D}\left(\log p(x \mid z) - D \, \mathrm{KL}\right)",
    because="a mean over D pixels beside a sum over latents is an objective with beta = D, not 1",
    source="Higgins et al. 2017, eq. 4",
    instances=linear(),
)
def mean_over_pixels(m):
    reconstruction, divergence = m.model.elbo_terms(m.x, Given(np.zeros((1, m.latent))))
    q = m.model.encode(m.x)
    pixels = m.model.decode(q.mean).log_prob(m.x)
    D = m.x.shape[1]
    return pixels.mean() - divergence[0], (reconstruction[0] - D * divergence[0]) / D


@mean_over_pixels.wrong("beta taken as 1 / D")
def _(m):
    reconstruction, divergence = m.model.elbo_terms(m.x, Given(np.zeros((1, m.latent))))
    pixels, D = m.model.decode(m.model.encode(m.x).mean).log_prob(m.x), m.x.shape[1]
    return pixels.mean() - divergence[0], (reconstruction[0] - divergence[0] / D) / D
