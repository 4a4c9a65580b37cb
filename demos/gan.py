# %% [markdown]
"""A generator forges digits, and a discriminator tells on it (about 1 minute; --data mnist about 50 minutes)

A generator turns noise z ~ N(0, I) into an image. It never sees a digit. A discriminator sees digits and forgeries, and learns
to tell which is which; the generator learns, through the discriminator's gradient, to make that harder:

    min_G max_D  E_data[log s(D(x))] + E_z[log(1 - s(D(G(z))))]        s the sigmoid; the model is tinygen/models/gan.py

There is no likelihood, so nothing here says how probable a test image is. What remains is to look, and to test whether samples
and images can be told apart. With `--classes` both players are told which digit it shall be, as in Mirza & Osindero 2014. Run
this file with `python -m demos gan`, or cell by cell as a notebook.
"""

# %%
import numpy as np

from demos.options import options, plain_errors
from demos.training import finish, fit
from tinygen import Generator, data, metrics, optim, plot, train
from tinygen.models import gan

chosen = options(
    "gan",
    "Train a DCGAN, look at what it makes, and test whether its samples can be told from test images.",
    steps={"digits": 2500, "mnist": 46_000, "quick": 10},
    objective={"choices": tuple(gan.OBJECTIVES), "default": "r1", "help": "what the players minimise (default: %(default)s)"},
    classes={"action": "store_true", "help": "tell both players the label of each image (MNIST: 12000 steps are enough then)"},
)

# %% [markdown]
# ## The data
#
# Grey levels scaled to [0, 1], nothing more. They are a finite set of points without a density, which a VAE or a flow could not
# be trained on; a GAN never asks for one.

# %%
with plain_errors():
    images = data.load(chosen.data)
shape = images.train.images.shape[1:]


def scale(grey, rng):
    return data.prepare("grey", grey, images.levels, rng)


# %% [markdown]
# ## The players
#
# Two convolutional networks that mirror one another: the generator doubles height and width twice, the discriminator halves
# them twice. Momentum in this game means pushing at where the other player was, so Adam goes without its running mean of the
# gradient (beta1 = 0). The averaged generator makes the pictures: while the players chase one another, their average stands
# still. Critics, whose value is a distance only if they are trained to the end, take five steps to each of the generator's.

# %%
# R1's weight depends on the number of pixels that make a difference; its mean over a few images has the same expectation
r1 = {"digits": gan.r1(0.1), "mnist": gan.r1(5.0, examples=16)}[chosen.data]
objective = (gan.OBJECTIVES | {"r1": r1})[chosen.objective]
rounds = 5 if chosen.objective in ("weight_clipping", "gradient_penalty") else 1
hidden, classes = {"digits": (), "mnist": (256,)}[chosen.data], 10 if chosen.classes else None
model = gan.GAN.dcgan(Generator(chosen.seed), shape, latent=64, channels=(32, 64), hidden=hidden, classes=classes)
optimiser = optim.Adam(optim.cosine(1e-3, chosen.steps, final=1e-4), beta1=0.0, beta2=0.99)
state = gan.players(model, optimiser, optimiser, averaged=True)

# %% [markdown]
# ## The game
#
# Neither loss falls to a minimum: if the generator's falls, the discriminator's rises. Watch the accuracy, the probability that
# the discriminator marks an image higher than a sample. At 1/2 it is guessing; near 1 the generator has lost.

# %%
decay = {"digits": 0.995, "mnist": 0.9995}[chosen.data]
step = gan.train_step(objective, optimiser, optimiser, rounds, decay=decay, prepare=scale)
rows = (images.train.images, images.train.labels) if chosen.classes else images.train.images
batches = data.Batches(rows, 64 * rounds, chosen.seed)
stages = []


def labels(n):
    """0, 1, ..., 9, 0, 1, ...: each digit as often as the others; or None."""
    return np.arange(n) % 10 if chosen.classes else None


def look(n, state, metrics):
    stages.append(state.gan.sample(Generator(chosen.seed), 10, labels(10)))


state = fit(chosen, step, state, batches, min(100, chosen.steps // 40), look)
model = state.gan

# %% [markdown]
# ## Can samples be told from images?
#
# Put test images and as many samples in one heap, and guess for each what it is: the same as its nearest neighbour. If both
# come from one distribution, that is right half of the time. Samples that are all alike, or memories of few images, are found
# out as surely as bad ones. Training images against test images show what is possible (Lopez-Paz & Oquab 2017; the function is
# in tinygen/metrics/neighbours.py).

# %%
rng = Generator(chosen.seed).at(chosen.steps)  # the first random numbers that training did not use
test = data.prepare_once("grey", images.test.images, images.levels)[: 20 if chosen.quick else 1000]
seen = data.prepare_once("grey", images.train.images[: len(test)], images.levels)
samples = model.sample(rng, len(test), labels(len(test)))
print(f"told apart by nearest neighbours: test images and samples {metrics.told_apart(test, samples):.3f}")
print(f"                                  test and training images {metrics.told_apart(test, seen):.3f}; 0.5 is chance")

# %% [markdown]
# ## Are they digits, and all of them?
#
# A classifier that was trained on the same training images, and knows nothing of the game, says how many samples it is sure of:
# the share to which it gives one digit a probability above 0.9. A generator that makes only one digit well would shine here, so
# its favourites are counted too. Of 10,000 samples the share has a standard error of 0.003.

# %%
judge = metrics.classifier(images, steps=3 if chosen.quick else None)
more = [model.sample(rng, len(test), labels(len(test))) for _ in range(1 if chosen.quick else 9)]
samples = np.concatenate([samples, *more])
for name, x in (("test images", test), ("samples", samples)):
    each = np.bincount(judge.probabilities(x).argmax(axis=1), minlength=10) / len(x)
    print(f"{name:12} {judge.recognised(x):.3f} sure; of each digit, in percent:", *(f"{share:2.0f}" for share in 100 * each))
if chosen.classes:
    print(f"the digit that was asked for, says the classifier: {judge.accuracy(samples, labels(len(samples))):.3f}")
if chosen.objective == "r1" and not chosen.quick:
    expected = {"digits": ("0.76", "0.97"), "mnist": ("0.89", "0.93 or more")}[chosen.data][chosen.classes]
    print(f"expected with the default settings: sure of about {expected} of the samples")

# %% [markdown]
# ## Pictures
#
# Samples; samples with the nearest training image under each, for a generator that repeats what the discriminator remembers
# has learned nothing; and ten fixed z through the training, row by row.

# %%
file = chosen.out.joinpath
plot.image_grid(model.sample(rng, 100, labels(100)), file("samples.png"), columns=10)
train_images = data.prepare_once("grey", images.train.images, images.levels)
nearest = train_images[metrics.nearest(samples[:10], train_images).index]
plot.image_grid(np.concatenate([samples[:10], nearest]), file("neighbours.png"), columns=10, row_labels=["sample", "nearest"])
if len(stages) > 1:
    rows = [stages[i] for i in np.unique(np.geomspace(1, len(stages), 8).astype(int)) - 1]
    plot.image_grid(np.concatenate(rows), file("stages.png"), columns=10)
log = train.read_log(file("log.jsonl"))
plot.curves(log, file("losses.png"), metrics=("discriminator_loss", "generator_loss"), y_label="nats")
plot.curves(log, file("accuracy.png"), metrics="accuracy")
finish(chosen)
