r"""Why a network that was trained for a thousand noisy steps may be sampled in fifty, with any amount of noise, or with none.

What was trained depends on the marginals q(x_t | x_0) alone. Many processes have those marginals (Song et al. 2021):

    q(x_s | x_t, x_0) = N(sqrt(abar_s) x_0 + sqrt(1 - abar_s - sigma^2) eps, sigma^2 I),   s < t,  eps the noise within x_t

one for each sigma; DDPM's is one of them, and with sigma = 0 a step is a function, Euler's step of a differential equation.
A sampler with a network that is affine in x is affine in its noise: with one number of the noise at a time put to 1, its runs
tell mean and covariance of what it samples exactly.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from .. import ops
from ..autograd import grad
from ..backend import Generator
from ..models import ddpm as model
from .chain import Chain
from .exact import gauss_hermite
from .gaussian_kl import divergence
from .instances import numbers, vectors


@dataclass
class Sampler:
    """A schedule, some of its times (the last is T), eta, an example x_0, noise, and weights of a network (1, D)."""

    schedule: model.Schedule
    times: list
    eta: float
    x0: np.ndarray
    eps: np.ndarray
    a: np.ndarray
    b: np.ndarray

    @property
    def shape(self):
        return self.x0.shape[1:]

    @property
    def edge(self):
        """abar_s and abar_t of the first step that is taken, from t = T to the time s before it."""
        return self.schedule.abar[[0, *self.times][-2]], self.schedule.abar[self.schedule.T]

    @property
    def start(self):
        """x_T."""
        return self.marginal(self.schedule.T)[0] + self.marginal(self.schedule.T)[1] * self.eps

    def marginal(self, t):
        return self.schedule.marginal(self.x0, np.array([t]))

    def network(self, x, t, labels=None):
        """Not linear, different at each time (told by abar), and with slopes of at most 1/2."""
        t = np.round(t * self.schedule.T / 1000).astype(int)
        return 0.5 * np.tanh(self.a * x + self.b + self.schedule.abar[t][:, None])

    def knows(self, said, predicts, schedule=None):
        """A DDPM whose network always says `said`, or is it."""
        network = said if callable(said) else lambda x, t, labels: np.broadcast_to(said, x.shape)
        return model.DDPM(network, schedule or self.schedule, self.shape, predicts=predicts, variance="small")

    def ddim(self, made, rng=None, **settings):
        """The path of `steps_ddim`, (len(times) + 1, n, D)."""
        settings = {"times": self.times, "eta": self.eta, "start": self.start, **settings}
        return np.array([*made.steps_ddim(rng or Units(0, 1), 1, **settings)])


class Units:
    """In place of a random generator, for 1 + calls * D examples at once: row 0 is always given 0, and each other row gets 1
    for a single number, the next row for the next one."""

    def __init__(self, calls, D):
        self.rows, self.given = np.concatenate([np.zeros((1, calls * D)), np.eye(calls * D)]), 0

    def normal(self, shape, dtype=None):
        D = shape[-1]
        self.given += D
        return self.rows[:, self.given - D : self.given] if len(self.rows) > 1 else np.zeros(shape)


class Noise(Generator):
    """Random numbers in float64, also where a model asks for float32."""

    def normal(self, shape, dtype=None):
        return super().normal(shape, np.float64)


def law(path):
    """Mean (..., D) and covariance (..., D, D) of a path (..., 1 + units, D) that is affine in its units."""
    mean = path[..., 0, :]
    columns = path[..., 1:, :] - mean[..., None, :]
    return mean, np.swapaxes(columns, -1, -2) @ columns


def joined(*parts):
    return np.concatenate([*map(np.ravel, parts)])


@st.composite
def samplers(draw, steepest=0.9):
    T = draw(st.integers(1, 6))
    earlier = draw(st.sets(st.integers(1, T - 1))) if T > 1 else []
    D = draw(st.integers(1, 3))
    schedule = model.Schedule(draw(vectors(T, 0.02, steepest)))
    return Sampler(schedule, [*sorted(earlier), T], draw(numbers(0, 1)), *(draw(vectors((1, D))) for _ in range(2)),
                   draw(vectors((1, D), -1, 1)), draw(vectors((1, D), -1, 1)))  # fmt: skip


@dataclass
class Edge:
    """Two levels of noise, sigma as a part of the most that is possible, and what a process of x_0 and x_t is made of."""

    abar_s: float
    abar_t: float
    part: float
    x0: np.ndarray
    said: np.ndarray
    eps: np.ndarray

    @property
    def sigma(self):
        return self.part * math.sqrt(1 - self.abar_s)

    @property
    def xt(self):
        return math.sqrt(self.abar_t) * self.x0 + math.sqrt(1 - self.abar_t) * self.eps

    def mean(self, x0, xt):
        """Of q(x_s | x_t, x_0)."""
        _, eps = model.both_from("x0", x0, xt, self.abar_t)
        return math.sqrt(self.abar_s) * x0 + math.sqrt(1 - self.abar_s - self.sigma**2) * eps


@st.composite
def edges(draw):
    abar_s = draw(numbers(0.02, 0.98))
    abar_t = abar_s * draw(numbers(0.05, 0.98))
    D = draw(st.integers(1, 3))
    return Edge(abar_s, abar_t, draw(numbers(0.05, 0.98)), *(draw(vectors(D)) for _ in range(3)))


ddim = Chain(
    "ddim",
    "Sampling a diffusion model in fewer steps and with less noise: a family of processes with the same marginals.",
    "Song et al. 2021 (DDIM)",
    samplers(),
)


@ddim.equal(
    "any_sigma",
    r"\int q_\sigma(x_s \mid x_t, x_0)\, q(x_t \mid x_0)\, dx_t = \mathcal{N}(\sqrt{\bar\alpha_s}\, x_0, (1 - \bar\alpha_s) I)",
    because="what is left of the old noise has variance 1 - abar_s - sigma^2, the new one sigma^2: independent, so they add",
    source="Song et al. 2021 (DDIM), lemma 1",
    instances=edges(),
)
def any_sigma(e):
    return moments(e, e.mean), joined(math.sqrt(e.abar_s) * e.x0, np.full(len(e.x0), 1 - e.abar_s))


def moments(e, mean):
    """Mean and variance (D,) of x_s, where mean(x_0, x_t) is its mean given x_t, by a quadrature over x_t."""
    z, w = gauss_hermite()
    xt = math.sqrt(e.abar_t) * e.x0 + math.sqrt(1 - e.abar_t) * z[:, None]
    means = mean(e.x0, xt)
    return joined(w @ means, w @ (means - w @ means) ** 2 + e.sigma**2)


@any_sigma.wrong("the old noise kept whole, and the new one added")
def _(e):
    def mean(x0, xt):
        return math.sqrt(e.abar_s) * x0 + math.sqrt(1 - e.abar_s) * model.both_from("x0", x0, xt, e.abar_t)[1]

    return moments(e, mean), joined(math.sqrt(e.abar_s) * e.x0, np.full(len(e.x0), 1 - e.abar_s))


@any_sigma.wrong("sigma taken off where its square belongs")
def _(e):
    def mean(x0, xt):
        kept = math.sqrt(max(1 - e.abar_s - e.sigma, 0))
        return math.sqrt(e.abar_s) * x0 + kept * model.both_from("x0", x0, xt, e.abar_t)[1]

    return moments(e, mean), joined(math.sqrt(e.abar_s) * e.x0, np.full(len(e.x0), 1 - e.abar_s))


@ddim.equal(
    "same_training",
    r"\mathrm{KL}(q_\sigma(x_s \mid x_t, x_0) \,\|\, q_\sigma(x_s \mid x_t, \hat x_0)) = \frac{1}{2 \sigma^2}"
    r"\left(\frac{\sqrt{\bar\alpha_s (1 - \bar\alpha_t)}}{\sqrt{\bar\alpha_t}} - \sqrt{1 - \bar\alpha_s - \sigma^2}\right)^2"
    r" |\epsilon - \hat\epsilon|^2",
    because="the means differ by a multiple of the error in eps: the best network is the same for each sigma",
    source="Song et al. 2021 (DDIM), theorem 1",
    instances=edges(),
)
def same_training(e):
    kept = math.sqrt(1 - e.abar_s - e.sigma**2)
    weight = (math.sqrt(e.abar_s * (1 - e.abar_t) / e.abar_t) - kept) ** 2 / (2 * e.sigma**2)
    return missed(e), weight * np.sum((e.eps - e.said) ** 2)


def missed(e):
    """The divergence between the step that knows x_0 and the one that believes eps to be `said`."""
    guess, _ = model.both_from("eps", e.said, e.xt, e.abar_t)
    covariance = e.sigma**2 * np.eye(len(e.x0))
    return divergence(e.mean(e.x0, e.xt), covariance, e.mean(guess, e.xt), covariance)


@same_training.wrong("eps moved with x_0 held fast, though both are guessed together")
def _(e):
    return missed(e), (1 - e.abar_s - e.sigma**2) * np.sum((e.eps - e.said) ** 2) / (2 * e.sigma**2)


@same_training.wrong("the weight 1 of the simple loss")
def _(e):
    return missed(e), np.sum((e.eps - e.said) ** 2)


@ddim.equal(
    "one_step",
    r"x_s = a\, x_0 + b\, x_t + \sigma z,\quad b = \sqrt{\frac{1 - \bar\alpha_s - \sigma^2}{1 - \bar\alpha_t}},\quad"
    r" a = \sqrt{\bar\alpha_s} - b \sqrt{\bar\alpha_t},\quad \sigma^2 = \eta^2\, \mathrm{Var}(x_s \mid x_t, x_0)",
    because="the two coefficients that the marginals demand; eta = 1 is what DDPM's posterior has left, by precisions that add",
    source="Song et al. 2021 (DDIM), eq. 12 and 16",
)
def one_step(d):
    return first_step(d), expected_step(d, d.eta**2)


def first_step(d):
    """Mean and covariance of what steps_ddim comes to first, from x_T, where the network knows x_0."""
    mean, covariance = law(d.ddim(d.knows(d.x0, "x0"), Units(len(d.times), d.x0.size), start=start_of(d)))
    return joined(mean[1], covariance[1])


def start_of(d):
    return np.repeat(d.start, 1 + len(d.times) * d.x0.size, axis=0)


def expected_step(d, share):
    before, after = d.edge
    kept = after / before  # the share of the signal's variance that passes from s to t
    variance = 0.0 if before == 1 else share / (1 / (1 - before) + kept / (1 - kept))
    b = math.sqrt((1 - before - variance) / (1 - after))
    return joined((math.sqrt(before) - b * math.sqrt(after)) * d.x0 + b * d.start, variance * np.eye(d.x0.size))


@one_step.wrong("eta where its square belongs")
def _(d):
    return first_step(d), expected_step(d, d.eta)


@ddim.equal(
    "all_marginals",
    r"x_T \sim q(x_T \mid x_0) \ \Rightarrow \ x_t \sim \mathcal{N}(\sqrt{\bar\alpha_t}\, x_0, (1 - \bar\alpha_t) I)"
    r"\ \mathrm{at\ each\ time\ of\ DDIM}",
    because="induction from T downwards: each step keeps the marginals, whatever eta is and whichever times are left out",
    source="Song et al. 2021 (DDIM), lemma 1",
)
def all_marginals(d):
    start, std = d.marginal(d.schedule.T)
    return sampled(d, start, std), true_marginals(d)


def sampled(d, start, std):
    """Means and covariances at all times from x_T ~ N(start, std^2), where the network knows x_0."""
    units = Units(len(d.times) + 1, d.x0.size)
    made = d.knows(d.x0, "x0")
    return joined(*law(d.ddim(made, units, start=start + std * units.normal(d.x0.shape))))


def true_marginals(d):
    means, variances = zip(*((d.marginal(t)[0][0], d.marginal(t)[1].item() ** 2) for t in [*d.times[::-1], 0]))
    return joined(means, [v * np.eye(d.x0.size) for v in variances])


@all_marginals.wrong("from x_T ~ N(0, I), as samplers do: right only once abar_T is 0")
def _(d):
    return sampled(d, 0.0, 1.0), true_marginals(d)


@all_marginals.wrong("eps_hat read as a prediction of x_0")
def _(d):
    start, std = d.marginal(d.schedule.T)
    units = Units(len(d.times) + 1, d.x0.size)
    made = d.knows(d.x0, "eps")
    return joined(*law(d.ddim(made, units, start=start + std * units.normal(d.x0.shape)))), true_marginals(d)


@ddim.equal(
    "eta_one",
    r"\eta = 1,\ \mathrm{all\ times}: \quad \mathrm{DDIM} = \mathrm{DDPM}",
    because="the same marginals, and the posterior's variance: it is DDPM's ancestral sampler, from equal random numbers",
)
def eta_one(d):
    made = d.knows(d.network, "v")
    return ancestral(made), np.array([*made.steps_ddim(Noise(7), 3, d.schedule.T, eta=1.0)])


def ancestral(made):
    return np.array([*made.steps(Noise(7), 3)])


@eta_one.wrong("with beta_t for the variance: that is no member of the family")
def _(d):
    made = d.knows(d.network, "v")
    return ancestral(replace(made, variance="large")), np.array([*made.steps_ddim(Noise(7), 3, d.schedule.T, eta=1.0)])


@eta_one.wrong("noise added at the last step too", published=True)
def _(d):
    made = d.knows(d.network, "v")
    path, rng = ancestral(made), Noise(7)
    *_, noise = [rng.normal((3, *d.shape)) for _ in range(d.schedule.T + 1)]
    path[-1] += d.schedule.beta[1] ** 0.5 * noise
    return path, np.array([*made.steps_ddim(Noise(7), 3, d.schedule.T, eta=1.0)])


@ddim.equal(
    "fewer_steps",
    r"\eta = 1,\ \mathrm{some\ times}: \quad \mathrm{DDIM} = \mathrm{DDPM\ with}\ \beta'_t = 1 - \bar\alpha_t / \bar\alpha_s",
    because="x at some of the times is a diffusion itself, with the abar of those times",
    source="Song et al. 2021 (DDIM), section 4.2; Nichol & Dhariwal 2021, eq. 19",
)
def fewer_steps(d):
    made = d.knows(d.x0, "x0")
    return np.array([*made.steps_ddim(Noise(7), 3, d.times, eta=1.0)]), ancestral(coarse(d, 1 - ratios(d)))


def coarse(d, beta):
    return d.knows(d.x0, "x0", model.Schedule(beta))


def ratios(d):
    """abar_t / abar_s for consecutive times."""
    abar = d.schedule.abar[[0, *d.times]]
    return abar[1:] / abar[:-1]


@fewer_steps.wrong("the betas of those times, as if no noise had come in between")
def _(d):
    made = d.knows(d.x0, "x0")
    beta = d.schedule.beta[d.times]
    return np.array([*made.steps_ddim(Noise(7), 3, d.times, eta=1.0)]), ancestral(coarse(d, beta))


# Without noise: a function, and a differential equation


@ddim.equal(
    "euler",
    r"\eta = 0: \quad \bar x_s = \bar x_t + (\sigma_s - \sigma_t)\, \hat\epsilon(x_t, t),\quad"
    r" \bar x = x / \sqrt{\bar\alpha},\ \sigma = \sqrt{(1 - \bar\alpha) / \bar\alpha}",
    because="divide x_s by sqrt(abar_s) and put x0_hat = xbar_t - sigma_t eps_hat: Euler's step, in sigma in place of time",
    source="Song et al. 2021 (DDIM), eq. 13 and 14",
)
def euler(d):
    return noiseless(d), eulers_steps(d, lambda abar: math.sqrt((1 - abar) / abar))


def noiseless(d):
    return d.ddim(d.knows(d.network, "eps"), eta=0.0)[:, 0]


def eulers_steps(d, level):
    path = [d.start]
    for s, t in zip([*d.times[-2::-1], 0], d.times[::-1]):
        before, after = d.schedule.abar[s], d.schedule.abar[t]
        eps = d.network(path[-1], np.array([t * 1000 / d.schedule.T]))
        path.append(math.sqrt(before) * (path[-1] / math.sqrt(after) + (level(before) - level(after)) * eps))
    return np.array(path)[:, 0]


@euler.wrong("sigma the standard deviation of x itself, not of x / sqrt(abar)")
def _(d):
    return noiseless(d), eulers_steps(d, lambda abar: math.sqrt(1 - abar))


@euler.wrong("steps in the variance sigma^2")
def _(d):
    return noiseless(d), eulers_steps(d, lambda abar: (1 - abar) / abar)


@ddim.equal(
    "turn",
    r"x_s = \cos(\theta_t - \theta_s)\, x_t - \sin(\theta_t - \theta_s)\, \hat v(x_t, t), \quad \bar\alpha = \cos^2 \theta",
    because="(x_t, v) is (x_0, eps) turned by theta_t; x_s is what x_0 and eps give when turned by theta_s only",
    source="Salimans & Ho 2022, appendix D",
)
def turn(d):
    return d.ddim(d.knows(d.network, "v"), eta=0.0)[:, 0], turned(d, -1)


def turned(d, sign):
    angle, path = np.arccos(np.sqrt(d.schedule.abar)), [d.start]
    for s, t in zip([*d.times[-2::-1], 0], d.times[::-1]):
        v, by = d.network(path[-1], np.array([t * 1000 / d.schedule.T])), angle[t] - angle[s]
        path.append(math.cos(by) * path[-1] + sign * math.sin(by) * v)
    return np.array(path)[:, 0]


@turn.wrong("turned the other way, towards the noise")
def _(d):
    return d.ddim(d.knows(d.network, "v"), eta=0.0)[:, 0], turned(d, 1)


@ddim.equal(
    "way_back",
    r"\mathrm{DDIM}(\mathrm{DDIM}^{-1}(x_0)) = x_0 \quad (\eta = 0)",
    because="a turn by a small angle has an inverse: x_t <- (x_s + sin(a) v(x_t)) / cos(a) contracts if |tan(a)| |v'| < 1",
    instances=samplers(steepest=0.4),
)
def way_back(d):
    return there_and_back(d, 100), d.x0


def there_and_back(d, iterations):
    made = d.knows(d.network, "v")
    times = list(range(1, d.schedule.T + 1))
    latent = made.to_latent(d.x0, times, iterations=iterations)
    return made.sample_ddim(None, 1, times, start=latent)


@way_back.wrong("one iteration: the network asked at x_s for what it says at x_t", published=True)
def _(d):
    return there_and_back(d, 1), d.x0


# The limit of many small steps, for Gaussian data, where the flow is known


@dataclass
class Flow:
    """Data N(m, s^2) in one dimension, abar(u) = cos^2(c u) for u in 0 .. 1, a number x at u = 1, and a time u."""

    m: float
    s: float
    c: float
    x: float
    u: float

    def abar(self, u):
        return ops.cos(self.c * u) ** 2

    def noise(self, x, u):
        """E[eps | x_u]."""
        abar = self.abar(u)
        return (1 - abar) ** 0.5 * (x - abar**0.5 * self.m) / (abar * self.s**2 + 1 - abar)

    def ddim(self, n, x):
        """steps_ddim from u = 1 to 0 in n equal steps."""
        abar = self.abar(np.arange(n + 1) / n)
        made = model.DDPM(lambda x, t, labels: self.noise(x, t[0] / 1000), model.Schedule(1 - abar[1:] / abar[:-1]), (1,))
        return made.sample_ddim(None, len(x), n, start=np.reshape(x, (-1, 1)))[:, 0]

    def limit(self, n=4, doublings=6):
        """What ddim(n) tends to as n grows, by Romberg's extrapolation: the error is a power series in 1 / n."""
        row = [self.ddim(n * 2**k, [self.x]) for k in range(doublings + 1)]
        for order in range(1, len(row)):
            row = [finer + (finer - coarser) / (2**order - 1) for coarser, finer in zip(row, row[1:])]
        return row[0]

    def at_one(self):
        """Mean and standard deviation of x at u = 1."""
        abar = math.cos(self.c) ** 2
        return math.sqrt(abar) * self.m, math.sqrt(abar * self.s**2 + 1 - abar)


