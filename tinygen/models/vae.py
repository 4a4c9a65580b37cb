r"""The variational autoencoder: a latent-variable model trained on a lower bound of its likelihood.

    model      z ~ N(0, I_d),   x | z ~ p(x | z), a network: the decoder                 Kingma & Welling 2014, section 2
    posterior  q(z | x) = N(mu(x), diag sigma^2(x)), another network: the encoder        eq. 9
    bound      log p(x) >= ELBO(x) = E_q[log p(x | z)] - KL(q(z | x) || p(z))            eq. 3
    sample     z = mu + sigma eps,  eps ~ N(0, I), so that gradients reach mu and sigma  section 2.4
    KL         1/2 \sum_j (mu_j^2 + sigma_j^2 - 1 - log sigma_j^2)                       appendix B
    IWAE       log p(x) >= E[log 1/k \sum_i w_i],  w_i = p(x, z_i) / q(z_i | x)          Burda et al. 2016, eq. 8

The IWAE bound is the ELBO at k = 1, never falls with k, and tends to log p(x): with k = 5000 it is the customary estimate of
it. In training, beta can scale the KL (Higgins et al. 2017); below 1 that is no longer a bound. Everything is summed over
pixels and latent dimensions and averaged over examples only: a mean over pixels would be a beta of the number of pixels.

x (N, H, W, C) or (N, D), z (..., d); nats.
"""

import math
from dataclasses import replace

import numpy as np

from .. import ops
from ..autograd.tree import Array, module
from ..backend import array_module
from ..density import LowerBound
from ..distributions import Bernoulli, Gaussian
from ..nn import Conv2d, ConvTranspose2d, Flatten, Linear, Sequential, Unflatten, mlp
from ..nn.doors import require_at_least_one, require_examples, require_generator, require_image_shape, require_sizes
from ..optim import minimise

TIMELINE = {  # what came when, by the sources above
    "VAE": "Kingma & Welling 2014",
    "IWAE": "Burda et al. 2016",
    "beta-VAE": "Higgins et al. 2017",
}

PRIOR = Gaussian(np.float32(0), np.float32(0))  # N(0, 1) for each latent dimension: mean 0, log-variance 0


