# %% [markdown]
"""An energy-based model learns digits, and draws and denoises by its gradient (draft: minutes, not yet run at full length)

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
from tinygen import Generator, data, mcmc, ops, optim, plot, train
from tinygen.models import ebm

SIGMA = {"digits": 0.15, "mnist": 0.3}
chosen = options(
    "ebm",
    "Train an energy-based model of noisy images, let its chains draw, and measure how well its gradient takes noise away.",
    steps={"digits": 4000, "mnist": 20_000, "quick": 20},
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
y_train, y_validation, y_test = (data.prepare("grey", part, images.levels, Generator(0)) for part in parts)
shape = y_train.shape[1:]


def with_noise(y, rng):
    return y + sigma * rng.normal(y.shape)


x_validation, x_test = with_noise(y_validation, Generator(1)), with_noise(y_test, Generator(2))

# %% [markdown]
# ## The model and its chains
#
# 128 chains walk all the time (persistent contrastive divergence), five transitions for each step of the optimiser: Langevin
# moves of a step of about sigma^2 / 2, of which those are rejected that detailed balance does not allow.

# %%
rng = Generator(chosen.seed)
moments = {"mean": y_train.mean(axis=0), "std": np.sqrt(y_train.var(axis=0) + sigma**2)}
if chosen.network == "mlp":
    model = ebm.EBM.mlp(rng, shape, hidden=(256, 256), activation=ops.silu, **moments)
else:
    model = ebm.EBM.convolutional(rng, shape, **moments)
kernel = mcmc.AdjustedLangevin(0.45 * sigma**2)
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
with plain_errors():
    state = train.fit(
        step, ebm.start(model, optimiser, rng, chains=128, averaged=True), data.Batches(y_train, 128, chosen.seed),
        chosen.steps, seed=chosen.seed, out=chosen.out, resume=bool(chosen.resume),
        log_every=max(1, chosen.steps // 40), on_log=validate,
    )  # fmt: skip
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
print(f"squared error of {len(y_test)} test images with noise of standard deviation {sigma:g}, by the guess")
for name, guess in guesses.items():
    print(f"  {name:10} {error(guess, y_test):.3f}")
if chosen.data == "digits" and not chosen.quick:
    print("expected with the default settings: the energy's below the linear one's")

# %% [markdown]
# ## Pictures
#
# Samples are made from nothing: chains that begin in Gaussian noise, walk, and jump. One row of pictures for each stage.

# %%
file, rng = chosen.out.joinpath, Generator(chosen.seed).at(chosen.steps)
n = 30 if chosen.quick else 3000
begun = model.noise(rng, 50)
shown = {0: begun}
for i, (point, _) in enumerate(islice(mcmc.walk(kernel, model.log_density, begun, rng), n), start=1):
    if i in (n // 30, n // 10, n // 3, n):
        shown[i] = point.x
walk = np.concatenate([denoise(model, x[:10]) for x in shown.values()])
plot.image_grid(walk.clip(0, 1), file("walk.png"), columns=10, row_labels=[f"{i} moves" for i in shown])
plot.image_grid(denoise(model, shown[n]).clip(0, 1), file("samples.png"), columns=10)
rows = [y_test[:10], x_test[:10], *(guesses[name][:10] for name in ("linear", "energy"))]
labels = ["image", "noisy", "linear guess", "energy's guess"]
plot.image_grid(np.concatenate(rows).clip(0, 1), file("denoised.png"), columns=10, row_labels=labels)
log = train.read_log(file("log.jsonl"))
plot.curves(log, file("curves.png"), metrics="denoising error", y_label="squared error, validation", smooth=0)
print(f"pictures, log and checkpoint are in {chosen.out}/")
