# %% [markdown]
"""A RealNVP flow learns the exact density of digits (about 1 minute; --data mnist about 17 minutes)

A flow is an invertible map f from images x to noise z, made of couplings whose Jacobians are triangular. So it has what other
deep models lack, a likelihood that is not a bound, and an encoder that loses nothing:

    log p(x)  =  log N(f(x); 0, I)  +  log |det df/dx|        the model is tinygen/models/flow.py

Run this file with `python -m demos flow`, or cell by cell as a notebook; `flow_2d` shows the same in the plane.
"""

# %%
import numpy as np

from demos.options import at_least_one, options, plain_errors
from demos.training import finish, fit
from tinygen import Generator, data, optim, plot, train
from tinygen.autograd import tree
from tinygen.density import Exact, bits_per_dim
from tinygen.models import flow
from tinygen.nn.invertible import Logit

chosen = options(
    "flow",
    "Train a multi-scale flow, measure the likelihood of its test images, and look at its samples and latents.",
    steps={"digits": 1000, "mnist": 6000, "quick": 4},
    width={"type": at_least_one, "default": 32, "metavar": "W", "help": "channels in the couplings (default: %(default)s)"},
    kind={"choices": ("affine", "additive", "spline"), "default": "affine", "help": "of coupling (default: %(default)s)"},
)

# %% [markdown]
# ## The data
#
# A density of grey levels, which are whole numbers, could be made as high as one likes by spikes on them. So noise fills the
# gaps, x = (g + u) / L with u uniform in [0, 1), drawn anew in every batch. The density of x bounds the probability of g, and
# that is the figure to quote, in bits per pixel. The test images keep one draw of the noise for good.

# %%
with plain_errors():
    images = data.load(chosen.data)
shape, levels = images.train.images.shape[1:], images.levels


def dequantise(grey, rng):
    return data.prepare("dequantised", grey, levels, rng)


validation, test = (data.prepare_once("dequantised", part.images, levels) for part in (images.validation, images.test))

# %% [markdown]
# ## The model
#
# A logit takes pixels p = alpha + (1 - 2 alpha) x to all numbers. Most of MNIST is black, x < 1/256: a small alpha spreads what
# is nearly black over a range like that of the rest, where a Gaussian is soon fitted to it. Then, at each scale, couplings by
# the fields of a checkerboard, a squeeze, couplings by channel, and half of the channels are done. The 8 x 8 digits have room
# for two scales, MNIST for three.

# %%
scales, alpha = {"digits": (2, 0.01), "mnist": (3, 0.001)}[chosen.data]
model = flow.Flow.convolutional(
    Generator(chosen.seed), shape, scales, width=chosen.width, kind=chosen.kind, before=(Logit(alpha),)
)
print(f"{tree.size(model)} parameters")

# %% [markdown]
# ## Training
#
# Gradients are limited in length, since an exponential of a network can throw one batch far out, and the parameters that are
# evaluated are a moving average.

# %%
rate = optim.warm_up(min(100, chosen.steps), optim.cosine(2e-3, chosen.steps))
optimiser = optim.AdamW(rate, weight_decay=0.01)
step = flow.train_step(optimiser, prepare=dequantise, limit=50.0, decay=0.998)
batches = data.Batches(images.train.images, {"digits": 100, "mnist": 64}[chosen.data], chosen.seed)


def density(model, x):
    """log p(x), 500 images at a time."""
    return Exact(np.concatenate([model.log_prob(x[i : i + 500]).nats for i in range(0, len(x), 500)]))


def validate(step, state, metrics):
    return {"validation": -density(state.best, validation).nats.mean()}


state = fit(chosen, step, optim.begin(model, optimiser, averaged=True), batches, chosen.steps // 20, validate)
model = state.best

# %% [markdown]
# ## How likely are the test images?
#
# Exactly, as a density of x; as grey levels, at least: "<=" is what noise u costs. A flow that knew nothing would need
# log2(levels) bits.

# %%
exact = density(model, test)
print(f"test: {exact}, of grey levels {bits_per_dim(exact, test[0].size, levels)}; knowing nothing {np.log2(levels):.2f}")
if not chosen.quick:
    expected = {"digits": "about 2.06", "mnist": "1.28 to 1.31"}[chosen.data]
    print(f"expected with the default settings: {expected} bits/dim")

# %% [markdown]
# ## Nothing is lost
#
# Latents come back as the images they were, up to rounding: the encoder is exact, and no decoder had to be trained.

# %%
z, log_det = model.to_latent(test[:100])
back, minus = model.to_data(z)
error, sum_of_log_dets = abs(back - test[:100]).max(), abs(log_det + minus).max()
print(f"there and back: pixels are off by at most {error:.1e}, and the two log_dets add up to at most {sum_of_log_dets:.1e}")

# %% [markdown]
# ## Pictures
#
# Samples are f^-1(z) for z ~ N(0, I). With less noise, t z for t < 1, they are smoother and less varied; at t = 0 there is one
# image, the one of the likeliest latent. Interpolations are straight lines between latents, with the true images at both ends.

# %%
file, rng = chosen.out.joinpath, Generator(chosen.seed).at(chosen.steps)  # random numbers that training did not use


def show(x):
    return x.clip(0, 1)  # the logit leaves a little room beyond black and white


plot.image_grid(show(model.sample(rng, 100)), file("samples.png"), columns=10)
noise = rng.normal((10, test[0].size))
cooler = [show(model.to_data(np.float32(t) * noise)[0]) for t in (0.0, 0.4, 0.7, 1.0)]
plot.image_grid(np.concatenate(cooler), file("temperatures.png"), columns=10, row_labels=["0", "0.4", "0.7", "1"])
a, b = (model.to_latent(x)[0] for x in (test[:8], test[8:16]))
walks = [show(model.to_data((1 - t) * a + t * b)[0]) for t in np.linspace(0, 1, 11, dtype=np.float32)]
plot.image_grid(np.stack(walks, axis=1).reshape(-1, *shape), file("interpolations.png"), columns=11)
later = train.read_log(file("log.jsonl"))[-20:]  # the first step would hide what comes after
bits = [
    {"step": r["step"], **{key: r[key] / (test[0].size * np.log(2)) + np.log2(levels) for key in ("loss", "validation")}}
    for r in later
]
plot.curves(bits, file("curves.png"), y_label="bits/dim of grey levels")
finish(chosen)
