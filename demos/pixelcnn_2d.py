# %% [markdown]
"""What a PixelCNN sees: images so small that everything about them can be counted (about 15 seconds)

A PixelCNN writes an image pixel by pixel, p(x) = prod_t p(x_t | x_1, ..., x_{t-1}). Masks on its convolutions keep pixels that
come later out of sight. Two things are made visible here: that its probabilities are exact, by listing all of them, and that
masks can hide too much. The model is tinygen/models/pixelcnn.py.
"""

# %%
import math

import numpy as np

from demos.options import options
from tinygen import Generator, optim, plot, train
from tinygen.models.pixelcnn import PixelCNN, receptive_field, train_step

chosen = options(
    "pixelcnn_2d",
    "Count the probabilities of all 3 x 3 images, and measure the blind spot of a PixelCNN.",
    steps={"tiny": 300, "quick": 20},
    data=("tiny",),
)
file = chosen.out.joinpath


def trained(model, batches, out=None):
    optimiser = optim.Adam(optim.cosine(1e-2, chosen.steps))
    log_every = max(1, chosen.steps // 100)
    state = optim.begin(model, optimiser)
    return train.fit(train_step(optimiser), state, batches, chosen.steps, seed=chosen.seed, out=out, log_every=log_every).params


# %% [markdown]
# ## All images of 3 x 3 bits
#
# Bars and stripes: every row is of one colour, or every column is. There are 14 such images among 512. Trained on them, the
# model should give each 1/14 and the other 498 nothing. All 512 probabilities sum to 1, trained or not: nothing is estimated.

# %%
rows = np.repeat(np.indices((2,) * 3).reshape(3, 8).T[:, :, None], 3, axis=2)  # (8, 3, 3)
bars_and_stripes = np.unique(np.concatenate([rows, rows.swapaxes(1, 2)]), axis=0)[..., None].astype(np.float32)
all_images = np.indices((2,) * 9).reshape(9, 512).T.reshape(512, 3, 3, 1).astype(np.float32)

model = PixelCNN.gated(Generator(chosen.seed), (3, 3, 1), levels=2, channels=16, layers=4, first_kernel=3)
model = trained(model, lambda step: bars_and_stripes)
p = np.exp(model.log_prob(all_images).nats.astype(np.float64))
divergence = -math.log(14) - float(model.log_prob(bars_and_stripes).nats.mean())
print(f"sum of the probabilities of all 512 images: {p.sum():.6f}")
print(f"KL(bars and stripes || model) = {divergence:.4f} nats (expected with the default settings: less than 0.05)")

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
# Two rows of eight bits. The first is random; the second repeats it three columns to the left, and ends in three bits of its
# own. That is 11 coins, 11 log 2 nats. But the five copied bits come from the blind spot: for the plain network these are coins
# too, and its best is 16 log 2.

# %%
coins = Generator(chosen.seed)


def shifted_words(step):
    x = coins.at(step).bernoulli(np.full((100, 2, 8, 1), 0.5))
    x[:, 1, :5] = x[:, 0, 3:]
    return x


test = shifted_words(10**6)
logs = {}
for name, make, best in (("plain", PixelCNN.plain, 16), ("gated", PixelCNN.gated, 11)):
    model = make(Generator(chosen.seed), (2, 8, 1), 2, 16, 5, first_kernel=3)
    model = trained(model, shifted_words, out=file(name))
    logs[name] = train.read_log(file(name, "log.jsonl"))
    logs[f"{best} log 2"] = [{"step": step, "loss": best * math.log(2)} for step in (1, chosen.steps)]
    nats = -model.log_prob(test).summary().mean
    print(f"{name}: -log p(x) = {nats:.2f} nats; {best} log 2 = {best * math.log(2):.2f}")
plot.curves(logs, file("curves.png"), metrics="loss", y_label="-log p(x), nats", smooth=0)
print(f"pictures: {chosen.out}")
