r"""Generative adversarial networks: a generator learns to make what a discriminator cannot tell from data.

    players        x = G(z), z ~ N(0, I);   D(x), a number: the logit of "x is data", or a critic's mark
    value          V(D, G) = E_data[log s(D(x))] + E_z[log(1 - s(D(G(z))))],  s the sigmoid     Goodfellow et al. 2014, eq. 1
    best answer    s(D*(x)) = p_data(x) / (p_data(x) + p_g(x))                                  proposition 1
    its value      V(D*, G) = 2 JSD(p_data, p_g) - log 4, least where p_g = p_data              theorem 1
    of classes     x = G(z, y);   D(x, y) = d(h) + <v_y, h>, h the features of x      Miyato & Koyama 2018, eq. 3

D climbs V. What G does about it is the objective's choice, and so is what D may be; both players minimise a mean of

    objective         D on data       D on samples    G on samples    and
    MINIMAX           -log s(d)       -log(1 - s(d))  log(1 - s(d))                              Goodfellow et al. 2014, eq. 1
    NON_SATURATING    -log s(d)       -log(1 - s(d))  -log s(d)                                  the same, section 3
    LEAST_SQUARES     (d - 1)^2 / 2   d^2 / 2         (d - 1)^2 / 2                              Mao et al. 2017, eq. 9
    weight_clipping   -d              d               -d              |parameters of D| <= c     Arjovsky et al. 2017, alg. 1
    gradient_penalty  -d              d               -d              w E(|grad D(x)| - 1)^2     Gulrajani et al. 2017, eq. 3
    r1                as NON_SATURATING                               gamma/2 E_data|grad D|^2   Mescheder et al. 2018, eq. 9

With the last three rows D cannot be arbitrarily steep, so G is told a way also where p_data and p_g do not overlap. Their
weights depend on the unit of x. p_g is known only by its samples: there is no likelihood here, not even a bound.

Made for classes, both players are told a label y, and D judges whether x is a datum of that class (Mirza & Osindero 2014): for
each class a game, by shared networks. In training a sample has the label of the datum beside it.

x (N, H, W, C) in [0, 1] for the convolutional networks, (N, ...) of any range for the others; z (N, latent); y (N,); D(x) (N,).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from .. import ops
from ..autograd import grad, tree
from ..autograd.tree import module
from ..nn import Conv2d, ConvTranspose2d, Embedding, Flatten, GroupNorm, Linear, Sequential, Unflatten, mlp
from ..nn.doors import (
    require_array,
    require_at_least_one,
    require_generator,
    require_image_shape,
    require_labels,
    require_sizes,
)
from ..nn.init import he_normal, normal
from ..optim import Training, begin, minimise, with_in_place

TIMELINE = {  # what came when, by the sources above
    "GAN": "Goodfellow et al. 2014",
    "least squares": "Mao et al. 2017",
    "Wasserstein distance": "Arjovsky et al. 2017",
    "gradient penalty": "Gulrajani et al. 2017",
    "R1": "Mescheder et al. 2018",
}


@module
class GAN:
    """Both players: generator, z (N, latent) -> x (N, *shape), and discriminator, x -> d (N,); or of (z, y) and (x, y)."""

    generator: Callable
    discriminator: Callable
    shape: tuple  # of one example
    latent: int
    classes: int | None = None

    # Networks. No BatchNorm: the penalties are of D's slope at one example, which has none where a batch is judged together
    # (Gulrajani et al. 2017, section 4); and a generator without it makes one z into the same x in training and afterwards,
    # also with averaged parameters.

    @staticmethod
    def mlp(rng, shape, latent, hidden=(128, 128), waves=0, classes=None):
        """Fully connected networks of the same hidden sizes; the generator's last layer is linear.

        D sees, beside x, sin(2^k x) and cos(2^k x) for k < waves. A network learns the finest features of a function last, and
        with waves it need not (Tancik et al. 2020): D can be narrow peaks, and G is drawn to narrow modes.
        ValueError for waves below 0.
        """
        require_sizes("GAN.mlp", shape=shape, hidden=hidden)
        require_at_least_one("GAN.mlp", latent=latent)
        if waves < 0:
            raise ValueError(f"GAN.mlp: waves is {waves}; it is a number of frequencies, 0 or more")
        values = math.prod(shape)
        generator = [*mlp(rng, (_inputs(latent, classes), *hidden, values), ops.relu, he_normal), Unflatten(tuple(shape))]
        sizes = (values * (1 + 2 * waves), *reversed(hidden), 1)
        discriminator = [Flatten(), _Waves(waves), *mlp(rng, sizes, ops.leaky_relu, he_normal)]
        return _gan(rng, generator, discriminator, shape, latent, classes)

    @staticmethod
    def dcgan(rng, shape, latent=64, channels=(64, 128), hidden=(), groups=8, classes=None):
        """Strided convolutions that halve height and width, and transposed ones that double them (Radford et al. 2016).

        The smallest image and D's one number, or the latent, are far apart: hidden layers between them see all of the image.
        Pixels are in [0, 1]; GroupNorm in the generator stands for the paper's BatchNorm, and no norm in the discriminator.
        ValueError for sizes that cannot be halved, and for channels that the groups do not divide.
        """
        scale = 2 ** len(channels)
        require_image_shape("GAN.dcgan", shape, scale, "give fewer channels")
        require_at_least_one("GAN.dcgan", latent=latent)
        height, width, colours = shape
        small = (height // scale, width // scale, (colours, *channels)[-1])
        up, down = [ops.sigmoid], []
        for c_in, c_out in zip((colours, *channels), channels):
            up = [GroupNorm.init(rng, c_out, groups), ops.relu, ConvTranspose2d.init(rng, c_out, c_in), *up]
            down += [Conv2d.init(rng, c_in, c_out, kernel=4, stride=2, padding=1), ops.leaky_relu]
        generator = [*mlp(rng, (_inputs(latent, classes), *hidden, math.prod(small)), ops.relu), Unflatten(small), *up]
        judge = mlp(rng, (math.prod(small), *reversed(hidden), 1), ops.leaky_relu)
        return _gan(rng, generator, [_centred, *down, Flatten(), *judge], shape, latent, classes)

    def sample(self, rng, n, labels=None):
        """G(z) for z ~ N(0, I), (n, *shape); labels (n,) if there are classes."""
        require_generator("GAN.sample", rng)
        require_labels("GAN.sample", labels, n, self.classes)
        return _told(self.generator, labels)(rng.normal((n, self.latent)))


def _gan(rng, generator, discriminator, shape, latent, classes):
    """The GAN of two lists of layers, of which the discriminator's ends with a Linear; with classes, of what follows here."""
    if classes is None:
        return GAN(Sequential(generator), Sequential([*discriminator, _number]), tuple(shape), latent)
    require_at_least_one("GAN", classes=classes)
    *features, mark = discriminator
    told = Told(Embedding.init(rng, classes, latent), Sequential(generator))
    projection = Projection(Sequential(features), mark, Embedding.init(rng, classes, len(mark.weight), normal(0.1)))
    return GAN(told, projection, tuple(shape), latent, classes)


