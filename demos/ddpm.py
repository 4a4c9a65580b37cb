# %% [markdown]
"""A diffusion model turns noise into digits, step by step (about 90 seconds; --data mnist about 40 minutes)

Mix an image with noise, a little more at each of a thousand steps, until nothing of it is left. A network that can tell, from a
noisy image, what the image was, can take the steps back: from pure noise to an image that never was.

    forward    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps        eps ~ N(0, I), abar from 1 down to 0
    learned    eps_hat(x_t, t), or what amounts to it               by least squares; the model is tinygen/models/ddpm.py

Told the label of the image too, the network can be asked for a digit, and even for more of what makes it that digit than the
data has (guidance). Run this file with `python -m demos ddpm`, or cell by cell as a notebook.
"""

# %%
import numpy as np

from demos.options import at_least_one, options, plain_errors
from demos.training import finish, fit
from tinygen import Generator, data, metrics, optim, plot, train
from tinygen.density import LowerBound, bits_per_dim
from tinygen.models import ddpm

chosen = options(
    "ddpm",
    "Train a diffusion model on labelled digits, bound the likelihood of test images, and let a classifier judge its samples.",
    steps={"digits": 1200, "mnist": 18_000, "quick": 4},
    predicts={"choices": ("eps", "x0", "v"), "default": "v", "help": "what the network says (default: %(default)s)"},
    times={"type": at_least_one, "default": 50, "metavar": "K", "help": "steps of DDIM for samples (default: %(default)s)"},
)

# %% [markdown]
# ## The data
#
# Grey levels, scaled to [-1, 1], and labels. The model is one of the grey levels themselves, so its bound is one on their
# probability.

# %%
with plain_errors():
    images = data.load(chosen.data)
shape, levels = images.train.images.shape[1:], images.levels


def prepare(batch, rng):
    grey, labels = batch
    return ddpm.to_signed(grey, levels), labels


# %% [markdown]
# ## The model
#
# A U-Net: convolutions at the image's size, at half of it, and back up. The images of MNIST it sees as patches of 2 x 2 pixels,
# or most of the time would go into large images of few channels. It predicts v, a mixture of noise and image that is worth
# knowing at every t: with much noise v is almost the image, and with little almost the noise.

# %%
T, patch, batch_size, rate = {"digits": (200, 1, 32, 2e-3), "mnist": (1000, 2, 32, 1.5e-3)}[chosen.data]
new = ddpm.DDPM.unet(
    Generator(chosen.seed), shape, ddpm.cosine(T), channels=(32, 64), classes=10, patch=patch, levels=levels,
    predicts=chosen.predicts,
)  # fmt: skip
optimiser = optim.Adam(optim.warm_up(100, optim.cosine(rate, max(1, chosen.steps - 100))))
state = optim.begin(new, optimiser, averaged=True)

# %% [markdown]
# ## Training
#
# One t for each image and step, and the squared error of the prediction. One label in ten is hidden, so that the network learns
# to do without. The validation is the same loss of the averaged parameters, always with the same noise.

