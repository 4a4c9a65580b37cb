# %% [markdown]
"""An energy-based model learns digits, and draws and denoises by its gradient (about 1 minute; --data mnist about 40 minutes)

An energy-based model says how unlikely an image is, p(x) = e^-E(x) / Z. Its gradient is the energy's at the data minus the mean
of the energy's over p, for which Markov chains stand in (tinygen/models/ebm.py, tinygen/mcmc.py). Real images make this hard:
a border pixel is always white, so p is infinitely narrow there, and no chain could move. So the model is of noisy images,

    x  =  y + sigma eps,    eps ~ N(0, I),    y an image in [0, 1]

a density that is smooth on the scale of sigma. And nothing is lost: the best guess of y is one step along its gradient,

    E[y | x]  =  x + sigma^2 grad log p(x)        (Robbins 1956; Saremi & Hyvarinen 2019: walk with noise, then jump to y)

so chains give noisy samples, and their jumps clean ones. Run this file with `python -m demos ebm`, or cell by cell.
"""

# %%
from itertools import islice

import numpy as np

from demos.options import options, plain_errors
from demos.training import finish, fit
from tinygen import Generator, data, mcmc, metrics, ops, optim, plot, train
from tinygen.models import ebm

SIGMA = {"digits": 0.15, "mnist": 0.3}
MOVE = {"digits": 0.45, "mnist": 0.15}  # the step of a move, in units of sigma^2: the more pixels, the shorter it must be
chosen = options(
    "ebm",
    "Train an energy-based model of noisy images, let its chains draw, and measure what its energy and its gradient know.",
    steps={"digits": 4000, "mnist": 40_000, "quick": 20},
    network={"choices": ("mlp", "convolutional"), "default": "mlp", "help": "of the energy (default: %(default)s)"},
)
sigma = SIGMA[chosen.data]

# %% [markdown]
# ## The data
#
# The noise is drawn anew for each batch, and once for the validation and test images.

# %%
with plain_errors():
    images = data.load(chosen.data)
parts = (images.train.images, images.validation.images[:1000], images.test.images[:1000])
y_train, y_validation, y_test = (data.prepare_once("grey", part, images.levels) for part in parts)
shape = y_train.shape[1:]


def with_noise(y, rng):
    return y + sigma * rng.normal(y.shape)


x_validation, x_test = with_noise(y_validation, Generator(1)), with_noise(y_test, Generator(2))

# %% [markdown]
# ## The model and its chains
#
# 128 chains walk all the time (persistent contrastive divergence), five transitions for each step of the optimiser: Langevin
# moves of a step that is a part of sigma^2, of which those are rejected that detailed balance does not allow.

# %%
rng = Generator(chosen.seed)
moments = {"mean": y_train.mean(axis=0), "std": np.sqrt(y_train.var(axis=0) + sigma**2)}
if chosen.network == "mlp":
    hidden = {"digits": (256, 256), "mnist": (512, 512)}[chosen.data]
    model = ebm.EBM.mlp(rng, shape, hidden, ops.silu, **moments)
else:
    model = ebm.EBM.convolutional(rng, shape, **moments)
kernel = mcmc.AdjustedLangevin(MOVE[chosen.data] * sigma**2)
optimiser = optim.Adam(optim.cosine(2e-3, chosen.steps, final=1e-4))
step = ebm.train_step(optimiser, kernel, k=5, prepare=with_noise, decay=0.99)


def denoise(model, x):
    """E[y | x] = x + sigma^2 grad log p(x)."""
    return x + sigma**2 * mcmc.evaluate(model.log_density, x).score


def error(guess, y):
    """|guess - y|^2, the mean over images."""
    return float(((guess - y) ** 2).reshape(len(y), -1).sum(axis=1).mean())


def validate(step, state, metrics):
    best = state.training.best
    gap = best.energy(x_validation).energy.mean() - best.energy(state.chains).energy.mean()
    return {"denoising error": error(denoise(best, x_validation), y_validation), "energy above the chains'": gap}


# %% [markdown]
# ## Training
#
# The loss says nothing: it is about 0 whenever data and chains are in the same places. What is worth watching is how well the
# gradient takes the noise off images that it has not seen.

