"""Whole steps of training, and sampling from a PixelCNN: tinygen's own models and train steps, beside their twins.

A twin (twins_torch.py, twins_jax.py) is the same network and the same loss as one would write them in the other library. It
takes our weights over by their names, and so the gradients can be compared. All steps are Adam's.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import numpy as np

from tinygen import Generator, mcmc, ops, train
from tinygen.autograd import tree
from tinygen.backend import to_device
from tinygen.models import ddpm, ebm, flow, gan, pixelcnn, vae
from tinygen.optim import Adam, begin
from tinygen.train.loop import on_cpu

from .case import Case

LEARNING_RATE = 1e-3
MOVES = 5  # of the energy-based model's chains, in each step


ON_A_GPU = {128: (1.0, 2.0), 1024: None}  # batches there, and what a step must reach


def cases(conditions):
    vae_step, flow_step, pixelcnn_step = vae.train_step, flow.train_step, pixelcnn.train_step
    ddpm_step = partial(ddpm.train_step, limit=None, decay=None)
    ebm_step = partial(ebm.train_step, kernel=mcmc.Langevin(0.01), k=MOVES)
    steps = [
        # network                         a step with it, a batch of     what             must, moonshot
        (dense_vae(784, 400, 20),         vae_step,       128, bits(784),          (1.3, 1.8)),
        (dense_vae(2, 64, 2, "gaussian"), vae_step,       128, normal(2),          (3.0, 6.0)),
        (realnvp(2, 64),                  flow_step,      256, normal(2),          (2.5, 4.0)),
        (realnvp(64, 128),                flow_step,      256, normal(64),         (1.4, 2.0)),
        (plain_pixelcnn(levels=2),        pixelcnn_step,   64, bits(28, 28, 1),    (1.5, 1.9)),
        (convolutional_vae(),             vae_step,       128, bits(28, 28, 1),    (1.1, 1.6)),
        (dcgan(),                         dcgan_step,     128, uniform(28, 28, 1), (1.0, 1.35)),
        (dense_ebm(784, 512),             ebm_step,       128, normal(784),        None),
        (unet(),                          ddpm_step,       64, normal(28, 28, 1),  (1.0, 1.5)),
    ]  # fmt: skip
    if conditions.device == "gpu":
        for network, train_step, _, data, _ in steps:
            for N, bars in ON_A_GPU.items():
                case = _step(network, train_step, 2 if conditions.quick else N, data, bars, DrawingAsOnAGPU)
                yield replace(case, name=f"{case.name}, batch {N}")
        return
    for network, train_step, N, data, bars in steps:
        yield _step(network, train_step, 2 if conditions.quick else N, data, bars)
    for N in 16, 64:
        yield _sampling(N, 4 if conditions.quick else 28, (500, 1200))


# Data: what a batch of N is drawn by


def bits(*shape):
    return lambda rng, N: rng.bernoulli(np.full((N, *shape), 0.2, np.float32))


def normal(*shape):
    return lambda rng, N: rng.normal((N, *shape))


def uniform(*shape):
    return lambda rng, N: rng.uniform((N, *shape))


# Networks


@dataclass(frozen=True)
class Network:
    """A model, and its twins in the other libraries."""

    name: str
    model: Callable  # Generator -> our model
    in_torch: Callable  # the module twins_torch -> the twin
    products: int  # multiply-adds of a step, for each example
    in_jax: str | None = None  # the twin's name in twins_jax
    images: bool = False


def dense_vae(pixels, hidden, latent, likelihood="bernoulli"):
    gaussian = likelihood == "gaussian"
    widths = dict(shape=(pixels,), latent=latent, hidden=(hidden,))
    return Network(
        f"{'toy VAE' if gaussian else 'VAE'} {pixels}-{hidden}-{latent}",
        partial(vae.VAE.mlp, **widths, activation=ops.relu, likelihood=likelihood),
        lambda twins: twins.dense_vae(pixels, hidden, latent, gaussian),
        THERE_AND_BACK * _products((1, pixels, hidden), (1, hidden, 2 * latent), (1, latent, hidden), (1, hidden, pixels)),
        in_jax="vae",
    )


def realnvp(D, width, couplings=8):
    return Network(
        f"RealNVP, {D} dimensions, {couplings} couplings of width {width}",
        partial(flow.Flow.mlp, dimensions=D, hidden=(width, width), activation=ops.relu),
        lambda twins: twins.Flow(D, width),
        THERE_AND_BACK * couplings * _products((1, D // 2, width), (1, width, width), (1, width, D)),
        in_jax="flow",
    )


def plain_pixelcnn(levels, blocks=6, size=28):
    block, outputs = _products((1, 64, 32), (5, 32, 32), (1, 32, 64)), 1 if levels == 2 else levels
    pixel = _products((24, 1, 64)) + blocks * block + _products((1, 64, 64), (1, 64, outputs))  # 24 and 5 taps are not masked
    return Network(
        f"PixelCNN, 64 channels, {blocks} blocks",
        partial(pixelcnn.PixelCNN.plain, shape=(size, size, 1), levels=levels, channels=64, blocks=blocks),
        lambda twins: twins.PixelCNN(blocks, levels),
        THERE_AND_BACK * size**2 * pixel,
        images=True,
    )


def convolutional_vae():
    encoder = (14**2, 9, 32), (7**2, 9 * 32, 64), (1, 7**2 * 64, 40)
    decoder = (1, 20, 7**2 * 64), (7**2, 16 * 64, 32), (14**2, 16 * 32, 1)
    return Network(
        "convolutional VAE",
        partial(vae.VAE.convolutional, shape=(28, 28, 1), latent=20),
        lambda twins: twins.convolutional_vae(),
        THERE_AND_BACK * _products(*encoder, *decoder),
        images=True,
    )


def dcgan():
    generator = _products((1, 64, 7**2 * 128), (7**2, 16 * 128, 64), (14**2, 16 * 64, 1))
    discriminator = _products((14**2, 16, 64), (7**2, 16 * 64, 128), (1, 7**2 * 128, 1))
    return Network(
        "DCGAN",
        partial(gan.GAN.dcgan, shape=(28, 28, 1)),
        lambda twins: twins.DCGAN(),
        # G forward; D there and back on data and samples; G and D forward, then back through D to the samples, and through G
        4 * generator + 8 * discriminator,
        images=True,
    )


def dcgan_step(optimiser):
    return gan.train_step(gan.NON_SATURATING, optimiser, optimiser)


def dense_ebm(pixels, width):
    network = _products((1, pixels, width), (1, width, width), (1, width, 1))
    return Network(
        f"EBM {pixels}-{width}-{width}, {MOVES} moves of Langevin's",
        partial(ebm.EBM.mlp, shape=(pixels,), hidden=(width, width), activation=ops.silu),
        lambda twins: twins.EBM(pixels, width, MOVES),
        (2 * MOVES + 2 * THERE_AND_BACK) * network,  # a move needs the gradient of x alone; the loss is of data and chains
    )


def unet():
    first = (28**2, 9, 32), (28**2, 9 * 32, 2 * 32), (14**2, 9 * 32, 32)  # to half the size
    down = (14**2, 9 * 32, 64), (14**2, 9 * 64, 64), (14**2, 32, 64)
    middle = (14**2, 9 * 64, 4 * 64), (14**2, 64, 4 * 64), (14**2, 64, 2 * 14**2)  # two blocks, and attention between them
    up = (14**2, 9 * 128, 64), (14**2, 9 * 64, 64), (14**2, 128, 64), (28**2, 9 * 64, 32)  # to twice the size
    last = (28**2, 9 * 64, 32), (28**2, 9 * 32, 32), (28**2, 64, 32), (28**2, 9 * 32, 1)
    return Network(
        "U-Net DDPM, 32 channels",
        partial(ddpm.DDPM.unet, shape=(28, 28, 1), schedule=ddpm.cosine()),
        lambda twins: twins.DDPM(),
        THERE_AND_BACK * _products(*first, *down, *middle, *up, *last),
        images=True,
    )


THERE_AND_BACK = 3  # each product of the way there has two on the way back: for the inputs, and for the weights


def _products(*layers):
    """The multiply-adds of an example's way through layers (pixels, numbers that make one, numbers that are made)."""
    return sum(pixels * inputs * outputs for pixels, inputs, outputs in layers)


