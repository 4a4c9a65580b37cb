# %% [markdown]
"""Six GAN objectives chase the modes of a ring of 8 and of a grid of 25 Gaussians (draft: minutes, not yet run at full length)

Data of 8 or 25 narrow Gaussians show what a GAN finds hardest: to be everywhere that the data are. A generator that makes only
one of the modes well can win for a while; the discriminator then learns that this place is suspicious, and the generator moves
on to another. Whether this chase ends depends on the objective (tinygen/models/gan.py), and on how both players move.

Run this file with `python -m demos gan_2d`, or cell by cell as a notebook.
"""

# %%
import numpy as np

from demos.options import options, plain_errors
from tinygen import Generator, data, grad, ops, optim, plot, train
from tinygen.models import gan

BOTH = ("ring_of_8", "grid_of_25")
chosen = options(
    "gan_2d",
    "Train a GAN by each objective on the ring and on the grid, and count the modes that its samples reach.",
    steps={"both": 1000, "ring_of_8": 2000, "grid_of_25": 2000, "quick": 8},
    data=("both", *BOTH),
    objective={"choices": tuple(gan.OBJECTIVES), "help": "only this one (default: all six)"},
    momentum={"type": float, "default": 0.0, "metavar": "B", "help": "Adam's beta1, of both players (default: %(default)s)"},
)
file = chosen.out.joinpath

# %% [markdown]
# ## The smallest game
#
# The data are the point 0, the generator makes one point theta, and the discriminator is a line, D(x) = psi x. The equilibrium
# is theta = psi = 0. By the plain objectives the players turn around it: each one's descent moves the other's goal. The steps
# of a descent are tangents, so minimax and the unbounded critic drift outwards; the non-saturating turns shrink, but slowly;
# the gradient penalty, which wants a slope of 1 everywhere, keeps the players apart. R1 makes D flat on the data, and the turns
# end (Mescheder et al. 2018, section 2; the eigenvalues are checked in tests/models/test_gan.py).

# %%
SMALL = {
    "minimax": gan.MINIMAX, "non-saturating": gan.NON_SATURATING, "critic": gan.CRITIC,
    "gradient penalty": gan.gradient_penalty(1.0), "R1": gan.r1(0.5),
}  # fmt: skip


def smallest_game(objective, turns, rate=0.1):
    """The way of (theta, psi) from (1, 0), by simultaneous descent, (turns + 1, 2)."""
    way, one, rng = [np.array([1.0, 0.0])], np.ones((1, 1)), Generator(chosen.seed)

    def discriminator_loss(psi, theta):
        return objective.discriminator_loss(lambda x: ops.flatten(x * psi), 0 * one, theta * one, rng)[0]

    def generator_loss(theta, psi):
        return objective.generator_loss(lambda z: theta * z, lambda x: ops.flatten(x * psi), one)

    for _ in range(turns):
        theta, psi = way[-1]
        way.append(way[-1] - rate * np.array([grad(generator_loss)(theta, psi), grad(discriminator_loss)(psi, theta)]))
    return np.stack(way)


ways = [smallest_game(objective, 3 if chosen.quick else 150) for objective in SMALL.values()]
plot.clouds(ways, file("smallest_game.png"), (-2.5, 2.5, -2.5, 2.5), titles=tuple(SMALL), joined=True)

# %% [markdown]
# ## The games
#
# All data are scaled to the same size. The critic's two objectives take three steps of D for each of G; the weights of the
# penalties are chosen for this scale, at which the modes are 0.014 (ring) and 0.018 (grid) wide: a penalty on D's slope must
# leave it free to tell one side of a mode from the other. All games are played side by side, on the same batches, as one state.

# %%
OBJECTIVES = {
    "minimax": (gan.MINIMAX, 1),
    "non_saturating": (gan.NON_SATURATING, 1),
    "least_squares": (gan.LEAST_SQUARES, 1),
    "weight_clipping": (gan.weight_clipping(0.1), 3),
    "gradient_penalty": (gan.gradient_penalty(0.1), 3),
    "r1": (gan.r1(0.0005), 1),
}
names = [chosen.objective] if chosen.objective else list(OBJECTIVES)
toys = {name: data.toy.load(name) for name in (BOTH if chosen.data == "both" else (chosen.data,))}
size = {name: np.float32(toy.modes.std()) for name, toy in toys.items()}
games = [(toy, name) for toy in toys for name in names]

