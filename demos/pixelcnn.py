# %% [markdown]
"""A PixelCNN writes digits pixel by pixel, and knows their exact probability (about 1 minute; --data mnist about 55 minutes)

An image is a sequence of pixels, and its probability a product, p(x) = prod_t p(x_t | x_1, ..., x_{t-1}). A convolutional
network whose masks hide the pixels to come gives all the factors in one pass. So nothing is bounded or estimated here: what is
printed is -log p(x). The model is tinygen/models/pixelcnn.py.

The default is a plain PixelCNN of black and white pixels. `--network gated` is the one without a blind spot, `--grey` models
the grey levels themselves by a softmax, and `--classes` tells the network which digit to write. Run this file with
`python -m demos pixelcnn`, or cell by cell as a notebook.
"""

# %%
import numpy as np

from demos.options import options, plain_errors
from demos.training import finish, fit
from tinygen import Generator, data, optim, plot, train
from tinygen.density import Exact, bits_per_dim
from tinygen.models.pixelcnn import PixelCNN, train_step

chosen = options(
    "pixelcnn",
    "Train a PixelCNN, compute the exact likelihood of its test images, and let it write images and complete others.",
    steps={"digits": 6000, "mnist": 27_000, "quick": 3},
    network={"choices": ("plain", "gated"), "default": "plain", "help": "default: %(default)s"},
    grey={"action": "store_true", "help": "model all grey levels instead of black and white"},
    classes={"action": "store_true", "help": "tell the network the label of each image"},
)

# %% [markdown]
# ## The data
#
# Black and white means: in every batch, each pixel is 1 with the probability that its grey level says. The test images are
# binarised once, by noise that belongs to each image. Grey levels are taken as they are.

# %%
with plain_errors():
    images = data.load(chosen.data)
shape, levels = images.train.images.shape[1:], images.levels if chosen.grey else 2


def prepare(grey, rng):
    return grey if chosen.grey else data.prepare("dynamic", grey, images.levels, rng)


def once(part):
    return part.images if chosen.grey else data.prepare_once("dynamic", part.images, images.levels)


# %% [markdown]
# ## The model
#
# The first convolution has a mask of type A: a pixel sees those before it, and not itself. All others have type B: what they
# are given at a pixel's own place was already made without it, and may be seen. Residual blocks of 1 x 1, masked 3 x 3 and
# 1 x 1 convolutions follow, or the gated layers; and at the end a number for each pixel, the logit of ink, or one for each
# grey level.

# %%
make = {"plain": PixelCNN.plain, "gated": PixelCNN.gated}[chosen.network]
size = {"channels": 32} if chosen.data == "mnist" else {"channels": 32, "first_kernel": 5}
depth = {("plain", "digits"): 5, ("plain", "mnist"): 15, ("gated", "digits"): 4, ("gated", "mnist"): 8}
layers = {"plain": "blocks", "gated": "layers"}[chosen.network]
size[layers] = depth[chosen.network, chosen.data]
model = make(Generator(chosen.seed), shape, levels, classes=10 if chosen.classes else None, **size)

# %% [markdown]
# ## Training
#
# The loss is -log p(x) itself, in nats for a whole image. All factors come from one pass of the network, since the pixels that
# each one is given are those of the image. What is evaluated is a moving average of the parameters.

# %%
small_batches = chosen.network == "gated" and chosen.data == "mnist"  # each step is long; so there are more of them in an hour
batch_size, decay = (16, 0.998) if small_batches else (32, 0.995)
optimiser = optim.Adam(optim.warm_up(min(200, chosen.steps // 2), optim.cosine(4e-3, chosen.steps)))
state = optim.begin(model, optimiser, averaged=True)


def log_prob(model, part):
    """Exact, of all images of a part of the data, 100 at a time."""
    x, nats = once(part), []
    for i in range(0, len(x), 100):
        nats.append(model.log_prob(x[i : i + 100], part.labels[i : i + 100] if chosen.classes else None).nats)
    return Exact(np.concatenate(nats))


def validate(step, state, metrics):
    few = data.Split(images.validation.images[:200], images.validation.labels[:200])
    return {"validation": -log_prob(state.best, few).nats.mean()}


rows = (images.train.images, images.train.labels) if chosen.classes else images.train.images
batches = data.Batches(rows, batch_size, chosen.seed)
state = fit(chosen, train_step(optimiser, prepare, decay=decay), state, batches, chosen.steps // 30, validate)
model = state.best

# %% [markdown]
# ## How likely are the test images?
#
# The logarithm of the product is a sum over pixels: no bound, no estimate, "=". Bits per dimension are -log2 p(x) for each
# pixel; of a coin for each pixel it would be 1, or log2(levels) for grey levels.

# %%
test = data.Split(images.test.images[:50], images.test.labels[:50]) if chosen.quick else images.test
density = log_prob(model, test)
print(f"test: {density}, {bits_per_dim(density, images.test.images[0].size)}")
if not chosen.quick and chosen.network == "plain" and not chosen.grey and not chosen.classes:
    expected = {"digits": "22.0 to 22.5", "mnist": "84.8 to 85.3"}[chosen.data]
    print(f"expected with the default settings: -log p(x) of {expected} nats")

# %% [markdown]
# ## Pictures
#
# Samples cost one pass of the network in total, for all pixels together: what a convolution was given is remembered. A
# completion keeps the upper half of a test image and draws the rest, several times; with classes, each sample row is a digit.

# %%
file, rng = chosen.out.joinpath, Generator(chosen.seed).at(chosen.steps)
few = 2 if chosen.quick else 10
labels = np.repeat(np.arange(10), few) if chosen.classes else None
samples = model.sample(rng, 10 * few, labels)
plot.image_grid(samples / (levels - 1), file("samples.png"), columns=few, row_labels=range(10) if chosen.classes else None)

half = shape[0] // 2 * shape[1]
originals, its_labels = once(test)[:few], test.labels[:few]
kept = originals.copy()
kept.reshape(few, -1)[:, half:] = 0
tries = [model.complete(rng, kept, half, its_labels if chosen.classes else None) for _ in range(4)]
plot.image_grid(
    np.concatenate([originals, kept, *tries]) / (levels - 1), file("completions.png"), columns=few,
    row_labels=["image", "given", *["drawn"] * 4],
)  # fmt: skip
plot.curves(train.read_log(file("log.jsonl")), file("curves.png"), metrics=("loss", "validation"), y_label="-log p(x), nats")
finish(chosen)
