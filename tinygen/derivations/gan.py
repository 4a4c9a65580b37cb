r"""What the two players of a GAN compute: a divergence between p_data and p_g, and which one, by the objective.

    V(D, G) = E_data[log s(D)] + E_g[log(1 - s(D))]       for a fixed G, a problem for each x alone: s(D*) = p / (p + q)
    V(D*, G) = 2 JSD(p_data, p_g) - log 4                 so the G that is best against it has p_g = p_data

Data and samples are N points each, from few places, so every expectation is a mean over a batch, as models/gan.py takes it; the
objectives are those of that file. The best D is not solved for, but searched for, by ever narrower intervals. Critics, whose
slope is bounded, are in the chain wasserstein; what R1 makes of the slope at the data stands at the end of this one.
"""

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from .. import ops
from ..autograd import grad, jacobian
from ..models import gan as model
from ..nn import Embedding
from .chain import Chain
from .exact import kl
from .instances import numbers, probabilities, vectors


@dataclass
class Game:
    """K places (K, d), data and samples (N,): indices of places; D is a table of K numbers."""

    places: np.ndarray
    data: np.ndarray
    samples: np.ndarray

    @property
    def p(self):
        """p_data, (K,)."""
        return np.bincount(self.data, minlength=len(self.places)) / len(self.data)

    @property
    def q(self):
        """p_g, (K,)."""
        return np.bincount(self.samples, minlength=len(self.places)) / len(self.samples)

    def loss(self, objective, table):
        """What D minimises, as the model computes it, of the batch as one-hot vectors."""
        batch = np.eye(len(table))[self.data], np.eye(len(table))[self.samples]
        return objective.discriminator_loss(lambda x: x @ table, *batch, None)[0]

    def best(self, objective):
        """The table that minimises it: the derivative rises with each entry, so that where it is 0 can be enclosed."""
        slope = grad(lambda d: (self.p * objective.real(d) + self.q * objective.fake(d)).sum())
        low, high, all_places = np.full(len(self.p), -8.0), np.full(len(self.p), 8.0), np.arange(len(self.p))
        for _ in range(10):
            tried = np.linspace(low, high, 41)
            falling = (slope(tried) < 0).sum(axis=0).clip(1, 40)
            low, high = tried[falling - 1, all_places], tried[falling, all_places]
        return (low + high) / 2


def jsd(p, q):
    """The mean divergence of p and q from their average."""
    return kl(p, (p + q) / 2) / 2 + kl(q, (p + q) / 2) / 2


