r"""How far p_g is from p_data if nearness counts, and what a critic has to do with it.

    W_1 = min over plans pi of E_pi |x - y|                what it costs to move p_g to p_data, also where they do not meet
        = max E_data[D] - E_g[D] over slopes of at most 1  by which a network can be trained, if its slope can be bounded

Data and samples are a few points each. Plans are tried, and so are critics: all those that can be the best. The steps of
training, with clipped weights and with a penalty on the slope, are those of models/gan.py.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, permutations, product

import numpy as np
from hypothesis import strategies as st

from ..autograd import tree
from ..backend import Generator
from ..models import gan as model
from ..nn import Linear
from ..optim import SGD
from .chain import Chain
from .exact import Given
from .gan import Game, games, jsd, penalised
from .instances import numbers, vectors


@dataclass
class Placed(Game):
    """A game whose places lie at distances from each other, and in which all that can be the best can be tried."""

    @property
    def distance(self):
        """Between all places, (K, K)."""
        return np.linalg.norm(self.places[:, None] - self.places, axis=-1)

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


def placed(least, most, dimensions=2):
    return games(least, most, N=5, overlap=False, dimensions=dimensions).map(lambda g: Placed(g.places, g.data, g.samples))


wasserstein = Chain(
    "wasserstein",
    "The earth mover's distance: plans and critics, two ways to one number; and how a critic's slope is kept in bounds.",
    "Arjovsky et al. 2017",
    placed(2, 4),
)


@wasserstein.equal(
    "duality",
    r"\min_\pi \mathbb{E}_\pi |x - y| = \max_D \left(\mathbb{E}_\mathrm{data}[D] - \mathbb{E}_g[D]\right),"
    r"\quad |D(x) - D(y)| \le |x - y|",
    because="a linear program and its dual: D is a price at each place, and no price may differ by more than the way costs",
    source="Kantorovich & Rubinstein 1958; Arjovsky et al. 2017, eq. 2",
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


@wasserstein.equal(
    "unit_slope",
    r"D^*(x) - D^*(y) = |x - y| \quad (x, y) \sim \pi^*",
    because="no price is above its cost, and their sums are equal: so all of them are, and between such pairs the slope is 1",
    source="Gulrajani et al. 2017, proposition 1",
)
def unit_slope(g):
    critic, (_, matching) = g.best_critic(), g.transport()
    matched = g.samples[matching]
    return critic[g.data] - critic[matched], g.distance[g.data, matched]


@unit_slope.wrong("on the line between any example and any sample, which are the lines that the penalty is taken on")
def _(g):
    critic = g.best_critic()
    return critic[g.data] - critic[g.samples], g.distance[g.data, g.samples]


@wasserstein.equal(
    "one_dimension",
    r"W_1 = \int |F_\mathrm{data}(x) - F_g(x)|\, dx",
    because="on a line nothing is gained by crossing: over each x goes what F_data and F_g differ by",
    source="Vallender 1974",
    instances=placed(1, 4, dimensions=1),
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


@wasserstein.equal(
    "disjoint",
    r"\mathrm{supp}\, p_g = \mathrm{supp}\, p_\mathrm{data} + \theta:\quad"
    r" \mathrm{JSD} = \log 2,\ \max_D V = 0, \quad W_1 = |\theta| \quad (\theta \ne 0)",
    because="on two parallel lines D is never wrong, however near they are; but the way from one to the other is theta",
    source="Arjovsky et al. 2017, example 1",
    instances=st.tuples(placed(1, 4, dimensions=1), numbers(-3, 3).filter(bool)),
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
    return Placed(np.concatenate([here, here + [theta, 0]]), g.data, K + g.data), theta


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


@wasserstein.equal(
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


@wasserstein.equal(
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