@st.composite
def flows(draw):
    return Flow(draw(numbers(-2, 2)), math.exp(draw(numbers(-0.7, 0.7))), draw(numbers(0.3, 1.4)), draw(numbers()),
                draw(numbers(0.1, 1)))  # fmt: skip


@ddim.grad_equal(
    "differential_equation",
    r"\frac{d}{du} \left(\sqrt{\bar\alpha}\, \hat x_0 + \sqrt{1 - \bar\alpha}\, \hat\epsilon\right)"
    r" = -\frac{\beta}{2} \left(x + \nabla \log p_u(x)\right), \quad \beta = -\frac{d \log \bar\alpha}{du}",
    because="a small step moves x along this line; the score is -eps_hat / sqrt(1 - abar): the probability-flow equation",
    source="Song et al. 2021 (DDIM), proposition 1; Song et al. 2021 (score SDE), eq. 13",
    instances=flows(),
)
def differential_equation(f):
    return line(f), lambda u: slope(f, 0.5) * u, np.array(f.u)


def line(f):
    """Where a step of DDIM from x at time f.u would come to at time u."""
    x0, eps = model.both_from("eps", f.noise(f.x, f.u), f.x, f.abar(f.u))
    return lambda u: f.abar(u) ** 0.5 * x0 + (1 - f.abar(u)) ** 0.5 * eps


