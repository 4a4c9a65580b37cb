r"""Denoising diffusion, from one noisy step to the squared error that is trained, and what the bound has to do with it.

Everything in it is Gaussian, so every expectation here is exact. The schedule, the conversions, the bound and the loss are the
functions of models/ddpm.py; in place of a network stands one whose answer is known.
"""

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from ..models import ddpm as model
from .chain import Chain
from .exact import Given, gauss_hermite
from .gaussian_kl import divergence, log_density
from .instances import numbers, vectors


@dataclass
class Diffusion:
    """A schedule, a time t in 2 .. T, an example x_0 (1, D), noise, and what a network may say of it."""

    schedule: model.Schedule
    t: int
    x0: np.ndarray
    eps: np.ndarray
    said: np.ndarray

    @property
    def time(self):
        return np.array([self.t])

    @property
    def abar(self):
        return self.schedule.abar[self.t]

    @property
    def beta(self):
        return self.schedule.beta[self.t]

    @property
    def xt(self):
        """By the closed form of the marginal."""
        mean, std = self.schedule.marginal(self.x0, self.time)
        return mean + std * self.eps

    def model(self, network=None, **settings):
        """A DDPM whose network says what `said` is, or another one."""
        settings = {"predicts": "eps", "variance": "small", **settings}
        return model.DDPM(network or (lambda x, t, labels: self.said), self.schedule, self.x0.shape[1:], **settings)

    def distance(self, a, b):
        return float(np.sum((a - b) ** 2))


@st.composite
def diffusions(draw, most=3):
    T = draw(st.integers(2, 6))
    schedule = model.Schedule(draw(vectors(T, 0.02, 0.9)))
    D = draw(st.integers(1, most))
    return Diffusion(schedule, draw(st.integers(2, T)), *(draw(vectors((1, D))) for _ in range(3)))


ddpm = Chain(
    "ddpm",
    "Diffusion: the marginal, the posterior, the variational bound, and how it becomes the mean squared error of a network.",
    "Ho et al. 2020",
    diffusions(),
)


@ddpm.equal(
    "marginal",
    r"q(x_t \mid x_0) = \mathcal{N}\left(\sqrt{\bar\alpha_t}\, x_0, (1 - \bar\alpha_t) I\right),"
    r"\quad \bar\alpha_t = \prod_{s \le t} (1 - \beta_s)",
    because="a step scales mean and deviation by sqrt(1 - beta) and adds variance beta: two recursions, solved",
    source="Ho et al. 2020, eq. 4",
)
def marginal(d):
    mean, variance = d.x0[0], 0.0
    for beta in d.schedule.beta[1 : d.t + 1]:
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
    closed_mean, closed_std = d.schedule.marginal(d.x0, d.time)
    return np.append(mean, variance), np.append(closed_mean, closed_std**2)


@marginal.wrong("variances added without being scaled down by the later steps")
def _(d):
    mean, variance = d.x0[0], 0.0
    for beta in d.schedule.beta[1 : d.t + 1]:
        mean, variance = math.sqrt(1 - beta) * mean, variance + beta
    closed_mean, closed_std = d.schedule.marginal(d.x0, d.time)
    return np.append(mean, variance), np.append(closed_mean, closed_std**2)


@marginal.wrong("the mean scaled by 1 - beta instead of its root")
def _(d):
    mean, variance = d.x0[0], 0.0
    for beta in d.schedule.beta[1 : d.t + 1]:
        mean, variance = (1 - beta) * mean, (1 - beta) * variance + beta
    closed_mean, closed_std = d.schedule.marginal(d.x0, d.time)
    return np.append(mean, variance), np.append(closed_mean, closed_std**2)


def posterior_by_bayes(d):
    """Mean and variance of q(x_{t-1} | x_t, x_0), from a Gaussian prior and a Gaussian likelihood of x_{t-1}."""
    prior_mean, prior_std = d.schedule.marginal(d.x0, d.time - 1)
    precision = 1 / prior_std**2 + (1 - d.beta) / d.beta
    mean = (prior_mean / prior_std**2 + math.sqrt(1 - d.beta) * d.xt / d.beta) / precision
    return mean, 1 / precision