# %%
state = ebm.start(model, optimiser, rng, chains=128, averaged=True)
state = fit(chosen, step, state, data.Batches(y_train, 128, chosen.seed), chosen.steps // 40, validate)
model = state.training.best

# %% [markdown]
# ## How good is the gradient?
#
# Two yardsticks. The best linear guess knows means and covariances only: it is what a Gaussian model would do. And the
# training images themselves, each with noise around it, are a density whose best guess is known: it has memorised, and shows
# on unseen images what memorising is worth.

# %%


def linear_guess(x):
    y, mean = y_train.reshape(len(y_train), -1), y_train.mean(axis=0).reshape(-1)
    covariance = np.cov(y.T)
    gain = np.linalg.solve(covariance + sigma**2 * np.eye(len(mean)), covariance)
    return (mean + (x.reshape(len(x), -1) - mean) @ gain).reshape(x.shape)


def memorised_guess(x):
    y, flat = y_train.reshape(len(y_train), -1), x.reshape(len(x), -1)
    squares = (flat**2).sum(axis=1)[:, None] - 2 * flat @ y.T + (y**2).sum(axis=1)
    return (ops.softmax(-squares / (2 * sigma**2)) @ y).reshape(x.shape)


guesses = {"none": x_test, "memorised": memorised_guess(x_test), "linear": linear_guess(x_test)}
guesses["energy"] = denoise(model, x_test)
has_bands = chosen.data == "digits" and chosen.network == "mlp" and not chosen.quick
print(f"squared error of {len(y_test)} test images with noise of standard deviation {sigma:g}, by the guess")
for name, guess in guesses.items():
    band = "   expected 0.51 to 0.55" if name == "energy" and has_bands else ""
    print(f"  {name:10} {error(guess, y_test):7.3f}{band}")

# %% [markdown]
# ## Does the energy know a digit?
#
# Let one test image and one other image stand side by side, each with noise. How often has the test image the lower energy?
# (This share is the area under a ROC curve, AUROC: 1 if the energy tells them apart always, 0.5 if it cannot.)

# %%
rng = Generator(chosen.seed).at(chosen.steps)


def shuffled(y, rng):
    """Each image with its pixels in an order of its own."""
    return np.stack([image.reshape(-1)[rng.permutation(image.size)].reshape(shape) for image in y])


def gaussian(n, rng):
    """Samples of the Gaussian with the means and covariances of the training images and their noise."""
    y = y_train.reshape(len(y_train), -1)
    factor = np.linalg.cholesky(np.cov(y.T) + sigma**2 * np.eye(y.shape[1])).astype(np.float32)
    return (y.mean(axis=0) + rng.normal((n, y.shape[1])) @ factor.T).reshape(-1, *shape)


def auroc(x, others):
    """P(E(x) < E(other))."""
    energies = np.sort(model.energy(others).energy)
    return 1 - np.searchsorted(energies, model.energy(x).energy).mean() / len(energies)


others = {
    "independent pixels": (model.noise(rng, len(y_test)), "1.00"),
    "shuffled pixels": (with_noise(shuffled(y_test, rng), rng), "1.00"),
    "a Gaussian": (gaussian(len(y_test), rng), "0.93 to 0.97"),
    "mirrored": (with_noise(y_test[:, :, ::-1], rng), "0.89 to 0.94"),
}
print("share of pairs in which the energy prefers a test image (AUROC)")
for name, (x, band) in others.items():
    note = f"   expected {band}" if has_bands else ""
    print(f"  to {name:20} {auroc(x_test, x):.3f}{note}")

# %% [markdown]
# ## Samples
#
# Samples are made from nothing: chains that begin in Gaussian noise, walk, and jump. A classifier that was trained on the same
# data says whether it recognises them: whether some digit has a probability above 0.9.

# %%
n = 60 if chosen.quick else 3000
begun = model.noise(rng, 50 if chosen.quick else 300)
shown = {0: begun}
for i, (point, _) in enumerate(islice(mcmc.walk(kernel, model.log_density, begun, rng), n), start=1):
    if i in (n // 30, n // 10, n // 3, n):
        shown[i] = point.x
drawn = {moves: denoise(model, x).clip(0, 1) for moves, x in shown.items()}
with plain_errors():
    judge = metrics.classifier(images, steps=10 if chosen.quick else None)
expected = "   expected 0.86 to 0.95" if has_bands else ""
print(f"recognised with a probability above 0.9: {judge.recognised(drawn[n]):.3f} of {len(begun)} samples{expected}")
print(f"  for comparison: test images {judge.recognised(y_test):.3f}, before the walk {judge.recognised(drawn[0]):.3f}")

# %%
file = chosen.out.joinpath
walk = np.concatenate([x[:10] for x in drawn.values()])
plot.image_grid(walk, file("walk.png"), columns=10, row_labels=[f"{i} moves" for i in drawn])
plot.image_grid(drawn[n][:50], file("samples.png"), columns=10)
rows = [y_test[:10], x_test[:10], *(guesses[name][:10] for name in ("linear", "energy"))]
labels = ["image", "noisy", "linear guess", "energy's guess"]
plot.image_grid(np.concatenate(rows).clip(0, 1), file("denoised.png"), columns=10, row_labels=labels)
log = train.read_log(file("log.jsonl"))
plot.curves(log, file("curves.png"), metrics="denoising error", y_label="squared error, validation", smooth=0)
finish(chosen)