@st.composite
def games(draw, least=1, most=4, N=20, overlap=True, dimensions=2):
    """With `overlap`, data and samples are at every place at least once."""
    K = draw(st.integers(least, most))
    N = draw(st.integers(K if overlap else (N + 1) // 2, N))
    some = st.lists(st.integers(0, K - 1), min_size=N, max_size=N).map(np.array)
    data, samples = draw(some), draw(some)
    if overlap:
        data[:K] = samples[:K] = np.arange(K)
    return Game(draw(vectors((K, dimensions))), data, samples)


gan = Chain(
    "gan",
    "The game of a GAN: what D is at its best, which divergence G then descends, and how R1 lets the game end.",
    "Goodfellow et al. 2014",
    games(),
)


@gan.equal(
    "best_answer",
    r"D^*(x) = \log \frac{p_\mathrm{data}(x)}{p_g(x)},"
    r"\quad s(D^*(x)) = \frac{p_\mathrm{data}(x)}{p_\mathrm{data}(x) + p_g(x)}",
    because="V is a sum over x of p log s(d) + q log(1 - s(d)), whose derivative p - (p + q) s(d) is 0 at one d",
    source="Goodfellow et al. 2014, proposition 1",
)
def best_answer(g):
    return g.best(model.MINIMAX), np.log(g.p / g.q)


@best_answer.wrong("the probability given where the logit is asked for")
def _(g):
    return g.best(model.MINIMAX), g.p / (g.p + g.q)


@best_answer.wrong("the labels of data and samples exchanged")
def _(g):
    return g.best(model.MINIMAX), np.log(g.q / g.p)


@gan.equal(
    "best_value",
    r"\max_D V(D, G) = 2\, \mathrm{JSD}(p_\mathrm{data}, p_g) - \log 4",
    because="put D* into V: p / (p + q) is half of p over the average of p and q, and each half gives a log 2",
    source="Goodfellow et al. 2014, theorem 1",
)
def best_value(g):
    return -g.loss(model.MINIMAX, g.best(model.MINIMAX)), 2 * jsd(g.p, g.q) - math.log(4)


@best_value.wrong("each divergence from the average counted half, as JSD itself does")
def _(g):
    return -g.loss(model.MINIMAX, g.best(model.MINIMAX)), jsd(g.p, g.q) - math.log(4)


@best_value.wrong("Jeffreys' divergence, of p and q from each other, in place of JSD")
def _(g):
    return -g.loss(model.MINIMAX, g.best(model.MINIMAX)), kl(g.p, g.q) + kl(g.q, g.p) - math.log(4)


@gan.at_most(
    "only_at_equality",
    r"-\log 4 + \mathrm{TV}^2 \le \max_D V(D, G), \quad \mathrm{TV} = \frac{1}{2} \sum_x\ |p_\mathrm{data}(x) - p_g(x)|",
    because="Pinsker: KL(p || m) >= 2 TV(p, m)^2, and p and q are both TV / 2 from their average; TV is 0 only for p = q",
    source="Goodfellow et al. 2014, theorem 1; Pinsker's inequality",
)
def only_at_equality(g):
    variation = np.abs(g.p - g.q).sum() / 2
    return variation**2 - math.log(4), -g.loss(model.MINIMAX, g.best(model.MINIMAX))


@only_at_equality.wrong("the half in the total variation forgotten")
def _(g):
    variation = np.abs(g.p - g.q).sum()
    return variation**2 - math.log(4), -g.loss(model.MINIMAX, g.best(model.MINIMAX))


@dataclass
class Classes:
    """Features h (N, d) of data of labels y (N,), p_data(y|x) and p_g(y|x) softmaxes of W h; r (N,), log p_data(x)/p_g(x)."""

    h: np.ndarray
    y: np.ndarray
    W_data: np.ndarray
    W_g: np.ndarray
    r: np.ndarray

    def d(self, h):
        """(N, 1): the part of the best D that does not look at y."""
        return (self.r - log_sum_exp(h @ self.W_data.T) + log_sum_exp(h @ self.W_g.T))[:, None]

    def judged(self, vectors):
        """D(x, y), as the model computes it."""
        return model.Projection(lambda x: x, self.d, Embedding(vectors))(self.h, self.y)

    def best(self):
        """log of p_data(x) p_data(y|x) over p_g(x) p_g(y|x)."""
        given = [np.log(np.asarray(ops.softmax(self.h @ W.T))[np.arange(len(self.y)), self.y]) for W in (self.W_data, self.W_g)]
        return self.r + given[0] - given[1]


def log_sum_exp(a):
    return np.log(np.exp(a).sum(axis=1))


@st.composite
def classes(draw):
    N, d, K = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(2, 4))
    y = np.array(draw(st.lists(st.integers(0, K - 1), min_size=N, max_size=N)))
    return Classes(draw(vectors((N, d))), y, draw(vectors((K, d))), draw(vectors((K, d))), draw(vectors(N)))


@gan.equal(
    "projection",
    r"\log \frac{p_\mathrm{data}(x, y)}{p_g(x, y)} = d(h) + \langle v_y, h \rangle, \quad v_y = w_y^\mathrm{data} - w_y^g",
    because="p(x, y) = p(y|x) p(x), and log p(y|x) = <w_y, h> - log sum exp: all but the first term is the same for every y",
    source="Miyato & Koyama 2018, eq. 3 and 4",
    instances=classes(),
)
def projection(c):
    return c.judged(c.W_data - c.W_g), c.best()


@projection.wrong("the classes' vectors taken for data alone, as a classifier's would be")
def _(c):
    return c.judged(c.W_data), c.best()


@projection.wrong("the vector of another class")
def _(c):
    return c.judged(np.roll(c.W_data - c.W_g, 1, axis=0)), c.best()


# What G does about it


@st.composite
def told(draw):
    """A linear D(x) = a x + c, as sure as |c| = 40, one z, and a generator z + theta: (a, c, z, theta)."""
    d = draw(st.integers(1, 3))
    return draw(vectors((d, 1))), draw(numbers(-40, 40)), draw(vectors((1, d))), draw(vectors(d))


def pull(objective, instance):
    """The gradient of G's loss with respect to theta, and D's probability that the sample is data."""
    a, c, z, theta = instance
    probability = 1 / (1 + math.exp(-((z + theta) @ a).item() - c))
    return grad(lambda t: objective.generator_loss(lambda z: z + t, lambda x: (x @ a)[:, 0] + c, z))(theta), probability


@gan.equal(
    "saturation",
    r"\nabla_\theta \log(1 - s(d)) = -s(d) \nabla_\theta d, \quad -\nabla_\theta \log s(d) = -(1 - s(d)) \nabla_\theta d",
    because="s' = s (1 - s): where D is sure of a sample, s = 0, minimax has no gradient and non-saturating has all of it",
    source="Goodfellow et al. 2014, section 3",
    instances=told(),
)
def saturation(instance):
    minimax, s = pull(model.MINIMAX, instance)
    other, s = pull(model.NON_SATURATING, instance)
    a = instance[0][:, 0]
    return np.array([minimax, other]), np.array([-s * a, -(1 - s) * a])


@saturation.wrong("the two objectives exchanged: minimax taken for the one that pulls where D is sure")
def _(instance):
    minimax, s = pull(model.MINIMAX, instance)
    other, s = pull(model.NON_SATURATING, instance)
    a = instance[0][:, 0]
    return np.array([minimax, other]), np.array([-(1 - s) * a, -s * a])


@saturation.wrong("the non-saturating loss with its sign turned, by which G helps D")
def _(instance):
    other, s = pull(model.NON_SATURATING, instance)
    return other, (1 - s) * instance[0][:, 0]


@gan.equal(
    "never_saturates",
    r"\nabla_\theta \frac{1}{2} (d - 1)^2 = (d - 1) \nabla_\theta d, \quad \nabla_\theta (-d) = -\nabla_\theta d",
    because="G is drawn to the mark of data by how far it is from it, to a critic's higher marks evenly, however sure D is",
    source="Mao et al. 2017, eq. 9; Arjovsky et al. 2017, algorithm 1",
    instances=told(),
)
def never_saturates(instance):
    return pulls(instance), marked(instance, lambda d: d - 1, -1.0)


@never_saturates.wrong("the marks exchanged: G drawn to 0, what D says of samples")
def _(instance):
    return pulls(instance), marked(instance, lambda d: d, -1.0)


@never_saturates.wrong("the critic's sign turned: G lowers its marks, as the critic does")
def _(instance):
    return pulls(instance), marked(instance, lambda d: d - 1, 1.0)


def pulls(instance):
    return np.array([pull(objective, instance)[0] for objective in (model.LEAST_SQUARES, model.CRITIC)])


def marked(instance, least_squares, critic):
    """The slopes of two losses in d, times the gradient of d."""
    a, c, z, theta = instance
    return np.outer([least_squares(((z + theta) @ a).item() + c), critic], a[:, 0])


@st.composite
def mixtures(draw):
    """p_data, and a generator whose p_g is softmax(theta), (K,) each."""
    K = draw(st.integers(2, 5))
    return draw(probabilities(K)), draw(vectors(K))


def against_the_best(objective, p, theta):
    """theta -> E_g of G's loss, where D stays what was best before G moved."""
    best = np.log(p) - ops.log_softmax(theta)
    return lambda t: (ops.softmax(t) * objective.generator(best)).sum()


def kl_of(q, p):
    """KL(q || p) that autograd can differentiate."""
    return (q * (ops.log(q) - ops.log(p))).sum()


def jsd_of(q, p):
    middle = (q + p) / 2
    return (kl_of(q, middle) + kl_of(p, middle)) / 2


@gan.grad_equal(
    "minimax_descends",
    r"\nabla_\theta \mathbb{E}_g[\log(1 - s(D^*))] = \nabla_\theta\, 2\, \mathrm{JSD}(p_\mathrm{data}, p_g)",
    because="D* maximises V, so V's gradient by way of D* is 0: G may hold D fixed and still descend the maximum",
    source="Goodfellow et al. 2014, proposition 2",
    instances=mixtures(),
)
def minimax_descends(m):
    p, theta = m
    return against_the_best(model.MINIMAX, p, theta), lambda t: 2 * jsd_of(ops.softmax(t), p), theta


@minimax_descends.wrong("KL(p_g || p_data), half of what the average is there for")
def _(m):
    p, theta = m
    return against_the_best(model.MINIMAX, p, theta), lambda t: kl_of(ops.softmax(t), p), theta


@gan.grad_equal(
    "non_saturating_descends",
    r"-\nabla_\theta \mathbb{E}_g[\log s(D^*)] = \nabla_\theta"
    r" \left(\mathrm{KL}(p_g \,\|\, p_\mathrm{data}) - 2\, \mathrm{JSD}(p_\mathrm{data}, p_g)\right)",
    because="-log s = -d + (-log(1 - s)): E_g[-D*] is the KL, the other part is minus the step before",
    source="Arjovsky & Bottou 2017, theorem 2.5",
    instances=mixtures(),
)
def non_saturating_descends(m):
    p, theta = m

    def objective(t):
        return kl_of(ops.softmax(t), p) - 2 * jsd_of(ops.softmax(t), p)

    return against_the_best(model.NON_SATURATING, p, theta), objective, theta


@non_saturating_descends.wrong("the divergence that minimax descends: they have one fixed point, but not one gradient")
def _(m):
    p, theta = m
    return against_the_best(model.NON_SATURATING, p, theta), lambda t: 2 * jsd_of(ops.softmax(t), p), theta


@non_saturating_descends.wrong("the KL of maximum likelihood, which is the other way round")
def _(m):
    p, theta = m

    def objective(t):
        return kl_of(p, ops.softmax(t)) - 2 * jsd_of(ops.softmax(t), p)

    return against_the_best(model.NON_SATURATING, p, theta), objective, theta


@gan.equal(
    "pearson",
    r"\min_D L_D = \frac{1}{4} - \frac{1}{8} \chi^2, \quad \chi^2 = \sum_x \frac{(2 p_g - (p_\mathrm{data} + p_g))^2}"
    r"{p_\mathrm{data} + p_g}",
    because="D* = p / (p + q) leaves half the sum of p q / (p + q), and 4 p q = (p + q)^2 - (p - q)^2",
    source="Mao et al. 2017, section 3.2",
)
def pearson(g):
    return g.loss(model.LEAST_SQUARES, g.best(model.LEAST_SQUARES)), 1 / 4 - chi_squared(g.p + g.q, 2 * g.q) / 8


@pearson.wrong("divided by 2 p_g: Neyman's chi-squared")
def _(g):
    return g.loss(model.LEAST_SQUARES, g.best(model.LEAST_SQUARES)), 1 / 4 - chi_squared(2 * g.q, g.p + g.q) / 8


@pearson.wrong("D at the log-ratio, which is best for the logarithms")
def _(g):
    return g.loss(model.LEAST_SQUARES, g.best(model.MINIMAX)), 1 / 4 - chi_squared(g.p + g.q, 2 * g.q) / 8


@pearson.wrong("the codes -1, 1 of the paper's derivation where the model has 0, 1: four times the loss")
def _(g):
    return g.loss(model.LEAST_SQUARES, g.best(model.LEAST_SQUARES)), 1 - chi_squared(g.p + g.q, 2 * g.q) / 2


def chi_squared(p, q):
    """Pearson's: sum (q - p)^2 / p."""
    return np.sum((q - p) ** 2 / p)


# Where the game ends


@dataclass
class Penalised:
    """A quadratic critic x M x / 2 + b x on N pairs of images, (N, 2, 1); a weight, and uniform numbers."""

    M: np.ndarray
    b: np.ndarray
    real: np.ndarray
    fake: np.ndarray
    weight: float
    numbers: np.ndarray

    def uniform(self, shape, dtype=None):
        """In place of a random generator."""
        return np.resize(self.numbers, shape)

    def critic(self, x):
        x = ops.reshape(x, shape=(len(self.real), 2))
        return ((x @ self.M) * x).sum(axis=1) / 2 + x @ self.b

    def of_model(self, objective=model.gradient_penalty):
        return objective(self.weight).penalty(self.critic, self.real, self.fake, self)

    def gradients(self, t):
        """(N, 2), by hand."""
        x = (t * self.real + (1 - t) * self.fake).reshape(-1, 2)
        return x @ (self.M + self.M.T) / 2 + self.b

    def by_hand(self, t, norm=lambda g: np.sqrt((g**2).sum(axis=1) + 1e-12)):
        return self.weight * np.mean((norm(self.gradients(t)) - 1) ** 2)


@st.composite
def penalised(draw):
    N = draw(st.integers(1, 3))
    images = draw(vectors((N, 2, 1))), draw(vectors((N, 2, 1)))
    return Penalised(draw(vectors((2, 2))), draw(vectors(2)), *images, draw(numbers(0.1, 20)), draw(vectors(2 * N, 0, 1)))


@gan.equal(
    "r1",
    r"\frac{\gamma}{2}\, \mathbb{E}_\mathrm{data} |\nabla D(x)|^2",
    because="the sum of squares over all pixels of an example, and the mean over examples of the data; no root, and no 1",
    source="Mescheder et al. 2018, eq. 9",
    instances=penalised(),
)
def r1(c):
    return c.of_model(model.r1), c.weight / 2 * np.mean(np.sum(c.gradients(1) ** 2, axis=1))


@r1.wrong("on the samples: that is R2")
def _(c):
    return c.of_model(model.r1), c.weight / 2 * np.mean(np.sum(c.gradients(0) ** 2, axis=1))


@r1.wrong("the half dropped: twice the gamma that one meant to compare")
def _(c):
    return c.of_model(model.r1), c.weight * np.mean(np.sum(c.gradients(1) ** 2, axis=1))


@r1.wrong("the mean over pixels, too")
def _(c):
    return c.of_model(model.r1), c.weight / 2 * np.mean(c.gradients(1) ** 2)


@gan.equal(
    "r1_ends_the_game",
    r"\lambda^2 + \gamma \lambda + \frac{1}{4} = 0: \quad \mathrm{Re}\, \lambda < 0 \quad (\gamma > 0)",
    because="data at 0, G at theta, D(x) = psi x: the players' velocities have the Jacobian (0, -1/2; 1/2, -gamma), with this"
    " characteristic polynomial; without the penalty they circle for ever",
    source="Mescheder et al. 2018, sections 2 and 4",
    instances=numbers(0.01, 20),
)
def r1_ends_the_game(gamma):
    return characteristic(model.r1(gamma)), np.array([gamma, 1 / 4])


@r1_ends_the_game.wrong("no penalty: then the real part is 0")
def _(gamma):
    return characteristic(model.NON_SATURATING), np.array([gamma, 1 / 4])


@r1_ends_the_game.wrong("the half in front of gamma counted twice")
def _(gamma):
    return characteristic(model.r1(gamma)), np.array([gamma / 2, 1 / 4])


@r1_ends_the_game.wrong("G climbs what it should descend, and gives way to a saddle")
def _(gamma):
    return characteristic(model.r1(gamma)), np.array([gamma, -1 / 4])


def characteristic(objective):
    """Minus the trace and the determinant of the Jacobian, at the equilibrium, of how both players move."""

    def discriminator(psi):
        return lambda x: x[:, 0] * psi

    def velocity(v):
        theta, psi = v[0], v[1]
        of_g = grad(lambda t: objective.generator_loss(lambda z: z + t, discriminator(psi), np.zeros((1, 1))))(theta)
        fake = theta * np.ones((1, 1))
        of_d = grad(lambda w: objective.discriminator_loss(discriminator(w), np.zeros((1, 1)), fake, None)[0])(psi)
        return ops.stack(-of_g, -of_d)

    J = jacobian(velocity)(np.zeros(2))
    return np.array([-np.trace(J), np.linalg.det(J)])