@module
class VAE:
    """Encoder x -> (mu, log sigma^2), decoder z -> the parameters of p(x | z), whose family `log_var` decides.

    `log_var` is None for Bernoulli pixels (the decoder gives logits), and otherwise the learned log-variance of Gaussian
    pixels (the decoder gives means), one number for all of them.
    """

    encoder: Sequential
    decoder: Sequential
    log_var: object
    shape: tuple  # of one example
    latent: int

    # Networks. The encoder sees pixels relative to `mean`, and the decoder starts from it: give the mean training image. MNIST
    # then takes half as many steps, since pixels that are all positive pull all weights of a unit the same way.

    @staticmethod
    def mlp(rng, shape, latent, hidden=(200, 200), activation=ops.tanh, likelihood="bernoulli", mean=0.5):
        """Fully connected networks; without hidden layers both are linear, and the model is probabilistic PCA."""
        require_sizes("VAE.mlp", shape=shape, hidden=hidden)
        require_at_least_one("VAE.mlp", latent=latent)
        pixels = math.prod(shape)
        *layers, last = mlp(rng, (latent, *reversed(hidden), pixels), activation)
        start = _start(shape, mean, likelihood).reshape(pixels)
        decoder = Sequential([*layers, replace(last, bias=start), Unflatten(tuple(shape))])
        encoder = Sequential([Shift(-_full(shape, mean)), Flatten(), *mlp(rng, (pixels, *hidden, 2 * latent), activation)])
        return VAE(encoder, decoder, _pixel_noise(likelihood), tuple(shape), latent)

    @staticmethod
    def convolutional(rng, shape, latent, channels=(32, 64), activation=ops.relu, likelihood="bernoulli", mean=0.5):
        """Strided convolutions, each halving height and width, and transposed ones that double them again.

        shape (H, W, C); channels of each convolution, one or more. ValueError for sizes that cannot be halved so many times.
        """
        scale = 2 ** len(channels)
        require_image_shape("VAE.convolutional", shape, scale, "give fewer channels")
        require_at_least_one("VAE.convolutional", latent=latent)
        height, width, colours = shape
        small = (height // scale, width // scale, (colours, *channels)[-1])
        down, up = [], []
        for c_in, c_out in zip((colours, *channels), channels):
            down += [Conv2d.init(rng, c_in, c_out, kernel=3, stride=2), activation]
            up = [activation, ConvTranspose2d.init(rng, c_out, c_in), *up]
        encoder = [Shift(-_full(shape, mean)), *down, Flatten(), Linear.init(rng, math.prod(small), 2 * latent)]
        decoder = [Linear.init(rng, latent, math.prod(small)), Unflatten(small), *up, Shift(_start(shape, mean, likelihood))]
        return VAE(Sequential(encoder), Sequential(decoder), _pixel_noise(likelihood), tuple(shape), latent)

    # The model's two conditional distributions

    def encode(self, x):
        """q(z | x), a Gaussian of shape (N, d)."""
        require_examples("VAE", x, self.shape)
        mean, log_var = ops.split(self.encoder(x), 2)
        return Gaussian(mean, log_var)

    def decode(self, z):
        """p(x | z) for z (..., d), elementwise over pixels: a distribution of shape (..., *shape). ValueError for another d."""
        if not z.shape or z.shape[-1] != self.latent:
            raise ValueError(f"VAE: z has shape {tuple(z.shape)}, but the latents of this model are (..., {self.latent})")
        flat = ops.reshape(z, shape=(-1, self.latent))  # convolutions know one batch axis
        y = ops.reshape(self.decoder(flat), shape=(*z.shape[:-1], *self.shape))
        return Bernoulli(y) if self.log_var is None else Gaussian(y, self.log_var)  # model: [elbo.model_iwae]

    # Bounds on log p(x)

    def elbo_terms(self, x, rng, closed_form=True):
        """log p(x | z) for one z ~ q(z | x), and KL(q || p) in closed form or by that same z: nats, (N,) each."""
        q = self.encode(x)
        # z = mu + sigma eps, and the terms of 1/2 \sum_j (mu_j^2 + sigma_j^2 - 1 - log sigma_j^2), in one pass
        z, divergence = q.sample_with_kl(rng)  # sample: [reparameterisation.model_gradient]
        if not closed_form:
            divergence = q.log_prob(z) - PRIOR.log_prob(z)
        return _per_example(self.decode(z).log_prob(x), 1), divergence.sum(axis=-1)  # KL: [elbo.model_closed_form]

    def elbo(self, x, rng, closed_form=True):
        """The difference of the `elbo_terms`: the ELBO on average over z. LowerBound, nats (N,)."""
        reconstruction, divergence = self.elbo_terms(x, rng, closed_form)
        return LowerBound(reconstruction - divergence, "ELBO")  # bound: [elbo.model_elbo]

    def iwae(self, x, rng, k):
        """log 1/k sum_i w_i with k samples. LowerBound, nats (N,)."""
        return LowerBound(ops.logsumexp(self.log_weights(x, rng, k), axis=0) - math.log(k), f"IWAE, k = {k}")

    def bound(self, x, rng):
        """The ELBO. LowerBound, nats (N,)."""
        return self.elbo(x, rng)

    def log_weights(self, x, rng, k, q=None):
        """log w_i = log p(x | z_i) + log p(z_i) - log q(z_i | x) for k samples z_i ~ q(z | x), nats (k, N)."""
        _require_samples(k)
        q = self.encode(x) if q is None else q
        q = Gaussian(*(ops.broadcast_to(parameter, shape=(k, *parameter.shape)) for parameter in (q.mean, q.log_var)))
        z = q.sample(rng)
        ratio = PRIOR.log_prob(z) - q.log_prob(z)
        return _per_example(self.decode(z).log_prob(x), 2) + ratio.sum(axis=-1)  # IWAE: [elbo.model_iwae]

    def log_prob_estimate(self, x, rng, samples=5000, rows=5000):
        """The IWAE bound with many samples, by decoding `rows` latents at a time. LowerBound, nats (N,)."""
        _require_samples(samples)
        q, at_once, parts = self.encode(x), max(1, rows // max(1, len(x))), []
        for start in range(0, samples, at_once):
            parts.append(ops.logsumexp(self.log_weights(x, rng, min(at_once, samples - start), q), axis=0))
        return LowerBound(ops.logsumexp(ops.stack(*parts), axis=0) - math.log(samples), f"IWAE, k = {samples}")

    # Uses

    def reconstruct(self, x):
        """The mean of p(x | z) at the mean of q(z | x), (N, *shape)."""
        return self.decode(self.encode(x).mean).mean

    def sample(self, rng, n):
        """The means of p(x | z) for n latents from the prior, (n, *shape): probabilities, for Bernoulli pixels."""
        require_generator("VAE.sample", rng)
        return self.decode(rng.normal((n, self.latent))).mean

    def interpolate(self, a, b, steps):
        """The images on straight lines between the latents of a and of b, (steps, N, *shape): from a's to b's.

        ValueError unless there are as many of both, or one of either.
        """
        start, end = self.encode(a).mean, self.encode(b).mean
        if 1 not in (len(a), len(b)) and len(a) != len(b):
            raise ValueError(f"VAE.interpolate: {len(a)} and {len(b)} images are no pairs; give as many, or one")
        t = array_module(start).linspace(0, 1, steps, dtype=np.float32)[:, None, None]
        return self.decode((1 - t) * start + t * end).mean


@module
class Shift:
    """x + amount: a constant of the data, which is not trained."""

    amount: Array

    def __call__(self, x):
        return x + ops.stop_gradient(self.amount)


def _require_samples(k):
    if k < 1:
        raise ValueError(f"VAE: a bound is an average over samples of q(z | x), and {k} were asked for; take at least 1")


def _per_example(log_prob, leading):
    """Sum a log-density over all axes of an example, those after the first `leading`."""
    return log_prob.sum(axis=tuple(range(leading, len(log_prob.shape))))


def _full(shape, mean):
    mean = np.asarray(mean, np.float32)
    if mean.shape not in ((), tuple(shape)) or not np.isfinite(mean).all():
        raise ValueError(f"VAE: mean has shape {mean.shape}; give a finite number, or a mean image of shape {tuple(shape)}")
    return np.array(np.broadcast_to(mean, shape))


def _start(shape, mean, likelihood):
    """The decoder's first output: the mean itself for Gaussian pixels, and its logit for Bernoulli ones."""
    p = np.clip(_full(shape, mean), 1e-3, 1 - 1e-3)
    return np.log(p / (1 - p)) if likelihood == "bernoulli" else _full(shape, mean)


def _pixel_noise(likelihood):
    if likelihood not in ("bernoulli", "gaussian"):
        raise ValueError(f"VAE: likelihood must be 'bernoulli' or 'gaussian', not {likelihood!r}")
    return None if likelihood == "bernoulli" else np.zeros((), np.float32)


def train_step(optimiser, k=1, beta=1.0, prepare=lambda batch, rng: batch):
    """(state, batch, rng) -> (state, metrics): one step on -ELBO (k = 1) or on minus the IWAE bound of k samples, nats.

    beta scales the KL, for k = 1 only. ValueError with another k: the IWAE bound has no KL to scale.
    `prepare` turns a batch into x, as dynamic binarisation does. The state is that of `optim.minimise`.
    """

    _require_samples(k)
    if k > 1 and beta != 1:
        raise ValueError(f"VAE: beta = {beta} with k = {k} samples; the IWAE bound has no KL to scale: give k = 1 or beta = 1")

    if not 0 <= beta < math.inf:
        raise ValueError(f"VAE: beta = {beta} must be at least 0: it is the weight of the KL, which is to become small")

    def loss(vae, batch, rng):
        x = prepare(batch, rng)
        if k > 1:
            return -vae.iwae(x, rng, k).nats.mean(), {}
        reconstruction, divergence = vae.elbo_terms(x, rng)
        return (beta * divergence - reconstruction).mean(), {}  # [elbo.model_loss]

    return minimise(loss, optimiser)