# %%
step = ddpm.train_step(optimiser, prepare, decay=0.995 if chosen.data == "digits" else 0.999)
batches = data.Batches((images.train.images, images.train.labels), batch_size, chosen.seed)
log_every = max(1, chosen.steps // 100)
held_out = ddpm.to_signed(images.validation.images[:200], levels), images.validation.labels[:200]


def validate(n, state, metrics):
    if n % (5 * log_every) == 0 or n == chosen.steps:
        x, labels = held_out
        return {"validation": state.best.loss(x, Generator(chosen.seed), labels, drop=0).mean()}


state = fit(chosen, step, state, batches, log_every, validate)
model = state.best

# %% [markdown]
# ## How likely are the test images?
#
# What the steps back lose against the true ones, which know the image, bounds the likelihood. Each image is bounded from a few
# of the terms, drawn at random; the labels are not told.

# %%
rng = Generator(chosen.seed).at(chosen.steps)  # the first random numbers that training did not use
n, terms = (4, 2) if chosen.quick else (300, 50)
test = images.test.images[:n], images.test.labels[:n]
x = ddpm.to_signed(test[0], levels)
parts = [model.bound(x[i : i + 50], rng, terms=terms) for i in range(0, n, 50)]  # all at once would be gigabytes of levels
bits = bits_per_dim(LowerBound(np.concatenate([part.nats for part in parts]), parts[0].how), x[0].size)
print(f"{n} test images: {bits}, +- {bits.bits.std() / n**0.5:.2f}")

# %% [markdown]
# ## Would a classifier know them?
#
# A small network that was trained to read the same digits looks at samples, and at test images for comparison. "Sure" is the
# share of images of which it gives some digit a probability above 0.9; "right", the share where the likeliest digit is the one
# that was asked for. With a guidance weight of 0 none is asked for; with 1 the label is told; with 3 the step from the one
# prediction to the other is taken three times.

# %%
judge = metrics.classifier(images, steps=3 if chosen.quick else None)
labels = np.arange(n) % 10
times = min(chosen.times, T, *([3] if chosen.quick else []))


def samples(labels, guidance=1.0):
    """Images of those labels, 50 at a time."""
    parts = [labels[i : i + 50] for i in range(0, len(labels), 50)]
    drawn = [model.sample_ddim(rng, len(part), times, labels=part, guidance=guidance) for part in parts]
    return ddpm.to_unit(np.concatenate(drawn))


print(f"{'':34}{'sure':>6}{'right':>8}")
x = data.prepare_once("grey", test[0], levels)
print(f"{'test images':34}{judge.recognised(x):6.3f}{judge.accuracy(x, test[1]):8.3f}")
for weight in (0.0, 1.0, 3.0):
    x = samples(labels, weight)
    right = f"{judge.accuracy(x, labels):8.3f}" if weight else ""
    print(f"{f'{n} samples with guidance {weight:g}':34}{judge.recognised(x):6.3f}{right}")
EXPECTED = {
    "digits": "at most 2.7 to 2.8 bits/dim; with guidance 1, 0.92 to 0.98 sure and 0.96 to 1 right",
    "mnist": "at most 2.1 to 2.3 bits/dim; with guidance 1, 0.90 to 0.96 sure",
}
if not chosen.quick:
    print(f"expected with the default settings: {EXPECTED[chosen.data]}")

# %% [markdown]
# ## Pictures
#
# Ten samples of each digit. Then noise that turns into digits, in every second row, and under it what the network believes at
# that moment to be the image: first the mean of all digits of that label, then ever more decided.

# %%
file = chosen.out.joinpath
each = 2 if chosen.quick else 10
plot.image_grid(samples(np.arange(10 * each) % 10), file("samples.png"), columns=10)

seen, strips = [2, 5, 8], []
stages = list(model.steps_ddim(rng, 3, times, labels=np.array(seen)))
for i in np.round(np.linspace(0, len(stages) - 1, 11)).astype(int):
    t = np.array([round(T * (1 - i / (len(stages) - 1)))])
    believed = stages[i] if t == 0 else model.denoise(stages[i], t, np.array(seen))[0]
    strips.append(np.stack([stages[i], believed], axis=1))
strips = ddpm.to_unit(np.stack(strips, axis=2)).reshape(-1, *shape)  # digit, (noisy, believed), time
plot.image_grid(strips, file("denoising.png"), columns=11, row_labels=["$x_t$", "$\\hat{x}_0$"] * 3)
with plot.film(file("denoising.gif")) as frame:
    for x in model.steps_ddim(rng, 20, times, labels=np.arange(20) % 10):
        plot.image_grid(ddpm.to_unit(x), frame(), columns=10)

# %% [markdown]
# The same noise with three weights of guidance, and with DDIM in fewer and more steps. Guidance makes digits clear and alike;
# and since DDIM adds no noise, it comes to much the same digits in however many steps.


# %%
def compare(name, settings):
    """Rows of the ten digits, three for each pair (label, arguments of sample_ddim), all from the same noise."""
    start = Generator(chosen.seed).normal((30, *shape))
    rows = [model.sample_ddim(rng, 30, labels=np.arange(30) % 10, start=start, **more) for _, more in settings]
    row_labels = [text for label, _ in settings for text in ("", label, "")]
    plot.image_grid(ddpm.to_unit(np.concatenate(rows)), file(name), columns=10, row_labels=row_labels)


compare("guidance.png", [(f"$w = {w:g}$", {"times": times, "guidance": w}) for w in (0.0, 1.0, 3.0)])
compare("ddim.png", [(f"{k} steps", {"times": k}) for k in ((2, 3) if chosen.quick else (5, 10, 20, 50))])
plot.curves(train.read_log(file("log.jsonl")), file("curves.png"), metrics=("loss", "validation"), log_y=True, y_label="loss")
finish(chosen)