@ddpm.equal(
    "cosine",
    r"\bar\alpha_t = \prod_{s \le t} (1 - \beta_s) = \frac{f(t)}{f(0)},"
    r" \quad f(t) = \cos^2\left(\frac{\pi}{2} \cdot \frac{t / T + 0.008}{1.008}\right)",
    because="1 - beta_t = f(t) / f(t - 1), and the product telescopes; only the last step, where f is 0, is cut off at 0.999",
    source="Nichol & Dhariwal 2021, eq. 17",
    instances=st.integers(1, 200),
)
def cosine(T):
    return model.cosine(T).abar, squared_cosine(T, lambda f: f / f[0])


@cosine.wrong("not divided by f(0), so that there is noise at t = 0")
def _(T):
    return model.cosine(T).abar, squared_cosine(T, lambda f: f)


@cosine.wrong("f taken for the root of abar")
def _(T):
    return model.cosine(T).abar, squared_cosine(T, lambda f: (f / f[0]) ** 2)


def squared_cosine(T, abar):
    """abar of f, whose values are of 0 .. T, but for the last step."""
    curve = abar(np.array([math.cos(math.pi / 2 * (t / T + 0.008) / 1.008) ** 2 for t in range(T + 1)]))
    return np.append(curve[:T], 0.001 * curve[T - 1])


@ddpm.equal(
    "posterior",
    r"q(x_{t-1} \mid x_t, x_0) = \mathcal{N}(\tilde\mu_t, \tilde\beta_t I),"
    r"\quad \tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t} \beta_t",
    because="Bayes: q(x_{t-1} | x_0) is the prior, q(x_t | x_{t-1}) the likelihood; precisions add, means in their proportion",
    source="Ho et al. 2020, eq. 6 and 7",
)
def posterior(d):
    return np.concatenate([*map(np.ravel, posterior_by_bayes(d))]), joined(d.schedule.posterior(d.x0, d.xt, d.time))


@posterior.wrong("beta_t for the variance")
def _(d):
    mean, _ = d.schedule.posterior(d.x0, d.xt, d.time)
    return np.concatenate([*map(np.ravel, posterior_by_bayes(d))]), joined((mean, d.beta))


@posterior.wrong("x_0 and x_t exchanged in the mean")
def _(d):
    return np.concatenate([*map(np.ravel, posterior_by_bayes(d))]), joined(d.schedule.posterior(d.xt, d.x0, d.time))


def joined(parts):
    return np.concatenate([*map(np.ravel, parts)])


@ddpm.equal(
    "posterior_from_noise",
    r"\tilde\mu_t = \frac{1}{\sqrt{1 - \beta_t}} \left(x_t - \frac{\beta_t}{\sqrt{1 - \bar\alpha_t}}\, \epsilon\right)",
    because="put x_0 = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t) into the posterior's mean",
    source="Ho et al. 2020, eq. 11",
)
def posterior_from_noise(d):
    mean, _ = d.schedule.posterior(d.x0, d.xt, d.time)
    return mean, (d.xt - d.beta / math.sqrt(1 - d.abar) * d.eps) / math.sqrt(1 - d.beta)


@posterior_from_noise.wrong("the noise divided by 1 - abar_t instead of its root")
def _(d):
    mean, _ = d.schedule.posterior(d.x0, d.xt, d.time)
    return mean, (d.xt - d.beta / (1 - d.abar) * d.eps) / math.sqrt(1 - d.beta)


@ddpm.equal(
    "one_object",
    r"x_0 = \sqrt{\bar\alpha}\, x_t - \sqrt{1 - \bar\alpha}\, v,\quad"
    r" \epsilon = \sqrt{1 - \bar\alpha}\, x_t + \sqrt{\bar\alpha}\, v",
    because="(x_t, v) is (x_0, eps) turned by an angle of cosine sqrt(abar): beside x_t, each of x_0, eps, v gives the others",
    source="Salimans & Ho 2022, section 4",
)
def one_object(d):
    said = [model.both_from(kind, model.target(kind, d.x0, d.eps, d.abar), d.xt, d.abar) for kind in ("eps", "x0", "v")]
    return np.array(said), np.array([(d.x0, d.eps)] * 3)


