# %% [markdown]
"""Explain images and labels, or the labels alone: few examples, gaps, and samples of one's own (about 10 seconds)

There are two ways to a classifier. A generative one has a density for each class, and Bayes' rule; a discriminative one has
p(y | x) and nothing else. Naive Bayes, and Gaussians of one covariance, give posteriors that are logistic regressions: the same
functions of x, chosen by another principle. With endless data logistic regression cannot lose, as it asks for nothing but the
labels; a generative model assumes more, so that its parameters are sure after few examples, if wrong (Ng & Jordan 2002). And
only it can leave out what it does not see, and make examples of its own. The models are tinygen/models/bayes.py.

Run this file with `python -m demos discriminative_vs_generative`, or cell by cell as a notebook.
"""

# %%
import numpy as np

from demos.options import at_least_one, options
from demos.training import finish
from tinygen import Generator, data, optim, plot, train
from tinygen.density import bits_per_dim
from tinygen.distributions import Categorical
from tinygen.models.bayes import GaussianDiscriminant, NaiveBayes
from tinygen.nn import Linear, init

chosen = options(
    "discriminative_vs_generative",
    "Set naive Bayes and Gaussian discriminant analysis against logistic regression, from one example of each digit on.",
    data=("digits",),
    devices=("cpu",),
    repeats={"type": at_least_one, "metavar": "N", "help": "draws of the examples (default: 5)"},
)
repeats = chosen.repeats or (1 if chosen.quick else 5)

# %% [markdown]
# ## Data
#
# Bits for naive Bayes, and grey levels with noise, in (0, 1), for the Gaussians. Logistic regression gets each of them. A set
# of examples has as many of each digit, drawn anew for each repeat.

# %%
images = data.load("digits")
test_labels = images.test.labels[: 100 if chosen.quick else None]


def vectors(preparation, grey):
    return data.prepare_once(preparation, grey, images.levels).reshape(len(grey), -1).astype(np.float64)


x = {name: vectors(name, images.train.images) for name in ("static", "dequantised")}
test = {name: vectors(name, images.test.images[: len(test_labels)]) for name in x}
labels = images.train.labels


def draw(rng, each):
    """Rows of the training images, `each` of every digit."""
    order = rng.permutation(len(labels))
    return np.concatenate([order[labels[order] == y][:each] for y in range(10)])


# %% [markdown]
# ## Classifiers
#
# Logistic regression is a linear layer that descends -log p(y | x), from zero, with a Gaussian prior on its weights; the others
# are counted. The Gaussians have one covariance, shared by all digits, or one per class. The strengths of priors and shrinkage
# were chosen on the validation images, one for all numbers of examples.


# %%
class LogisticRegression:
    """p(y | x) = softmax(x W + b), with W ~ N(0, 1 / precision); what is missing from x is filled by the mean of its column."""

    def __init__(self, x, labels, precision):
        rng, steps = Generator(chosen.seed), 20 if chosen.quick else 200
        self.mean = x.mean(axis=0)
        rows = ((x - self.mean).astype(np.float32), labels)
        optimiser = optim.Adam(optim.cosine(0.1, steps))
        start = optim.begin(Linear.init(rng, x.shape[1], 10, initialiser=init.zeros), optimiser)

        def loss(layer, batch, rng):
            x, labels = batch
            prior = 0.5 * precision * (layer.weight * layer.weight).sum()
            return (prior - Categorical(layer(x)).log_prob(labels).sum()) / len(x), {}

        self.layer = train.fit(optim.minimise(loss, optimiser), start, lambda n: rows, steps, progress=False).params

    def error(self, x, labels):
        filled = np.where(np.isnan(x), 0, x - self.mean).astype(np.float32)
        return float((self.layer(filled).argmax(axis=1) != labels).mean())


def gaussian(shared):
    return lambda x, labels: GaussianDiscriminant.fit(x, labels, shared, shrinkage=0.2)


def logistic(precision):
    return lambda x, labels: LogisticRegression(x, labels, precision)


CLASSIFIERS = {  # what each is given, and how it is fitted
    "naive Bayes": ("static", NaiveBayes.fit),
    "logistic, without prior": ("static", logistic(precision=0)),
    "logistic, of bits": ("static", logistic(precision=10)),
    "Gaussian, shared": ("dequantised", gaussian(shared=True)),
    "Gaussian, per class": ("dequantised", gaussian(shared=False)),
    "logistic, of grey levels": ("dequantised", logistic(precision=1)),
}


def fit(name, rows):
    preparation, make = CLASSIFIERS[name]
    return make(x[preparation][rows], labels[rows])


# %% [markdown]
# ## As the number of examples grows
#
# The error on the test images, from 1 to 120 examples of each digit.

