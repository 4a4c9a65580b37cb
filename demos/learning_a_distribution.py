# %% [markdown]
"""Six families begin with nothing and close in on a known density, on the line and on the plane (about 80 seconds)

A generative model is a density q that should become another one, p, of which it is shown samples only. Here p is known, so one
can watch: what each family makes of it as training goes on, and beside it

    KL(p || q) = E_p[log p - log q]                        where the family can say log q, or a bound on it
    JS(p, q)   = 1/2 KL(p || m) + 1/2 KL(q || m)           m = (p + q) / 2, for all of them, by histograms of their samples

No family is trained on either of the two: each has a loss of its own, and the truth is only used to look. Run this file with
`python -m demos learning_a_distribution`, or cell by cell as a notebook.
"""

# %%
import math
from dataclasses import replace

import numpy as np

from demos.divergences import Grid, jensen_shannon, kl_on_grid
from demos.options import at_least_one, options
from demos.training import finish, fit
from tinygen import Generator, data, mcmc, ops, optim, plot, train
from tinygen.models import ddpm, ebm, flow, gan, pixelcnn, vae

chosen = options(
    "learning_a_distribution",
    "Train six families of models on a density of the line and one of the plane, and watch them close in.",
    steps={"quick": 2, **dict.fromkeys(("two_moons", *data.toy.TOYS), 600)},
    data=("two_moons", *(name for name in data.toy.TOYS if name != "two_moons")),
    samples={"type": at_least_one, "metavar": "N", "help": "of each histogram (default: 20000)"},
)
N = chosen.samples or (500 if chosen.quick else 20_000)
POINTS, BATCH, CELLS = (20 if chosen.quick else 400), 256, (24 if chosen.quick else 48)

# %% [markdown]
# ## Two truths
#
# On the line, three Gaussians of unequal weights and widths. On the plane, a toy density, in units of its own standard
# deviation. `detail` is the length of the finest thing there is to learn.


# %%
class Line:
    """0.3 N(-1.4, 0.2^2) + 0.5 N(0.2, 0.4^2) + 0.2 N(1.6, 0.15^2)."""

    dimensions, detail = 1, 0.15
    weights, means, stds = np.array([0.3, 0.5, 0.2]), np.array([-1.4, 0.2, 1.6]), np.array([0.2, 0.4, 0.15])

    def sample(self, rng, n):
        k = np.searchsorted(np.cumsum(self.weights), rng.uniform(n, np.float64)).clip(max=2)
        return (self.means[k] + self.stds[k] * rng.normal(n, np.float64)).astype(np.float32)[:, None]

    def log_prob(self, x):
        parts = np.log(self.weights / self.stds) - ((x - self.means) / self.stds) ** 2 / 2 - math.log(2 * math.pi) / 2
        return ops.logsumexp(parts, axis=1)


class Plane:
    """A toy density of the plane, divided by its standard deviation."""

    dimensions = 2

    def __init__(self, name):
        self.toy = data.toy.load(name)
        self.scale = float(self.toy.sample(Generator(0), 10_000).std())
        self.detail = getattr(self.toy, "std", 0.1) / self.scale

    def sample(self, rng, n):
        return self.toy.sample(rng, n) / np.float32(self.scale)

    def log_prob(self, x):
        return self.toy.log_prob(x * self.scale) + 2 * math.log(self.scale)


truths = {"line": Line(), "plane": Plane(chosen.data)}


def grid_for(truth):
    """Out to where the data ends, with smaller cells that are no longer than the detail."""
    side = 1.15 * float(abs(truth.sample(Generator(0), 10_000)).max())
    return Grid(truth.dimensions, side, CELLS, 2 if chosen.quick else max(2, math.ceil(2 * side / (CELLS * truth.detail))))


grids = {space: grid_for(truth) for space, truth in truths.items()}
log_p = {space: truths[space].log_prob(grid.points) for space, grid in grids.items()}
p = {space: grid.integrals(log_p[space]) for space, grid in grids.items()}

# %% [markdown]
# ## Six families, one interface
#
# Every family can be trained and drawn from. What it says of log q(x) is the difference between them: exactly that ("="), at
# least this much ("<=", as the KL is then at most what it seems), or nothing.


