# %% [markdown]
"""An energy-based model carves valleys where the data is, and chains wander in them (about 50 seconds)

An energy-based model says how unlikely x is, by a number that it may choose as it likes: p(x) = e^-E(x) / Z. It pays in Z, the
integral over everything that it said, which nobody can compute; so it learns without Z, from samples of its own:

    gradient of -log p(x)  =  dE/dw at the data  -  the mean of dE/dw over p        the model is tinygen/models/ebm.py

and the samples come from Markov chains, tinygen/mcmc.py. In two dimensions Z is a sum over a grid after all, and here it is
used to look behind the curtain: never in training. Run this file with `python -m demos ebm_2d`, or cell by cell as a notebook.
"""

# %%
from itertools import islice

import numpy as np

from demos.options import options
from demos.training import finish, fit
from tinygen import Generator, data, mcmc, optim, plot, train
from tinygen.models import ebm

FOUR = ("two_moons", "checkerboard", "rings", "grid_of_25")
DETAIL = {  # the length of the finest detail, the transitions between steps of the optimiser, the KL to expect
    "two_moons": (0.2, 8, "0.003 to 0.006"),
    "checkerboard": (0.1, 8, "0.04 to 0.06"),
    "rings": (0.08, 8, "0.015 to 0.03"),
    "grid_of_25": (0.05, 32, "0.02 to 0.05"),
    "pinwheel": (0.1, 8, "below 0.03"),
    "swiss_roll": (0.2, 8, "below 0.02"),
    "ring_of_8": (0.01, 32, "below 0.1"),
}
chosen = options(
    "ebm_2d",
    "Train energy-based models on densities of the plane, and measure how far from them they stay.",
    steps={"four": 1000, "quick": 10, **dict.fromkeys(DETAIL, 1000), "ring_of_8": 1600},
    data=("four", *DETAIL),
)
names = FOUR if chosen.data == "four" else (chosen.data,)
toys = {name: data.toy.load(name) for name in names}

# %% [markdown]
# ## Training
#
# 256 chains walk all the time (persistent contrastive divergence): between two steps of the optimiser each makes 8 moves, or 32
# where the data lies in islands. They are proposed at random, and accepted or not by how the energy changes. Most are short,
# but some as long as the data is wide: only by those can a chain leave its island, and the model learn how likely each is.

# %%
optimiser = optim.Adam(optim.cosine(5e-3, chosen.steps, final=5e-4))
samples = {name: toy.sample(Generator(chosen.seed), 10_000) for name, toy in toys.items()}
std = {name: x.std(axis=0) for name, x in samples.items()}


def kernel(name):
    return mcmc.RandomWalk(0.5 * DETAIL[name][0], longest=2 * float(std[name].max()))


def begin(name):
    rng, highest = Generator(chosen.seed), 0.7 * float(std[name].max()) / DETAIL[name][0]
    model = ebm.EBM.mlp(rng, (2,), mean=samples[name].mean(axis=0), std=std[name], frequencies=(1.0, highest))
    return ebm.start(model, optimiser, rng, chains=256, averaged=True)


one_step = {name: ebm.train_step(optimiser, kernel(name), k=DETAIL[name][1], decay=0.997) for name in names}


def batch(rng):
    return {name: toy.sample(rng, 256) for name, toy in toys.items()}


batches = data.Draws(batch, chosen.seed)


def step(states, batch, rng):
    stepped = {name: one_step[name](states[name], batch[name], rng) for name in names}
    metrics = {f"{name}: acceptance": m["acceptance"] for name, (_, m) in stepped.items()}
    return {name: state for name, (state, _) in stepped.items()}, metrics


# %% [markdown]
# ## The truth
#
# KL(truth || model) = E[log truth - log model] is a sum over a grid, and so is Z. The grid reaches out to four standard
# deviations of the data, and its cells are not larger than the finest detail.


# %%
def grid(name):
    reach = int(np.ceil(4 * std[name].max()))
    return plot.plane((-reach, reach, -reach, reach), max(60 if chosen.quick else 240, round(2 * reach / DETAIL[name][0])))


grids = {name: grid(name) for name in names}
truth = {name: toys[name].log_prob(points) for name, (points, _) in grids.items()}


