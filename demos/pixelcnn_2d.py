# %% [markdown]
"""What a PixelCNN sees: images so small that everything about them can be counted (about 10 seconds)

A PixelCNN writes an image pixel by pixel, p(x) = prod_t p(x_t | x_1, ..., x_{t-1}). Masks on its convolutions keep pixels that
come later out of sight. Two things are made visible here: that its probabilities are exact, by listing all of them, and that
masks can hide too much. The model is tinygen/models/pixelcnn.py.

Run this file with `python -m demos pixelcnn_2d`, or cell by cell as a notebook.
"""

# %%
import math

import numpy as np

from demos.options import options
from demos.training import finish, fit
from tinygen import Generator, data, optim, plot, train
from tinygen.models.pixelcnn import PixelCNN, receptive_field, train_step

chosen = options(
    "pixelcnn_2d",
    "Count the probabilities of all 3 x 3 images, and measure the blind spot of a PixelCNN.",
    steps={"tiny": 300, "quick": 20},
    data=("tiny",),
)
file = chosen.out.joinpath


# %% [markdown]
# ## Two tasks
#
# Bars and stripes: images of 3 x 3 bits, in which every row is of one colour, or every column is. There are 14 such images
# among 512.
#
# Shifted words: two rows of eight bits. The first is random; the second repeats it three columns to the left, and ends in three
# bits of its own. That is 11 coins. One network of each kind, plain and gated, is trained on them.

# %%
rows = np.repeat(np.indices((2,) * 3).reshape(3, 8).T[:, :, None], 3, axis=2)  # (8, 3, 3)
bars_and_stripes = np.unique(np.concatenate([rows, rows.swapaxes(1, 2)]), axis=0)[..., None].astype(np.float32)


def shifted_words(rng):
    x = rng.bernoulli(np.full((100, 2, 8, 1), 0.5))
    x[:, 1, :5] = x[:, 0, 3:]
    return x


def batch(rng):
    words = shifted_words(rng)
    return {"bars": bars_and_stripes, "plain": words, "gated": words}


batches = data.Draws(batch, chosen.seed)


new = {
    "bars": PixelCNN.gated(Generator(chosen.seed), (3, 3, 1), levels=2, channels=16, layers=4, first_kernel=3),
    "plain": PixelCNN.plain(Generator(chosen.seed), (2, 8, 1), levels=2, channels=16, blocks=5, first_kernel=3),
    "gated": PixelCNN.gated(Generator(chosen.seed), (2, 8, 1), levels=2, channels=16, layers=5, first_kernel=3),
}
optimiser = optim.Adam(optim.cosine(1e-2, chosen.steps))
one_step = train_step(optimiser)


def step(states, batch, rng):
    stepped = {name: one_step(states[name], batch[name], rng) for name in new}
    return {name: state for name, (state, _) in stepped.items()}, {name: m["loss"] for name, (_, m) in stepped.items()}


states = {name: optim.begin(model, optimiser) for name, model in new.items()}
states = fit(chosen, step, states, batches, chosen.steps // 100)
models = {name: state.params for name, state in states.items()}

# %% [markdown]
# ## All images of 3 x 3 bits
#
# Trained on bars and stripes, the model should give each of them 1/14 and the other 498 images nothing. All 512 probabilities
# sum to 1, trained or not: nothing is estimated.

# %%
all_images = np.indices((2,) * 9).reshape(9, 512).T.reshape(512, 3, 3, 1).astype(np.float32)
model = models["bars"]
p = np.exp(model.log_prob(all_images).nats.astype(np.float64))
divergence = -math.log(14) - float(model.log_prob(bars_and_stripes).nats.mean())
print(f"sum of the probabilities of all 512 images: {p.sum():.6f}")
expected = "" if chosen.quick else " (expected with the default settings: less than 0.05)"
print(f"KL(bars and stripes || model) = {divergence:.4f} nats{expected}")

order, share = np.argsort(-p)[:28], float(np.exp(model.log_prob(bars_and_stripes).nats).mean())
plot.image_grid(
    0.08 + 0.84 * all_images[order], file("most_likely.png"), columns=14, row_labels=["ranks 1-14", "15-28"],
    title=f"The most likely images; the 14 bars and stripes have {14 * share:.0%} of the probability",
)  # fmt: skip

# %% [markdown]
# ## The blind spot
#
# Stack masked 3 x 3 convolutions and ask what a pixel depends on. A step up leads at most one column to the right, and there is
# no step to the right in the pixel's own row, where the future is: a wedge of the past stays invisible, however deep the
# network. Two stacks see all of it: a vertical one for whole rows above, and a horizontal one for the row so far.
#
# The pictures are measurements: each pixel in turn is made NaN, and whatever becomes NaN depends on it.

# %%
SIZE, HERE = 11, (7, 4)
BLUE, ORANGE, WHITE, BLACK = (0.0, 0.45, 0.7), (0.84, 0.37, 0.0), (0.93, 0.93, 0.93), (0.13, 0.13, 0.13)


def picture(seen):
    """Blue: seen. Orange: comes before and is not seen. Black: the pixel itself."""
    place, here = np.arange(SIZE * SIZE).reshape(SIZE, SIZE), HERE[0] * SIZE + HERE[1]
    image = np.where((place < here)[..., None], np.where(seen[..., None], BLUE, ORANGE), WHITE)
    image[HERE] = BLACK
    return image


rng, shape = Generator(chosen.seed), (SIZE, SIZE, 1)
networks = {
    f"{name}, {depth} layers": make(rng, shape, 2, 4, depth, first_kernel=3)
    for name, make in (("plain", PixelCNN.plain), ("gated", PixelCNN.gated))
    for depth in (2, 4, 12)
}
fields = {name: receptive_field(model, *HERE) for name, model in networks.items()}
plot.image_grid(
    np.stack([picture(seen) for seen in fields.values()]), file("receptive_fields.png"), columns=3, scale=12,
    row_labels=["plain", "gated"], title="Seen (blue) and unseen (orange) by the black pixel, after 2, 4 and 12 layers",
)  # fmt: skip
for name, seen in fields.items():
    print(f"{name:17} sees {seen.sum():2} of the {HERE[0] * SIZE + HERE[1]} pixels before")

# %% [markdown]
# ## What it costs
#
# Of the shifted words, five bits in the second row are copies: 11 coins, 11 log 2 nats. But what they copy lies in the blind
# spot: for the plain network these are coins too, and its best is 16 log 2. The dashed lines are these two.

# %%
test = shifted_words(Generator(chosen.seed).at(10**6))
log, logs, levels = train.read_log(file("log.jsonl")), {}, {}
for name, best in (("plain", 16), ("gated", 11)):
    logs[name] = [{"step": record["step"], "loss": record[name]} for record in log]
    levels[f"{best} log 2: best for {name}"] = best * math.log(2)
    nats = -models[name].log_prob(test).summary().mean
    print(f"{name}: -log p(x) = {nats:.2f} nats; {best} log 2 = {best * math.log(2):.2f}")
plot.curves(logs, file("curves.png"), metrics="loss", y_label="-log p(x), nats", smooth=0, levels=levels)
finish(chosen)
