# %% [markdown]
"""A diffusion model carries noise back to two moons, a spiral and a pinwheel (about 1 minute)

Data can be turned into noise by many small steps that each forget a little: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps,
with abar_t going from 1 to 0. A network learns to say, from x_t and t alone, what has been forgotten; with it, every
step can be taken back, and noise becomes data. What the steps back lose is a bound on the likelihood:

    log p(x)  >=  sum over all steps of -KL(the true step back, which knows x  ||  the model's)

The model is tinygen/models/ddpm.py. Run this file with `python -m demos ddpm_2d`, or cell by cell as a notebook.
"""

# %%
import numpy as np

from demos.options import at_least_one, options
from demos.training import finish, fit
from tinygen import Generator, data, optim, plot, train, vjp
from tinygen.models import ddpm

THREE = ("two_moons", "swiss_roll", "pinwheel")
DETAIL = {"two_moons": 0.2, "swiss_roll": 0.2, "pinwheel": 0.1}  # the length of the finest detail
SHARP = {"checkerboard": 0.1, "rings": 0.08, "ring_of_8": 0.01, "grid_of_25": 0.05}  # the same, of edges and narrow modes
chosen = options(
    "ddpm_2d",
    "Train diffusion models on densities of the plane, and measure how far from them they stay.",
    steps={"three": 900, "quick": 20, **dict.fromkeys(data.toy.TOYS, 3000), "ring_of_8": 20_000, "grid_of_25": 12_000},
    data=("three", *data.toy.TOYS),
    times={"type": at_least_one, "metavar": "T", "help": "steps from data to noise (default: 200, or 20 with --quick)"},
)
names = THREE if chosen.data == "three" else (chosen.data,)
toys = {name: data.toy.load(name) for name in names}
T = chosen.times or (20 if chosen.quick else 200)

# %% [markdown]
# ## Training
#
# The network sees the plane in units of the data's own size, in which the data has about unit variance, as the noise has. It
# predicts v, a mixture of noise and data that is worth knowing at every t, and the loss counts all t alike. The models are
# trained side by side, as one state.
#
# Two things decide how narrow a mode or how sharp an edge can be learned. The steps: on the cosine schedule, made for images,
# even a perfect denoiser would be 4 nats from `ring_of_8` after 50 steps of DDIM, for its last steps are longer than the modes
# are wide. Here the noise shrinks by the same ratio in every step, down to a quarter of the finest detail. And the network:
# what it has to say changes over a mode's width, so where modes or edges are sharp it sees the points as waves, of all lengths
# from far beyond the data down to a few such widths. (Where nothing is sharp, waves only make it follow the noise of the
# batches: for the pinwheel, the KL would be 0.14 in place of 0.03.)

# %%
rng = Generator(chosen.seed)
scale = {name: float(toy.sample(rng, 10_000).std()) for name, toy in toys.items()}
optimiser = optim.Adam(optim.cosine(3e-3, chosen.steps))
one_step = ddpm.train_step(optimiser, limit=5.0, decay=0.99)


def batch(rng):
    return {name: toy.sample(rng, 512) / scale[name] for name, toy in toys.items()}


batches = data.Draws(batch, chosen.seed)


def step(states, batch, rng):
    stepped = {name: one_step(states[name], batch[name], rng) for name in names}
    return {name: state for name, (state, _) in stepped.items()}, {
        f"{name}: loss": metrics["loss"] for name, (_, metrics) in stepped.items()
    }


def measure(n, states, metrics):
    """KL(truth || model) of a few points, at most."""
    few = 20 if chosen.quick else 100
    return {name: excess(name, states[name].best, Generator(chosen.seed), few).mean() for name in names}


def excess(name, model, rng, n):
    """log truth - the bound, at n points of the truth: its mean is at least KL(truth || model)."""
    x = toys[name].sample(rng, n)
    bound = model.bound(x / scale[name], rng).nats - 2 * np.log(scale[name])  # a density of x, not of x / scale
    return toys[name].log_prob(x) - bound


def begin(name):
    detail = (DETAIL | SHARP)[name] / scale[name]
    frequencies = (0.3, 0.7 / detail) if name in SHARP else None
    model = ddpm.DDPM.mlp(rng, 2, ddpm.geometric(T, detail / 4, 4.0), width=96, frequencies=frequencies, predicts="v")
    return optim.begin(model, optimiser, averaged=True)


