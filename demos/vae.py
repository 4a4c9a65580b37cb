# %% [markdown]
"""A variational autoencoder learns to write digits (about 1 minute; --data mnist about 1 hour)

A VAE explains an image x by a few hidden numbers z: z ~ N(0, I), and a network, the decoder, turns z into the probability of
each pixel. The likelihood of an image, p(x) = E_z[p(x | z)], is an average over all z, almost all of which explain x badly. A
second network, the encoder, therefore proposes the z that may have made x, and the price of a proposal is a KL divergence:

    log p(x)  >=  E_q[log p(x | z)]  -  KL(q(z | x) || p(z))        the ELBO; the model is tinygen/models/vae.py

Both networks climb this bound together. Run this file with `python -m demos vae`, or cell by cell as a notebook.
"""

# %%
from statistics import NormalDist

import numpy as np
from tqdm import tqdm

from demos.options import at_least_one, not_negative, options, plain_errors
from demos.training import finish, fit
from tinygen import Generator, data, ops, optim, plot, train
from tinygen.density import LowerBound, bits_per_dim
from tinygen.models import vae

chosen = options(
    "vae",
    "Train a variational autoencoder, look at what it has learned, and estimate the likelihood of its test images.",
    steps={"digits": 3000, "mnist": 600_000, "quick": 40},
    network={"choices": ("convolutional", "mlp"), "help": "default: convolutional for digits, mlp for mnist"},
    samples={
        "type": at_least_one,
        "default": 1,
        "metavar": "K",
        "help": "train on IWAE's bound of K samples (default: the ELBO)",
    },
    beta={"type": not_negative, "default": 1.0, "help": "weight of the KL; only with 1 is it a bound (default: %(default)s)"},
)

# %% [markdown]
# ## The data
#
# Grey levels become bits: in every batch, each pixel is 1 with the probability that its grey level says ("dynamic
# binarisation"). The test images are binarised once, by noise that belongs to each image, so that the figures below are about
# one fixed test set.

# %%
with plain_errors():
    vae.train_step(optim.Adam(1e-3), chosen.samples, chosen.beta)  # now, and not after an hour of training
    images = data.load(chosen.data)
shape = images.train.images.shape[1:]
mean = (images.train.images.mean(axis=0) / (images.levels - 1)).astype(np.float32)


def binarise(grey, rng):
    return data.prepare("dynamic", grey, images.levels, rng)


validation, test = (data.prepare_once("dynamic", part.images, images.levels) for part in (images.validation, images.test))

# %% [markdown]
# ## The model
#
# For MNIST, the networks of Burda et al. 2016: two hidden layers of 200 tanh units on either side of 50 latent numbers. For the
# small digits, convolutions and 16 latent numbers.

# %%
rng = Generator(chosen.seed)
if (chosen.network or {"digits": "convolutional", "mnist": "mlp"}[chosen.data]) == "mlp":
    model = vae.VAE.mlp(rng, shape, latent=50, mean=mean)
else:
    model = vae.VAE.convolutional(rng, shape, latent=16, activation=ops.silu, mean=mean)

# %% [markdown]
# ## Training
#
# The ELBO is a bound with one sample. The IWAE bound averages K of them inside the logarithm: it is tighter, and costs K times
# as much. Most of the way can be gone more cheaply: `--samples K` trains the ELBO for seven eighths of its steps, and only then
# the bound of K samples, on smaller batches.