def _inputs(latent, classes):
    return latent if classes is None else 2 * latent


@module
class Told:
    """G(z, y): beside z stands a vector of y, as long as z."""

    vectors: Embedding
    network: Sequential

    def __call__(self, z, labels):
        return self.network(ops.concatenate(z, self.vectors(labels), axis=1))


@module
class Projection:
    """D(x, y) = d(h) + <v_y, h>, h the features of x: a mark for any datum, and one for a datum of class y.

    The best D is log p_data(y|x)/p_g(y|x) + log p_data(x)/p_g(x). If both p(y|x) are softmaxes linear in h, the first term is
    <v_y, h> and a function of x alone, which d takes in (Miyato & Koyama 2018, eq. 3 and 4).
    """

    features: Sequential
    mark: Linear
    vectors: Embedding

    def __call__(self, x, labels):
        h = self.features(x)
        return _number(self.mark(h)) + (self.vectors(labels) * h).sum(axis=1)  # of classes: [gan.projection]


def _told(player, labels):
    """A player of the first rows of a batch whose labels these are; as it is, if there are none."""
    return player if labels is None else lambda rows: player(rows, labels[: len(rows)])


@module
class _Waves:
    """x (N, d) -> (x, sin x, cos x, sin 2x, cos 2x, ..., sin 2^(waves - 1) x, cos 2^(waves - 1) x), (N, d (1 + 2 waves))."""

    waves: int

    def __call__(self, x):
        return ops.concatenate(x, *(f(2.0**k * x) for k in range(self.waves) for f in (ops.sin, ops.cos)), axis=1)


def _number(x):
    return ops.reshape(x, shape=(x.shape[0],))


def _centred(x):
    return 2 * x - 1


# Objectives


