r"""What the two players of a GAN compute: a divergence between p_data and p_g, and which one, by the objective.

    V(D, G) = E_data[log s(D)] + E_g[log(1 - s(D))]       for a fixed G, a problem for each x alone: s(D*) = p / (p + q)
    V(D*, G) = 2 JSD(p_data, p_g) - log 4                 so the G that is best against it has p_g = p_data
    max E_data[D] - E_g[D] over slopes of at most 1       is the cost of moving p_g to p_data, also where they do not meet

Data and samples are N points each, from few places, so every expectation is a mean over a batch, as models/gan.py takes it; the
objectives are those of that file. What is best is not solved for, but searched for: D by ever narrower intervals, critics and
transport plans by trying all that can be best.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, permutations, product

import numpy as np
from hypothesis import strategies as st

from .. import ops
from ..autograd import grad, jacobian, tree
from ..backend import Generator
from ..models import gan as model
from ..nn import Linear
from ..optim import SGD
from .chain import Chain
from .exact import Given, kl
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

    @property
    def distance(self):
        """Between all places, (K, K)."""
        return np.linalg.norm(self.places[:, None] - self.places, axis=-1)

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

    def transport(self):
        """(cost, matching (N,)): the cheapest way to give each example a sample, and how far they are apart on average.

        A plan that cuts points into parts is a mixture of matchings (Birkhoff), so it is not cheaper than all of them.
        """
        matchings = np.array(list(permutations(range(len(self.data)))))
        costs = self.distance[self.data, self.samples[matchings]].mean(axis=1)
        return costs.min(), matchings[costs.argmin()]

    def best_critic(self):
        """The table of slope at most 1 that wins most: tried are all with K - 1 independent slopes of 1 or -1."""
        pairs, inverses = trees(len(self.places))
        lengths = self.distance[pairs[..., 0], pairs[..., 1]]
        signs = np.array(list(product([-1, 1], repeat=lengths.shape[1])))
        tables = np.einsum("tij,stj->sti", inverses, signs[:, None] * lengths).reshape(-1, lengths.shape[1])
        tables = np.pad(tables, ((0, 0), (1, 0)))
        slopes = np.abs(tables[:, :, None] - tables[:, None]) - self.distance
        return min(tables[slopes.max(axis=(1, 2)) < 1e-9], key=lambda table: self.loss(model.CRITIC, table))


@lru_cache
def trees(K):
    """All ways to join K places by K - 1 pairs, (trees, K - 1, 2), and what makes values of the differences along them."""
    pairs = np.array(list(combinations(list(combinations(range(K), 2)), K - 1)))
    differences = np.eye(K)[pairs[..., 0]] - np.eye(K)[pairs[..., 1]]
    joined = np.abs(np.linalg.det(differences[..., 1:])) > 0.5
    return pairs[joined], np.linalg.inv(differences[joined][..., 1:])


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
    "The game of a GAN: what D is at its best, which divergence G then descends, and what a bounded slope changes.",
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


# Critics


@gan.equal(
    "duality",
    r"\min_\pi \mathbb{E}_\pi |x - y| = \max_D \left(\mathbb{E}_\mathrm{data}[D] - \mathbb{E}_g[D]\right),"
    r"\quad |D(x) - D(y)| \le |x - y|",
    because="a linear program and its dual: D is a price at each place, and no price may differ by more than the way costs",
    source="Kantorovich & Rubinstein 1958; Arjovsky et al. 2017, eq. 2",
    instances=games(2, 4, N=5, overlap=False),
)
def duality(g):
    return g.transport()[0], -g.loss(model.CRITIC, g.best_critic())


@duality.wrong("values of at most 1 in place of slopes: that is twice the total variation")
def _(g):
    return g.transport()[0], -g.loss(model.CRITIC, np.sign(g.p - g.q))


@duality.wrong("data and samples matched as they come in the batch")
def _(g):
    return g.distance[g.data, g.samples].mean(), -g.loss(model.CRITIC, g.best_critic())


@duality.wrong("all of p_data matched with all of p_g, as if independent")
def _(g):
    return g.p @ g.distance @ g.q, -g.loss(model.CRITIC, g.best_critic())


@gan.equal(
    "unit_slope",
    r"D^*(x) - D^*(y) = |x - y| \quad (x, y) \sim \pi^*",
    because="no price is above its cost, and their sums are equal: so all of them are, and between such pairs the slope is 1",
    source="Gulrajani et al. 2017, proposition 1",
    instances=games(2, 4, N=5, overlap=False),
)
def unit_slope(g):
    critic, (_, matching) = g.best_critic(), g.transport()
    matched = g.samples[matching]
    return critic[g.data] - critic[matched], g.distance[g.data, matched]


@unit_slope.wrong("on the line between any example and any sample, which are the lines that the penalty is taken on")
def _(g):
    critic = g.best_critic()
    return critic[g.data] - critic[g.samples], g.distance[g.data, g.samples]


@gan.equal(
    "one_dimension",
    r"W_1 = \int |F_\mathrm{data}(x) - F_g(x)|\, dx",
    because="on a line nothing is gained by crossing: over each x goes what F_data and F_g differ by",
    source="Vallender 1974",
    instances=games(1, 4, N=5, overlap=False, dimensions=1),
)
def one_dimension(g):
    lengths, difference = steps(g)
    return g.transport()[0], lengths @ np.abs(difference)


@one_dimension.wrong("the difference squared, which is the distance of Cramer")
def _(g):
    lengths, difference = steps(g)
    return g.transport()[0], lengths @ difference**2


@one_dimension.wrong("no absolute value: then it is the difference of the means")
def _(g):
    lengths, difference = steps(g)
    return g.transport()[0], abs(lengths @ difference)


def steps(g):
    """The lengths of the intervals between places on a line, and F_data - F_g on them."""
    order = np.argsort(g.places[:, 0])
    return np.diff(g.places[order, 0]), np.cumsum(g.p[order] - g.q[order])[:-1]


@gan.equal(
    "disjoint",
    r"\mathrm{supp}\, p_g = \mathrm{supp}\, p_\mathrm{data} + \theta:\quad"
    r" \mathrm{JSD} = \log 2,\ \max_D V = 0, \quad W_1 = |\theta| \quad (\theta \ne 0)",
    because="on two parallel lines D is never wrong, however near they are; but the way from one to the other is theta",
    source="Arjovsky et al. 2017, example 1",
    instances=st.tuples(games(1, 4, N=5, overlap=False, dimensions=1), numbers(-3, 3).filter(bool)),
)
def disjoint(pair):
    lines, theta = parallel(*pair)
    return both(lines), np.array([math.log(2), 0, abs(theta)])


@disjoint.wrong("JSD going to 0 with the distance")
def _(pair):
    lines, theta = parallel(*pair)
    return both(lines), np.array([math.log(2) * min(1, abs(theta)), 0, abs(theta)])


@disjoint.wrong("the maximum of V taken for JSD")
def _(pair):
    lines, theta = parallel(*pair)
    return both(lines), np.array([math.log(2), math.log(2), abs(theta)])


def parallel(g, theta):
    """The data of a game on a line, and as samples the same on the line beside it."""
    K, here = len(g.places), np.pad(g.places, ((0, 0), (1, 0)))
    return Game(np.concatenate([here, here + [theta, 0]]), g.data, K + g.data), theta


def both(g):
    """JSD, what D reaches with logits of 40, and the cost of transport."""
    return np.array([jsd(g.p, g.q), -g.loss(model.MINIMAX, 40 * np.sign(g.p - g.q)), g.transport()[0]])


@dataclass
class Round:
    """Linear players D(x) = w x + c, with parameters (w, c), and G(z) = A z + b on one z; data (N, d); a limit and a rate."""

    players: model.Players
    x: np.ndarray
    z: float
    limit: float
    rate: float
    rounds: int

    def played(self):
        """(w, c), A and b after a step of training."""
        objective = model.weight_clipping(self.limit)
        step = model.train_step(objective, SGD(self.rate), SGD(self.rate), self.rounds)
        state, _ = step(self.players, self.x, Given(self.z))
        return self.parameters(state)

    def by_hand(self, clipped_first=False, simultaneous=False):
        d, before = self.x.shape[1], self.parameters(self.players)
        critic, A, b = np.split(before, [d + 1, 2 * d + 1])
        for x in np.split(self.x, self.rounds):
            uphill = self.rate * np.append(x.mean(axis=0) - (A * self.z + b), 0.0)
            critic = self.clip(critic) + uphill if clipped_first else self.clip(critic + uphill)
        w = (before if simultaneous else critic)[:d]
        return np.concatenate([critic, A + self.rate * self.z * w, b + self.rate * w])

    def clip(self, numbers):
        return np.minimum(np.maximum(numbers, -self.limit), self.limit)

    def parameters(self, state):
        (of_d,), (of_g,) = ([layer for layer in player.params.layers if isinstance(layer, Linear)] for player in
                            (state.discriminator, state.generator))  # fmt: skip
        return np.concatenate([np.ravel(part) for part in (of_d.weight, of_d.bias, of_g.weight, of_g.bias)])


@st.composite
def rounds(draw):
    d, rounds = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    made = model.GAN.mlp(Generator(0), (d,), 1, hidden=())
    made = tree.map(lambda leaf: draw(vectors(leaf.shape)), made)
    x = draw(vectors((rounds * draw(st.integers(1, 3)), d)))
    return Round(model.players(made, SGD(1.0), SGD(1.0)), x, draw(numbers()), draw(numbers(0.05, 2)), draw(numbers(0.01, 1)),
                 rounds)  # fmt: skip


@gan.equal(
    "clipping",
    r"D' = \mathrm{clip}(D + r\, \nabla_D (\mathbb{E}_\mathrm{data}[D] - \mathbb{E}_g[D]), -c, c),"
    r" \quad G' = G + r\, \nabla_G\, \mathbb{E}_g[D']",
    because="each of its steps leaves the critic within its bounds, and G answers the critic that there is then",
    source="Arjovsky et al. 2017, algorithm 1",
    instances=rounds(),
)
def clipping(g):
    return g.played(), g.by_hand()


@clipping.wrong("clipped before the step and not after it")
def _(g):
    return g.played(), g.by_hand(clipped_first=True)


@clipping.wrong("both at the same time: G answers the critic of before")
def _(g):
    return g.played(), g.by_hand(simultaneous=True)


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
    "gradient_penalty",
    r"w\, \mathbb{E}\left(|\nabla D(t x + (1 - t) y)| - 1\right)^2, \quad t \sim \mathrm{U}[0, 1]",
    because="one t for a pair and one slope for an example, over all its pixels; 1e-12 under the root makes it smooth",
    source="Gulrajani et al. 2017, eq. 3",
    instances=penalised(),
)
def gradient_penalty(c):
    return c.of_model(), c.by_hand(c.uniform((len(c.real), 1, 1)))


@gradient_penalty.wrong("another t for every pixel: these points fill a box, not a line", published=True)
def _(c):
    return c.of_model(), c.by_hand(c.uniform(c.real.shape))


@gradient_penalty.wrong("t = 1: the slope at the data alone", published=True)
def _(c):
    return c.of_model(), c.by_hand(1.0)


@gradient_penalty.wrong("the norm over the batch", published=True)
def _(c):
    return c.of_model(), c.by_hand(c.uniform((len(c.real), 1, 1)), lambda g: np.sqrt((g**2).sum(axis=0) + 1e-12))


@gradient_penalty.wrong("the slope squared drawn to 1")
def _(c):
    return c.of_model(), c.by_hand(c.uniform((len(c.real), 1, 1)), lambda g: (g**2).sum(axis=1))


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
