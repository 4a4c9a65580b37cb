"""Generative classifiers against sums over all x, and integrals; see also the chain `classifiers`."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator, ops
from tinygen.density import Tractable
from tinygen.models.bayes import GaussianDiscriminant, NaiveBayes

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**32)
close = np.testing.assert_allclose
CLASSES = 3


def examples(seed, n=12, D=4):
    """Real x (n, D) and labels of three classes, at least three of each."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.concatenate([np.arange(3).repeat(3), rng.integers(0, CLASSES, n - 9)]))
    return labels[:, None] + rng.normal(size=(n, D)), labels


def bits(seed, n=12, D=4):
    x, labels = examples(seed, n, D)
    return (x > 1).astype(float), labels


ALL_BITS = np.array(list(itertools.product([0.0, 1.0], repeat=4)))


@few
@given(seed=seeds, smoothing=st.sampled_from([0.5, 1.0, 3.0]))
def test_naive_bayes_sums_to_one_over_all_x_and_its_rates_are_counts(seed, smoothing):
    x, labels = bits(seed)
    model = NaiveBayes.fit(x, labels, smoothing)
    close(np.exp(model.log_prob(ALL_BITS).nats).sum(), 1)
    one = np.exp(model.log_joint(ALL_BITS)).T @ ALL_BITS / np.exp(model.log_joint(ALL_BITS)).sum(axis=0)[:, None]
    for y in range(CLASSES):
        of_class = x[labels == y]
        close(one[y], (of_class.sum(axis=0) + smoothing) / (len(of_class) + 2 * smoothing))
    close(np.exp(model.log_prior), np.bincount(labels) / len(labels))


@few
@given(seed=seeds, missing=st.lists(st.booleans(), min_size=4, max_size=4))
def test_what_is_missing_from_bits_is_summed_out(seed, missing):
    model, missing = NaiveBayes.fit(*bits(seed)), np.array(missing)
    x = np.where(missing, np.nan, 1.0)[None]
    agree = (ALL_BITS[:, ~missing] == 1).all(axis=1)
    close(model.log_joint(x)[0], ops.logsumexp(model.log_joint(ALL_BITS[agree]), axis=0), rtol=1e-9)


@few
@given(seed=seeds, shared=st.booleans())
def test_the_gaussian_density_is_its_formula_with_the_covariance_of_the_data(seed, shared):
    x, labels = examples(seed)
    model, v = GaussianDiscriminant.fit(x, labels, shared, shrinkage=0.2), x.var(axis=0).mean()
    inner = np.concatenate([x[labels == y] - x[labels == y].mean(axis=0) for y in range(CLASSES)])
    for y in range(CLASSES):
        of_class = x[labels == y]
        within = inner.T @ inner / len(x) if shared else np.cov(of_class.T, bias=True)
        cov, deviation = 0.8 * within + 0.2 * v * np.eye(4), x - of_class.mean(axis=0)
        square = np.einsum("ni,ij,nj->n", deviation, np.linalg.inv(cov), deviation)
        expected = np.log((labels == y).mean()) - 0.5 * (square + np.linalg.slogdet(2 * np.pi * cov)[1])
        close(model.log_joint(x)[:, y], expected, rtol=1e-8)


@few
@given(seed=seeds, shared=st.booleans(), missing=st.integers(0, 1))
def test_what_is_missing_from_numbers_is_integrated_out(seed, shared, missing):
    model = GaussianDiscriminant.fit(*examples(seed, D=2), shared)
    t, step = np.linspace(-25, 25, 20_001, retstep=True)
    full = np.full((len(t), 2), 0.7)
    full[:, missing] = t
    partial = np.full((1, 2), 0.7)
    partial[0, missing] = np.nan
    close(np.exp(model.log_joint(partial)[0]), np.exp(model.log_joint(full)).sum(axis=0) * step, rtol=1e-6)
    close(model.log_prob(partial).nats, np.log(np.exp(model.log_prob(full).nats).sum() * step), rtol=1e-6)


def test_examples_with_different_gaps_are_judged_each_by_what_is_seen_of_it():
    x, labels = examples(0)
    x[np.random.default_rng(1).random(x.shape) < 0.5] = np.nan
    for model in (GaussianDiscriminant.fit(*examples(0), False), NaiveBayes.fit(*bits(0))):
        given = x if isinstance(model, GaussianDiscriminant) else np.where(np.isnan(x), x, x > 1)
        close(model.log_joint(given), np.concatenate([model.log_joint(row[None]) for row in given]))
        close(model.log_joint(np.full((1, 4), np.nan))[0], model.log_prior)