@one_object.wrong("the sign of v turned")
def _(d):
    v = -model.target("v", d.x0, d.eps, d.abar)
    return np.array(model.both_from("v", v, d.xt, d.abar)), np.array((d.x0, d.eps))


@ddpm.equal(
    "turn",
    r"|x_t|^2 + |v|^2 = |x_0|^2 + |\epsilon|^2",
    because="a turn keeps lengths",
    source="Salimans & Ho 2022, appendix D",
)
def turn(d):
    v = model.target("v", d.x0, d.eps, d.abar)
    return np.sum(d.xt**2) + np.sum(v**2), np.sum(d.x0**2) + np.sum(d.eps**2)


@turn.wrong("v measured in units of its standard deviation")
def _(d):
    v = model.target("v", d.x0, d.eps, d.abar) / math.sqrt(1 - d.abar)
    return np.sum(d.xt**2) + np.sum(v**2), np.sum(d.x0**2) + np.sum(d.eps**2)


@ddpm.grad_equal(
    "score",
    r"\nabla_{x_t} \log q(x_t \mid x_0) = -\frac{\epsilon}{\sqrt{1 - \bar\alpha_t}}",
    because="the gradient of a Gaussian's log-density is minus the deviation over the variance",
    source="Song et al. 2021 (score SDE), section 2",
)
def score(d):
    mean, _ = d.schedule.marginal(d.x0, d.time)
    return (
        lambda x: (-0.5 / (1 - d.abar) * (x - mean) ** 2).sum(),
        lambda x: (x * (-d.eps / math.sqrt(1 - d.abar))).sum(),
        d.xt,
    )


@score.wrong("the noise itself, without its scale")
def _(d):
    mean, _ = d.schedule.marginal(d.x0, d.time)
    return lambda x: (-0.5 / (1 - d.abar) * (x - mean) ** 2).sum(), lambda x: (x * -d.eps).sum(), d.xt


@ddpm.equal(
    "denoising_term",
    r"\mathrm{KL}(q(x_{t-1} \mid x_t, x_0) \,\|\, p(x_{t-1} \mid x_t))"
    r" = \frac{1}{2 \tilde\beta_t} |\tilde\mu_t - \mu(x_t, t)|^2",
    because="two Gaussians of one variance: only their means differ",
    source="Ho et al. 2020, eq. 8",
)
def denoising_term(d):
    mean, variance = d.schedule.posterior(d.x0, d.xt, d.time)
    x0 = model.both_from("eps", d.said, d.xt, d.abar)[0]
    learned, _ = d.schedule.posterior(x0, d.xt, d.time)
    return d.model().bound_term(d.x0, d.time, d.eps)[0], d.distance(mean, learned) / (2 * variance.item())


@denoising_term.wrong("the half dropped")
def _(d):
    mean, variance = d.schedule.posterior(d.x0, d.xt, d.time)
    x0 = model.both_from("eps", d.said, d.xt, d.abar)[0]
    learned, _ = d.schedule.posterior(x0, d.xt, d.time)
    return d.model().bound_term(d.x0, d.time, d.eps)[0], d.distance(mean, learned) / variance.item()


@ddpm.equal(
    "weighted_noise",
    r"= \frac{\beta_t^2}{2 \tilde\beta_t (1 - \beta_t)(1 - \bar\alpha_t)} |\epsilon - \hat\epsilon(x_t, t)|^2",
    because="both means are x_t minus a multiple of a noise, by the form of the posterior above",
    source="Ho et al. 2020, eq. 12",
)
def weighted_noise(d):
    variance = (1 - d.schedule.abar[d.t - 1]) / (1 - d.abar) * d.beta
    weight = d.beta**2 / (2 * variance * (1 - d.beta) * (1 - d.abar))
    return d.model().bound_term(d.x0, d.time, d.eps)[0], weight * d.distance(d.eps, d.said)


@weighted_noise.wrong("the weight 1 of the simple loss")
def _(d):
    return d.model().bound_term(d.x0, d.time, d.eps)[0], d.distance(d.eps, d.said)