@dataclass(frozen=True)
class Objective:
    """What the players minimise: D, mean real(D(x)) + mean fake(D(G(z))) + penalty; G, mean generator(D(G(z))).

    real, fake and generator are functions of d, elementwise. penalty(D, x, G(z), rng) is a scalar. After each of its steps,
    the parameters of D are clipped to [-limit, limit].
    """

    real: Callable
    fake: Callable
    generator: Callable
    penalty: Callable | None = None
    limit: float | None = None

    def discriminator_loss(self, discriminator, real, fake, rng, labels=None):
        """(loss, diagnostics) of D on as many examples as samples, of the same labels; ValueError if their shapes differ."""
        require_array("GAN", x=real)
        if real.dtype.kind != "f":
            raise TypeError(f"GAN: the data hold {real.dtype}, but samples are real numbers; scale them, see data.prepare")
        if real.shape != fake.shape:
            raise ValueError(
                f"GAN: the data have shape {tuple(real.shape)}, and the generator's samples {tuple(fake.shape)}; prepare "
                "batches of the shape that the model was made for"
            )
        if labels is not None:
            discriminator = _told(discriminator, ops.concatenate(labels, labels))
        on_real, on_fake = ops.split(discriminator(ops.concatenate(real, fake)), 2, axis=0)
        loss = self.real(on_real).mean() + self.fake(on_fake).mean()  # value: [gan.best_value]
        if self.penalty is not None:
            loss = loss + self.penalty(discriminator, real, fake, rng)
        return loss, {"accuracy": accuracy(on_real, on_fake)}

    def generator_loss(self, generator, discriminator, z, labels=None):
        """mean generator(D(G(z))), a scalar: z (N, latent)."""
        generator, discriminator = _told(generator, labels), _told(discriminator, labels)
        return self.generator(discriminator(generator(z))).mean()  # [gan.saturation]


def _is_data(d):
    """-log s(d)."""
    return ops.softplus(-d)  # best answer: [gan.best_answer]


def _is_fake(d):
    """-log(1 - s(d))."""
    return ops.softplus(d)  # its value: [gan.best_value]


MINIMAX = Objective(_is_data, _is_fake, lambda d: -_is_fake(d))  # [gan.minimax_descends]
# [gan.non_saturating_descends]
NON_SATURATING = Objective(_is_data, _is_fake, _is_data)  # where D is sure of a sample, it pulls, and minimax does not
LEAST_SQUARES = Objective(lambda d: (d - 1) ** 2 / 2, lambda d: d**2 / 2, lambda d: (d - 1) ** 2 / 2)  # [gan.pearson]
# [wasserstein.duality], [gan.never_saturates]
CRITIC = Objective(lambda d: -d, lambda d: d, lambda d: -d)  # a bound on D's slope is missing: for the next two


def weight_clipping(limit=0.01):
    """max over D of E_data[D] - E_g[D] is K W_1(p_data, p_g) if D ranges over all functions of slope K at most.

    W_1 is the earth mover's distance. Clipped parameters bound the slope, but by an unknown K, and leave only some of these
    functions. ValueError unless the limit is positive.
    """
    return replace(CRITIC, limit=_positive("weight_clipping", "limit", limit))


def gradient_penalty(weight=10.0):
    """weight E(|grad D(x)| - 1)^2: the critic's slope is drawn towards 1 on straight lines between data and samples.

    x = t x_data + (1 - t) G(z), with t ~ U[0, 1), one number for each example: a point of one line per pair. ValueError unless
    the weight is positive.
    """
    weight = _positive("gradient_penalty", "weight", weight)

    def penalty(discriminator, real, fake, rng):
        t = rng.uniform((len(real), *[1] * (len(real.shape) - 1)))
        slope = ops.sqrt(squared_slope(discriminator, t * real + (1 - t) * fake) + 1e-12)  # a root has no derivative at 0
        return weight * ((slope - 1) ** 2).mean()  # [wasserstein.gradient_penalty]

    return replace(CRITIC, penalty=penalty)


def r1(gamma=1.0, examples=None):
    """Non-saturating, with gamma / 2 E_data|grad D(x)|^2: D is flat on the data when G has reached them, and the game ends.

    The gradient of a gradient is half of the work of a step. `examples` is how many of a batch the mean is taken over, all
    unless told: of a few it has the same expectation.
    """
    gamma = _positive("r1", "gamma", gamma)
    if examples is not None and examples < 1:
        raise ValueError(f"r1: examples is {examples}; the penalty needs at least 1 of each batch")

    def penalty(discriminator, real, fake, rng):
        return gamma / 2 * squared_slope(discriminator, real[:examples]).mean()  # [gan.r1]

    return replace(NON_SATURATING, penalty=penalty)