@pytest.mark.parametrize("shared", [True, False])
def test_samples_have_the_moments_of_their_class(shared):
    model = GaussianDiscriminant.fit(*examples(3, D=2), shared)
    x = model.sample(Generator(0), 40_000, np.full(40_000, 2))
    close(x.mean(axis=0), model.mean[2], atol=0.05)
    close(np.cov(x.T), model.cov[2], atol=0.06)


def test_bits_are_drawn_at_their_rates_and_classes_at_theirs():
    model = NaiveBayes.fit(*bits(4))
    drawn = model.sample(Generator(0), 40_000)
    p = np.exp(model.log_joint(ALL_BITS)).sum(axis=1)
    counts = np.bincount((drawn @ (8, 4, 2, 1)).astype(int), minlength=16) / 40_000
    close(counts, p, atol=5 * np.sqrt(p.max() / 40_000))
    assert isinstance(model, Tractable)


def test_the_error_counts_wrong_labels():
    model = GaussianDiscriminant.fit(np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([0, 0, 1, 1]), shared=True)
    assert model.error(np.array([[0.5], [5.4], [5.6], [20.0]]), np.array([0, 0, 0, 1])) == 0.25


X, LABELS = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]), np.array([0, 1, 0, 1])


def gaussian(x, labels, **settings):
    return GaussianDiscriminant.fit(x, labels, shared=True, **settings)


@pytest.mark.parametrize("call, complaint", [
    (lambda: NaiveBayes.fit(X, np.array([0, 0, 2, 2])), "there are no examples of class 1; number the classes from 0"),
    (lambda: gaussian(X, LABELS[:3]), r"GaussianDiscriminant.fit: x \(4, 2\) and labels \(3,\) must be \(N, D\) and \(N,\)"),
    (lambda: NaiveBayes.fit(X[:0], LABELS[:0]), r"x \(0, 2\) and labels \(0,\) .* with an example at least"),
    (lambda: NaiveBayes.fit(X, LABELS - 1), "labels must be integers from 0, not int64 from -1"),
    (lambda: NaiveBayes.fit(X, LABELS / 1), "labels must be integers from 0, not float64"),
    (lambda: NaiveBayes.fit(np.where(X > 0, np.nan, 0), LABELS), "NaiveBayes.fit: x holds NaN; .* fitted to whole examples"),
    (lambda: gaussian(np.where(X > 0, np.nan, 0), LABELS), "GaussianDiscriminant.fit: x holds NaN"),
    (lambda: NaiveBayes.fit(16 * X, LABELS), r"x lies in \[0, 16\], but bits are 0 or 1; binarise it"),
    (lambda: NaiveBayes.fit(-X, LABELS), r"x lies in \[-1, -?0\]"),
    (lambda: NaiveBayes.fit(X, LABELS, smoothing=0), "smoothing is 0; it must be positive"),
    (lambda: NaiveBayes.fit(X, LABELS, smoothing=np.nan), "smoothing is nan"),
    (lambda: gaussian(X, LABELS, shrinkage=1.1), r"shrinkage is 1.1; it is the sphere's share, in \[0, 1\]"),
    (lambda: gaussian(X, LABELS, shrinkage=-0.1), "shrinkage is -0.1"),
    (lambda: GaussianDiscriminant.fit(X, LABELS, shared=False, shrinkage=0), "a covariance is singular, .* larger shrinkage"),
    (lambda: gaussian(np.ones((4, 2)), LABELS), "examples that vary in all 2 directions"),
    (lambda: NaiveBayes.fit(X, LABELS).log_prob(X[:, :1]), r"NaiveBayes: x has shape \(4, 1\), .* of vectors, \(N, 2\)"),
    (lambda: NaiveBayes.fit(X, LABELS).log_prob(16 * X), r"NaiveBayes: x lies in \[0, 16\], but bits are 0 or 1"),
    (lambda: NaiveBayes.fit(X, LABELS).log_prob(X - 1), r"NaiveBayes: x lies in \[-1, 0\]"),
    (lambda: gaussian(X, LABELS).log_prob(X[0]), r"GaussianDiscriminant: x has shape \(2,\)"),
    (lambda: gaussian(X, LABELS).error(X, LABELS[:, None]), r"labels \(4, 1\) for 4 examples; give one for each"),
    (lambda: NaiveBayes.fit(X, LABELS).sample(Generator(0), 1, np.array([-1])), "1 integers from 0 to 1"),
    (lambda: NaiveBayes.fit(X, LABELS).sample(Generator(0), 1, np.array([2])), "1 integers from 0 to 1"),
    (lambda: gaussian(X, LABELS).sample(Generator(0), 3, LABELS), r"3 integers from 0 to 1, one for each example, .*\(4,\)"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_at_the_door(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