@ddpm.equal(
    "signal_to_noise",
    r"= \frac{1}{2} \left(\frac{\bar\alpha_{t-1}}{1 - \bar\alpha_{t-1}} - \frac{\bar\alpha_t}{1 - \bar\alpha_t}\right)"
    r" |x_0 - \hat x_0(x_t, t)|^2",
    because="as an error in x_0, the weight is by how much the signal-to-noise ratio falls: no more of the schedule is left",
    source="Kingma et al. 2021, eq. 13",
)
def signal_to_noise(d):
    def ratio(t):
        return d.schedule.abar[t] / (1 - d.schedule.abar[t])

    term = d.model(predicts="x0").bound_term(d.x0, d.time, d.eps)[0]
    return term, 0.5 * (ratio(d.t - 1) - ratio(d.t)) * d.distance(d.x0, d.said)


@signal_to_noise.wrong("the ratio of standard deviations instead of variances")
def _(d):
    def ratio(t):
        return math.sqrt(d.schedule.abar[t] / (1 - d.schedule.abar[t]))

    term = d.model(predicts="x0").bound_term(d.x0, d.time, d.eps)[0]
    return term, 0.5 * (ratio(d.t - 1) - ratio(d.t)) * d.distance(d.x0, d.said)


@ddpm.equal(
    "grey_levels",
    r"P(x_0 = g \mid x_1) = \frac{\mathcal{N}(g; \hat x_0, \beta_1)}{\sum_{g'} \mathcal{N}(g'; \hat x_0, \beta_1)},"
    r" \quad g \in \{-1, 0, 1\}",
    because="a probability for each level, whose sum is 1; at t = 1 the posterior's mean is x0_hat, clipped to their range",
    source="after Ho et al. 2020, section 3.3",
    instances=diffusions(most=1),
)
def grey_levels(d):
    return told_levels(d), weighed_levels(d)


@grey_levels.wrong("beta_1 taken for the standard deviation")
def _(d):
    return told_levels(d), weighed_levels(d, power=2)


@grey_levels.wrong("densities, which do not sum to 1")
def _(d):
    return told_levels(d), weighed_levels(d, total=math.sqrt(2 * math.pi * d.schedule.beta[1]))


GREYS = np.array([-1.0, 0.0, 1.0])


def told_levels(d):
    """What the model's bound charges for each grey level at t = 1, as probabilities."""
    made = d.model(predicts="x0", levels=len(GREYS))
    return np.exp([-made.bound_term(np.array([[g]]), np.array([1]), d.eps)[0] for g in GREYS])


def weighed_levels(d, power=1, total=None):
    weights = np.exp(-0.5 * (GREYS - np.clip(d.said.item(), -1, 1)) ** 2 / d.schedule.beta[1] ** power)
    return weights / (weights.sum() if total is None else total)


# Gaussian data, whose best denoiser is known


@dataclass
class GaussianData:
    """Data x_0 ~ N(0, s^2) in one dimension, and the denoiser E[x_0 | x_t]."""

    schedule: model.Schedule
    variance: float
    x0: np.ndarray

    def model(self, **settings):
        return model.DDPM(self.denoise, self.schedule, (1,), predicts="x0", **settings)

    def denoise(self, xt, t, labels):
        abar = self.schedule.abar[np.round(t * self.schedule.T / 1000).astype(int)][:, None]
        return abar**0.5 * self.variance / (abar * self.variance + 1 - abar) * xt

    def mean_bound(self, **settings):
        """The variational bound, its noise integrated by a Gauss-Hermite rule, exact for the quadratic functions that occur."""
        z, w = gauss_hermite()
        bounds = [self.model(**settings).bound(self.x0, Given(point)).nats[0] for point in z]
        return w @ bounds

    def log_density(self):
        return log_density(self.x0, np.zeros(1), np.array([[self.variance]]))[0]


@st.composite
def gaussian_data(draw):
    schedule = model.Schedule(draw(vectors(draw(st.integers(1, 6)), 0.02, 0.9)))
    return GaussianData(schedule, math.exp(draw(numbers(-2, 1))), draw(vectors((1, 1))))