# Cases


def _step(network, train_step, N, data, bars, drawing=Generator):
    """A case of train_step(optimiser) on a batch of N. PyTorch's is checked with the numbers that `drawing` draws."""

    def start(optimiser):
        model = _made(network.model)
        if isinstance(model, gan.GAN):
            return gan.players(model, optimiser, optimiser)
        return ebm.start(model, optimiser) if isinstance(model, ebm.EBM) else begin(model, optimiser)

    def batch():
        return data(Generator(1), N)

    def tinygen(contender):
        def ready(optimiser):
            return train_step(optimiser), train.move(start(optimiser), device), to_device(batch(), device)

        device = contender.device
        run = (_Repeated if device == "cpu" else _captured)(*ready(Adam(LEARNING_RATE)), Generator(2, device))

        def check():
            step, state, x = ready(Recorder())
            seen, metrics = step(state, x, Generator(2, device))
            seen = getattr(seen, "training", seen)  # without an energy's chains
            told = {name: value for name, value in metrics.items() if "loss" in name} | _named(seen, "optimiser.")
            return {name: to_device(value, "cpu") for name, value in told.items()}

        return run, check

    def torch(contender):
        from . import pytorch, twins_torch

        twin, weights = network.in_torch(twins_torch), _named(_made(network.model))
        return pytorch.ready(twin, weights, batch(), drawing(2), contender, LEARNING_RATE)

    def jax(_):
        from . import twins_jax

        twin, weights = getattr(twins_jax, network.in_jax), _named(_made(network.model))
        return twins_jax.ready(twin, weights, batch(), Generator(2), LEARNING_RATE)

    libraries = {"tinygen": tinygen, "torch": torch, **({"jax": jax} if network.in_jax else {})}
    return Case(f"step: {network.name}", libraries, bars, N * network.products, images=network.images, step=True)