optimiser = optim.Adam(optim.cosine(2e-3, chosen.steps), beta1=chosen.momentum, beta2=0.99)
steps = {name: gan.train_step(objective, optimiser, optimiser, rounds) for name, (objective, rounds) in OBJECTIVES.items()}


def batch(n):
    rng = Generator(chosen.seed).at(n)
    return {name: toy.sample(rng, 3 * 128) / size[name] for name, toy in toys.items()}


def step(states, batch, rng):
    new, accuracies = {}, []
    for toy, name in games:
        rows = batch[toy][: 128 * OBJECTIVES[name][1]]
        new[f"{toy}, {name}"], metrics = steps[name](states[f"{toy}, {name}"], rows, rng)
        accuracies.append(metrics["accuracy"])
    return new, {"accuracy": np.mean(accuracies)}


def count(states):
    """The modes reached and the share of samples within 3 std of one, of each game, by 2500 samples."""
    found = {}
    for toy, name in games:
        samples = states[f"{toy}, {name}"].gan.sample(Generator(chosen.seed), 2500) * size[toy]
        found[toy, name] = gan.modes_captured(samples, toys[toy].modes, toys[toy].std)
    return found


stages = []


def look(n, states, metrics):
    if n > 1:
        stages.append((n, {game: states[game].gan.sample(Generator(chosen.seed), 500) for game in states}))
    return {f"modes: {toy}, {name}": modes for (toy, name), (modes, _) in count(states).items()}


with plain_errors():
    rng = Generator(chosen.seed)
    start = gan.GAN.mlp(rng, (2,), latent=2, hidden=(64, 64))
    states = {f"{toy}, {name}": gan.players(start, optimiser, optimiser) for toy, name in games}
    states = train.fit(
        step, states, batch, chosen.steps, seed=chosen.seed, out=chosen.out, resume=bool(chosen.resume),
        log_every=max(1, chosen.steps // 25), on_log=look,
    )  # fmt: skip

# %% [markdown]
# ## Modes captured
#
# A mode is captured if one of 2500 samples or more lies within three standard deviations of it, as published counts have it. A
# smear over the whole square captures modes too, so the share of all samples that lie so near to a mode stands beside it:
# 0.989 for the data themselves. The narrower the modes, the longer it takes to come near that.

# %%
for (toy, name), (modes, share) in count(states).items():
    print(f"{toy:10}  {name:16}  {modes:2} of {len(toys[toy].modes)} modes, {share:.2f} of the samples within 3 std of one")

# %% [markdown]
# ## Pictures
#
# What each generator makes in the end, over the data in grey; how many modes it reaches as the game goes on; and how the clouds
# of the plain objective and of R1 move.

# %%
extent = (-2.2, 2.2, -2.2, 2.2)
real = {name: toy.sample(Generator(chosen.seed), 1000) / size[name] for name, toy in toys.items()}
ends = [states[f"{toy}, {name}"].gan.sample(Generator(chosen.seed), 1000) for toy, name in games]
under = [real[toy] for toy, _ in games]
titles = [name.replace("_", " ") for name in names]
labels = [toy.replace("_", " ") for toy in toys]
plot.clouds(ends, file("modes.png"), extent, titles, columns=len(names), row_labels=labels, under=under)
log = train.read_log(file("log.jsonl"))
for toy in toys:
    counts = {name: [{"step": r["step"], "modes": r[f"modes: {toy}, {name}"]} for r in log] for name in names}
    plot.curves(counts, file(f"chase_{toy}.png"), metrics="modes", y_label="modes captured", smooth=0)
if len(stages) >= 6:
    shown = [stages[i] for i in np.linspace(0, len(stages) - 1, 7).astype(int)]
    rows = [f"{toy}, {name}" for toy, name in games if name in (names[-1], "non_saturating")]
    clouds = [clouds[row] for row in rows for _, clouds in shown]
    under = [real[row.split(",")[0]] for row in rows for _ in shown]
    labels = [row.replace("_", " ").replace(", ", "\n") for row in rows]
    plot.clouds(clouds, file("stages.png"), extent, [f"step {n}" for n, _ in shown], columns=7, row_labels=labels, under=under)
print(f"pictures, log and checkpoint are in {chosen.out}/")
