r"""The six families side by side: how each is trained on the same grey images, drawn from, and what can be asked of it.

All are models of the same thing, an image g of D pixels with L whole grey levels. From it each makes what it can be trained on,
and some of them can say how probable it is:

    family     is trained on                       and says of log P(g)
    VAE        x = (g + u) / L, u uniform          >= E_u[bound on log p(x)] - D log L         Theis et al. 2016, section 3.1
    GAN        x = g / (L - 1)                     nothing
    flow       x = (g + u) / L                     >= E_u[log p(x)] - D log L                  the same, with p(x) exact
    PixelCNN   g, and its label y                  = log mean_y P(g | y)
    EBM        x = g / (L - 1) + sigma eps         nothing: p(x) is known up to a factor, and x is not g
    DDPM       g scaled to [-1, 1], and y          >= the variational bound, without y

So these four figures may be compared. Settings are near those of each family's own demo, but with as many parameters for all:
about 65,000 for the small digits, and 200,000 for MNIST.
"""

from dataclasses import replace

import numpy as np

from tinygen import data, mcmc, ops, optim
from tinygen.density import Exact, LowerBound, bits_per_dim
from tinygen.models import ddpm, ebm, flow, gan, pixelcnn, vae
from tinygen.nn.invertible import Logit
from tinygen.train import NonFiniteError

CLASSES = 10


