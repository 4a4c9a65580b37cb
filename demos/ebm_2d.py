# %% [markdown]
"""An energy-based model carves valleys where the data is, and chains wander in them (draft: minutes, not yet run in full)

An energy-based model says how unlikely x is, by a number that it may choose as it likes: p(x) = e^-E(x) / Z. It pays in Z, the
integral over everything that it said, which nobody can compute; so it learns without Z, from samples of its own:

    gradient of -log p(x)  =  dE/dw at the data  -  the mean of dE/dw over p        the model is tinygen/models/ebm.py

and the samples come from Markov chains, tinygen/mcmc.py. In two dimensions Z is a sum over a grid after all, and here it is
used to look behind the curtain: never in training. Run this file with `python -m demos ebm_2d`, or cell by cell as a notebook.
"""

# %%
from itertools import islice

import numpy as np

from demos.options import options, plain_errors
from tinygen import Generator, data, mcmc, optim, plot, train
from tinygen.models import ebm

THREE = ("two_moons", "checkerboard", "rings")
DETAIL = {  # the step of the chains, about the square of the finest length in the data; and the frequency of the first layer
    "two_moons": (0.03, 1.5), "checkerboard": (0.05, 2.0), "rings": (0.006, 4.0), "pinwheel": (0.03, None),
}  # fmt: skip
chosen = options(
    "ebm_2d",
    "Train energy-based models on densities of the plane, and measure how far from them they stay.",
    steps={"three": 1200, "quick": 20, **dict.fromkeys(DETAIL, 1200), "pinwheel": 1600},
    data=("three", *DETAIL),
)
names = THREE if chosen.data == "three" else (chosen.data,)
toys = {name: data.toy.load(name) for name in names}

# %% [markdown]
# ## Training
#
# 256 chains walk all the time (persistent contrastive divergence), four transitions for each step of the optimiser. They are
# Langevin chains with a test at the end of each transition that rejects some, so that the step leaves no bias.

# %%
optimiser = optim.Adam(optim.cosine(1e-2, chosen.steps, final=5e-4))
one_step = {name: ebm.train_step(optimiser, mcmc.AdjustedLangevin(DETAIL[name][0]), k=4, decay=0.99) for name in names}


def batch(n):
    rng = Generator(chosen.seed).at(n)
    return {name: toy.sample(rng, 256) for name, toy in toys.items()}


def step(states, batch, rng):
    stepped = {name: one_step[name](states[name], batch[name], rng) for name in names}
    metrics = {f"{name}: acceptance": m["acceptance"] for name, (_, m) in stepped.items()}
    return {name: state for name, (state, _) in stepped.items()}, metrics


def begin(name):
    rng = Generator(chosen.seed)
    x = toys[name].sample(rng, 10_000)
    model = ebm.EBM.mlp(rng, (2,), mean=x.mean(axis=0), std=x.std(axis=0), frequency=DETAIL[name][1])
    return ebm.start(model, optimiser, rng, chains=256, averaged=True)


# %% [markdown]
# ## The truth
#
# KL(truth || model) = E[log truth - log model] is a sum over a grid, and so is Z.

# %%
extent = (-4.5, 4.5, -4.5, 4.5)
n = 50 if chosen.quick else 250
points, area = plot.plane(extent, n)
truth = {name: toy.log_prob(points) for name, toy in toys.items()}


def log_prob(model):
    log_p = model.log_density(points.astype(np.float32))
    return (log_p - model.log_partition(points.astype(np.float32), area)).astype(np.float64)


def divergence(name, model):
    inside = np.isfinite(truth[name])  # elsewhere the true density is 0
    return float((np.exp(truth[name]) * np.where(inside, truth[name] - log_prob(model), 0))[inside].sum() * area)


def measure(step, states, metrics):
    return {name: divergence(name, states[name].training.best) for name in names}


with plain_errors():
    states = train.fit(
        step, {name: begin(name) for name in names}, batch, chosen.steps, seed=chosen.seed, out=chosen.out,
        resume=bool(chosen.resume), log_every=max(1, chosen.steps // 15), on_log=measure,
    )  # fmt: skip
models = {name: states[name].training.best for name in names}

# %% [markdown]
# ## How far from the truth?

# %%
print(f"{'nats':12} {'entropy':>8} {'KL':>8}   expected with the default settings")
for name in names:
    inside = np.isfinite(truth[name])
    entropy = -float((np.exp(truth[name]) * np.maximum(truth[name], -1e3))[inside].sum() * area)
    print(f"{name:12} {entropy:8.3f} {divergence(name, models[name]):8.3f}   {'below 0.15' if not chosen.quick else ''}")

# %% [markdown]
# ## Pictures
#
# The density beside the truth.

# %%
file = chosen.out.joinpath
maps = [np.exp(field).reshape(n, n) for name in names for field in (truth[name], log_prob(models[name]))]
labels = [name.replace("_", " ") for name in names]
plot.density(np.stack(maps), file("densities.png"), extent, titles=("truth", "energy"), columns=2, row_labels=labels)
log = train.read_log(file("log.jsonl"))
plot.curves(log, file("curves.png"), metrics=names, y_label="KL(truth || model), nats", log_y=True, smooth=0)

# %% [markdown]
# And the landscape of energies. Four chains begin far outside and fall into the valleys, where they stay and wander; the black
# points are the ends of a thousand others. This is sampling: there is no other way to draw from this model.

# %%
first, rng = names[0], Generator(chosen.seed).at(chosen.steps)
kernel, model = mcmc.AdjustedLangevin(DETAIL[first][0]), models[first]
corners = np.array([(-4, -4), (4, -4), (-4, 4), (4, 4)], np.float32)
begun = np.concatenate([corners, model.noise(rng, 1000)])
walked = [point.x for point, _ in islice(mcmc.walk(kernel, model.log_density, begun, rng), 20 if chosen.quick else 400)]
paths = np.stack([begun, *walked], axis=1)
energies = model.energy(points.astype(np.float32)).energy.reshape(n, n)
plot.landscape(energies, file("landscape.png"), extent, paths[:4, :151], paths[4:, -1])
print(f"pictures, log and checkpoint are in {chosen.out}/")
