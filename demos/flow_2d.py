# %% [markdown]
"""A normalising flow bends a Gaussian into two moons, a spiral and a pinwheel (draft: minutes, not yet run at full length)

A flow is an invertible map f. It takes data x to noise z = f(x), its inverse takes noise to data, and by the rule for a change
of variables it has an exact density:

    log p(x)  =  log N(f(x); 0, I)  +  log |det df/dx|        the model is tinygen/models/flow.py

In two dimensions everything can be seen: the grid that the map bends, and the density beside the true one, which these toys
know. Run this file with `python -m demos flow_2d`, or cell by cell as a notebook.
"""

# %%
import numpy as np

from demos.options import at_least_one, options, plain_errors
from tinygen import Generator, data, optim, plot, train
from tinygen.models import flow

THREE = ("two_moons", "swiss_roll", "pinwheel")
chosen = options(
    "flow_2d",
    "Train flows on densities of the plane, and measure how far from them they stay.",
    steps={"three": 1200, "quick": 20, **dict.fromkeys(data.toy.TOYS, 1200)},
    data=("three", *data.toy.TOYS),
    couplings={"type": at_least_one, "default": 8, "metavar": "K", "help": "coupling layers (default: %(default)s)"},
    kind={"choices": ("affine", "additive"), "default": "affine", "help": "of coupling (default: %(default)s)"},
)
names = THREE if chosen.data == "three" else (chosen.data,)
toys = {name: data.toy.load(name) for name in names}

# %% [markdown]
# ## The truth
#
# No model can have a smaller -log p(x) on average than the entropy H of the data, and what it has more is the divergence
# KL(truth || model) = E[log truth - log model]. On a grid of the plane, both are sums.

# %%
extent = (-4.5, 4.5, -4.5, 4.5)
points, area = plot.plane(extent, 50 if chosen.quick else 250)
truth = {name: toy.log_prob(points) for name, toy in toys.items()}


def expectation(log_p, value):
    """Of the value at the points, where the density is not 0."""
    inside = np.isfinite(log_p)
    return float((np.exp(log_p) * np.where(inside, value, 0))[inside].sum() * area)


entropy = {name: -expectation(log_p, log_p) for name, log_p in truth.items()}

# %% [markdown]
# ## Training
#
# Every step sees new points. The flows are trained side by side, as one state, so there is one log and one checkpoint.

# %%
rate = optim.cosine(5e-3, chosen.steps)
optimiser = optim.Adam(rate)
one_step = flow.train_step(optimiser, limit=10.0, decay=0.99)


def batch(n):
    rng = Generator(chosen.seed).at(n)
    return {name: toy.sample(rng, 512) for name, toy in toys.items()}


def step(states, batch, rng):
    stepped = {name: one_step(states[name], batch[name], rng) for name in names}
    return {name: state for name, (state, _) in stepped.items()}, {name: m["loss"] for name, (_, m) in stepped.items()}


with plain_errors():
    rng = Generator(chosen.seed)
    new = {name: flow.Flow.mlp(rng, 2, chosen.couplings, hidden=(64, 64), kind=chosen.kind) for name in names}
    states = {name: optim.begin(model, optimiser, averaged=True) for name, model in new.items()}
    states = train.fit(
        step, states, batch, chosen.steps, seed=chosen.seed, out=chosen.out, resume=bool(chosen.resume),
        log_every=max(1, chosen.steps // 100),
    )  # fmt: skip
flows = {name: state.best for name, state in states.items()}

# %% [markdown]
# ## How far from the truth?
#
# The last column is the integral of the model's density over the square: what is missing from 1 lies outside, or, where a
# flow has drawn a thread that is thinner than the grid, between its points.

# %%
learned = {name: flows[name].log_prob(points.astype(np.float32)).nats.astype(np.float64) for name in names}
print(f"{'nats':12} {'entropy':>8} {'-log p':>8} {'KL':>8} {'integral':>9}")
for name in names:
    divergence = expectation(truth[name], truth[name] - learned[name])
    integral = np.exp(learned[name]).sum() * area
    print(f"{name:12} {entropy[name]:8.3f} {entropy[name] + divergence:8.3f} {divergence:8.3f} {integral:9.4f}")

# %% [markdown]
# ## Pictures
#
# The density beside the truth. A continuous invertible map cannot tear a Gaussian in two: where the data comes in pieces, such
# as the two moons, the flow has to leave a thread between them, and can only make it thin.

# %%
file = chosen.out.joinpath
n = int(np.sqrt(len(points)))
maps = np.exp(np.stack([field[name].reshape(n, n) for name in names for field in (truth, learned)]))
labels = [name.replace("_", " ") for name in names]
plot.density(maps, file("densities.png"), extent, titles=("truth", "flow"), columns=2, row_labels=labels)

# %% [markdown]
# And the map itself. In the space of the latents the grid is straight and the points are Gaussian; each coupling moves the
# points in one direction only, by amounts that depend on the other; after all of them the points lie where the data is.

# %%
lines = plot.lines_of_grid((-3, 3, -3, 3)).astype(np.float32)
here = np.concatenate([lines.reshape(-1, 2), Generator(chosen.seed).normal((1500, 2))])
stages = [here]
for layer in reversed(flows[names[0]].chain.layers):
    here = layer.to_data(here)[0]
    stages.append(here)
shown = [round(i) for i in np.linspace(0, len(stages) - 1, 6)]
warped = [stages[i][: lines[..., 0].size].reshape(lines.shape) for i in shown]
titles = ["latents", *(f"after {i} layers" for i in shown[1:-1]), labels[0]]
plot.warped_grid(warped, file("warp.png"), extent, titles, 3, [stages[i][lines[..., 0].size :] for i in shown])
excess = [{"step": r["step"], **{k: r[k] - entropy[k] for k in names}} for r in train.read_log(file("log.jsonl"))]
plot.curves(excess, file("curves.png"), y_label="nats above the entropy")
print(f"pictures, log and checkpoint are in {chosen.out}/")
