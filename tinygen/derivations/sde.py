r"""Diffusion in continuous time: noise as a stochastic differential equation, and the equations that run it backwards.

    dx = f(x, u) du + g(u) dW,      u in 0 .. 1,    and its density p_u obeys  dp/du = -div(f p) + g^2/2 Laplace p

    VP      f = -beta x / 2,  g^2 = beta        what DDPM becomes in the limit of many steps
    VE      f = 0,            g^2 = d sigma^2 / du

The data are Gaussian mixtures, which both equations keep mixtures. What p_u obeys is checked for its logarithm,

    d log p/du = -div f - f . s + g^2/2 (div s + |s|^2),    s = grad log p

whose left side is a derivative by time and whose right side holds derivatives by place: both are exact, by autograd.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from .. import ops
from ..autograd import grad, jacobian
from ..models import ddpm as model
from .chain import Chain
from .instances import Mixture, mixtures, numbers, vectors


@dataclass
class VP:
    """dx = -beta(u) x / 2 du + sqrt(beta(u)) dW, beta from low to high in a straight line."""

    low: float
    high: float

    def drift(self, x, u):
        return -0.5 * self.rate(u) * x

    def rate(self, u):
        """g^2."""
        return self.low + (self.high - self.low) * u

    def abar(self, u):
        return ops.exp(-(self.low * u + (self.high - self.low) * u * u / 2))

    def at(self, data, u):
        return data.at(self.abar(u))


@dataclass
class VE:
    """dx = sqrt(d sigma^2 / du) dW, sigma(u) from low to high, its logarithm in a straight line."""

    low: float
    high: float

    def drift(self, x, u):
        return 0.0 * x

    def rate(self, u):
        return 2 * math.log(self.high / self.low) * self.sigma(u) ** 2

    def sigma(self, u):
        return self.low * ops.exp(u * math.log(self.high / self.low))

    def at(self, data, u):
        return replace(data, variances=data.variances + self.sigma(u) ** 2 - self.low**2)


@dataclass
class Process:
    """An equation, data, a time u and a place x (D,)."""

    equation: object
    data: Mixture
    u: float
    x: np.ndarray

    def log_density(self, x, u=None):
        return self.equation.at(self.data, np.array(self.u) if u is None else u).log_density(x)

    def score(self, x):
        return grad(self.log_density)(x)

    def change(self):
        """d log p / du."""
        return grad(lambda u: self.log_density(self.x, u))(np.array(self.u))

    def drift(self, share):
        """x -> f - share * g^2 * score."""
        return lambda x: self.equation.drift(x, self.u) - share * self.equation.rate(self.u) * self.score(x)

    def spread(self, drift, noise=1.0, time=1.0):
        """d log p / du by the Fokker-Planck equation of time * drift du + noise * g dW."""
        s, rate = self.score(self.x), noise**2 * self.equation.rate(self.u)
        flow = divergence(drift, self.x) + drift(self.x) @ s
        return -time * flow + 0.5 * rate * (divergence(self.score, self.x) + s @ s)


def divergence(f, x):
    return np.trace(jacobian(f)(x))


vp = st.builds(VP, numbers(0.1, 1), numbers(0.1, 6))
ve = st.builds(VE, numbers(0.1, 0.5), numbers(0.6, 4))
either = st.one_of(vp, ve)


@st.composite
def processes(draw, most=3, equations=either):
    J, D = draw(st.integers(1, 3)), draw(st.integers(1, most))
    return Process(draw(equations), draw(mixtures(J, D)), draw(numbers(0, 1)), draw(vectors(D)))


sde = Chain(
    "sde",
    "Diffusion in continuous time: kernels, the limit of DDPM, the way back with noise and without it, and its likelihood.",
    "Song et al. 2021 (score SDE)",
    processes(),
)


NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)


def integral(f, end):
    r"""\int_0^end f(s) ds, by a Gauss-Legendre rule that leaves no error to see for smooth f."""
    return end / 2 * WEIGHTS @ f(end / 2 * (NODES + 1))


@sde.equal(
    "vp_kernel",
    r"x_u \mid x_0 \sim \mathcal{N}\left(\sqrt{\bar\alpha}\, x_0, 1 - \bar\alpha\right), \quad"
    r" \bar\alpha = e^{-\int \beta}, \quad 1 - \bar\alpha = \int_0^u e^{-\int_s^u \beta}\, \beta(s)\, ds",
    because="the mean decays at the rate beta / 2; noise that came in at s has decayed since, and its variance twice as fast",
    source="Song et al. 2021 (score SDE), appendix B",
    instances=processes(equations=vp),
)
def vp_kernel(p):
    return kernel(p, 1.0), vp_by_integrals(p, 1.0)


def kernel(p, size):
    """Mean and variance of x_u for x_0 = size, by `at`."""
    found = p.equation.at(Mixture(np.ones(1), np.full((1, 1), size), np.zeros(1)), p.u)
    return np.array([found.means[0, 0], found.variances[0]])


def vp_by_integrals(p, decay):
    """The same from the rates alone."""
    total = integral(p.equation.rate, p.u)
    left = np.vectorize(lambda s: total - integral(p.equation.rate, s))
    return np.array([
        math.exp(-total / 2), integral(lambda s: np.exp(-decay * left(s)) * p.equation.rate(s), p.u)
    ])  # fmt: skip


@vp_kernel.wrong("noise that does not decay")
def _(p):
    return kernel(p, 1.0), vp_by_integrals(p, 0.0)


@vp_kernel.wrong("its variance decaying as the mean does")
def _(p):
    return kernel(p, 1.0), vp_by_integrals(p, 0.5)


@sde.equal(
    "ve_kernel",
    r"x_u \mid x_0 \sim \mathcal{N}\left(x_0, \sigma(u)^2 - \sigma(0)^2\right), \quad"
    r" g^2 = 2 \log(\sigma_1 / \sigma_0)\, \sigma^2",
    because="without a drift variances only add up, and the rate of sigma^2 is 2 sigma sigma'",
    source="Song et al. 2021 (score SDE), appendix B",
    instances=processes(equations=ve),
)
def ve_kernel(p):
    return kernel(p, 1.0), np.array([1.0, integral(p.equation.rate, p.u)])


@ve_kernel.wrong("the 2 of the derivative of a square dropped")
def _(p):
    return kernel(p, 1.0), np.array([1.0, integral(p.equation.rate, p.u) / 2])


@sde.equal(
    "limit_of_ddpm",
    r"T \to \infty: \quad \bar\alpha_{uT} = \prod_{t \le uT} (1 - \beta_t) \to e^{-\int_0^u \beta(s) ds},"
    r"\quad \beta(s) = 0.1 + 19.9\, s",
    because="T times beta_t is a function of t / T, and log(1 - beta) is -beta but for terms whose sum vanishes as 1 / T",
    source="Song et al. 2021 (score SDE), section 3.4",
    instances=st.integers(1, 8),
)
def limit_of_ddpm(eighths):
    return log_abar(eighths), ops.log(VP(0.1, 20.0).abar(np.array(eighths / 8)))


def log_abar(eighths):
    """Of the linear schedule after so many eighths of its steps, as T tends to infinity."""
    return extrapolated([math.log(model.linear(T).abar[T * eighths // 8]) for T in (1000, 2000, 4000, 8000, 16000)])


def extrapolated(row):
    """The limit of a power series in h whose values are known at h, h/2, h/4, ... (Romberg)."""
    for order in range(1, len(row)):
        row = [finer + (finer - coarser) / (2**order - 1) for coarser, finer in zip(row, row[1:])]
    return row[0]


@limit_of_ddpm.wrong("that of T = 1000 taken for the limit")
def _(eighths):
    return math.log(model.linear(1000).abar[125 * eighths]), ops.log(VP(0.1, 20.0).abar(np.array(eighths / 8)))


@limit_of_ddpm.wrong("abar for the decay of the mean, which is its root")
def _(eighths):
    return log_abar(eighths), 0.5 * ops.log(VP(0.1, 20.0).abar(np.array(eighths / 8)))


@sde.equal(
    "one_process",
    r"\nabla \log p^{VP}(x) = \frac{1}{\sqrt{\bar\alpha}} \nabla \log p^{VE}\left(\frac{x}{\sqrt{\bar\alpha}}\right),"
    r" \quad \sigma^2 = \frac{1 - \bar\alpha}{\bar\alpha}",
    because="x / sqrt(abar) is x_0 and noise of variance (1 - abar) / abar: both equations describe one process in other units",
    instances=processes(equations=vp),
)
def one_process(p):
    a, exploded = exploding(p)
    return p.score(p.x), exploded.score(p.x / a) / a


def exploding(p):
    """sqrt(abar), and the data with noise of variance (1 - abar) / abar added to it."""
    abar = p.equation.abar(p.u)
    return math.sqrt(abar), replace(p.data, variances=p.data.variances + (1 - abar) / abar)


@one_process.wrong("the score in the units of x / sqrt(abar)")
def _(p):
    a, exploded = exploding(p)
    return p.score(p.x), exploded.score(p.x / a)


@sde.equal(
    "fokker_planck",
    r"\partial_u \log p = -\nabla \cdot f - f \cdot s + \frac{g^2}{2} \left(\nabla \cdot s + |s|^2\right)",
    because="probability is carried along by f and flows down its own gradient at the rate g^2 / 2",
)
def fokker_planck(p):
    return p.change(), p.spread(p.drift(0.0))


@fokker_planck.wrong("noise counted with g^2 instead of its half")
def _(p):
    return p.change(), p.spread(p.drift(0.0), noise=math.sqrt(2))


@sde.equal(
    "reverse",
    r"-\partial_u \log p = -\nabla \cdot r - r \cdot s + \frac{g^2}{2} \left(\nabla \cdot s + |s|^2\right),"
    r" \quad r = -(f - g^2 s)",
    because="time turned round, the same noise spreads p once more; the drift g^2 s takes back both, as div(p s) is Laplace p",
    source="Anderson 1982; Song et al. 2021 (score SDE), eq. 6",
)
def reverse(p):
    return -p.change(), p.spread(p.drift(1.0), time=-1.0)


@reverse.wrong("half of the score, with all of the noise")
def _(p):
    return -p.change(), p.spread(p.drift(0.5), time=-1.0)


@reverse.wrong("the drift of the forward equation, turned round")
def _(p):
    return -p.change(), p.spread(p.drift(0.0), time=-1.0)


@sde.equal(
    "probability_flow",
    r"\partial_u \log p = -\nabla \cdot v - v \cdot s, \quad v = f - \frac{g^2}{2} s",
    because="Laplace p = div(p s): noise moves probability as the velocity -g^2/2 s would, without any noise",
    source="Song et al. 2021 (score SDE), eq. 13",
)
def probability_flow(p):
    return p.change(), p.spread(p.drift(0.5), noise=0.0)


@probability_flow.wrong("the reverse equation with its noise left out")
def _(p):
    return p.change(), p.spread(p.drift(1.0), noise=0.0)


@sde.equal(
    "any_noise",
    r"-\partial_u \log p = -\nabla \cdot r - r \cdot s + \frac{\lambda^2 g^2}{2} \left(\nabla \cdot s + |s|^2\right),"
    r" \quad r = -\left(f - \frac{1 + \lambda^2}{2}\, g^2 s\right)",
    because="half of the score undoes the forward noise, and lambda^2 of the other half the noise on the way back: DDIM's eta",
    source="Karras et al. 2022, appendix B",
    instances=st.tuples(processes(), numbers(0, 2)),
)
def any_noise(instance):
    p, lam = instance
    return -p.change(), p.spread(p.drift((1 + lam**2) / 2), noise=lam, time=-1.0)


@any_noise.wrong("lambda where its square belongs")
def _(instance):
    p, lam = instance
    return -p.change(), p.spread(p.drift((1 + lam) / 2), noise=lam, time=-1.0)


@sde.equal(
    "reverse_step_of_ddpm",
    r"\beta_t \to 0: \quad \frac{\mathbb{E}[x_{t-1} \mid x_t] - x_t}{\beta_t} \to \frac{x_t}{2} + s(x_t)",
    because="DDPM's reverse step is one of the reverse equation: -(f - g^2 s) with f = -x/2, g = 1, in time measured by beta",
    source="Song et al. 2021 (score SDE), appendix E",
    instances=processes(equations=vp).filter(lambda p: p.u > 0.2),
)
def reverse_step_of_ddpm(p):
    return ancestral_drift(p), p.x / 2 + p.score(p.x)


def ancestral_drift(p):
    """Of DDPM.reverse with the best denoiser, from steps of 1/16, 1/32, ... that end at abar(u)."""

    def drift(beta):
        abar = float(p.equation.abar(p.u))

        def network(x, t, labels):
            return np.array([p.data.denoised(row, abar) for row in x])

        schedule = model.Schedule([1 - abar / (1 - beta), beta])
        made = model.DDPM(network, schedule, p.x.shape, predicts="x0")
        return (made.reverse(p.x[None], np.array([2])).mean[0] - p.x) / beta

    largest = min(1 / 16, (1 - float(p.equation.abar(p.u))) / 4)
    return extrapolated([drift(largest / 2**k) for k in range(7)])


@reverse_step_of_ddpm.wrong("half of the score, the drift of the flow without noise")
def _(p):
    return ancestral_drift(p), p.x / 2 + p.score(p.x) / 2


# Along the flow, in one dimension


def flowed(p, share=0.5, steps=(20, 40)):
    """x at u = 1 that starts from p.x at 0 with velocity f - share * g^2 s, and the integral of its divergence.

    By Runge and Kutta's method of fourth order, extrapolated from two numbers of steps.
    """

    def velocity(state, u):
        now, rate = p.equation.at(p.data, u), p.equation.rate(u)
        shares, slopes = now.shares(state[:1]), (now.means[:, 0] - state[0]) / now.variances
        s = shares @ slopes
        curvature = shares @ (slopes**2 - 1 / now.variances) - s**2
        # the divergence of f, which is linear in x, is f(1)
        return np.array([p.equation.drift(state[0], u) - share * rate * s, p.equation.drift(1.0, u) - share * rate * curvature])

    def run(n):
        state, h = np.array([p.x[0], 0.0]), 1 / n
        for k in range(n):
            a = velocity(state, k * h)
            b = velocity(state + h / 2 * a, (k + 0.5) * h)
            c = velocity(state + h / 2 * b, (k + 0.5) * h)
            d = velocity(state + h * c, (k + 1) * h)
            state = state + h / 6 * (a + 2 * b + 2 * c + d)
        return state

    coarse, fine = map(run, steps)
    return fine + (fine - coarse) / 15


def log_density(p, x, u):
    return p.log_density(np.array([x]), np.array(float(u)))


def rank(p, x, u):
    """P(x_u <= x)."""
    now = p.equation.at(p.data, u)
    return now.weights @ [0.5 * math.erfc((m - x) / math.sqrt(2 * v)) for m, v in zip(now.means[:, 0], now.variances)]


@sde.equal(
    "ranks",
    r"P(x_0 \le x(0)) = P(x_1 \le x(1)), \quad \dot x = v(x, u)",
    because="the flow carries p_0 into p_1, and on a line nothing can overtake: of all the data the same part stays below x",
    instances=processes(most=1),
    rounding=1e-7,  # of the integration
)
def ranks(p):
    return rank(p, p.x[0], 0), rank(p, flowed(p)[0], 1)


@ranks.wrong("the whole score: the reverse equation with its noise left out")
def _(p):
    return rank(p, p.x[0], 0), rank(p, flowed(p, share=1.0)[0], 1)


@sde.equal(
    "likelihood",
    r"\log p_0(x(0)) = \log p_1(x(1)) + \int_0^1 \nabla \cdot v(x(u), u)\, du",
    because="along the flow the terms v . s cancel: log p changes by minus the divergence, as volumes grow by it",
    source="Chen et al. 2018, theorem 1; Song et al. 2021 (score SDE), eq. 39",
    instances=processes(most=1),
    rounding=1e-6,  # of the integration
)
def likelihood(p):
    x, total = flowed(p)
    return log_density(p, p.x[0], 0), log_density(p, x, 1) + total


@likelihood.wrong("the divergence subtracted")
def _(p):
    x, total = flowed(p)
    return log_density(p, p.x[0], 0), log_density(p, x, 1) - total


@likelihood.wrong("the density carried along as if volumes were kept")
def _(p):
    return log_density(p, p.x[0], 0), log_density(p, flowed(p)[0], 1)


@sde.at_most(
    "forgetting",
    r"\mathrm{KL}(p_u \,\|\, \mathcal{N}(0, 1)) \le \bar\alpha(u)\, \mathrm{KL}(p_0 \,\|\, \mathcal{N}(0, 1))",
    because="by the logarithmic Sobolev inequality KL falls at least at the rate beta: a sampler may start from N(0, 1)",
    source="Gross 1975",
    instances=processes(most=1, equations=vp),
)
def forgetting(p):
    return from_normal(p, p.u), p.equation.abar(p.u) * from_normal(p, 0)


def from_normal(p, u):
    """KL(p_u || N(0, 1)), by the trapezoidal rule."""
    now, x = p.equation.at(p.data, u), np.linspace(-16, 16, 1500)
    terms = np.exp(-0.5 * (x[:, None] - now.means[:, 0]) ** 2 / now.variances)
    q = terms @ (now.weights / np.sqrt(2 * math.pi * now.variances))
    ratio = np.log(np.maximum(q, 1e-300)) + 0.5 * x**2 + 0.5 * math.log(2 * math.pi)
    return np.sum(q * ratio) * (x[1] - x[0])


@forgetting.wrong("at twice the rate, as variances do")
def _(p):
    return from_normal(p, p.u), p.equation.abar(p.u) ** 2 * from_normal(p, 0)
