r"""How a diffusion model is told what to make: Bayes' rule for scores, with a classifier, and without one.

    \nabla log p_t(x | y) = \nabla log p_t(x) + \nabla log p_t(y | x)                  the conditional score
    guided score          = \nabla log p_t(x) + w \nabla log p_t(y | x)                w = 0: no label, 1: the label, 2: twice

The data are Gaussian mixtures, their components sorted into classes: noise keeps them mixtures, so that every density, score,
classifier and best denoiser is known. DDPM gets these denoisers for a network; what it makes of them is its own affair.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from .. import ops
from ..autograd import grad
from ..models import ddpm as model
from .chain import Chain
from .exact import Given, gauss_hermite
from .instances import Mixture, mixtures, numbers, vectors


@dataclass
class Labelled:
    """A mixture whose component j is of class classes_j, a label y, a level of noise, a noisy x (D,), and a weight w."""

    data: Mixture
    classes: np.ndarray
    y: int
    abar: float
    x: np.ndarray
    w: float
    predicts: str

    @property
    def K(self):
        return self.classes.max() + 1

    def of(self, y):
        """p(x_0, y): the components of a class; all of them for y = K, which stands for no label."""
        return self.data.part(self.classes == y) if y < self.K else self.data

    def log_classifier(self, x, y=None):
        """log p_t(y | x)."""
        given = self.of(self.y if y is None else y)
        return given.at(self.abar).log_density(x) - self.data.at(self.abar).log_density(x)

    def noise(self, y, x=None):
        """E[eps | x_t, y]."""
        x = self.x if x is None else x
        return model.both_from("x0", self.of(y).denoised(x, self.abar), x, self.abar)[1]

    def network(self, x, t, labels):
        explained = [(self.of(y).denoised(row, self.abar), self.noise(y, row)) for row, y in zip(x, labels)]
        return np.array([model.target(self.predicts, x0, eps, self.abar) for x0, eps in explained])

    def model(self, **settings):
        """Its only noisy time is t = 1."""
        schedule, shape = model.Schedule([1 - self.abar]), self.x.shape
        return model.DDPM(self.network, schedule, shape, self.predicts, classes=self.K, **settings)

    def guided(self, w=None, **settings):
        """(x0_hat, eps_hat), by the model."""
        w = self.w if w is None else w
        return np.array(self.model(**settings).denoise(self.x[None], np.array([1]), np.array([self.y]), w))[:, 0]

    def free(self):
        """(x0_hat, eps_hat) from no label."""
        return np.array([self.data.denoised(self.x, self.abar), self.noise(self.K)])

    def conditional(self):
        return np.array([self.of(self.y).denoised(self.x, self.abar), self.noise(self.y)])


@st.composite
def labelled(draw, most=3):
    J, D = draw(st.integers(2, 5)), draw(st.integers(1, most))
    classes = np.array([0, 1, *(draw(st.integers(0, 2)) for _ in range(J - 2))])
    y, abar = draw(st.integers(0, classes.max())), draw(numbers(0.02, 0.98))
    if not (classes == y).any():
        y = 0
    return Labelled(draw(mixtures(J, D)), classes, y, abar, draw(vectors(D)), draw(numbers(-1, 8)),
                    draw(st.sampled_from(["eps", "x0", "v"])))  # fmt: skip


guidance = Chain(
    "guidance",
    "Guidance: Bayes' rule for scores, with a classifier of noisy examples, and with the one that two denoisers imply.",
    "Ho & Salimans 2022",
    labelled(),
)


@guidance.grad_equal(
    "bayes",
    r"\nabla \log p_t(x \mid y) = \nabla \log p_t(x) + \nabla \log p_t(y \mid x)",
    because="p(x | y) = p(x) p(y | x) / p(y), and p(y) does not depend on x",
    source="Dhariwal & Nichol 2021, section 4.2",
)
def bayes(g):
    return lambda x: (x * g.of(g.y).at(g.abar).score(g.x)).sum(), bayes_sum(g, g.log_classifier), g.x


def bayes_sum(g, told):
    """A function whose gradient at g.x is the score of p(x) and the gradient of what a classifier has told."""
    return lambda x: (x * g.data.at(g.abar).score(g.x)).sum() + told(x)


@bayes.wrong("the gradient of the probability, not of its logarithm")
def _(g):
    score = g.of(g.y).at(g.abar).score(g.x)
    return lambda x: (x * score).sum(), bayes_sum(g, lambda x: ops.exp(g.log_classifier(x))), g.x


@bayes.wrong("the classifier's loss, which is minus the logarithm")
def _(g):
    return lambda x: (x * g.of(g.y).at(g.abar).score(g.x)).sum(), bayes_sum(g, lambda x: -g.log_classifier(x)), g.x


@guidance.equal(
    "noisy_classifier",
    r"p_t(y \mid x_t) = \int p(y \mid x_0)\, p(x_0 \mid x_t)\, dx_0",
    because="the classifier in Bayes' rule is that of noisy examples: given x_0, x_t says no more about y",
    instances=labelled(most=1),
)
def noisy_classifier(g):
    posterior, told = clean_given_noisy(g)
    return math.exp(g.log_classifier(g.x)), posterior @ told


def clean_given_noisy(g):
    """p(x_0 | x_t) and p(y | x_0) on a grid of numbers x_0, wide and fine enough for the trapezoidal rule to be exact."""
    x0 = np.linspace(-16, 16, 600)[:, None]
    terms = g.data.weights / np.sqrt(g.data.variances) * np.exp(-0.5 * (x0 - g.data.means.T) ** 2 / g.data.variances)
    likelihood = -0.5 * ((g.x - math.sqrt(g.abar) * x0) ** 2)[:, 0] / (1 - g.abar)
    p = terms.sum(axis=1) * np.exp(likelihood - likelihood.max())
    return p / p.sum(), terms[:, g.classes == g.y].sum(axis=1) / np.maximum(terms.sum(axis=1), 1e-300)


@noisy_classifier.wrong("a classifier of clean examples asked about the noisy one")
def _(g):
    posterior, told = clean_given_noisy(g)
    return math.exp(replace(g, abar=1.0).log_classifier(g.x)), posterior @ told


@noisy_classifier.wrong("a classifier of clean examples asked about E[x_0 | x_t], as is done for want of a noisy one")
def _(g):
    posterior, told = clean_given_noisy(g)
    return math.exp(replace(g, abar=1.0).log_classifier(g.data.denoised(g.x, g.abar))), posterior @ told


@guidance.equal(
    "classifier_guidance",
    r"\hat\epsilon(x_t, y) = \hat\epsilon(x_t) - \sqrt{1 - \bar\alpha_t}\, \nabla \log p_t(y \mid x_t)",
    because="a score is minus eps_hat over sqrt(1 - abar); put that into Bayes' rule",
    source="Dhariwal & Nichol 2021, algorithm 2",
)
def classifier_guidance(g):
    return g.noise(g.y), g.noise(g.K) - math.sqrt(1 - g.abar) * grad(g.log_classifier)(g.x)


@classifier_guidance.wrong("the variance where the standard deviation belongs")
def _(g):
    return g.noise(g.y), g.noise(g.K) - (1 - g.abar) * grad(g.log_classifier)(g.x)


@classifier_guidance.wrong("the gradient added: away from the label")
def _(g):
    return g.noise(g.y), g.noise(g.K) + math.sqrt(1 - g.abar) * grad(g.log_classifier)(g.x)


@guidance.equal(
    "shifted_mean",
    r"\mathcal{N}(x; \mu, \Sigma)\, e^{g^\top x} \propto \mathcal{N}(x; \mu + \Sigma g, \Sigma)",
    because="complete the square: a step of ancestral sampling moves its mean by Sigma g, if log p(y | x) is linear there",
    source="Dhariwal & Nichol 2021, section 4.1",
    instances=st.tuples(vectors(3), vectors(3, 0.01, 2), vectors(3)),
)
def shifted_mean(instance):
    mean, variance, slope = instance
    return tilted(mean, variance, slope), np.array([mean + variance * slope, variance])


def tilted(mean, variance, slope):
    """Mean and variance under N(mean, variance) e^(slope x), by a Gauss-Hermite rule, for each of a few numbers."""
    z, w = gauss_hermite(80)
    x = mean + np.sqrt(variance) * z[:, None]
    p = w[:, None] * np.exp(slope * (x - mean))
    p = p / p.sum(axis=0)
    tilted_mean = (p * x).sum(axis=0)
    return np.array([tilted_mean, (p * (x - tilted_mean) ** 2).sum(axis=0)])


@shifted_mean.wrong("moved by the standard deviation times the gradient")
def _(instance):
    mean, variance, slope = instance
    return tilted(mean, variance, slope), np.array([mean + np.sqrt(variance) * slope, variance])


@shifted_mean.wrong("moved by the gradient itself")
def _(instance):
    mean, variance, slope = instance
    return tilted(mean, variance, slope), np.array([mean + slope, variance])


# Without a classifier


@guidance.equal(
    "labels_hidden",
    r"\mathbb{E}\, \mathrm{loss} = (1 - d)\, |\hat\epsilon(x_t, y) - \epsilon|^2 + d\, |\hat\epsilon(x_t) - \epsilon|^2",
    because="one network learns both: a label is hidden with probability d, and then the network is asked without one",
    source="Ho & Salimans 2022, algorithm 1",
    instances=st.tuples(labelled(), vectors(3), st.integers(0, 10)),
)
def labels_hidden(instance):
    g, eps, tenths = instance
    return mean_loss(g, eps[: len(g.x)], tenths / 10), two_losses(g, eps[: len(g.x)], tenths / 10)


def mean_loss(g, eps, drop):
    """DDPM.loss of the example g.x, its label hidden or not by each of 10 equally likely numbers."""
    losses = [g.model().loss(g.x[None], Given(eps, (k + 0.5) / 10), np.array([g.y]), drop)[0] for k in range(10)]
    return np.mean(losses)


def two_losses(g, eps, drop):
    xt = math.sqrt(g.abar) * g.x + math.sqrt(1 - g.abar) * eps
    errors = [g.network(xt[None], None, [label])[0] - model.target(g.predicts, g.x, eps, g.abar) for label in (g.y, g.K)]
    return (1 - drop) * np.mean(errors[0] ** 2) + drop * np.mean(errors[1] ** 2)


@labels_hidden.wrong("labels kept with that probability")
def _(instance):
    g, eps, tenths = instance
    return mean_loss(g, eps[: len(g.x)], tenths / 10), two_losses(g, eps[: len(g.x)], 1 - tenths / 10)


@guidance.equal(
    "mean_over_labels",
    r"\hat\epsilon(x_t) = \sum_y p_t(y \mid x_t)\, \hat\epsilon(x_t, y)",
    because="the best answer without the label is the mean over what the label may be, now that x_t has been seen",
)
def mean_over_labels(g):
    return g.noise(g.K), over_labels(g, lambda y: math.exp(g.log_classifier(g.x, y)))


def over_labels(g, probability):
    return sum(probability(y) * g.noise(y) for y in range(g.K) if (g.classes == y).any())


@mean_over_labels.wrong("by how frequent labels are, whatever x_t is")
def _(g):
    return g.noise(g.K), over_labels(g, lambda y: g.data.weights[g.classes == y].sum())


@guidance.equal(
    "weight_0",
    r"w = 0: \quad \hat\epsilon = -\sqrt{1 - \bar\alpha_t}\, \nabla \log p_t(x_t)",
    because="the label does not count: the score of all the data",
)
def weight_0(g):
    return g.guided(0)[1], -math.sqrt(1 - g.abar) * g.data.at(g.abar).score(g.x)


@weight_0.wrong("counted as in the paper, where 0 is the conditional model")
def _(g):
    return g.guided(0)[1], -math.sqrt(1 - g.abar) * g.of(g.y).at(g.abar).score(g.x)


@guidance.equal(
    "weight_1",
    r"w = 1: \quad \hat\epsilon = -\sqrt{1 - \bar\alpha_t}\, \nabla \log p_t(x_t \mid y)",
    because="the score of the examples with this label, by Bayes' rule",
)
def weight_1(g):
    return g.guided(1)[1], -math.sqrt(1 - g.abar) * g.of(g.y).at(g.abar).score(g.x)


@weight_1.wrong("the network asked without a label all the same")
def _(g):
    return g.guided(1)[1], -math.sqrt(1 - g.abar) * g.data.at(g.abar).score(g.x)


@guidance.grad_equal(
    "implicit_classifier",
    r"-\frac{(1 - w)\, \hat\epsilon(x_t) + w\, \hat\epsilon(x_t, y)}{\sqrt{1 - \bar\alpha_t}}"
    r" = \nabla \left(\log p_t(x_t) + w \log p_t(y \mid x_t)\right)",
    because="p(y | x) is p(x | y) p(y) / p(x): the two denoisers contain a classifier, and w is its exponent",
    source="Ho & Salimans 2022, section 3.2",
)
def implicit_classifier(g):
    return guided_score(g), sharpened(g, g.w), g.x


def guided_score(g):
    """A function whose gradient is the score that DDPM.denoise implies at g.x."""
    return lambda x: (x * g.guided()[1] / -math.sqrt(1 - g.abar)).sum()


def sharpened(g, w):
    return lambda x: g.data.at(g.abar).log_density(x) + w * g.log_classifier(x)


@implicit_classifier.wrong("w counted from the conditional model, as in the paper")
def _(g):
    return guided_score(g), sharpened(g, 1 + g.w), g.x


@implicit_classifier.wrong("the conditional density and a classifier besides")
def _(g):
    return guided_score(g), lambda x: g.of(g.y).at(g.abar).log_density(x) + g.w * g.log_classifier(x), g.x


@guidance.equal(
    "one_mixture",
    r"(\hat x_0, \hat\epsilon)_w = (1 - w)\, (\hat x_0, \hat\epsilon) + w\, (\hat x_0, \hat\epsilon)_y",
    because="x_0, eps and v are affine functions of each other, and the weights sum to 1: any of the three may be mixed",
    source="Ho & Salimans 2022, eq. 6",
)
def one_mixture(g):
    return g.guided(), (1 - g.w) * g.free() + g.w * g.conditional()


@one_mixture.wrong("the weighted difference, without what it should be added to")
def _(g):
    return g.guided(), g.w * (g.conditional() - g.free())


@one_mixture.wrong("w times the conditional on top of the unconditional")
def _(g):
    return g.guided(), g.free() + g.w * g.conditional()


@guidance.equal(
    "clipped",
    r"x_t = \sqrt{\bar\alpha_t}\, \mathrm{clip}(\hat x_0) + \sqrt{1 - \bar\alpha_t}\, \hat\epsilon",
    because="guidance drives x_0 out of its range; clipped, it needs an eps_hat of its own to be an explanation of x_t still",
)
def clipped(g):
    x0, eps = g.guided(levels=256)
    return g.x, math.sqrt(g.abar) * np.clip(x0, -1, 1) + math.sqrt(1 - g.abar) * eps


@clipped.wrong("eps_hat left as it was", published=True)
def _(g):
    x0, eps = g.guided()
    return g.x, math.sqrt(g.abar) * np.clip(x0, -1, 1) + math.sqrt(1 - g.abar) * eps


@dataclass
class Nested:
    """Labels y ~ N(0, between), examples x_0 ~ N(y, within), the label 0, a level of noise and a weight of at least 1."""

    within: float
    between: float
    abar: float
    w: float

    def guided_precision(self):
        """Of the Gaussian whose score DDPM.denoise follows."""

        def network(x, t, labels):
            variance = self.within + np.where(labels == 1, self.between, 0)[:, None]
            return math.sqrt(1 - self.abar) / (self.abar * variance + 1 - self.abar) * x

        made = model.DDPM(network, model.Schedule([1 - self.abar]), (1,), classes=1)
        _, eps = made.denoise(np.ones((1, 1)), np.array([1]), np.array([0]), self.w)
        return eps.item() / math.sqrt(1 - self.abar)

    def noised_precision(self):
        """Of x_t, where x_0 is from p(x_0) p(y | x_0)^w."""
        variance = 1 / ((1 - self.w) / (self.within + self.between) + self.w / self.within)
        return 1 / (self.abar * variance + 1 - self.abar)


@guidance.at_most(
    "no_diffusion",
    r"1 \le w: \quad -\nabla^2 \log \int q(x_t \mid x_0)\, p(x_0)\, p(y \mid x_0)^w dx_0"
    r" \le -\nabla^2 \log p_t(x_t)\, p_t(y \mid x_t)^w",
    because="a Gaussian's precision under noise is a concave function of it: guided scores belong to no noised density",
    source="Bradley & Nakkiran 2024",
    instances=st.builds(Nested, numbers(0.1, 2), numbers(0.1, 3), numbers(0.05, 0.95), numbers(1, 8)),
)
def no_diffusion(n):
    return n.noised_precision(), n.guided_precision()


@no_diffusion.wrong("as if guidance sampled from p(x_0) p(y | x_0)^w: equal, so also the other way round")
def _(n):
    return n.guided_precision(), n.noised_precision()