# %%
sizes = (1, 16) if chosen.quick else (1, 2, 4, 8, 16, 32, 64, 120)
rngs = Generator(chosen.seed).split(repeats)
sets = [{each: draw(rng.at(each), each) for each in sizes} for rng in rngs]
errors = {
    name: np.array([[fit(name, rows[each]).error(test[preparation], test_labels) for each in sizes] for rows in sets])
    for name, (preparation, _) in CLASSIFIERS.items()
}  # (repeats, sizes)


def table(title, columns, rows):
    print(f"{title:30}" + "".join(f"{column:>15}" for column in columns))
    for name, values in rows.items():
        spread = (f"{v.mean():.1f} ({v.min():.0f}-{v.max():.0f})" for v in 100 * values.T)
        print(f"{name:30}" + "".join(f"{cell:>15}" for cell in spread))


def crossing(first, second):
    """The least number of examples of each digit from which on the mean error of the second is below the first's, or None."""
    below = errors[second].mean(axis=0) < errors[first].mean(axis=0)
    after = [each for i, each in enumerate(sizes) if below[i:].all()]
    return after[0] if after else None


table("errors in percent, examples:", sizes, errors)
for first, *others in (
    ("naive Bayes", "logistic, without prior", "logistic, of bits"), ("Gaussian, shared", "logistic, of grey levels"),
):  # fmt: skip
    for second in others:
        where = crossing(first, second)
        print(f"{second}: {f'better than {first} from {where} of each digit on' if where else f'not yet better than {first}'}")
if not chosen.quick:
    print("expected at 120 of each, from top to bottom: 19, 21 to 23, 18 to 19, 6 to 7, 0.9 to 1.1 and 5 to 6")
file = chosen.out.joinpath
plot.bands(sizes, errors, file("examples.png"), "examples of each digit", "error on test images", log_x=True)

# %% [markdown]
# Without a prior, logistic regression needs more than these examples to reach naive Bayes: this is what Ng & Jordan saw. But
# what a generative model gains by assuming more, a prior on the weights gains as well: with one, the two of each pair differ by
# little from the first example on, and logistic regression is ahead in the end. The best of all is not linear in x: a Gaussian
# with a covariance per class is nearly what these digits are.
#
# ## Gaps
#
# Now some pixels of each test image are lost, each image its own. A generative classifier leaves them out: the Gaussian of what
# is left is known. Logistic regression has no density of what it does not see, and the mean pixel is put in its place.

# %%
shares = (0.0, 0.5) if chosen.quick else (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
judges = [name for name, (preparation, _) in CLASSIFIERS.items() if preparation == "dequantised"]
gaps = {name: np.empty((min(repeats, 3), len(shares))) for name in judges}
for i in range(min(repeats, 3)):
    lost = Generator(chosen.seed).at(i).uniform(test["dequantised"].shape)
    fitted = {name: fit(name, sets[i][sizes[-1]]) for name in judges}
    for j, share in enumerate(shares):
        seen = np.where(lost < share, np.nan, test["dequantised"])
        for name in judges:
            gaps[name][i, j] = fitted[name].error(seen, test_labels)
table("errors in percent, lost:", [f"{share:.0%}" for share in shares], gaps)
if not chosen.quick:
    print("expected at 60% lost, from top to bottom: 15 to 18, 8 to 10 and 29 to 33")
plot.bands(shares, gaps, file("gaps.png"), "share of pixels lost", "error on test images")

# %% [markdown]
# ## What only the generative ones can say
#
# How probable is an image, of whatever digit? And what do they think that digits look like? Naive Bayes draws each pixel on its
# own, and knows nothing of strokes; one covariance for all knows how pixels go together, but not that they do so in another way
# in a 1 than in an 8.

# %%
makers = {name: fit(name, sets[0][sizes[-1]]) for name in CLASSIFIERS if not name.startswith("logistic")}
for name, model in makers.items():
    preparation = CLASSIFIERS[name][0]
    density, levels = model.log_prob(test[preparation]), images.levels if preparation == "dequantised" else None
    print(f"{name:30}{bits_per_dim(density, 64, levels)}, of {'grey levels' if levels else 'bits'}")
digits = np.arange(10).repeat(2)
rng = Generator(chosen.seed).at(repeats)
drawn = [model.sample(rng, 20, digits) for model in makers.values()]
real = np.concatenate([x["dequantised"][labels == y][:2] for y in range(10)])
grid = np.concatenate([real, *drawn]).clip(0, 1).reshape(-1, 8, 8, 1)
plot.image_grid(grid, file("samples.png"), columns=20, row_labels=["images", *makers])
finish(chosen, "pictures")
