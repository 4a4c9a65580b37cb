r"""The energy-based model: a network says how unlikely x is, and nobody knows the sum of all that it says.

    model      p(x) = e^-E(x) / Z,  Z = \int e^-E(x) dx                                  LeCun et al. 2006, section 1.3
    energy     E(x) = f((x - m) / s) + |(x - m) / s|^2 / 2, with f a network             Xie et al. 2016, eq. 1
    gradient   d/dw E_data[-log p(x)] = E_data[dE(x)/dw] - E_p[dE(x)/dw]                 Hinton 2002
    CD-k       E_p by the ends of k-step chains that start at the data                   Hinton 2002, section 3
    PCD        E_p by chains that go on where the last step left them                    Tieleman 2008
    replay     ... that are a sample of many such chains, some begun anew                Du & Mordatch 2019, algorithm 1
    penalty    + alpha (f(x+)^2 + f(x-)^2) in the loss keeps f from growing without end  the same

The loss below has that gradient and is not the likelihood, nor a bound on it: E falls where data is and rises where chains are,
and when both are in the same places, its value is about 0, however good or bad the model is. So watch samples, or in two
dimensions log Z on a grid.

What keeps the energies bounded. The parabola, whose m and s are the data's means and standard deviations and not trained,
makes Z finite: a network of Lipschitz activations (all in ops but square, exp and the like) grows at most linearly, so E rises
quadratically on all sides and no chain runs away. f begins as 0, so p begins as the Gaussian N(m, s^2), from which chains can
be drawn. And since p does not change when a constant is added to f, only the penalty decides that constant.

x (N, H, W, C) or (N, D); energies in nats, (N,).
"""

import math
from dataclasses import replace

import numpy as np

from .. import mcmc, ops
from ..autograd.tree import Array, module
from ..density import Energy
from ..nn import Conv2d, Flatten, Linear, Sequential, init, mlp
from ..nn.doors import require_examples, require_generator, require_image_shape, require_sizes
from ..nn.waves import Waves
from ..optim import Training, begin, minimise, with_in_place

TIMELINE = {  # what came when, by the sources above
    "contrastive divergence": "Hinton 2002",
    "energy-based learning": "LeCun et al. 2006",
    "persistent chains": "Tieleman 2008",
    "generative ConvNet": "Xie et al. 2016",
    "replay buffer": "Du & Mordatch 2019",
}


@module
class EBM:
    """E(x) = f(u) + |u|^2 / 2, u = (x - mean) / std, for a network f: (N, *shape) -> (N, 1)."""

    network: Sequential
    mean: Array  # of the data, and its standard deviations: of x's shape, not trained
    std: Array

    # Networks. A smooth activation makes a smooth score: with relu it would be piecewise constant, and chains would rattle.

    @staticmethod
    def mlp(rng, shape, hidden=(128, 128), activation=ops.tanh, mean=0.0, std=1.0, frequencies=None):
        """A fully connected energy; mean and std are numbers or arrays of the shape of an example.

        With frequencies (lowest, highest), the first hidden layer is one of `Waves`, for details as fine as std / highest.
        ValueError for frequencies without a hidden layer.
        """
        require_sizes("EBM.mlp", shape=shape, hidden=hidden)
        pixels, last = math.prod(shape), init.zeros
        if frequencies is not None and not hidden:
            raise ValueError("EBM.mlp: frequencies are those of the first hidden layer, and there is none; give hidden sizes")
        if frequencies is None:
            network = mlp(rng, (pixels, *hidden, 1), activation, init.lecun_normal, last)
        else:
            waves = Waves.init(rng, pixels, hidden[0], *frequencies)
            network = Sequential([waves, *mlp(rng, (*hidden, 1), activation, init.lecun_normal, last)])
        return EBM(Sequential([Flatten(), *network.layers]), *_base(shape, mean, std))

    @staticmethod
    def convolutional(rng, shape, channels=(16, 32, 64), activation=ops.silu, mean=0.0, std=1.0):
        """Convolutions, each but the first halving height and width, and a linear map of what they see; arguments as of mlp."""
        require_image_shape("EBM.convolutional", shape)
        height, width, colours = shape
        layers, pairs = [], zip((colours, *channels), channels)
        for i, (c_in, c_out) in enumerate(pairs):
            layers += [Conv2d.init(rng, c_in, c_out, kernel=3, stride=min(i, 1) + 1), activation]
        scale = 2 ** max(0, len(channels) - 1)
        features = math.ceil(height / scale) * math.ceil(width / scale) * (colours, *channels)[-1]
        last = Linear.init(rng, features, 1, initialiser=init.zeros)
        return EBM(Sequential([*layers, Flatten(), last]), *_base(shape, mean, std))

    # Energies

    def energy(self, x):
        """E(x). Energy, nats (N,)."""
        correction, parabola = self._terms(x)
        return Energy(correction + parabola)  # energy: [energy.partition]

    def log_density(self, x):
        """-E(x), (N,): log p(x) up to a constant, as the kernels of `mcmc` take it."""
        return -self.energy(x).energy

    def correction(self, x):
        """f(u), (N,): how the energy differs from that of a Gaussian."""
        return self._terms(x)[0]

    def _terms(self, x):
        require_examples("EBM", x, self.mean.shape)
        u = (x - ops.stop_gradient(self.mean)) / ops.stop_gradient(self.std)
        return ops.reshape(self.network(u), shape=(-1,)), 0.5 * ops.sum(u * u, axis=tuple(range(1, len(x.shape))))

    def log_partition(self, points, volume=1.0):
        r"""log \sum_i e^-E(x_i) volume, an array (): log Z, where points (M, *shape) are all states, or the middles of cells.

        With it, -E(x) - log Z is log p(x). The points of a grid must reach as far as p does, and be as fine as p is.
        ValueError unless there are points, and their cells have a positive volume.
        """
        if not len(points) or not volume > 0:
            raise ValueError(f"EBM.log_partition: {len(points)} points of volume {volume}; give one or more, of a volume > 0")
        parts = [self.log_density(points[i : i + 4096]) for i in range(0, len(points), 4096)]
        return ops.logsumexp(ops.concatenate(*parts)) + math.log(volume)  # model: [energy.partition]

    # Samples

    def noise(self, rng, n):
        """n samples of N(mean, std^2), (n, *shape): where chains start."""
        require_generator("EBM.noise", rng)
        return self.mean + self.std * rng.normal((n, *self.mean.shape), self.mean.dtype)

    def sample(self, rng, n, kernel=None, steps=1000):
        """The ends of n chains of the kernel from noise, (n, *shape): samples of p if `steps` are enough to forget the start.

        The kernel is one of `mcmc`, AdjustedLangevin with a step of 1% of the smallest variance if None is given.
        """
        kernel = kernel or mcmc.AdjustedLangevin(0.01 * float(self.std.min()) ** 2)
        return mcmc.run(kernel, self.log_density, self.noise(rng, n), rng, steps).x