def log_z(name, model):
    points, area = grids[name]
    return float(model.log_partition(points.astype(np.float32), area))


def expectation(name, values):
    """Over the true density, which may be 0, where the values do not count."""
    inside = np.isfinite(truth[name])
    return float((np.exp(truth[name][inside]) * values[inside]).sum() * grids[name][1])


def log_prob(name, model, points):
    """log p of points of the plane, some at a time, or there would be gigabytes of hidden units."""
    parts = np.array_split(points.astype(np.float32), 1 + len(points) // 4096)
    return np.concatenate([model.log_density(part) for part in parts]) - log_z(name, model)


def divergence(name, model):
    return expectation(name, truth[name] - log_prob(name, model, grids[name][0]))


def measure(step, states, metrics):
    return {name: divergence(name, states[name].training.best) for name in names}


states = fit(chosen, step, {name: begin(name) for name in names}, batches, chosen.steps // 5, measure)
models = {name: states[name].training.best for name in names}

# %% [markdown]
# ## How far from the truth?
#
# The entropy of the truth is what no model can go below in the mean of -log p; the KL is how far above it the model stays.

# %%
print(f"{'nats':12} {'entropy':>8} {'KL':>8}   {'' if chosen.quick else 'expected with the default settings'}".rstrip())
for name in names:
    entropy, expected = -expectation(name, truth[name]), "" if chosen.quick else DETAIL[name][2]
    print(f"{name:12} {entropy:8.3f} {divergence(name, models[name]):8.3f}   {expected}".rstrip())

# %% [markdown]
# ## Pictures
#
# The density beside the truth.

# %%
file, n = chosen.out.joinpath, 60 if chosen.quick else 300


def view(name):
    """The part of the plane to look at, and its points."""
    reach = {"ring_of_8": 1.3}.get(name, 4.6)
    extent = (-reach, reach, -reach, reach)
    return extent, plot.plane(extent, n)[0].astype(np.float32)


def density(name):
    points = view(name)[1]
    return np.exp([toys[name].log_prob(points), log_prob(name, models[name], points)])


maps = np.concatenate([density(name) for name in names]).reshape(-1, n, n)
labels = [name.replace("_", " ") for name in names]
plot.density(maps, file("densities.png"), view(names[0])[0], titles=("truth", "model"), columns=2, row_labels=labels)
log = train.read_log(file("log.jsonl"))
plot.curves(log, file("curves.png"), metrics=names, y_label="KL(truth || model), nats", log_y=True, smooth=0)

# %% [markdown]
# And the landscape of energies. Four chains begin at the edge of the data, at the rings, and fall into the valleys, where they
# wander, to the dots; the black points are the ends of others, that began in a Gaussian. This is how an energy-based model
# is sampled: there is no other way. These are Langevin chains: they follow the slope of the energy and are shaken at random. A
# few of them are caught in hollows of the plain outside, which hardly any chain saw in training: they have almost no
# probability, but there is no slope that leads out. (And with `--data ring_of_8` hardly one finds an island: that is why
# training also makes long moves.)

# %%
name, rng = names[0], Generator(chosen.seed).at(chosen.steps)
model, (extent, points) = models[name], view(name)
langevin = mcmc.AdjustedLangevin(0.4 * DETAIL[name][0] ** 2)
corners = (1.3 * std[name] * [(-1, -1), (1, -1), (-1, 1), (1, 1)]).astype(np.float32)
begun = np.concatenate([corners, model.noise(rng, 500)])
walked = [point.x for point, _ in islice(mcmc.walk(langevin, model.log_density, begun, rng), 6 if chosen.quick else 400)]
ways = np.stack([begun, *walked], axis=1)
energies = model.energy(points).energy.reshape(n, n)
plot.landscape(energies, file("landscape.png"), extent, ways[:4, :151], ways[4:, -1])
with plot.film(file("chains.gif")) as frame:
    for t in range(0, ways.shape[1], 2 if chosen.quick else 10):
        plot.landscape(energies, frame(), extent, ways[:4, max(0, t - 60) : t + 1], ways[4:, t])
finish(chosen)