class Family:
    """A family on a data set. A method that the mathematics does not have is None.

    training(rng) gives the state before the first of `steps`, the step as `train.fit` takes it, and the batches. Of a state,
    `trained` are the parameters, and `best` is the model to evaluate:

        sample(model, rng, labels)      grey levels, uint8, one image for each label, which unlabelled families do not look at
        bits(model, grey, rng)          BitsPerDim of images of grey levels
        encode(model, grey)             latents (n, d)
        decode(model, z)                grey levels, from latents that are N(0, I)

    A sample takes `evaluations` of the network, of which `in_a_row` have to wait for one another.
    """

    steps_per_second = {}  # of training, by data set, on one core of the machine on which they were measured
    labelled, evaluations, in_a_row = False, 1, 1
    bits = encode = decode = latent = None

    def __init__(self, images, seconds, seed):
        self.images, self.seed, self.levels, self.shape = images, seed, images.levels, images.train.images.shape[1:]
        self.steps = max(1, round(seconds * self.steps_per_second[images.name]))

    def trained(self, state):
        return state.params

    def best(self, state):
        return state.best

    # For those who write a family down

    def on(self, digits, mnist):
        """The setting for the data set at hand."""
        return {"digits": digits, "mnist": mnist}[self.images.name]

    def rate(self, learning_rate):
        """Warm up, then down to 0 along a cosine."""
        warm = min(100, self.steps // 2 + 1)
        return optim.warm_up(warm, optim.cosine(learning_rate, max(1, self.steps - warm)))

    def batches(self, size):
        part = self.images.train
        return data.Batches((part.images, part.labels) if self.labelled else part.images, size, self.seed)

    def prepare(self, name):
        return lambda grey, rng: data.prepare(name, grey, self.levels, rng)

    def dequantised(self, grey):
        """x = (g + u) / L with the u that belongs to each image."""
        return data.prepare_once("dequantised", grey, self.levels)

    def cell(self, x):
        """The g in whose cell x = (g + u) / L lies. NonFiniteError for NaN or infinity."""
        return np.floor(self.levels * _finite(x)).clip(0, self.levels - 1).astype(np.uint8)

    def nearest(self, x):
        """The g for which g / (L - 1) is nearest to x. NonFiniteError for NaN or infinity."""
        return np.round((self.levels - 1) * _finite(x).clip(0, 1)).astype(np.uint8)

    def in_parts(self, density, x, levels=None):
        """Bits per dimension, from the density of 50 images at a time."""
        parts = [density(x[i : i + 50]) for i in range(0, len(x), 50)]
        nats = np.concatenate([part.nats for part in parts])
        whole = Exact(nats) if isinstance(parts[0], Exact) else LowerBound(nats, parts[0].how)
        return bits_per_dim(whole, x[0].size, levels)


class VAE(Family):
    """Convolutions, 16 latents, Gaussian pixels that each learn a variance. Samples are means, without the pixels' noise."""

    steps_per_second = {"digits": 140, "mnist": 44}
    latent = 16

    def training(self, rng):
        mean = ((self.images.train.images.mean(axis=0) + 0.5) / self.levels).astype(np.float32)
        model = vae.VAE.convolutional(rng, self.shape, self.latent, activation=ops.silu, likelihood="gaussian", mean=mean)
        model = replace(model, log_var=np.full(self.shape, -3, np.float32))
        optimiser = optim.Adam(self.rate(2e-3))
        return optim.begin(model, optimiser), vae.train_step(optimiser, prepare=self.prepare("dequantised")), self.batches(64)

    def sample(self, model, rng, labels):
        return self.cell(model.sample(rng, len(labels)))

    def bits(self, model, grey, rng):
        return self.in_parts(lambda x: model.log_prob_estimate(x, rng, samples=200), self.dequantised(grey), self.levels)

    def encode(self, model, grey):
        return model.encode(self.dequantised(grey)).mean

    def decode(self, model, z):
        return self.cell(model.decode(z).mean)


class GAN(Family):
    """A DCGAN with the penalty R1; the averaged generator draws. It decodes, but does not encode."""

    steps_per_second = {"digits": 64, "mnist": 18}
    latent = 64

    def training(self, rng):
        model = gan.GAN.dcgan(rng, self.shape, self.latent, channels=(32, 48))
        optimiser = optim.Adam(optim.cosine(1e-3, self.steps, final=1e-4), beta1=0.0, beta2=0.99)
        objective = gan.r1(self.on(digits=0.1, mnist=1.0))
        step = gan.train_step(objective, optimiser, optimiser, decay=0.99, prepare=self.prepare("grey"))
        return gan.players(model, optimiser, optimiser, averaged=True), step, self.batches(64)

    def trained(self, state):
        return state.generator.params, state.discriminator.params

    def best(self, state):
        return state.gan

    def sample(self, model, rng, labels):
        return self.nearest(model.sample(rng, len(labels)))

    def decode(self, model, z):
        return self.nearest(model.generator(z))


class Flow(Family):
    """A multi-scale RealNVP of affine couplings."""

    steps_per_second = {"digits": 32, "mnist": 3.3}

    def training(self, rng):
        scales, width, alpha = self.on(digits=(2, 60, 0.01), mnist=(3, 80, 0.001))
        model = flow.Flow.convolutional(rng, self.shape, scales, width=width, before=(Logit(alpha),))
        optimiser = optim.AdamW(self.rate(2e-3), weight_decay=0.01)
        step = flow.train_step(optimiser, self.prepare("dequantised"), limit=50.0, decay=0.99)
        return optim.begin(model, optimiser, averaged=True), step, self.batches(32)

    def sample(self, model, rng, labels):
        return self.cell(model.sample(rng, len(labels)))

    def bits(self, model, grey, rng):
        return self.in_parts(model.log_prob, self.dequantised(grey), self.levels)

    def encode(self, model, grey):
        return model.to_latent(self.dequantised(grey))[0]

    def decode(self, model, z):
        return self.cell(model.to_data(z)[0])


class PixelCNN(Family):
    """The gated PixelCNN, told the labels. Its P(g) is the mean of P(g | y) over the labels y, as likely as each other."""

    steps_per_second = {"digits": 34, "mnist": 1.3}
    labelled = True

    def __init__(self, images, seconds, seed):
        super().__init__(images, seconds, seed)
        self.in_a_row = self.shape[0] * self.shape[1]  # one pass of the network in all, but a pixel at a time

    def training(self, rng):
        channels, layers, first = self.on(digits=(30, 4, 5), mnist=(40, 6, 7))
        size = {"channels": channels, "layers": layers, "first_kernel": first}
        model = pixelcnn.PixelCNN.gated(rng, self.shape, self.levels, classes=CLASSES, **size)
        optimiser = optim.Adam(self.rate(4e-3))
        return optim.begin(model, optimiser, averaged=True), pixelcnn.train_step(optimiser, decay=0.99), self.batches(32)

    def sample(self, model, rng, labels):
        return model.sample(rng, len(labels), labels)

    def bits(self, model, grey, rng):
        def log_prob(part):
            given = [model.log_prob(part, np.full(len(part), y)).nats for y in range(CLASSES)]
            return Exact(ops.logsumexp(np.stack(given), axis=0) - np.log(CLASSES))

        return self.in_parts(log_prob, grey)


class EBM(Family):
    """An energy of noisy images, trained by persistent chains. Samples are ends of chains, cleaned by a step of the score."""

    steps_per_second = {"digits": 104, "mnist": 31}

    def __init__(self, images, seconds, seed):
        super().__init__(images, seconds, seed)
        self.sigma, move, self.moves = self.on(digits=(0.15, 0.45, 1000), mnist=(0.3, 0.15, 3000))
        self.kernel = mcmc.AdjustedLangevin(move * self.sigma**2)
        self.evaluations = self.in_a_row = self.moves + 2  # where it starts, each move, and the last step

    def training(self, rng):
        width = self.on(digits=224, mnist=200)
        y = data.prepare_once("grey", self.images.train.images, self.levels)
        moments = {"mean": y.mean(axis=0), "std": np.sqrt(y.var(axis=0) + self.sigma**2)}
        model = ebm.EBM.mlp(rng, self.shape, (width, width), ops.silu, **moments)
        optimiser = optim.Adam(optim.cosine(2e-3, self.steps, final=1e-4))
        step = ebm.train_step(optimiser, self.kernel, k=5, prepare=self._noisy, decay=0.99)
        return ebm.start(model, optimiser, rng, chains=128, averaged=True), step, self.batches(128)

    def trained(self, state):
        return state.training.params

    def best(self, state):
        return state.training.best

    def sample(self, model, rng, labels):
        x = model.sample(rng, len(labels), self.kernel, self.moves)
        return self.nearest(x + self.sigma**2 * mcmc.evaluate(model.log_density, x).score)

    def _noisy(self, grey, rng):
        y = data.prepare("grey", grey, self.levels, rng)
        return y + self.sigma * rng.normal(y.shape)


class DDPM(Family):
    """Diffusion with a U-Net, told nine labels in ten; DDIM in 50 steps draws, and in 20 encodes and decodes."""

    steps_per_second = {"digits": 40, "mnist": 14}
    labelled, evaluations, in_a_row = True, 50, 50

    def training(self, rng):
        T, channels, patch = self.on(digits=(200, (10, 24), 1), mnist=(1000, (20, 40), 2))
        model = ddpm.DDPM.unet(
            rng, self.shape, ddpm.cosine(T), channels, classes=CLASSES, patch=patch, levels=self.levels, predicts="v"
        )
        optimiser = optim.Adam(self.rate(2e-3))
        step = ddpm.train_step(optimiser, lambda batch, rng: (self._signed(batch[0]), batch[1]), decay=0.99)
        return optim.begin(model, optimiser, averaged=True), step, self.batches(32)

    def sample(self, model, rng, labels):
        parts = [labels[i : i + 100] for i in range(0, len(labels), 100)]
        return np.concatenate(
            [self._unsigned(model.sample_ddim(rng, len(part), self.evaluations, labels=part)) for part in parts]
        )

    def bits(self, model, grey, rng):
        return self.in_parts(lambda x: model.bound(x, rng, terms=50), self._signed(grey))

    def encode(self, model, grey):
        return model.to_latent(self._signed(grey), times=20, iterations=5).reshape(len(grey), -1)

    def decode(self, model, z):
        return self._unsigned(model.sample_ddim(None, len(z), times=20, start=z.reshape(len(z), *self.shape)))

    def _signed(self, grey):
        return ddpm.to_signed(grey, self.levels)

    def _unsigned(self, x):
        return self.nearest(ddpm.to_unit(x))


def _finite(x):
    bad = ~np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if bad.any():
        raise NonFiniteError(f"{bad.sum()} of {len(x)} samples have NaN or infinity")
    return x


FAMILIES = {"VAE": VAE, "GAN": GAN, "flow": Flow, "PixelCNN": PixelCNN, "EBM": EBM, "DDPM": DDPM}
