# %% [markdown]
"""Six GAN objectives chase the modes of a ring of 8 and of a grid of 25 Gaussians (about 1 minute)

Data of 8 or 25 narrow Gaussians show what a GAN finds hardest: to be everywhere that the data are. A generator that makes only
one of the modes well can win for a while; the discriminator then learns that this place is suspicious, and the generator moves
on to another. Whether this chase ends depends on the objective (tinygen/models/gan.py), and on how both players move.

Run this file with `python -m demos gan_2d`, or cell by cell as a notebook.
"""

# %%
import numpy as np

from demos.options import options, plain_errors
from demos.training import finish, fit
from tinygen import Generator, data, grad, ops, optim, plot, train
from tinygen.metrics import modes_captured
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


ways = [smallest_game(objective, 20 if chosen.quick else 150) for objective in SMALL.values()]

# %% [markdown]
# ## The games
#
# All data are scaled to the same size, at which the modes are 0.014 (ring) and 0.018 (grid) wide, and the weights of the
# penalties are chosen for it. D sees waves of x beside x, or it would take long to see modes so narrow. Momentum means pushing
# at where the other player was, so Adam goes without its running mean of the gradient (beta1 = 0); and what is looked at is an
# average of the last fifty generators or so, which stands still where they turn. D and G take turns, a step each, although a
# critic's value is a distance only if it was trained to the end. All games are played side by side, on the same batches, as one
# state.

# %%
OBJECTIVES = gan.OBJECTIVES | {"weight_clipping": gan.weight_clipping(0.1), "gradient_penalty": gan.gradient_penalty(0.1)}
names = [chosen.objective] if chosen.objective else list(OBJECTIVES)
toys = {name: data.toy.load(name) for name in (BOTH if chosen.data == "both" else (chosen.data,))}
size = {name: np.float32(toy.modes.std()) for name, toy in toys.items()}
games = [f"{toy}, {name}" for toy in toys for name in names]


def batch(rng):
    return {name: toy.sample(rng, 128) / size[name] for name, toy in toys.items()}


batches = data.Draws(batch, chosen.seed)


def step(states, batch, rng):
    new, accuracies = {}, []
    for game in games:
        toy, name = game.split(", ")
        new[game], metrics = steps[name](states[game], batch[toy], rng)
        accuracies.append(metrics["accuracy"])
    return new, {"accuracy": sum(accuracies) / len(accuracies)}


def count(states):
    """The modes reached and the share of samples within 3 std of one, of each game, by 2500 samples."""
    found = {}
    for game in games:
        toy = game.split(", ")[0]
        samples = states[game].gan.sample(Generator(chosen.seed), 2500) * size[toy]
        found[game] = modes_captured(samples, toys[toy].modes, toys[toy].std)
    return found


stages = []


def look(n, states, metrics):
    stages.append((n, {game: states[game].gan.sample(Generator(chosen.seed), 500) for game in games}))
    return {f"modes: {game}": modes for game, (modes, _) in count(states).items()}


with plain_errors():
    generator, discriminator = (
        optim.Adam(optim.cosine(rate, chosen.steps), beta1=chosen.momentum, beta2=0.9) for rate in (1e-3, 2e-3)
    )
steps = {name: gan.train_step(OBJECTIVES[name], generator, discriminator, decay=0.98) for name in names}
start = gan.GAN.mlp(Generator(chosen.seed), (2,), latent=2, hidden=(64, 64, 64), waves=3)
states = {game: gan.players(start, generator, discriminator, averaged=True) for game in games}
states = fit(chosen, step, states, batches, chosen.steps // 40, look)

# %% [markdown]
# ## Modes captured
#
# A mode is captured if one of 2500 samples or more lies within three standard deviations of it, as published counts have it. A
# smear over the whole square captures modes too, so the share of all samples that lie so near to a mode stands beside it:
# 0.989 for the data themselves, 0.006 (ring) and 0.03 (grid) for a smear. The narrower the modes, the longer it takes to come
# near that. With 1500 steps, R1 reaches at least 24 modes of the grid by each of five seeds, and a share of 0.10 to 0.14
# (tests/models/test_gan.py, marked slow).

# %%
for game, (modes, share) in count(states).items():
    toy, name = game.split(", ")
    print(f"{toy:10}  {name:16}  {modes:2} of {len(toys[toy].modes)} modes, {share:.2f} of the samples within 3 std of one")

# %% [markdown]
# ## Pictures
#
# The ways of the smallest game, from the orange dot, around the equilibrium in grey. Then what each generator makes in the end,
# over the data in grey; how many modes it reaches as the game goes on; and, as a film, how the clouds of minimax and R1 move.

# %%
equilibrium = [np.zeros((1, 2))] * len(ways)
plot.clouds(
    ways, file("smallest_game.png"), (-2.5, 2.5, -2.5, 2.5), tuple(SMALL), under=equilibrium, joined=True,
    axis_labels=(r"$\theta$, where $G$ is", r"$\psi$, the slope of $D$"), marks=("equilibrium", "start"),
)  # fmt: skip
extent = (-2.2, 2.2, -2.2, 2.2)
real = {name: toy.sample(Generator(chosen.seed), 1000) / size[name] for name, toy in toys.items()}
titles = [name.replace("_", " ") for name in names]
labels = [toy.replace("_", " ") for toy in toys]
ends = [states[game].gan.sample(Generator(chosen.seed), 1000) for game in games]
under = [real[game.split(", ")[0]] for game in games]
plot.clouds(ends, file("modes.png"), extent, titles, columns=len(names), row_labels=labels, under=under)
log = train.read_log(file("log.jsonl"))
for toy in toys:
    counts = {
        title: [{"step": r["step"], "modes": r[f"modes: {toy}, {name}"]} for r in log] for title, name in zip(titles, names)
    }
    plot.curves(
        counts, file(f"chase_{toy}.png"), metrics="modes", y_label=f"modes of {len(toys[toy].modes)} captured", smooth=0
    )
if stages:  # a resumed run that was complete has seen none
    shown = [i for i, name in enumerate(names) if name in ("minimax", names[-1])]
    chase = [f"{toy}, {names[i]}" for toy in toys for i in shown]
    under = [real[game.split(", ")[0]] for game in chase]
    with plot.film(file("chase.gif"), seconds=0.15) as frame:
        for _, clouds in stages:
            panels = [clouds[game] for game in chase]
            plot.clouds(panels, frame(), extent, [titles[i] for i in shown], len(shown), labels, under)
finish(chosen)