@ddpm.at_most(
    "bound",
    r"\mathbb{E}_q\left[\log p(x_0 \mid x_1) - \sum_{t > 1} \mathrm{KL}_t - \mathrm{KL}(q(x_T \mid x_0) \,\|\, p)\right]"
    r" \le \log p(x_0)",
    because="this is an ELBO with z = (x_1, ..., x_T); where the model is the best there is for the data, on average over them",
    source="Ho et al. 2020, eq. 5",
    instances=gaussian_data(),
)
def bound(g):
    return averaged_over_data(g, lambda g: g.mean_bound(variance="large")), averaged_over_data(g, GaussianData.log_density)


@bound.wrong("the divergence of x_T from the prior left out")
def _(g):
    def without_prior(g):
        mean, std = g.schedule.marginal(g.x0, np.array([g.schedule.T]))
        return g.mean_bound(variance="large") + divergence(mean[0], std**2, np.zeros(1), np.eye(1))

    return averaged_over_data(g, without_prior), averaged_over_data(g, GaussianData.log_density)


@ddpm.equal(
    "variances",
    r"x_0 \sim \mathcal{N}(0, I): \ \mathrm{Var}(x_{t-1} \mid x_t) = \beta_t, \quad"
    r" x_0 = \mathrm{const}: \ \mathrm{Var}(x_{t-1} \mid x_t) = \tilde\beta_t",
    because="Bayes, with x_{t-1} ~ N(0, 1) as the prior and with q(x_{t-1} | x_0): the two choices are the two extremes",
    source="Ho et al. 2020, section 3.2",
    instances=diffusions(),
)
def variances(d):
    return chosen_variances(d, "large", "small"), true_variances(d)


@variances.wrong("the large for the small one")
def _(d):
    return chosen_variances(d, "small", "large"), true_variances(d)


def chosen_variances(d, *choices):
    return np.array([np.exp(d.model(variance=choice).reverse(d.xt, d.time).log_var).item() for choice in choices])


def true_variances(d):
    """1 / (1 / prior variance + precision of x_t given x_{t-1}), for data of variance 1 and 0."""
    before = d.schedule.abar[d.t - 1]
    return np.array([1 / (1 / (before * s + 1 - before) + (1 - d.beta) / d.beta) for s in (1, 0)])


@ddpm.equal(
    "exact_bound",
    r"L(x_0) = \log p(x_0) - \mathrm{KL}(q(x_{1 \ldots T} \mid x_0) \,\|\, p(x_{1 \ldots T} \mid x_0))",
    because="for a linear denoiser, both chains are Gaussians of T + 1 numbers: the bound, term by term, is an ELBO of theirs",
    source="Ho et al. 2020, eq. 3 and 5",
    instances=st.tuples(gaussian_data(), st.sampled_from(["small", "large"])),
)
def exact_bound(instance):
    g, variance = instance
    return g.mean_bound(variance=variance), by_matrices(g, variance)


@exact_bound.wrong("the log-density itself: no bound is that tight")
def _(instance):
    g, variance = instance
    return g.mean_bound(variance=variance), by_matrices(g, variance, divergence=lambda *gaussians: 0.0)


@exact_bound.wrong("the divergence the other way round")
def _(instance):
    g, variance = instance
    return g.mean_bound(variance=variance), by_matrices(g, variance, lambda a, A, b, B: divergence(b, B, a, A))


def by_matrices(g, variance, divergence=divergence):
    """log p(x_0) of the model and a divergence, from the covariances of x_0 .. x_T under p, and of x_1 .. x_T under q."""
    T, abar, beta = g.schedule.T, g.schedule.abar, g.schedule.beta
    P = np.zeros((T + 1, T + 1))  # of x_t, t = T .. 0: each is a multiple of the one above, and noise
    P[T, T] = 1.0
    for t in range(T, 0, -1):
        said = math.sqrt(abar[t]) * g.variance / (abar[t] * g.variance + 1 - abar[t])
        bridge = 1 / (1 / (1 - abar[t - 1]) + (1 - beta[t]) / beta[t]) if t > 1 else 0.0
        slope = (
            said if t == 1 else bridge * (math.sqrt(abar[t - 1]) * said / (1 - abar[t - 1]) + math.sqrt(1 - beta[t]) / beta[t])
        )
        P[t - 1, t:] = P[t:, t - 1] = slope * P[t, t:]
        P[t - 1, t - 1] = slope**2 * P[t, t] + (beta[t] if variance == "large" or t == 1 else bridge)
    x0, times = g.x0[0], np.arange(1, T + 1)
    earlier = np.minimum.outer(times, times)
    Q = np.sqrt(np.outer(abar[1:], abar[1:])) * (1 - abar[earlier]) / abar[earlier]
    given = P[1:, :1] / P[0, 0]
    posterior = P[1:, 1:] - given * P[:1, 1:]
    missing = divergence(np.sqrt(abar[1:]) * x0, Q, given[:, 0] * x0, posterior)
    return log_density(g.x0, np.zeros(1), P[:1, :1])[0] - missing


