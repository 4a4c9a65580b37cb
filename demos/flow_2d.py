# %% [markdown]
"""A normalising flow bends a Gaussian into moons, a checkerboard and rings (about 50 seconds)

A flow is an invertible map f. It takes data x to noise z = f(x), its inverse takes noise to data, and by the rule for a change
of variables it has an exact density:

    log p(x)  =  log N(f(x); 0, I)  +  log |det df/dx|        the model is tinygen/models/flow.py

In two dimensions everything can be seen: the grid that the map bends, and the density beside the true one, which these toys
know. Run this file with `python -m demos flow_2d`, or cell by cell as a notebook.
"""

# %%
import numpy as np

from demos.options import at_least_one, options
from demos.training import finish, fit
from tinygen import Generator, data, optim, plot, train
from tinygen.models import flow
from tinygen.nn import init
from tinygen.nn.invertible import Scaling

THREE = ("two_moons", "checkerboard", "rings")
chosen = options(
    "flow_2d",
    "Train flows on densities of the plane, and measure how far from them they stay.",
    steps={"three": 450, "quick": 10, **dict.fromkeys(data.toy.TOYS, 500), "ring_of_8": 1000},
    data=("three", *data.toy.TOYS),
    affine={"type": at_least_one, "default": 8, "metavar": "K", "help": "affine couplings (default: %(default)s)"},
    spline={"type": at_least_one, "default": 4, "metavar": "K", "help": "spline couplings (default: %(default)s)"},
)
names = THREE if chosen.data == "three" else (chosen.data,)
toys = {name: data.toy.load(name) for name in names}

# %% [markdown]
# ## Two kinds of coupling
#
# A coupling keeps one coordinate, and moves the other by an increasing map which the kept one chooses. An affine coupling
# chooses a straight line, x e^s + t; so it can shift and stretch the points of a column, but not part them. A spline coupling
# chooses a curve, and can. The networks see sines and cosines of the kept coordinate too, for they have to turn sharply.

# %%
side = 1.25 if chosen.data == "ring_of_8" else 4.5  # of a square with all of the data, stretched to one size for the flows
couplings = {"affine": chosen.affine, "spline": chosen.spline}
runs = {f"{name.replace('_', ' ')}, {kind}": (name, kind) for name in names for kind in couplings}


def new(kind):
    stretch = Scaling(init.zeros(None, (2,)) + np.float32(np.log(4.5 / side)))
    return flow.Flow.mlp(Generator(chosen.seed), 2, couplings[kind], kind=kind, waves=8, before=(stretch,))


# %% [markdown]
# ## Training
#
# Every step sees new points. The flows are trained side by side, as one state, so there is one log and one checkpoint.

# %%
optimiser = optim.Adam(optim.warm_up(min(50, chosen.steps), optim.cosine(1e-2, chosen.steps)))
one_step = flow.train_step(optimiser, limit=10.0, decay=0.99)


def batch(rng):
    return {name: toy.sample(rng, 512) for name, toy in toys.items()}


batches = data.Draws(batch, chosen.seed)


def step(states, batch, rng):
    stepped = {run: one_step(states[run], batch[name], rng) for run, (name, _) in runs.items()}
    return {run: state for run, (state, _) in stepped.items()}, {run: metrics["loss"] for run, (_, metrics) in stepped.items()}