class _Repeated:
    """A step that goes on where the last one ended, as train.fit makes them.

    It is recorded when it is first made, and the 1st, 2nd, 4th, 8th, ... replay is compared with an ordinary call, which takes
    twice as long (tinygen/autograd/replay.py): in a training of thousands of steps, no time at all.
    """

    ALIKE = 3  # steps: as many as are weighed, and as the shortest bursts have

    def __init__(self, step, state, x, rng):
        self.steps, self.x, self.rng, self.made = on_cpu(step, state), x, rng, 0

    def __call__(self):
        self.steps.make(self.x, self.rng.at(self.made))
        self.made += 1

    def warm_up(self):
        """At least one step, and as many as it takes until the next three are replays that are not compared."""
        self()
        while any(n & (n - 1) == 0 for n in range(self.made, self.made + self.ALIKE)):
            self()


def _captured(step, state, x, rng):
    """The same on a GPU: by a graph, if the step can be captured."""
    import cupy

    from tinygen.train.graph import OnGPU

    steps, number, stream = OnGPU(step, state, capture=None), count(), cupy.cuda.Stream(non_blocking=True)

    def run():
        n = next(number)
        with stream:
            steps.make(x, rng.at(n))
        if n == 0 and steps.reason:
            print(f"this step is made without a graph: {steps.reason}", file=sys.stderr)

    cupy.cuda.Device().synchronize()  # what the stream is to use was made in another one
    return run


def _sampling(N, size, bars):
    """PyTorch's time is that of the network on all images, once for each pixel, and of nothing else."""
    network = plain_pixelcnn(levels=256, blocks=7, size=size)

    def images():
        return Generator(1).integers(0, 256, (N, size, size, 1)).astype(np.float32)

    def tinygen(_):
        made = _made(network.model)
        return lambda: made.sample(Generator(2), N), lambda: {"logits": made.distribution(images()).logits[:, :, :, 0]}

    def torch(contender):
        from . import pytorch, twins_torch

        return pytorch.logits(network.in_torch(twins_torch), _named(_made(network.model)), images(), contender)

    name = f"sampling: {network.name}, {N} images of 256 levels"
    products = N * network.products / THERE_AND_BACK
    return Case(name, {"tinygen": tinygen, "torch": torch}, bars, products, images=True, reruns=size**2)


class Recorder:
    """An optimiser that stays where it is and remembers the gradients."""

    def init(self, params):
        return params

    def update(self, gradients, state, params):
        return params, gradients


class DrawingAsOnAGPU(Generator):
    """Gives on the processor the numbers that a Generator of the same seed draws on a GPU: those of kernels/random."""

    def normal(self, shape=(), dtype=np.float32):
        return self._fill("normal", shape, dtype)

    def uniform(self, shape=(), dtype=np.float32):
        return self._fill("uniform", shape, dtype)


def _made(model):
    """The model with noise on its weights, so that none begins as 0: gradients that vanish would agree with anything."""
    rng = Generator(3)
    return tree.map(lambda leaf: np.asarray(leaf + np.float32(0.02) * rng.normal(leaf.shape)), model(Generator(0)))


def _named(t, within=""):
    """The arrays of a tree by the names that the twins have for them; of those whose path has `within`, which is left out."""
    leaves, structure = tree.flatten(t)
    return {
        path.replace(".layers", "").replace(within, ""): leaf for path, leaf in zip(structure.paths(), leaves) if within in path
    }