# %%
class Family:
    """training(rng) gives the state before the first step, and the step; of a state, best(state) is the model.

    sample(model, rng, n) gives points (n, D), log_prob(model, x, rng) nats (n,), for x (n, D).
    """

    says = "="

    def __init__(self, truth, grid):
        self.truth, self.grid, self.D = truth, grid, truth.dimensions

    def best(self, state):
        return state.best

    def rate(self, highest):
        return optim.cosine(highest, chosen.steps, final=highest / 20)


# %%
class VAE(Family):
    """Gaussians around a curved sheet: z ~ N(0, I) says where the mean is. Bounded by 100 weighted samples of z."""

    says = "<="

    def training(self, rng):
        model = vae.VAE.mlp(rng, (self.D,), self.D, (128, 128), ops.relu, "gaussian", mean=0.0)
        model = replace(model, log_var=np.array(-3, np.float32))  # with more noise, the data would be noise alone
        optimiser = optim.Adam(optim.cosine(5e-3, 3 * chosen.steps, final=2.5e-4))
        once = vae.train_step(optimiser)

        def thrice(state, x, rng):  # its steps are cheap, and it needs more of them than the others
            for each in rng.split(3):
                state, metrics = once(state, x, each)
            return state, metrics

        return optim.begin(model, optimiser), thrice

    def sample(self, model, rng, n):
        return model.decode(rng.normal((n, model.latent))).sample(rng)

    def log_prob(self, model, x, rng):
        return model.log_prob_estimate(x, rng, samples=100).nats


# %%
class GAN(Family):
    """G(z) is whatever D does not tell from data: R1, no momentum, and an average of the last generators."""

    says = None

    def training(self, rng):
        model = gan.GAN.mlp(rng, (self.D,), latent=2, hidden=(64, 64), waves=3)
        generator, discriminator = (optim.Adam(self.rate(rate), beta1=0.0, beta2=0.9) for rate in (1e-3, 2e-3))
        step = gan.train_step(gan.r1(0.1), generator, discriminator, decay=0.98)
        return gan.players(model, generator, discriminator, averaged=True), step

    def best(self, state):
        return state.gan

    def sample(self, model, rng, n):
        return model.sample(rng, n)


# %%
class Flow(Family):
    """An invertible map to N(0, I): splines of one coordinate, which the other chooses; on the line, nobody does."""

    def training(self, rng):
        model = flow.Flow.mlp(rng, self.D, 4, kind="spline", mask="checkerboard", waves=4)
        optimiser = optim.Adam(self.rate(5e-3))
        return optim.begin(model, optimiser, averaged=True), flow.train_step(optimiser, limit=10.0, decay=0.98)

    def sample(self, model, rng, n):
        return model.sample(rng, n)

    def log_prob(self, model, x, rng):
        return model.log_prob(x).nats


# %%
class PixelCNN(Family):
    """An image of one row: x_1, then x_2 given x_1, each one of 48 levels. A density of cells, uniform within each."""

    def training(self, rng):
        model = pixelcnn.PixelCNN.gated(rng, (1, self.D, 1), CELLS, channels=32, layers=2, first_kernel=3)
        optimiser = optim.Adam(self.rate(2e-2))
        step = pixelcnn.train_step(optimiser, prepare=lambda x, rng: self.image(x), decay=0.98)
        return optim.begin(model, optimiser, averaged=True), step

    def image(self, x):
        """Points beyond the last cell count as its own."""
        return self.grid.places(x).clip(0, CELLS - 1).reshape(-1, 1, self.D, 1)

    def sample(self, model, rng, n):
        places = model.sample(rng, n).reshape(n, self.D)
        return 2 * self.grid.side * ((places + rng.uniform((n, self.D))) / CELLS - 0.5)

    def log_prob(self, model, x, rng):
        return model.log_prob(self.image(x)).nats - self.D * math.log(2 * self.grid.side / CELLS)