def slope(f, share):
    """-beta (x / 2 + share * score), with the score from the density of x at time f.u."""
    abar = f.abar(f.u)
    mean, variance = math.sqrt(abar) * f.m, abar * f.s**2 + 1 - abar
    score = grad(lambda x: -0.5 * (x - mean) ** 2 / variance)(np.array(f.x))
    beta = 2 * f.c * math.tan(f.c * f.u)
    return -beta * (0.5 * f.x + share * score)


@differential_equation.wrong("the whole score, the drift of the reverse process, which needs its noise")
def _(f):
    return line(f), lambda u: slope(f, 1.0) * u, np.array(f.u)


@differential_equation.wrong("the sign of the score turned")
def _(f):
    return line(f), lambda u: slope(f, -0.5) * u, np.array(f.u)


@ddim.equal(
    "limit",
    r"n \to \infty: \quad \frac{x_0 - m}{s} = \frac{x_T - \sqrt{\bar\alpha_T}\, m}"
    r"{\sqrt{\bar\alpha_T s^2 + 1 - \bar\alpha_T}}",
    because="the flow of Gaussian data keeps how many standard deviations x is from the mean, so it carries p_T into the data",
    source="Song et al. 2021 (DDIM), section 4.3",
    instances=flows(),
)
def limit(f):
    mean, std = f.at_one()
    return f.limit(), np.array([f.m + f.s * (f.x - mean) / std])


@limit.wrong("x_T taken for a number of N(0, 1)")
def _(f):
    return f.limit(), np.array([f.m + f.s * f.x])


@limit.wrong("eps_hat counted twice, the reverse process without its noise")
def _(f):
    mean, std = f.at_one()
    return f.limit(), np.array([f.m + f.s**2 * math.cos(f.c) * (f.x - mean) / std**2])


@ddim.at_most(
    "few_steps_narrow",
    r"\mathrm{std}(x_0)\ \mathrm{after\ few\ steps} \le s",
    because="along the flow the width is sqrt(s^2 + sigma^2), convex in sigma; Euler goes by tangents, which lie below it",
    instances=flows(),
)
def few_steps_narrow(f):
    return [width(f, n) for n in (1, 2, 3, 10)], np.full(4, f.s)


def width(f, n):
    """The standard deviation of x_0, where x_T has its true distribution: the slope of a linear map."""
    mean, std = f.at_one()
    low, high = f.ddim(n, [mean, mean + std])
    return high - low


@few_steps_narrow.wrong("wider, as one would expect of an error")
def _(f):
    return np.full(4, f.s), [width(f, n) for n in (1, 2, 3, 10)]