states = fit(chosen, step, {name: begin(name) for name in names}, batches, chosen.steps // 8, measure)
models = {name: state.best for name, state in states.items()}

# %% [markdown]
# ## How far from the truth?
#
# KL(truth || model) = E[log truth - log model], an average over points of the truth. For the model that takes its T steps back
# at random, log p(x) is known by its bound, and with the bound in its place the KL is overestimated: it is at most this.
#
# Without the randomness (DDIM, eta = 0) the same network is a map of the plane, x = f(z) with z ~ N(0, I), in as many steps as
# we like. Such a map has an exact density, as a normalising flow has,
#
#     log p(x) = log N(z; 0, I) - log |det df/dz|        at the z with f(z) = x
#
# and in two dimensions the Jacobian is two rows, each the gradient of one coordinate through all the steps.


# %%
def log_prob(model, x, times):
    """Of DDIM's map in so many steps, nats (n,)."""
    z = model.to_latent(x, times, iterations=15)
    _, pullback = vjp(lambda z: model.sample_ddim(None, len(z), times, start=z), z)
    (a, b), (c, d) = (pullback(np.broadcast_to(row, x.shape))[0].T for row in np.eye(2, dtype=x.dtype))
    return -np.log(2 * np.pi) - (z**2).sum(axis=1) / 2 - np.log(abs(a * d - b * c))


n = 50 if chosen.quick else 700
columns = [min(times, T) for times in ((2, 3) if chosen.quick else (10, 20, 50))]
print(f"KL(truth || model), nats, from {n} points; evaluations of the network for a sample")
print(f"{'':12}{f'{T}, ancestral':>20}" + "".join(f"{f'{times}, DDIM':>20}" for times in columns))
for i, name in enumerate(names):
    differences = [excess(name, models[name], rng.at(i), n)]
    x = toys[name].sample(rng.at(i), n)
    for times in columns:
        parts = [log_prob(models[name], x[k : k + 250] / scale[name], times) for k in range(0, n, 250)]
        differences.append(toys[name].log_prob(x) - np.concatenate(parts) + 2 * np.log(scale[name]))
    figures = [f"{'' if k else '<= '}{d.mean():.3f} +- {d.std() / n**0.5:.3f}" for k, d in enumerate(differences)]
    print(f"{name.replace('_', ' '):12}" + "".join(f"{figure:>20}" for figure in figures))
if not chosen.quick:
    print("expected with the default settings: below 0.1 with 50 steps of DDIM")

# %% [markdown]
# ## Pictures
#
# The way into noise, which nobody has to learn, and the way back by ancestral sampling, at the same times. If the network has
# learned its task, the two rows of a data set are alike.

# %%
file = chosen.out.joinpath
n_points, bins = (500, 40) if chosen.quick else (4000, 60)
side = 2.0 if chosen.data == "ring_of_8" else 4.5
extent = (-side, side, -side, side)
sides = np.linspace(*extent[:2], bins + 1)


def histogram(x):
    return np.histogram2d(*x.T[::-1], bins=(sides, sides))[0]  # rows go up, as in plot.plane


shown = sorted({round(T * part) for part in (0, 0.4, 0.5, 0.6, 0.7, 1)})
panels, row_labels = [], []
for i, name in enumerate(names):
    rng_i, model, x0 = rng.at(10 + i), models[name], toys[name].sample(rng.at(20 + i), n_points) / scale[name]
    for t in shown:
        mean, std = model.schedule.marginal(x0, np.array([t]))
        panels.append(histogram((mean + std * rng_i.normal(x0.shape)) * scale[name]))
    back = {t: x for t, x in zip(range(T, -1, -1), model.steps(rng_i, n_points)) if t in shown}
    panels += [histogram(back[t] * scale[name]) for t in shown]
    row_labels += [f"{name.replace('_', ' ')}: forward", "and back"]
plot.density(panels, file("processes.png"), extent, [f"t = {t}" for t in shown], len(shown), row_labels)

# %% [markdown]
# The same as a film: above, points of the data on their way to noise, run backwards; below, noise on its way to data, by DDIM.

# %%
frames = min(T, 4 if chosen.quick else 50)
start = rng.at(30).normal((600 if chosen.quick else 1500, 2))
back = {name: list(models[name].steps_ddim(None, len(start), frames, start=start)) for name in names}
x0 = {name: toy.sample(rng.at(31), len(start)) for name, toy in toys.items()}
titles = [name.replace("_", " ") for name in names]
with plot.film(file("denoising.gif")) as frame:
    for i, t in enumerate(np.round(np.linspace(T, 0, frames + 1)).astype(int)):
        forward = []
        for name in names:
            mean, std = models[name].schedule.marginal(x0[name], np.array([t]))
            forward.append(mean + std * scale[name] * start)
        points = [*forward, *(back[name][i] * scale[name] for name in names)]
        plot.clouds(points, frame(), extent, titles, len(names), [f"data, noised: t = {t}", f"noise, denoised: t = {t}"])

# %% [markdown]
# And the map itself: DDIM bends the plane of the noise so that its points come to lie where the data is. Like a flow, and
# learned without ever being asked to be invertible.
#
# The curves are of the bound during training, from the same 100 points at every look. So their shape can be trusted, but chance
# has moved each as a whole, by 0.1 or so, and it may fall below 0; the table above has more points.

# %%
lines = plot.lines_of_grid((-3, 3, -3, 3), n=100 if chosen.quick else 300).astype(np.float32)
start = np.concatenate([lines.reshape(-1, 2), start])
stages = list(models[names[0]].steps_ddim(None, len(start), frames, start=start))
picked = np.round(np.linspace(0, frames, 6)).astype(int)
warped = [stages[i][: lines[..., 0].size].reshape(lines.shape) * scale[names[0]] for i in picked]
points = [stages[i][lines[..., 0].size :] * scale[names[0]] for i in picked]
titles = ["noise", *(f"after {i} steps of {frames}" for i in picked[1:-1]), titles[0]]
plot.warped_grid(warped, file("warp.png"), extent, titles, 3, points)
log = train.read_log(file("log.jsonl"))
never = {"0: below it is chance": 0}
plot.curves(log, file("curves.png"), names, y_label="KL(truth || model) <=, nats, from 100 points", smooth=0, levels=never)
finish(chosen)