def _base(shape, mean, std):
    mean, std = (np.array(np.broadcast_to(value, shape), np.float32) for value in (mean, std))
    if not (std > 0).all():
        raise ValueError(f"EBM: the smallest std is {std.min():g}; each must be positive, so add noise to a constant pixel")
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        raise ValueError("EBM: mean and std must be finite; the data that they were taken from holds NaN or infinity")
    return mean, std


def contrastive_loss(model, positive, negative, penalty=0.0):
    r"""mean E(x+) - mean E(x-) + penalty (mean f(x+)^2 + mean f(x-)^2), for data x+ and samples x- of the model; a scalar.

    x- are constants. Only if they have the distribution p is the gradient (without the penalty) that of -log p(x+): averaged
    over x- ~ p it is then exact. ValueError for examples of another shape.
    """
    negative = ops.stop_gradient(negative)
    loss = model.energy(positive).energy.mean() - model.energy(negative).energy.mean()  # gradient: [energy.two_phases]
    if penalty:
        squares = (ops.square(model.correction(x)).mean() for x in (positive, negative))
        loss = loss + penalty * sum(squares)  # penalty: [energy.penalty]
    return loss


@module
class Contrast:
    """What a run carries: the `Training` of the model, and the chains' states (M, *shape), or None where they start at data."""

    training: Training
    chains: Array


def start(model, optimiser, rng=None, chains=None, averaged=False):
    """The state before the first step: for CD without `chains`, for PCD with as many as a batch has, for replay with more."""
    if chains is not None and rng is None:
        raise ValueError(f"ebm.start: {chains} chains begin at random; give an rng")
    return Contrast(begin(model, optimiser, averaged), None if chains is None else model.noise(rng, chains))


def train_step(optimiser, kernel, k, penalty=0.0, renew=0.0, prepare=lambda batch, rng: batch, limit=None, decay=None):
    """(state, batch, rng) -> (state, metrics): k transitions of the kernel for as many chains as the batch has, then one step.

    The chains are the data itself, or rows drawn from the state's chains, of which a fraction `renew` begins anew from noise;
    they are put back where they came from. `prepare` turns a batch into x, `limit` and `decay` are those of `optim.minimise`.
    Reported: the loss, the difference of the mean energies of data and chains, and the fraction of proposals accepted.
    """
    if not 0 <= renew <= 1:
        raise ValueError(f"ebm.train_step: renew is {renew}; it is the fraction of chains that begin anew, in [0, 1]")

    def loss(model, pair, rng):
        return contrastive_loss(model, *pair, penalty), {}

    descend = minimise(loss, optimiser, limit, decay)

    def step(state, batch, rng, in_place=False):
        model, x = state.training.params, prepare(batch, rng)
        rows, begun = _begin_chains(state, x, renew, rng)
        chains = mcmc.run(kernel, model.log_density, begun, rng, k)  # CD-k: [contrastive_divergence.part_of_the_gradient]
        training, metrics = (descend.in_place if in_place else descend)(state.training, (x, chains.x), rng)
        kept = state.chains
        if kept is not None:
            kept = kept if in_place else kept.copy()
            kept[rows] = chains.x  # PCD: [contrastive_divergence.persistent]
        return replace(state, training=training, chains=kept), {**metrics, "acceptance": chains.acceptance.mean()}

    return with_in_place(step)


def _begin_chains(state, x, renew, rng):
    """(the rows of the state's chains that are taken, the states to start from)."""
    if state.chains is None:
        return None, x
    n, M = len(x), len(state.chains)
    if n > M:
        raise ValueError(f"ebm.train_step: a batch of {n} examples needs as many chains, and there are {M}; start with more")
    rows = rng.permutation(M)[:n]
    fresh = (rng.uniform(n) < renew).reshape(-1, *[1] * (x.ndim - 1))
    # replay: [contrastive_divergence.replay]
    return rows, ops.where(fresh, state.training.params.noise(rng, n), state.chains[rows])