# %%
many = chosen.samples > 1
early = max(1, chosen.steps * 7 // 8) if many else chosen.steps
first, second = optim.cosine(1.5e-3, early), optim.cosine(1e-3, max(1, chosen.steps - early))
optimiser = optim.Adam(lambda step: first(step) if step < early else second(step - early))
state, resume = optim.begin(model, optimiser), None  # whether to resume says the command line, of the first part


def validate(step, state, metrics):
    return {"validation": -vae_bound(state.params, validation, Generator(chosen.seed)).nats.mean()}


def vae_bound(model, x, rng):
    """The bound that is trained on, without beta, 1000 images at a time."""
    parts = [x[i : i + 1000] for i in range(0, len(x), 1000)]
    return LowerBound(np.concatenate([model.bound(part, rng).nats for part in parts]), "ELBO")


for samples, batch_size, until in ((1, 100, early), (chosen.samples, 20, chosen.steps)):
    batches = data.Batches(images.train.images, batch_size, chosen.seed)
    step = vae.train_step(optimiser, samples, chosen.beta, prepare=binarise)
    state = fit(chosen, step, state, batches, min(1000, chosen.steps // 100), validate, until, resume)
    resume = True
model = state.params

# %% [markdown]
# ## How likely are the test images?
#
# The bound with one sample is pessimistic by KL(q || true posterior). With 5000 samples, the gap is almost closed: the figure
# that papers quote, still a lower bound.

# %%
rng = Generator(chosen.seed).at(chosen.steps)  # the first random numbers that training did not use
few = chosen.quick  # then a glance must do
judged, samples = (test[:50], 50) if few else (test, 5000)
groups = tqdm(range(0, len(judged), 100), f"log p(x) with {samples} samples", disable=None, unit=" hundred")
nats = np.concatenate([model.log_prob_estimate(judged[i : i + 100], rng, samples).nats for i in groups])
expected = {"digits": "22.3 to 22.8", "mnist": "86.3 to 86.7"}[chosen.data]
for density in (vae_bound(model, judged, rng), LowerBound(nats, f"{samples} samples")):
    print(f"test: {density}, {bits_per_dim(density, test[0].size)}")
if not few:
    print(f"expected with the default settings: -log p(x) of {expected} nats, by {samples} samples")

# %% [markdown]
# ## Pictures
#
# Samples are decoded from z ~ N(0, I); reconstructions pass an image through both networks; interpolations walk in a straight
# line between the latents of two images. All show the probability of ink in each pixel.

# %%
file = chosen.out.joinpath
plot.image_grid(model.sample(rng, 100), file("samples.png"), columns=10)
grey = data.prepare_once("grey", images.test.images[:10], images.levels)
rows = np.concatenate([grey, test[:10], model.reconstruct(test[:10])])
plot.image_grid(rows, file("reconstructions.png"), columns=10, row_labels=["image", "bits", "VAE"])
walks = model.interpolate(test[:8], test[8:16], steps=11)
plot.image_grid(walks.swapaxes(0, 1).reshape(-1, *shape), file("interpolations.png"), columns=11)
plot.curves(train.read_log(file("log.jsonl")), file("curves.png"), metrics=("loss", "validation"), y_label="nats")

# %% [markdown]
# ## A map of the digits
#
# With two latent numbers the whole latent space fits on a page: where the encoder puts the training images, and what the
# decoder makes of each place. Rows and columns are quantiles of N(0, 1), so that each image stands for the same probability.

# %%
flat = vae.VAE.mlp(Generator(chosen.seed), shape, latent=2, mean=mean)
flat_steps = 40 if few else {"digits": 4000, "mnist": 20_000}[chosen.data]
optimiser = optim.Adam(optim.cosine(2e-3, flat_steps))
step = vae.train_step(optimiser, prepare=binarise)
batches = data.Batches(images.train.images, 100, chosen.seed)
flat = train.fit(step, optim.begin(flat, optimiser), batches, flat_steps, seed=chosen.seed).params

seen = slice(0, 3000)
z = flat.encode(data.prepare_once("dynamic", images.train.images[seen], images.levels)).mean
plot.scatter(z, images.train.labels[seen], file("latent_map.png"))
quantiles = np.array([NormalDist().inv_cdf((i + 0.5) / 20) for i in range(20)], np.float32)
plane = np.stack(np.meshgrid(quantiles, quantiles[::-1]), axis=-1).reshape(-1, 2)  # left to right, bottom to top, as on the map
across = "the mean image at each $z$: $z_1$ to the right, $z_2$ upwards, 20 quantiles of $N(0, 1)$ each"
plot.image_grid(flat.decode(plane).mean, file("latent_plane.png"), columns=20, title=across)
finish(chosen)