# %%
class EBM(Family):
    """e^-E(x) / Z, trained by chains. With a grid as short as this Z is a sum, and samples need no chain."""

    def training(self, rng):
        model = ebm.EBM.mlp(rng, (self.D,), hidden=(96, 96), frequencies=(1.0, 0.7 / self.truth.detail))
        optimiser = optim.Adam(self.rate(5e-3))
        kernel = mcmc.RandomWalk(0.5 * self.truth.detail, longest=2.0)
        step = ebm.train_step(optimiser, kernel, k=8, decay=0.98)
        return ebm.start(model, optimiser, rng, chains=BATCH, averaged=True), step

    def best(self, state):
        return state.training.best

    def sample(self, model, rng, n):
        return self.grid.draw(self.log_prob(model, self.grid.points.astype(np.float32), rng), rng, n)

    def log_prob(self, model, x, rng):
        parts = [model.log_density(part) for part in np.array_split(x, 1 + len(x) // 4096)]
        log_z = model.log_partition(self.grid.points.astype(np.float32), self.grid.volume)
        return np.concatenate(parts) - log_z


# %%
class DDPM(Family):
    """A hundred small steps back from noise, by their variational bound. Samples take 20 longer ones (DDIM)."""

    says = "<="

    def training(self, rng):
        detail = self.truth.detail
        waves = (1.0, 0.7 / detail) if detail < 0.06 else None
        schedule = ddpm.geometric(100, detail / 4, 4.0)
        model = ddpm.DDPM.mlp(rng, self.D, schedule, width=64, depth=2, frequencies=waves, predicts="v")
        optimiser = optim.Adam(self.rate(3e-3))
        return optim.begin(model, optimiser, averaged=True), ddpm.train_step(optimiser, limit=5.0, decay=0.98)

    def sample(self, model, rng, n):
        return model.sample_ddim(rng, n, 20)

    def log_prob(self, model, x, rng):
        return model.bound(x, rng).nats


# %%
FAMILIES = {"VAE": VAE, "GAN": GAN, "flow": Flow, "PixelCNN": PixelCNN, "EBM": EBM, "DDPM": DDPM}
runs = {(name, space): family(truths[space], grids[space]) for space in truths for name, family in FAMILIES.items()}

# %% [markdown]
# ## Two divergences
#
# Where log q is exact, the KL is a sum over the grid. A bound is averaged over points of the truth, so there is some chance in
# it, and it may fall below 0. JS counts samples in 48 cells, or 48 x 48, so it does not see what is smaller than a cell; it is
# not 0 for samples of the truth either, whose figure stands in the last line of the table.


# %%
def kl(run, model, rng, points=POINTS):
    """KL(truth || model), or at most this; None for a GAN."""
    family, space = runs[run], run[1]
    if family.says == "=":
        x = grids[space].points.astype(np.float32)
        parts = [family.log_prob(model, part, rng) for part in np.array_split(x, 1 + len(x) // 4096)]
        return kl_on_grid(log_p[space], np.concatenate(parts).astype(np.float64), grids[space].volume)
    if family.says == "<=":
        x = family.truth.sample(rng, points)
        return float((family.truth.log_prob(x) - family.log_prob(model, x, rng)).mean())


def histogram(run, model, rng):
    """The shares of N samples in the cells, and outside."""
    return grids[run[1]].shares(runs[run].sample(model, rng, N))


# %% [markdown]
# ## Training
#
# All are trained side by side, on the same batches of new points, as one state.


# %%
def batch(rng):
    return {space: truth.sample(rng, BATCH) for space, truth in truths.items()}


def step(states, batch, rng):
    new, loss = {}, 0.0
    for (name, space), stepped in steps.items():
        new[f"{name}, {space}"], metrics = stepped(states[f"{name}, {space}"], batch[space], rng)
        loss += abs(metrics.get("loss", 0.0))
    return new, {"loss": loss}


looks = []


def look(n, states, metrics):
    rng, seen, figures = Generator(chosen.seed).at(n), {}, {}
    for run, family in runs.items():
        model = family.best(states[", ".join(run)])
        seen[run] = histogram(run, model, rng)
        figures |= {f"{', '.join(run)}: JS": jensen_shannon(p[run[1]], seen[run])}
        figures |= {} if family.says is None else {f"{', '.join(run)}: KL": kl(run, model, rng)}
    looks.append((n, seen))
    return figures


started = {run: family.training(rng) for (run, family), rng in zip(runs.items(), Generator(chosen.seed).split(len(runs)))}
steps = {run: step for run, (_, step) in started.items()}
states = {", ".join(run): state for run, (state, _) in started.items()}
states = fit(chosen, step, states, data.Draws(batch, chosen.seed), chosen.steps // 15, look)

# %% [markdown]
# ## How close?
#
# The last line is what no model can be better than. A perfect table of cells would still be some nats away, since the truth is
# not flat within them: this is what a PixelCNN can reach at best. And samples of the truth itself fill the cells by chance.

# %%
models = {run: family.best(states[", ".join(run)]) for run, family in runs.items()}
rng = Generator(chosen.seed).at(10**6)
ends = {run: histogram(run, model, rng) for run, model in models.items()}
floor = {space: jensen_shannon(p[space], grids[space].shares(truth.sample(rng, N))) for space, truth in truths.items()}


def print_row(name, figures):
    print(f"{name:10}" + "".join(f"{figure:>12}" for figure in figures))


print_row("nats", [f"{figure}, {space}" for space in truths for figure in ("KL", "JS")])
for name, family in FAMILIES.items():
    figures = []
    for space in truths:
        value = kl((name, space), models[name, space], rng, 5 * POINTS)
        figures += ["none" if value is None else f"{family.says} {value:.3f}"]
        figures += [f"{jensen_shannon(p[space], ends[name, space]):.4f}"]
    print_row(name, figures)
figures = []
for space, grid in grids.items():
    of_cells = kl_on_grid(log_p[space], grid.evened(log_p[space]), grid.volume)
    figures += [f"= {of_cells:.3f}", f"{floor[space]:.4f}"]
print_row("the truth", figures)
if chosen.data == "two_moons" and not chosen.quick and not chosen.samples:
    bands = {"VAE": "0.06 to 0.09", "GAN": "0.10 to 0.12", "flow, PixelCNN, EBM": "0.005 to 0.008", "DDPM": "0.02 to 0.03"}
    print("expected with the default settings, JS on the plane:", "; ".join(f"{name} {band}" for name, band in bands.items()))

# %% [markdown]
# ## Pictures
#
# What each family makes of both truths, in cells, and how far it was from them on its way: `js.png` and `kl.png` at the end;
# `all.gif` as it went, and a film for each family alone.

# %%
file, log = chosen.out.joinpath, train.read_log(chosen.out / "log.jsonl")
at = [record["step"] for record in log]
NOTE = {"=": "", "<=": ", at most", None: ": none"}


def curve(name, space, figure):
    """Over the training; nan where chance has put an estimate below 0, which has no place on a logarithmic scale."""
    values = np.array([record.get(f"{name}, {space}: {figure}", math.nan) for record in log])
    return np.where(values > 0, values, math.nan)


def js_curves(space, names):
    return {name: curve(name, space, "JS") for name in names} | {"the truth": np.full(len(at), floor[space])}


def kl_curves(space, names):
    return {name + NOTE[FAMILIES[name].says]: curve(name, space, "KL") for name in names}


def both_curves(space, names):
    (name,) = names
    truth = {"JS of the truth": np.full(len(at), floor[space])}
    return {"JS": curve(name, space, "JS"), "KL" + NOTE[FAMILIES[name].says]: curve(name, space, "KL")} | truth


def draw(path, names, curves, label, seen, now=None):
    """The truth in cells, what the families make of it, and the curves."""
    rows = []
    for space, truth in truths.items():
        shares = (p[space], *(seen[name, space] for name in names))
        rows.append(([each[:-1].reshape((CELLS,) * truth.dimensions) for each in shares], curves(space, names)))
    plot.approach(rows, path, ("truth", *names), at, now, label)


draw(file("js.png"), FAMILIES, js_curves, "JS, nats", ends)
draw(file("kl.png"), FAMILIES, kl_curves, "KL, nats", ends)
if looks:  # a resumed run that was complete has seen none
    films = {"all": (FAMILIES, js_curves, "JS, nats"), **{name: ((name,), both_curves, "nats") for name in FAMILIES}}
    for name, (names, curves, label) in films.items():
        with plot.film(file(f"{name}.gif"), seconds=0.25) as frame:
            for n, seen in looks:
                draw(frame(), names, curves, label, seen, at.index(n) + 1)
finish(chosen)