states = {run: optim.begin(new(kind), optimiser, averaged=True) for run, (_, kind) in runs.items()}
states = fit(chosen, step, states, batches, chosen.steps // 100)
flows = {run: state.best for run, state in states.items()}

# %% [markdown]
# ## How far from the truth?
#
# No model can have a smaller -log p(x) on average than the entropy H of the data, and what it has more is the divergence
# KL(truth || model) = E[log truth - log model]. On a grid of the plane, both are sums. The last column is the integral of the
# model's density over the square: what is missing from 1 lies outside, or in threads that are thinner than the grid.

# %%
extent = (-side, side, -side, side)
points, area = plot.plane(extent, 36 if chosen.quick else 504 if chosen.data == "ring_of_8" else 252)
truth = {name: toy.log_prob(points) for name, toy in toys.items()}
parts = np.array_split(points.astype(np.float32), 16)
learned = {run: np.concatenate([model.log_prob(x).nats for x in parts]).astype(np.float64) for run, model in flows.items()}


def expectation(log_p, value):
    """Of the value at the points, where the density is not 0."""
    inside = np.isfinite(log_p)
    return float((np.exp(log_p) * np.where(inside, value, 0))[inside].sum() * area)


expected = {  # the KL with the default settings: affine, spline
    "two_moons": ("0.04 to 0.08", "below 0.02"),
    "swiss_roll": ("0.08 to 0.2", "below 0.03"),
    "pinwheel": ("0.05 to 0.15", "below 0.03"),
    "checkerboard": ("0.1 to 0.2", "0.03 to 0.06"),
    "rings": ("0.4 to 0.7", "0.05 to 0.1"),
    "ring_of_8": ("above 0.5", "0.03 to 0.1"),
    "grid_of_25": ("above 0.5", "0.03 to 0.1"),
}
entropy = {name: -expectation(log_p, log_p) for name, log_p in truth.items()}
print(f"{'in nats':21} {'entropy':>8} {'-log p':>8} {'KL':>8}  {'' if chosen.quick else 'expected':12} {'integral':>8}")
for run, (name, kind) in runs.items():
    H, divergence = entropy[name], expectation(truth[name], truth[name] - learned[run])
    band, integral = "" if chosen.quick else dict(zip(couplings, expected[name]))[kind], np.exp(learned[run]).sum() * area
    print(f"{run:21} {H:8.3f} {H + divergence:8.3f} {divergence:8.3f}  {band:12} {integral:8.4f}")

# %% [markdown]
# ## Densities
#
# A continuous invertible map cannot tear a Gaussian in two: where the data comes in pieces, such as the two moons, the flow has
# to leave threads between them, and can only make them thin.

# %%
file = chosen.out.joinpath
n = int(np.sqrt(len(points)))
labels = [name.replace("_", " ") for name in names]
fields = [p for name, label in zip(names, labels) for p in (truth[name], *(learned[f"{label}, {kind}"] for kind in couplings))]
maps = np.exp(np.stack(fields)).reshape(-1, n, n)
titles = ("truth", *(f"{k} {kind} couplings" for kind, k in couplings.items()))
plot.density(maps, file("densities.png"), extent, titles, columns=3, row_labels=labels)

# %% [markdown]
# ## The map itself
#
# In the space of the latents the grid is straight and the points are Gaussian. On the way to the data each coupling moves the
# points along one axis, by amounts that depend on the other; after all of them the points lie where the data is. Half way
# through a coupling, when every point has gone half of its way, the map still increases along the axis, and so is invertible.

# %%
lines = plot.lines_of_grid((-3, 3, -3, 3), lines=17, n=20 if chosen.quick else 300).astype(np.float32)
start = np.concatenate([lines.reshape(-1, 2), Generator(chosen.seed).normal((1000, 2))])
stages, shown = [[start] * len(names)], [flows[f"{label}, spline"].chain.layers[1:] for label in labels]
for i in range(len(shown[0])):  # from the last layer, a scaling, to the first coupling; what stretched the data is left out
    stages.append([layers[-1 - i].to_data(here)[0] for layers, here in zip(shown, stages[-1])])


def draw(here, path, titles, columns, row_labels=None):
    warped = [points[: lines[..., 0].size].reshape(lines.shape) for points in here]
    points = [points[lines[..., 0].size :] for points in here]
    plot.warped_grid(warped, path, (-4.5, 4.5, -4.5, 4.5), titles, columns, points, row_labels)


titles = ["latents", "scaled", *(f"coupling {i + 1}" for i in range(chosen.spline))]
every = [here[k] for k in range(len(names)) for here in stages]
draw(every, file("warp.png"), titles, len(stages), labels)
with plot.film(file("warp.gif")) as frame:
    for before, after in zip(stages, stages[1:]):
        for t in np.linspace(0, 1, 2 if chosen.quick else 8, endpoint=False, dtype=np.float32):
            t = t * t * (3 - 2 * t)  # slowly at both ends
            draw([(1 - t) * a + t * b for a, b in zip(before, after)], frame(), labels, len(names))
    draw(stages[-1], frame(), labels, len(names))
excess = [
    {"step": record["step"], **{run: record[run] - entropy[name] for run, (name, _) in runs.items()}}
    for record in train.read_log(file("log.jsonl"))
]
plot.curves(excess, file("curves.png"), y_label="nats above the entropy")
finish(chosen)