def squared_slope(discriminator, x):
    """|grad D(x_n)|^2 for each example, over all axes but the first, (N,): D must judge each example on its own."""
    g = grad(lambda x: discriminator(x).sum())(x)
    return (g * g).sum(axis=tuple(range(1, len(g.shape))))


def _positive(operation, name, value):
    if not 0 < value < math.inf:
        raise ValueError(f"{operation}: {name} is {value}; it must be a positive number")
    return float(value)  # NumPy's would promote float32


OBJECTIVES = {
    "minimax": MINIMAX,
    "non_saturating": NON_SATURATING,
    "least_squares": LEAST_SQUARES,
    "weight_clipping": weight_clipping(),
    "gradient_penalty": gradient_penalty(),
    "r1": r1(),
}


# Diagnostics


def accuracy(on_real, on_fake):
    """P(D(x) > D(G(z))) over all pairs, ties counting half: how often D tells a sample from an example beside it.

    1/2 where D is fooled, 1 where it is never; it means the same for logits, least squares and critics, whose zeros do not.
    """
    difference = ops.sign(ops.stop_gradient(on_real)[:, None] - ops.stop_gradient(on_fake))
    return (difference.mean() + 1) / 2


# Training


@module
class Players:
    """The state of the game: what each player is, and what its optimiser remembers."""

    generator: Training
    discriminator: Training
    shape: tuple
    latent: int
    classes: int | None = None

    @property
    def gan(self):
        """The model, with the averaged generator if there is one."""
        return GAN(self.generator.best, self.discriminator.params, self.shape, self.latent, self.classes)


def players(gan, generator_optimiser, discriminator_optimiser, averaged=False):
    """The state before the first step; `averaged` where the generator's parameters will be averaged, with a decay."""
    generator = begin(gan.generator, generator_optimiser, averaged)
    return Players(generator, begin(gan.discriminator, discriminator_optimiser), gan.shape, gan.latent, gan.classes)


def train_step(objective, generator_optimiser, discriminator_optimiser, rounds=1, decay=None, prepare=lambda batch, rng: batch):
    """(state, batch, rng) -> (state, metrics): `rounds` steps of D, each on its part of the batch, then one of G.

    A batch is images, or with classes a pair (images, labels); `prepare` turns images into x; `decay` keeps a moving average of
    the generator. Metrics: each player's loss and the norm of its gradient, and D's accuracy, before its last step. ValueError
    unless the rounds divide the batch.
    """

    if rounds < 1:
        raise ValueError(f"GAN: rounds is {rounds}; D needs at least 1 step for each of G's")

    def judge(discriminator, batch, rng):
        real, fake, labels = batch
        return objective.discriminator_loss(discriminator, real, fake, rng, labels)

    def deceive(generator, batch, rng):
        return objective.generator_loss(generator, *batch), {}

    discriminator_step = minimise(judge, discriminator_optimiser, limit=math.inf)
    generator_step = minimise(deceive, generator_optimiser, limit=math.inf, decay=decay)

    def step(state, batch, rng, in_place=False):
        of_discriminator, of_generator = (s.in_place if in_place else s for s in (discriminator_step, generator_step))
        images, labels = (batch, None) if state.classes is None else batch
        require_labels("GAN", labels, len(images), state.classes)
        x = prepare(images, rng)
        n, rest = divmod(len(x), rounds)
        if rest or not n:
            raise ValueError(f"GAN: {len(x)} examples cannot be cut into {rounds} equal parts, one for each round of D")
        generator, discriminator = state.generator, state.discriminator
        for i in range(rounds):
            part = slice(i * n, (i + 1) * n)
            y = None if labels is None else labels[part]
            fake = _told(generator.params, y)(rng.normal((n, state.latent)))
            discriminator, seen = of_discriminator(discriminator, (x[part], fake, y), rng)
            if objective.limit is not None:
                discriminator = replace(discriminator, params=_clipped(discriminator.params, objective.limit))
        z = rng.normal((n, state.latent))
        generator, made = of_generator(generator, (discriminator.params, z, y), rng)
        metrics = {"accuracy": seen.pop("accuracy"), **_of("discriminator", seen), **_of("generator", made)}
        return replace(state, generator=generator, discriminator=discriminator), metrics

    return with_in_place(step)


def _clipped(params, limit):
    return tree.map(lambda p: p.clip(-limit, limit), params)  # weight_clipping: [wasserstein.clipping]


def _of(player, metrics):
    return {f"{player}_{name}": value for name, value in metrics.items()}
