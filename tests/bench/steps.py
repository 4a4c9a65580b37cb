"""Whole steps of training, and sampling from a PixelCNN: tinygen's own models and train steps, beside their twins.

A twin (twins_torch.py, twins_jax.py) is the same network and the same loss as one would write them in the other library. It
takes our weights over by their names, and so the gradients can be compared. All steps are Adam's.
"""

from functools import partial
from itertools import count

import numpy as np

from tinygen import Generator, ops
from tinygen.autograd import tree
from tinygen.models import ddpm, flow, gan, pixelcnn, vae
from tinygen.optim import Adam, begin

from .contest import Case

LEARNING_RATE = 1e-3


def cases(quick=False):
    def few(n):
        return 2 if quick else n

    yield _step(
        "step: VAE 784-400-20",
        model=partial(vae.VAE.mlp, shape=(784,), latent=20, hidden=(400,), activation=ops.relu),
        batch=lambda rng: _bits(rng, few(128), 784),
        train_step=vae.train_step,
        in_torch=lambda twins: twins.dense_vae(784, 400, 20),
        in_jax="vae",
        products=3 * few(128) * _products((1, 784, 400), (1, 400, 40), (1, 20, 400), (1, 400, 784)),
        bars=(1.3, 1.8),
    )
    yield _step(
        "step: toy VAE 2-64-2",
        model=partial(vae.VAE.mlp, shape=(2,), latent=2, hidden=(64,), activation=ops.relu, likelihood="gaussian"),
        batch=lambda rng: rng.normal((few(128), 2)),
        train_step=vae.train_step,
        in_torch=lambda twins: twins.dense_vae(2, 64, 2, gaussian=True),
        in_jax="vae",
        products=3 * few(128) * _products((1, 2, 64), (1, 64, 4), (1, 2, 64), (1, 64, 2)),
        bars=(3, 6),
    )
    for D, width, bars in (2, 64, (2.5, 4)), (64, 128, (1.4, 2)):
        layers = (1, D // 2, width), (1, width, width), (1, width, D)
        yield _step(
            f"step: RealNVP, {D} dimensions, 8 couplings of width {width}",
            model=partial(flow.Flow.mlp, dimensions=D, hidden=(width, width), activation=ops.relu),
            batch=lambda rng, D=D: rng.normal((few(256), D)),
            train_step=flow.train_step,
            in_torch=lambda twins, D=D, width=width: twins.Flow(D, width),
            in_jax="flow",
            products=3 * few(256) * 8 * _products(*layers),
            bars=bars,
        )
    yield _step(
        "step: PixelCNN, 64 channels, 6 blocks",
        model=partial(pixelcnn.PixelCNN.plain, shape=(28, 28, 1), levels=2, channels=64, blocks=few(6)),
        batch=lambda rng: _bits(rng, few(64), 28, 28, 1),
        train_step=pixelcnn.train_step,
        in_torch=lambda twins: twins.PixelCNN(few(6), 2),
        images=True,
        products=3 * few(64) * _pixelcnn_products(few(6), 1),
        bars=(1.5, 1.9),
    )
    yield _step(
        "step: convolutional VAE",
        model=partial(vae.VAE.convolutional, shape=(28, 28, 1), latent=20),
        batch=lambda rng: _bits(rng, few(128), 28, 28, 1),
        train_step=vae.train_step,
        in_torch=lambda twins: twins.convolutional_vae(),
        images=True,
        products=3 * few(128) * _products(
            (14**2, 9, 32), (7**2, 9 * 32, 64), (1, 7**2 * 64, 40),
            (1, 20, 7**2 * 64), (7**2, 16 * 64, 32), (14**2, 16 * 32, 1),
        ),
        bars=(1.1, 1.6),
    )  # fmt: skip
    generator = _products((1, 64, 7**2 * 128), (7**2, 16 * 128, 64), (14**2, 16 * 64, 1))
    discriminator = _products((14**2, 16, 64), (7**2, 16 * 64, 128), (1, 7**2 * 128, 1))
    yield _step(
        "step: DCGAN",
        model=partial(gan.GAN.dcgan, shape=(28, 28, 1)),
        batch=lambda rng: rng.uniform((few(128), 28, 28, 1)),
        train_step=lambda optimiser: gan.train_step(gan.NON_SATURATING, optimiser, optimiser),
        begin=lambda model, optimiser: gan.players(model, optimiser, optimiser),
        in_torch=lambda twins: twins.DCGAN(),
        images=True,
        # G forward; D there and back on data and samples; G and D forward, then back through D to the samples, and through G
        products=few(128) * (4 * generator + 8 * discriminator),
        bars=(1.0, 1.35),
    )
    yield _step(
        "step: U-Net DDPM, 32 channels",
        model=partial(ddpm.DDPM.unet, shape=(28, 28, 1), schedule=ddpm.cosine()),
        batch=lambda rng: rng.normal((few(64), 28, 28, 1)),
        train_step=partial(ddpm.train_step, limit=None, decay=None),
        in_torch=lambda twins: twins.DDPM(),
        images=True,
        products=3 * few(64) * _products(
            (28**2, 9, 32), (28**2, 9 * 32, 2 * 32), (14**2, 9 * 32, 32),  # down, to half the size,
            (14**2, 9 * 32, 64), (14**2, 9 * 64, 64), (14**2, 32, 64),  # down,
            (14**2, 9 * 64, 4 * 64), (14**2, 64, 4 * 64), (14**2, 64, 2 * 14**2),  # two blocks and attention,
            (14**2, 9 * 128, 64), (14**2, 9 * 64, 64), (14**2, 128, 64), (28**2, 9 * 64, 32),  # up, to twice the size,
            (28**2, 9 * 64, 32), (28**2, 9 * 32, 32), (28**2, 64, 32), (28**2, 9 * 32, 1),  # up
        ),
        bars=(1.0, 1.5),
    )  # fmt: skip
    for n in 16, 64:
        yield _sampling(n, few(7), quick)


def _bits(rng, *shape):
    return rng.bernoulli(np.full(shape, 0.2, np.float32))


def _products(*layers):
    """The multiply-adds of an example's way through layers (pixels, numbers that make one, numbers that are made)."""
    return sum(pixels * inputs * outputs for pixels, inputs, outputs in layers)


def _pixelcnn_products(blocks, outputs):
    block = _products((1, 64, 32), (5, 32, 32), (1, 32, 64))
    return 28**2 * (24 * 64 + blocks * block + _products((1, 64, 64), (1, 64, outputs)))


def _step(name, model, batch, train_step, in_torch, in_jax=None, begin=begin, **facts):
    """A case of train_step(optimiser), from begin(model, optimiser) on. `in_torch` makes the twin, and `in_jax` names it."""

    def tinygen(_):
        step, state, x = train_step(Adam(LEARNING_RATE)), begin(_made(model), Adam(LEARNING_RATE)), batch(Generator(1))
        rng, number = Generator(2), count()

        def run():
            nonlocal state
            state, _ = step(state, x, rng.at(next(number)))

        def check():
            seen, metrics = train_step(Recorder())(begin(_made(model), Recorder()), x, Generator(2))
            losses = {name: value for name, value in metrics.items() if "loss" in name}
            return losses | _named(seen, "optimiser.")

        return run, check

    def torch(contender):
        from . import twins_torch

        weights, x = _named(_made(model)), batch(Generator(1))
        return twins_torch.ready(in_torch(twins_torch), weights, x, Generator(2), contender, LEARNING_RATE)

    def jax(_):
        from . import twins_jax

        weights, x = _named(_made(model)), batch(Generator(1))
        return twins_jax.ready(getattr(twins_jax, in_jax), weights, x, Generator(2), LEARNING_RATE)

    libraries = {"tinygen": tinygen, "torch": torch, **({"jax": jax} if in_jax else {})}
    return Case(name, libraries, step=True, **facts)


def _sampling(n, blocks, quick):
    """PyTorch's time is that of the network on all images, once for each pixel, and of nothing else."""
    size = 4 if quick else 28
    model = partial(pixelcnn.PixelCNN.plain, shape=(size, size, 1), levels=256, channels=64, blocks=blocks)

    def images():
        return Generator(1).integers(0, 256, (n, size, size, 1)).astype(np.float32)

    def tinygen(_):
        made = _made(model)
        return lambda: made.sample(Generator(2), n), lambda: {"logits": made.distribution(images()).logits[:, :, :, 0]}

    def torch(contender):
        from . import twins_torch

        return twins_torch.logits(twins_torch.PixelCNN(blocks, 256), _named(_made(model)), images(), contender)

    name = f"sampling: PixelCNN, 64 channels, 7 blocks, {n} images of 256 levels"
    products = n * _pixelcnn_products(blocks, 256)
    return Case(name, {"tinygen": tinygen, "torch": torch}, (500, 1200), products, images=True, reruns=size**2)


class Recorder:
    """An optimiser that stays where it is and remembers the gradients."""

    def init(self, params):
        return params

    def update(self, gradients, state, params):
        return params, gradients


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
