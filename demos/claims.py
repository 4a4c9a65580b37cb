"""What texts claim of the six families, and when what was measured bears them out.

The claims are those of surveys and courses (such as Bond-Taylor et al. 2022, *Deep generative modelling: a comparative review*,
and the trilemma of Xiao et al. 2022). Where they say nothing, or each something else, no claim stands. A claim is a word, and
needs a rule to be held against a number: so each column of the table says what it is about, how its figure is shown, and when
a claim about it is right.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from demos.report import Cell, Table


@dataclass(frozen=True)
class Results:
    """runs: for each family, what was measured in its runs, or {"diverged": why}. failures: why a family could not be run.

    real: what training images reach, and how often the classifier is right about test images ("obeys"). pixels: of an image.
    """

    runs: dict
    failures: dict
    real: dict
    pixels: int

    def of(self, name, key):
        """A figure of the runs that ended well, one for each."""
        return np.array([run[key] for run in self.runs[name] if key in run])

    def mean(self, name, key):
        return self.of(name, key).mean() if self.has(name, key) else np.nan

    def has(self, name, key):
        return any(key in run for run in self.runs.get(name, ()))

    def every(self, key):
        """The means of all families that have the figure."""
        return [self.mean(name, key) for name in self.runs if self.has(name, key)]

    def diverged(self, name):
        return sum("diverged" in run for run in self.runs[name])

    def spread(self, name):
        """The standard deviation of the Frechet distance over seeds, in units of its mean."""
        values = self.of(name, "frechet")
        return values.std(ddof=1) / values.mean() if len(values) > 1 else np.nan


class Column(NamedTuple):
    key: str | None  # of what must have been measured, or the cell says `without`
    about: str
    show: Callable  # (results, name) -> text
    agrees: Callable | None = None  # (results, name, claim) -> bool, or None where that cannot be told
    without: str = "none"


# How figures are shown


def average(key, form="{:.2f}"):
    """The mean over seeds, and the standard deviation."""

    def show(results, name):
        values = results.of(name, key)
        return " +- ".join(form.format(x) for x in (values.mean(), *([values.std(ddof=1)] if len(values) > 1 else [])))

    return show


def rounded(key):
    """The mean over seeds, to two digits, or to a whole number from 10 on."""

    def show(results, name):
        value = results.mean(name, key)
        return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"

    return show


def same(results, name, key):
    """A figure that does not depend on the seed."""
    return next(run[key] for run in results.runs[name] if key in run)


def passes(results, name):
    evaluations, in_a_row = same(results, name, "evaluations"), same(results, name, "in a row")
    return f"{evaluations:,}" if in_a_row <= evaluations else f"{evaluations:,}, in {in_a_row} pieces"


# When a claim is right


def standing(key):
    """Best, good or poor among the families that have the figure, where less is better."""

    def agrees(results, name, claim):
        better = np.mean(np.array(results.every(key)) < results.mean(name, key))
        return {"best": better == 0, "good": better < 0.5, "poor": better >= 0.5}[claim]

    return agrees


def near_real(key):
    return lambda results, name, claim: (results.mean(name, key) >= 0.75 * results.real[key]) == (claim == "high")


def stability(results, name, claim):
    if not results.diverged(name) and np.isnan(results.spread(name)):
        return None  # of one seed
    return (not results.diverged(name) and results.spread(name) < 0.25) == (claim == "stable")


def speed(results, name, claim):
    return (results.mean(name, "ms") <= max(results.every("ms")) / 10) == (claim == "fast")


CLAIMED = {
    "likelihood": Column(
        "likelihood",
        "what the type of the model says of its p(x): exact, a bound, unnormalised (known up to a factor), or none",
        lambda results, name: same(results, name, "likelihood"),
        lambda results, name, claim: claim == same(results, name, "likelihood"),
    ),
    "bits/dim": Column(
        "bits",
        "of the grey levels of test images, exactly (=) or at most (<=): a flow's density is exact, but of pixels with noise, "
        "and so a bound on what it says of grey levels. Best: no family has less. Good: in the better half of those that have "
        "any. Poor: in the other half",
        lambda results, name: f"{same(results, name, 'relation')} {average('bits')(results, name)}",
        standing("bits"),
    ),
    "Frechet distance": Column(
        "frechet",
        "of samples from images that nobody was trained on, in the classifier's features: quality and diversity at once. Best, "
        "good and poor as before",
        average("frechet", "{:.1f}"),
        standing("frechet"),
    ),
    "precision": Column(
        "precision",
        "quality: the share of samples that lie among real images. High: at least three quarters of that of training images",
        average("precision"),
        near_real("precision"),
    ),
    "recall": Column(
        "recall",
        "diversity: the share of real images that lie among the samples. High as before",
        average("recall"),
        near_real("recall"),
    ),
    "classes": Column(
        "classes",
        "diversity: how many of the ten digits have a quarter of their share of the samples or more. All: ten, with every seed",
        lambda results, name: f"{results.of(name, 'classes').min()} of 10",
        lambda results, name, claim: (results.of(name, "classes").min() == 10) == (claim == "all"),
    ),
    "spread over seeds": Column(
        None,
        "stability: the standard deviation of the Frechet distance in percent of its mean, and how many runs diverged. Stable: "
        "less than 25%, and none",
        lambda results, name: (
            f"{results.spread(name):.0%}, {results.diverged(name)} of {len(results.runs[name])} diverged".replace("nan%", "?")
        ),
        stability,
    ),
    "ms for a sample": Column(
        "ms",
        "milliseconds of the processor, where many are drawn together. Fast: ten times as fast as the slowest family, or more",
        rounded("ms"),
        speed,
    ),
    "evaluations": Column(
        "evaluations",
        "of the network, for a sample (of a chain: its start, its moves, and the step that takes off the noise). One in pieces "
        "is as much work, but each piece waits for the one before: claims are about how many wait",
        passes,
        lambda results, name, claim: (
            {1: "one", results.pixels: "one a pixel"}.get(same(results, name, "in a row"), "many") == claim
        ),
    ),
    "latent space": Column(
        "midpoints",
        "how far an image half way between two latents is from the nearest training image, and, in brackets, how far the mean "
        "of the two images is; held-out images are at 1. Smooth: nearer than the mean. None: no image has a code",
        lambda results, name: f"{results.mean(name, 'midpoints'):.2f} ({results.mean(name, 'mean images'):.2f})",
        lambda results, name, claim: claim == "smooth" and results.mean(name, "midpoints") < results.mean(name, "mean images"),
    ),
    "asked for a digit": Column(
        "obeys",
        "the share of samples that the classifier takes for the digit that was asked for. Obeys: at least nine tenths of the "
        "share of test images that it takes for what they are",
        average("obeys"),
        lambda results, name, claim: results.mean(name, "obeys") >= 0.9 * results.real["obeys"],
        without="takes no labels here",
    ),
}
CLAIMS = {  # in the order of these columns
    "VAE": ("bound", "poor", "poor", "low", "high", "all", "stable", "fast", "one", "smooth", None),
    "GAN": ("none", None, "good", "high", "low", "fewer", "unstable", "fast", "one", "smooth", None),
    "flow": ("exact", "good", "poor", "low", "high", "all", "stable", "slow", "one", "smooth", None),
    "PixelCNN": ("exact", "best", None, None, "high", "all", "stable", "slow", "one a pixel", "none", "obeys"),
    "EBM": ("unnormalised", None, None, None, "high", "all", "unstable", "slow", "many", "none", None),
    "DDPM": ("bound", "poor", "best", "high", "high", "all", "stable", "slow", "many", "none", "obeys"),
}
REASONS = {  # why a claim fails, where that does not hang on the budget
    (
        "flow",
        "ms for a sample",
    ): "Couplings are inverted in one pass, as a decoder is. Slow are flows of autoregressive inverse.",
    ("PixelCNN", "ms for a sample"): "What its convolutions were given is remembered, and many samples share the waiting.",
    ("DDPM", "latent space"): "DDIM without noise is an invertible map between noise and images: the noise is a latent space.",
}
BESIDE = {  # of which nobody claims anything
    "parameters": Column("parameters", "numbers that training moved", rounded("parameters")),
    "steps": Column("steps", "of training, counted out beforehand", rounded("steps")),
    "training, s": Column("training seconds", "of the processor, or with a GPU", average("training seconds", "{:.1f}")),
    "memory, MB": Column("memory", "of arrays, at the peak of a step of training on the CPU", rounded("memory")),
    "ms alone": Column("ms alone", "for a sample that shares its waiting with no other", rounded("ms alone")),
    "nats": Column(
        "bits",
        "-log P(g) of an image g: bits/dim in another unit",
        lambda results, name: (
            f"{same(results, name, 'relation')} {results.mean(name, 'bits') * results.pixels * np.log(2):.1f}"
        ),
    ),
    "kernel distance": Column("kernel", "as the Frechet distance, without its bias", average("kernel", "{:.3f}")),
    "density": Column("density", "quality, less moved by outliers than precision; 1 is ideal", average("density")),
    "coverage": Column("coverage", "diversity, less moved by outliers than recall", average("coverage")),
    "score": Column("score", "Inception-style: clear digits, and all of them; at most 10", average("score", "{:.1f}")),
    "sure": Column("sure", "the share of samples in which the classifier is sure of a digit", average("sure")),
    "copying": Column(
        "copying",
        "how often a sample is nearer to its nearest training image than a held-out image to its own; copies are above 1/2",
        average("copying"),
    ),
}


def cell(results, column, name, claim=None):
    """What was measured, or why nothing was, and what is claimed."""
    if name in results.failures:
        return Cell("failed", claim)
    if column.key and results.diverged(name) == len(results.runs[name]):
        return Cell("diverged", claim)
    if column.key and not results.has(name, column.key):
        return Cell(column.without, claim, claim == column.without if claim else None)
    verdict = column.agrees(results, name, claim) if claim else None
    return Cell(column.show(results, name), claim, None if verdict is None else bool(verdict))


def table(results, columns, claims=None):
    """The figures of all families in a Table, with what is claimed of them; in the last row, those of training images."""
    rows = {}
    for name in results.runs:
        claimed = claims[name] if claims else [None] * len(columns)
        rows[name] = [cell(results, column, name, claim) for column, claim in zip(columns.values(), claimed)]
    rows["training images"] = [Cell(f"{results.real[c.key]:.3g}" if c.key in results.real else "") for c in columns.values()]
    return Table(tuple(columns), rows)
