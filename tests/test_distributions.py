"""Densities sum to one, samples have the moments, entropies and divergences are the integrals that define them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator, check_grads, grad, ops, value_and_grad
from tinygen.autograd import tree
from tinygen.distributions import Bernoulli, Categorical, Gaussian, kl

means = st.floats(-5, 5)
log_vars = st.floats(-4, 4)
logits = st.floats(-20, 20)


def array(*numbers):
    return np.array(numbers, np.float64)


def random_pair(kind, seed):
    """Two distributions of one type with parameters of shape (2, 3) in float64."""
    rng = Generator(seed)
    n = 2 if kind is Gaussian else 1
    return [kind(*(rng.normal((2, 3), np.float64) for _ in range(n))) for _ in range(2)]


def gaussian_expectation(q, f):
    """E_q[f(x)] by the trapezoidal rule over 12 standard deviations, which converges exponentially; q of shape (1,)."""
    std = math.exp(q.log_var[0] / 2)
    x = q.mean[0] + std * np.linspace(-12, 12, 4001)
    density = np.exp(-0.5 * ((x - q.mean[0]) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    return np.sum(density * f(x)) * (x[1] - x[0])


# Gaussian


@settings(max_examples=50, deadline=None)
@given(means, log_vars)
def test_gaussian_density_integrates_to_1_with_its_mean_and_variance(mean, log_var):
    q = Gaussian(array(mean), array(log_var))
    std = math.exp(log_var / 2)
    x = mean + std * np.linspace(-12, 12, 4001)
    density = np.exp(q.log_prob(x)) * (x[1] - x[0])
    assert abs(density.sum() - 1) < 1e-10
    assert abs((density * x).sum() - mean) < 1e-9
    assert abs((density * (x - mean) ** 2).sum() / math.exp(log_var) - 1) < 1e-9


@settings(max_examples=50, deadline=None)
@given(means, log_vars, means, log_vars)
def test_gaussian_entropy_and_kl_are_their_integrals(m, s, n, t):
    q, p = Gaussian(array(m), array(s)), Gaussian(array(n), array(t))
    entropy, divergence = q.entropy()[0], kl(q, p)[0]
    assert abs(gaussian_expectation(q, lambda x: -q.log_prob(x)) - entropy) < 1e-9
    integral = gaussian_expectation(q, lambda x: q.log_prob(x) - p.log_prob(x))
    assert abs(integral - divergence) < 1e-9 * (1 + divergence)


def test_gaussian_log_prob_is_the_known_number():
    # the standard normal at 0 is 1 / sqrt(2 pi); with Var = 4, so std = 2, it is 1 / (2 sqrt(2 pi))
    q = Gaussian(array(0, 0), array(0, math.log(4)))
    np.testing.assert_allclose(np.exp(q.log_prob(array(0, 0))), [0.3989422804014327, 0.19947114020071635])
    np.testing.assert_allclose(q.std, [1, 2])


def test_gaussian_samples_have_variance_exp_log_var():
    """The mistake of two published libraries: exp(log_var) as the standard deviation, where it is the variance."""
    n, mean, log_var = 200_000, 3.0, math.log(4)
    x = Gaussian(np.full(n, mean), np.full(n, log_var)).sample(Generator(0))
    assert abs(x.mean() - mean) < 5 * 2 / math.sqrt(n)
    assert abs(x.var() / 4 - 1) < 5 * math.sqrt(2 / n)
    standard = (x - mean) / 2
    assert abs((standard**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((standard**4).mean() - 3) < 5 * math.sqrt(96 / n)


def test_gaussian_samples_carry_gradients():
    n, mean, log_var = 200_000, 0.7, 0.4

    def moments(mean, log_var):
        z = Gaussian(mean * np.ones(n), log_var * np.ones(n)).sample(Generator(0))
        return z.mean(), (z * z).mean()

    # z = mean + std eps, so d z / d mean = 1 exactly, d z / d log_var = std eps / 2 and d z^2 / d log_var = z std eps
    d_mean, d_log_var = grad(lambda m, s: moments(m, s)[0], argnums=(0, 1))(mean, log_var)
    assert d_mean == pytest.approx(1, abs=1e-12)
    variance = math.exp(log_var)
    assert abs(d_log_var) < 5 * 0.5 * math.sqrt(variance / n)  # E[z] does not depend on it
    d_mean, d_log_var = grad(lambda m, s: moments(m, s)[1], argnums=(0, 1))(mean, log_var)
    assert abs(d_mean - 2 * mean) < 5 * 2 * math.sqrt(variance / n)
    spread = math.sqrt(mean**2 * variance + 2 * variance**2)  # of z std eps = mean std eps + variance eps^2
    assert abs(d_log_var - variance) < 5 * spread / math.sqrt(n)


def test_gaussian_gradients_of_the_sample_agree_with_those_of_the_closed_form():
    """d E_q[-log p(z)] by sampling against d (KL + entropy), for q away from p."""
    n = 200_000
    q, p = Gaussian(array(0.5), array(-0.3)), Gaussian(array(-0.2), array(0.6))

    def sampled(q):
        wide = Gaussian(*(ops.broadcast_to(parameter, shape=(n,)) for parameter in (q.mean, q.log_var)))
        return -p.log_prob(wide.sample(Generator(0))).mean()

    a, b = grad(sampled)(q), grad(lambda q: (kl(q, p) + q.entropy()).sum())(q)
    # one sample's gradients have standard deviations below 0.5: std_q / var_p = 0.47, and half as much for log_var
    np.testing.assert_allclose([a.mean, a.log_var], [b.mean, b.log_var], atol=5 * 0.5 / math.sqrt(n))


def test_gaussian_parameters_broadcast_and_numbers_take_the_dtype_of_the_other():
    x = Generator(0).normal((4, 3))
    wide = Gaussian(x, np.zeros((), np.float32))
    assert wide.entropy().shape == wide.sample(Generator(0)).shape == kl(wide, wide).shape == (4, 3)
    for q in (Gaussian(x, 0.5), Gaussian(0, x), Gaussian(x, np.float64(0.5))):
        results = (q.log_prob(x), q.sample(Generator(0)), q.entropy(), q.std, kl(q, Gaussian(np.float32(0), np.float32(0))))
        assert {result.dtype for result in results} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(Gaussian(x, 0.5).log_prob(x), Gaussian(x, np.full_like(x, 0.5)).log_prob(x))
    with pytest.raises(TypeError, match="Gaussian: both parameters are Python numbers"):
        Gaussian(0.0, 1)


def test_a_scalar_log_variance_can_be_learned():
    x = Generator(0).normal((50, 3), np.float64) * 3

    def loss(log_var):
        return -Gaussian(np.zeros_like(x), log_var).log_prob(x).sum()

    best = np.log((x * x).mean())
    assert abs(grad(loss)(best)) < 1e-9


# Bernoulli


@settings(max_examples=50, deadline=None)
@given(logits, logits)
def test_bernoulli_sums_to_1_and_its_entropy_and_kl_are_the_sums(a, b):
    q, p, x = Bernoulli(array(a)), Bernoulli(array(b)), array(0, 1)
    probability, other = np.exp(q.log_prob(x)), p.log_prob(x)
    assert abs(probability.sum() - 1) < 1e-12
    assert abs(probability[1] - q.mean[0]) < 1e-12
    assert abs(-(probability * np.log(probability)).sum() - q.entropy()[0]) < 1e-12
    assert abs((probability * (np.log(probability) - other)).sum() - kl(q, p)[0]) < 1e-10


def test_bernoulli_samples_are_bits_with_the_mean():
    n = 100_000
    for logit in (-2.0, 0.0, 1.5):
        q = Bernoulli(np.full(n, logit, np.float32))
        x, p = q.sample(Generator(0)), 1 / (1 + math.exp(-logit))
        assert x.dtype == np.float32 and set(np.unique(x)) == {0, 1}
        assert abs(x.mean() - p) < 5 * math.sqrt(p * (1 - p) / n)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1), logits)
def test_bernoulli_of_grey_values_is_the_expectation_over_bits(x, l):
    q = Bernoulli(array(l))
    expected = x * q.log_prob(array(1.0)) + (1 - x) * q.log_prob(array(0.0))
    np.testing.assert_allclose(q.log_prob(array(x)), expected, rtol=1e-12, atol=1e-12)


def test_bernoulli_broadcasts_one_image_over_many_samples():
    rng = Generator(0)
    x, l = rng.bernoulli(np.full((4, 5), 0.5)), rng.normal((7, 4, 5))
    assert Bernoulli(l).log_prob(x).shape == (7, 4, 5)
    np.testing.assert_allclose(Bernoulli(l).log_prob(x)[2], Bernoulli(l[2]).log_prob(x), rtol=1e-6)


@pytest.mark.parametrize("x", [[-0.1, 0.5], [0.0, 1.1], [0.0, 255.0], [0.0, float("nan")]])
def test_bernoulli_refuses_what_is_no_probability(x):
    q = Bernoulli(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match=r"Bernoulli.log_prob: x lies in \[.*its values are 0 and 1.*prepare the data"):
        q.log_prob(np.array(x, np.float32))
    with pytest.raises(ValueError, match="Bernoulli.log_prob"):
        grad(lambda x: q.log_prob(x).sum())(np.array(x, np.float32))


# Categorical


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(logits, logits), min_size=1, max_size=6))
def test_categorical_sums_to_1_and_its_entropy_and_kl_are_the_sums(pairs):
    a, b = np.array(pairs).T
    q, p, x = Categorical(a), Categorical(b), np.arange(len(a))
    log_q, log_p = (np.array([d.log_prob(i)[()] for i in x]) for d in (q, p))
    probability = np.exp(log_q)
    assert abs(probability.sum() - 1) < 1e-12
    np.testing.assert_allclose(probability, q.mean, rtol=1e-10)
    assert abs(-(probability * log_q).sum() - q.entropy()) < 1e-12
    assert abs((probability * (log_q - log_p)).sum() - kl(q, p)) < 1e-10


def test_categorical_samples_have_the_probabilities():
    n, p = 100_000, np.array([0.5, 0.2, 0.3])
    x = Categorical(np.broadcast_to(np.log(p), (n, 3))).sample(Generator(0))
    frequencies = np.bincount(x, minlength=3) / n
    assert x.shape == (n,) and np.abs(frequencies - p).max() < 5 * math.sqrt(0.25 / n)


def test_categorical_takes_images_of_integers():
    rng = Generator(0)
    l, x = rng.normal((2, 3, 3, 1, 5)), np.asarray(rng.integers(0, 5, (2, 3, 3, 1)))
    y = Categorical(l).log_prob(x)
    assert y.shape == x.shape and y.dtype == np.float32
    for i in np.ndindex(x.shape):
        assert y[i] == pytest.approx(math.log(np.exp(l[i][x[i]]) / np.exp(l[i]).sum()), abs=1e-5)


def test_categorical_errors_name_the_values():
    q = Categorical(np.zeros((2, 3), np.float32))
    with pytest.raises(IndexError, match=r"Categorical.log_prob: x lies in 0 .. 3, but there are 3 classes, 0 .. 2"):
        q.log_prob(np.array([0, 3]))
    with pytest.raises(IndexError, match=r"x lies in -1 .. 0"):
        q.log_prob(np.array([0, -1]))
    with pytest.raises(TypeError, match="x must be integers, not float64"):
        q.log_prob(np.zeros(2))
    with pytest.raises(ValueError, match=r"x has shape \(3,\) and the logits \(2, 3\)"):
        q.log_prob(np.zeros(3, int))


# All of them

KINDS = [Gaussian, Bernoulli, Categorical]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_kl_is_0_at_equality_positive_elsewhere_and_not_symmetric(kind, seed):
    q, p = random_pair(kind, seed)
    assert np.abs(kl(q, q)).max() < 1e-15
    assert (kl(q, p) > 0).all() and (kl(p, q) > 0).all()
    assert np.abs(kl(q, p) - kl(p, q)).max() > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_kl_near_equality_is_half_the_fisher_metric(kind):
    """KL(q || q + d) = 1/2 d^T F d + O(d^3): for d = 1e-5, a loss of digits by cancellation would show."""
    q, _ = random_pair(kind, 0)
    d = 1e-5
    moved = tree.map(lambda leaf: leaf + d * np.arange(leaf.shape[-1]), q)
    step = d * np.arange(3)
    if kind is Gaussian:
        expected = 0.5 * step**2 * (np.exp(-q.log_var) + 0.5)
    elif kind is Bernoulli:
        expected = 0.5 * step**2 * q.mean * (1 - q.mean)
    else:
        expected = 0.5 * ((q.mean * step**2).sum(-1) - (q.mean * step).sum(-1) ** 2)
    np.testing.assert_allclose(kl(q, moved), expected, rtol=1e-3, atol=1e-16)


def test_gaussian_kl_keeps_its_digits_in_float32_where_the_variances_almost_agree():
    q, p = Gaussian(np.zeros(1, np.float32), np.float32([1e-3])), Gaussian(np.zeros(1, np.float32), np.zeros(1, np.float32))
    d = float(np.float32(1e-3))
    np.testing.assert_allclose(kl(q, p), (math.expm1(d) - d) / 2, rtol=1e-3)  # e^d - 1 would round d^2 / 2 by a tenth


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_second_order(kind):
    q, p = random_pair(kind, 1)
    x = np.array([1, 0]) if kind is Categorical else np.array([[0.0, 1, 1], [1, 0, 1]])
    check_grads(lambda q: q.log_prob(x), (q,))
    check_grads(lambda q: q.entropy(), (q,))
    check_grads(lambda q: q.mean, (q,))
    check_grads(kl, (q, p))
    if kind is Gaussian:
        check_grads(lambda q, x: q.log_prob(x), (q, x))
        check_grads(lambda q: q.sample(Generator(0)), (q,))
    if kind is Bernoulli:
        check_grads(lambda q, x: q.log_prob(x), (q, np.full((2, 3), 0.5)))


def test_the_bernoulli_gradient_is_the_residual_also_at_0():
    l = array(-1e4, -30, 0, 0, 30, 1e4)
    x = array(0, 1, 0, 1, 1, 1)
    g = grad(lambda l: Bernoulli(l).log_prob(x).sum())(l)
    np.testing.assert_allclose(g, x - np.array([0, math.exp(-30) / (1 + math.exp(-30)), 0.5, 0.5, 1 / (1 + math.exp(-30)), 1]))
    check_grads(lambda l: Bernoulli(l).entropy(), (np.zeros(3),))  # where written with |l| it would have no second derivative


@pytest.mark.parametrize("kind", [Bernoulli, Categorical])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits_stay_finite_with_their_gradients(kind, dtype):
    l = np.array([[1e4, -1e4], [-1e4, 1e4], [0, 1e4]], dtype)
    q, p = kind(l), kind(l[::-1].copy())
    x = np.array([0, 0, 1]) if kind is Categorical else np.array([[0, 1], [0, 1], [1, 1]], dtype)

    def everything(q, p):
        return q.log_prob(x).sum() + q.entropy().sum() + kl(q, p).sum() + q.mean.sum()

    value, gradients = value_and_grad(everything, argnums=(0, 1))(q, p)
    assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in tree.flatten(gradients)[0])
    log_prob = q.log_prob(x)
    lowest = -2e4 if kind is Categorical else -1e4  # log of the smallest probability: the difference, or the logit
    assert log_prob.min() == lowest and log_prob.max() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_kept(kind):
    q, p = tree.map(lambda leaf: leaf.astype(np.float32), random_pair(kind, 2))
    x = np.array([1, 0]) if kind is Categorical else np.ones((2, 3), np.float32)
    results = [q.log_prob(x), q.entropy(), q.mean, kl(q, p)] + ([] if kind is Categorical else [q.sample(Generator(0))])
    assert {result.dtype for result in results} == {np.dtype(np.float32)}
    assert tree.flatten(grad(lambda q: (kl(q, p) * 2).sum())(q))[0][0].dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_distributions_are_trees_of_their_parameters(kind):
    q, _ = random_pair(kind, 3)
    assert tree.paths(q) == (["mean", "log_var"] if kind is Gaussian else ["logits"])


@pytest.mark.parametrize("kind", [Bernoulli, Categorical])
def test_samples_are_constants_to_every_derivative(kind):
    l = Generator(0).normal((3, 4))
    g = grad(lambda l: (l * 0).sum() + float(kind(l).sample(Generator(0)).sum()))(l)
    assert (g == 0).all()


def test_kl_without_a_closed_form_is_refused_with_a_way_out():
    q, p = Gaussian(array(0.0), array(0.0)), Bernoulli(array(0.0))
    with pytest.raises(TypeError, match=r"no closed form for KL\(Gaussian \|\| Bernoulli\).*estimate it as the mean of"):
        kl(q, p)
    with pytest.raises(TypeError, match=r"KL\(int \|\| int\)"):
        kl(1, 2)