@ddpm.equal(
    "fewer_terms",
    r"\sum_t P(t)\, \frac{1}{P(t)}\, L_t = \sum_t L_t, \quad P(t) = \frac{\log(t + 1) - \log t}{\log(T + 1)}",
    because="one term, as likely as it tends to be large and divided by its odds, has the mean of all of them",
    source="importance sampling",
    instances=gaussian_data(),
)
def fewer_terms(g):
    return one_at_a_time(g, log_odds(g.schedule.T)), all_at_once(g)


@fewer_terms.wrong("every t as likely as every other")
def _(g):
    return one_at_a_time(g, np.full(g.schedule.T, 1 / g.schedule.T)), all_at_once(g)


@fewer_terms.wrong("the drawn term without its weight")
def _(g):
    terms = np.array([g.model().bound_term(g.x0, np.array([t]), np.ones((1, 1)))[0] for t in range(1, g.schedule.T + 1)])
    odds = log_odds(g.schedule.T)
    return one_at_a_time(g, odds), all_at_once(g) + terms.sum() - odds @ terms


def log_odds(T):
    return np.diff(np.log(np.arange(1, T + 2))) / math.log(T + 1)


def one_at_a_time(g, odds):
    """The mean of the bound by one term, where each t comes with those odds, and its uniform number is that of its middle."""
    ends = np.append(0, np.cumsum(log_odds(g.schedule.T)))
    bounds = [g.model().bound(g.x0, Given(1.0, u), terms=1).nats[0] for u in (ends[1:] + ends[:-1]) / 2]
    return odds @ bounds


def all_at_once(g):
    return g.model().bound(g.x0, Given(1.0)).nats[0]


def averaged_over_data(g, f):
    """E[f(x_0)] over the data, for quadratic f."""
    z, w = gauss_hermite()
    values = [f(GaussianData(g.schedule, g.variance, np.array([[g.variance**0.5 * point]]))) for point in z]
    return w @ values


@ddpm.equal(
    "simple_loss",
    r"\mathbb{E}_{t, \epsilon} |\epsilon - c\, x_t|^2 = \frac{1}{T} \sum_t \left((1 - c \sqrt{1 - \bar\alpha_t})^2"
    r" + c^2\, \bar\alpha_t\, x_0^2\right)",
    because="for the network c x_t, every mean over eps is known; t is uniform on 1 .. T, and all weights are 1",
    source="Ho et al. 2020, eq. 14",
    instances=st.tuples(gaussian_data(), numbers(-1, 1)),
)
def simple_loss(pair):
    g, c = pair
    abar = g.schedule.abar[1:]
    closed = np.mean((1 - c * np.sqrt(1 - abar)) ** 2 + c**2 * abar * g.x0.item() ** 2)
    return mean_loss(g, c), closed


@simple_loss.wrong("t counted from 0, where there is no noise, to T - 1")
def _(pair):
    g, c = pair
    abar = g.schedule.abar[:-1]
    return mean_loss(g, c), np.mean((1 - c * np.sqrt(1 - abar)) ** 2 + c**2 * abar * g.x0.item() ** 2)


def mean_loss(g, c):
    """DDPM.loss for the network x_t -> c x_t, with every t once and the noise integrated."""
    z, w = gauss_hermite()
    made = model.DDPM(lambda x, t, labels: c * x, g.schedule, (1,))
    T = g.schedule.T
    losses = [[made.loss(g.x0, Given(point, (t + 0.5) / T))[0] for point in z] for t in range(T)]
    return np.mean(losses @ w)
