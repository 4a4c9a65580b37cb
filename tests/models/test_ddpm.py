"""Diffusion against mathematics: data that are Gaussian, whose perfect denoiser, bound and samples are formulas.

A sampler with such a denoiser is an affine map of its noise. Noise of zeros gives its mean, and noise of a single 1 its
coefficients: so the distribution of its samples is known exactly, and nothing here is estimated unless it says so.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator, check_grads, grad, vjp
from tinygen.autograd import tree
from tinygen.data.toy import load as toy_density
from tinygen.density import Bounded, LowerBound, Sampler, Tractable, Unnormalised, bits_per_dim
from tinygen.models.ddpm import DDPM, Schedule, both_from, cosine, geometric, linear, target, to_signed, to_unit, train_step
from tinygen.nn.denoisers import MLP, UNet
from tinygen.optim import SGD, Adam, begin
from tinygen.optim import cosine as decay_by_cosine

few = settings(max_examples=25, deadline=None)
close = np.testing.assert_allclose
SCHEDULES = [linear(10), cosine(10), geometric(10, 0.1), linear(1000), cosine(1000), geometric(200, 0.1), Schedule([0.3])]
KINDS = ["eps", "x0", "v"]


class Given:
    """In place of a Generator: its normal numbers are given, in float64, and taken in order; likewise its uniform ones."""

    def __init__(self, noise=(), uniform=()):
        self.rest, self.uniform_left = np.ravel(noise), list(uniform)

    def normal(self, shape, dtype=None):
        n = math.prod(shape)
        assert n <= len(self.rest), "more noise was asked for than there is"
        taken, self.rest = self.rest[:n], self.rest[n:]
        return taken.reshape(shape)

    def uniform(self, shape, dtype=None):
        return np.full(shape, self.uniform_left.pop(0))


def gaussian_model(schedule, mean=0.0, std=1.0, predicts="eps", **settings):
    """The DDPM of one number x_0 ~ N(mean, std^2) whose denoiser is perfect: x0_hat = E[x_0 | x_t]."""

    def network(x, t, labels):
        abar = schedule.abar[np.round(t * schedule.T / 1000).astype(int)][:, None]
        gain = abar**0.5 * std**2 / (abar * std**2 + 1 - abar)
        x0 = mean + gain * (x - abar**0.5 * mean)
        return target(predicts, x0, (x - abar**0.5 * x0) / (1 - abar) ** 0.5, abar)

    return DDPM(network, schedule, (1,), predicts=predicts, **settings)


def law(sample, draws):
    """Mean and standard deviation of an affine map of `draws` standard normal numbers, from its values."""
    noise = np.concatenate([np.zeros((draws, 1)), np.eye(draws)], axis=1)  # example 0 has none, example i only the i-th
    mean, *rest = sample(Given(noise), draws + 1)[:, 0]
    return float(mean), math.sqrt(sum((np.array(rest) - mean) ** 2))


def mean_over_noise(f, nodes=6):
    """E[f(eps)] for one standard normal number, where f takes (nodes, 1) of them at once."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return float(f(points[:, None]) @ weights / math.sqrt(2 * math.pi))


def exact_bound(model, x):
    """The expectation of the variational bound at the number x: every term by Gauss-Hermite quadrature."""

    def term(t):
        return mean_over_noise(lambda eps: model.bound_term(np.full(eps.shape, x), np.full(len(eps), t), eps))

    abar = model.schedule.abar[-1]
    prior = 0.5 * (abar * x * x + (1 - abar) - 1 - math.log(1 - abar))
    return -prior - sum(term(t) for t in range(1, model.schedule.T + 1))


def log_normal(x, mean, std):
    return -0.5 * math.log(2 * math.pi * std**2) - (x - mean) ** 2 / (2 * std**2)


# The forward process


def test_schedules_are_those_of_the_papers():
    beta = linear().beta
    close([beta[1], beta[1000], beta[2] - beta[1]], [1e-4, 0.02, (0.02 - 1e-4) / 999], rtol=1e-12)
    s = cosine(100)
    for t in (1, 50, 90):
        close(s.abar[t], (np.cos((t / 100 + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)) ** 2, rtol=1e-12)
    assert s.beta[-1] == 0.999 and s.abar[-1] > 0
    for T in (1, 2, 50):
        s = geometric(T, 0.01, 20.0)
        noise = np.sqrt(1 / s.abar[1:] - 1)
        close(noise, 20 * (0.01 / 20) ** ((T - np.arange(1, T + 1)) / max(T - 1, 1)), rtol=1e-8)
    for T in (10, 100, 1000):  # the same noise in all, in however many steps
        assert linear(T).abar[-1] < 2e-4 and len(linear(T).beta) == T + 1


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_single_steps_compose_to_the_marginal(schedule):
    coefficient, variance = 1.0, 0.0
    for t in range(1, schedule.T + 1):
        beta = schedule.beta[t]
        coefficient, variance = math.sqrt(1 - beta) * coefficient, (1 - beta) * variance + beta
        mean, std = schedule.marginal(np.array([[3.0]]), np.array([t]))
        close([mean[0, 0], std[0, 0] ** 2], [3 * coefficient, variance], rtol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@few
@given(seed=st.integers(0, 1000))
def test_the_posterior_is_bayes_rule(schedule, seed):
    """log q(x_{t-1} | x_t, x_0) = log q(x_t | x_{t-1}) + log q(x_{t-1} | x_0) - log q(x_t | x_0), wherever it is looked at."""
    if schedule.T == 1:
        return
    rng = np.random.default_rng(seed)
    t = int(rng.integers(2, schedule.T + 1))
    x0, xt, z = rng.normal(size=3)
    mean, variance = schedule.posterior(np.array([[x0]]), np.array([[xt]]), np.array([t]))
    mean, std = float(mean[0, 0]), float(variance[0, 0]) ** 0.5
    before = mean + std * z
    beta, abar = schedule.beta[t], schedule.abar
    one_step = log_normal(xt, math.sqrt(1 - beta) * before, math.sqrt(beta))
    two = log_normal(before, math.sqrt(abar[t - 1]) * x0, math.sqrt(1 - abar[t - 1]))
    evidence = log_normal(xt, math.sqrt(abar[t]) * x0, math.sqrt(1 - abar[t]))
    close(log_normal(before, mean, std), one_step + two - evidence, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_last_posterior_is_the_data_itself(schedule):
    mean, variance = schedule.posterior(np.array([[0.7]]), np.array([[-2.0]]), np.array([1]))
    close(mean, 0.7, rtol=1e-12)
    assert variance[0, 0] == 0


@few
@given(abar=st.floats(1e-4, 1 - 1e-4), x0=st.floats(-3, 3), eps=st.floats(-3, 3), kind=st.sampled_from(KINDS))
def test_what_is_predicted_can_be_converted(abar, x0, eps, kind):
    xt = abar**0.5 * x0 + (1 - abar) ** 0.5 * eps
    close(both_from(kind, target(kind, x0, eps, abar), xt, abar), (x0, eps), atol=1e-9)


def test_v_is_the_derivative_of_x_t_along_the_circle():
    """x_t = cos(a) x_0 + sin(a) eps, and v = dx_t / da."""
    a, step, x0, eps = 0.4, 1e-6, 1.3, -0.8

    def x(a):
        return math.cos(a) * x0 + math.sin(a) * eps

    close(target("v", x0, eps, math.cos(a) ** 2), (x(a + step) - x(a - step)) / (2 * step), rtol=1e-8)


# Samples


@pytest.mark.parametrize("schedule", [linear(8), cosine(5)])
@pytest.mark.parametrize("predicts", KINDS)
def test_with_the_large_variance_standard_normal_data_is_sampled_exactly(schedule, predicts):
    model = gaussian_model(schedule, predicts=predicts, variance="large")

    def noised_once_more(rng, n):  # the last step leaves its noise out; with it, the distribution is exact
        p = model.reverse([*model.steps(rng, n)][-2], np.ones(n, int))
        return p.mean + p.std * rng.normal((n, 1))

    close(law(noised_once_more, schedule.T + 1), (0, 1), atol=1e-9)


@pytest.mark.parametrize("schedule", [linear(8), cosine(5)])
@pytest.mark.parametrize("predicts", KINDS)
def test_with_the_small_variance_one_point_is_sampled_exactly(schedule, predicts):
    model = gaussian_model(schedule, mean=1.7, std=0, predicts=predicts, variance="small")
    close(law(model.sample, schedule.T), (1.7, 0), atol=1e-9)
    close(law(lambda rng, n: model.sample_ddim(rng, n, times=3, eta=0.5), 3), (1.7, 0), atol=1e-9)


@pytest.mark.parametrize("how", ["small", "large", "ddim 0", "ddim 0.5"])
def test_samples_of_gaussian_data_tend_to_the_data_as_steps_become_many(how):
    """The error of the standard deviation goes to 0 like 1 / T: halved, or better, whenever T is doubled."""
    mean, std, errors = 0.5, 0.6, []
    for T in (50, 100, 200):
        model = gaussian_model(cosine(T), mean, std, variance=how if how in ("small", "large") else "large")

        def sample(rng, n, model=model, T=T):
            return model.sample(rng, n) if " " not in how else model.sample_ddim(rng, n, T, eta=float(how.split()[1]))

        its_mean, its_std = law(sample, 1 if how == "ddim 0" else T)
        assert its_mean == pytest.approx(mean, abs=0.02)
        errors.append(abs(its_std - std))
    assert errors[2] < 0.01 and errors[1] < 0.65 * errors[0] and errors[2] < 0.65 * errors[1]


@pytest.mark.parametrize("std", [0.014, 0.1, 1.0])
def test_in_equal_ratios_of_noise_50_steps_of_ddim_pass_through_modes_of_any_width(std):
    """Of a Gaussian mode the width is nearly kept; on the cosine schedule a narrow one becomes several times too narrow."""
    geometrically, cosinely = (
        law(lambda rng, n, schedule=schedule: gaussian_model(schedule, 0.5, std).sample_ddim(rng, n, 50), 1)[1] / std
        for schedule in (geometric(200), cosine(200))
    )
    assert abs(geometrically - 1) < 0.08
    if std < 0.05:
        assert cosinely < 0.4


@pytest.mark.parametrize("schedule", [linear(6), cosine(6)])
def test_eta_1_on_all_times_is_ancestral_sampling(schedule):
    model, noise = gaussian_model(schedule, 0.5, 0.6, variance="small"), np.random.default_rng(0).normal(size=6 * 4)
    ancestral = model.sample(Given(noise), 4)
    close(model.sample_ddim(Given(noise), 4, times=6, eta=1.0), ancestral, rtol=1e-8)
    close(model.sample_ddim(Given(noise), 4, times=range(1, 7), eta=1.0), ancestral, rtol=1e-8)


@pytest.mark.parametrize("eta", [0.3, 0.5, 1.0])
def test_the_noise_of_ddim_is_eta_times_the_posterior_deviation(eta):
    model, start = gaussian_model(linear(10), 0.5, 0.6), np.ones((1, 1))
    at_0, at_1 = ([*model.steps_ddim(Given([z]), 1, [4, 10], eta, start=start)][1] for z in (0.0, 1.0))
    before, after = model.schedule.abar[[4, 10]]
    close(at_1 - at_0, eta * math.sqrt((1 - before) / (1 - after) * (1 - after / before)), rtol=1e-10)


def test_no_noise_is_added_at_the_last_step():
    model = gaussian_model(linear(5), 0.5, 0.6, variance="large")
    rng = Given(np.ones(5))  # x_5, and one for each step but the last
    *_, x1, x0 = model.steps(rng, 1)
    assert len(rng.rest) == 0
    close(x0, model.denoise(x1, np.array([1]))[0], rtol=1e-12)


def test_eta_0_is_deterministic_and_inverts():
    model = gaussian_model(linear(1000), 0.5, 0.6)
    start = np.array([[-1.5], [0.0], [2.0]])
    for times in (20, [100, 300, 420, 700, 1000]):
        x = model.sample_ddim(None, 3, times, start=start)  # no random numbers are needed
        close(model.to_latent(x, times, iterations=60), start, atol=1e-6)
    assert abs(model.sample_ddim(None, 3, 20, start=start) - start).max() > 0.1


@pytest.mark.parametrize("times", [1, 3, [4, 10], range(1, 11)])
def test_any_subsequence_ends_in_data(times):
    x = gaussian_model(linear(10), mean=1.7, std=0).sample_ddim(Given(np.ones(2)), 2, times)
    close(x, 1.7, rtol=1e-6)


# The bound


@pytest.mark.parametrize("x", [-1.3, 0.0, 2.0])
@pytest.mark.parametrize("predicts", KINDS)
@pytest.mark.parametrize("T", [1, 2, 7])
def test_for_standard_normal_data_the_bound_is_log_p(x, predicts, T):
    """With sigma_t^2 = beta_t the reverse process is the true one, and all that a bound can lose is zero."""
    model = gaussian_model(Schedule(np.linspace(0.2, 0.6, T)), predicts=predicts, variance="large")
    assert exact_bound(model, x) == pytest.approx(log_normal(x, 0, 1), abs=1e-10)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_the_bound_lies_below_log_p_on_average_and_nears_it_with_more_steps(variance):
    """With the large variance the gap vanishes; with the small one a part stays, of the first steps, however short they are."""
    mean, std = 0.3, 0.6
    points, weights = np.polynomial.hermite_e.hermegauss(3)  # the bound and log p are quadratic in x
    weights, entropy = weights / math.sqrt(2 * math.pi), 0.5 * math.log(2 * math.pi * math.e * std**2)
    gaps = []
    for T in (25, 50, 100):
        model = gaussian_model(cosine(T), mean, std, variance=variance)
        gaps.append(-entropy - sum(w * exact_bound(model, mean + std * z) for z, w in zip(points, weights)))
    assert gaps[0] > gaps[1] > gaps[2] > 0
    if variance == "large":
        assert gaps[2] < 0.6 * gaps[1]


@pytest.mark.parametrize("predicts", KINDS)
def test_in_equal_ratios_of_noise_the_bound_counts_an_error_of_eps_alike_at_every_t(predicts):
    """KL(q(x_{t-1} | x_t, x_0) || p) = (r^2 - 1) / 2 (eps - eps_hat)^2, where the noise at t is r times that at t - 1."""
    model = gaussian_model(geometric(9, 0.1, 10.0), 0.3, 0.6, predicts=predicts, variance="small")
    t, eps, x = np.arange(2, 10), np.linspace(-2, 2, 8)[:, None], np.full((8, 1), 0.9)
    mean, std = model.schedule.marginal(x, t)
    error = eps - model.denoise(mean + std * eps, t)[1]
    close(model.bound_term(x, t, eps), (100 ** (1 / 4) - 1) / 2 * error[:, 0] ** 2, rtol=1e-6)


def test_the_bound_is_the_sum_of_its_terms_and_random_terms_estimate_it():
    model, x, noise = (
        gaussian_model(linear(4), 0.3, 0.6),
        np.array([[0.2], [-1.0]]),
        np.random.default_rng(0).normal(size=(4, 2, 1)),
    )
    full = model.bound(x, Given(noise))
    abar = model.schedule.abar[-1]
    prior = 0.5 * (abar * x[:, 0] ** 2 - abar - math.log(1 - abar))
    terms = [model.bound_term(x, np.full(2, t), noise[t - 1]) for t in range(1, 5)]
    close(full.nats, -prior - sum(terms), rtol=1e-12)
    ends = np.log(range(1, 6)) / math.log(5)  # u between two of them means t = 1, 2, 3, 4
    P, u = np.diff(ends), (ends[1:] + ends[:-1]) / 2
    estimates = [P[t] * model.bound(x, Given(noise[t], [u[t]]), terms=1).nats for t in range(4)]
    close(sum(estimates), full.nats, rtol=1e-12)
    pairs = [P[s] * P[t] * model.bound(x, Given(noise[[s, t]], [u[s], u[t]]), terms=2).nats for s in range(4) for t in range(4)]
    close(sum(pairs), full.nats, rtol=1e-12)
    assert full.how == "variational" and model.bound(x, Given(noise[0], [0.5]), terms=1).how == "variational, 1 of 4 terms"


def test_the_bound_sums_over_dimensions():
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 3)), rng.normal(size=(4, 2, 3))
    one = gaussian_model(linear(4), 0.3, 0.6)
    three = DDPM(one.network, one.schedule, (3,))
    each = [one.bound(x[:, i : i + 1], Given(noise[:, :, i])).nats for i in range(3)]
    close(three.bound(x, Given(noise)).nats, sum(each), rtol=1e-12)


@pytest.mark.parametrize("T", [1, 3])
def test_a_model_of_grey_levels_bounds_probabilities(T):
    model = gaussian_model(Schedule(np.linspace(0.05, 0.5, T)), 0.2, 0.5, levels=5)
    x, points = to_signed(np.arange(5), 5).astype(np.float64), np.random.default_rng(0).normal(size=(5, 1))
    xt, t = np.full((5, 1), 0.3), np.full(5, 1)
    abar = model.schedule.abar[1]
    eps = (xt - abar**0.5 * x[:, None]) / (1 - abar) ** 0.5  # all five see the same x_1
    close(np.exp(-model.bound_term(x[:, None], t, eps)).sum(), 1, rtol=1e-12)
    assert sum(math.exp(exact_bound(model, level)) for level in x) < 1
    assert (abs(model.denoise(3 * points, t)[0]) <= 1).all()
    assert "<=" in str(bits_per_dim(model.bound(x[:, None], Given(np.ones(5 * T))), 1))


def test_a_sure_grey_level_has_a_finite_probability_however_wrong():
    model = gaussian_model(Schedule([1e-4]), mean=-1.0, std=0, levels=17, variance="large")
    nats = -model.bound_term(to_signed(np.arange(17), 17)[:, None], np.ones(17, int), np.zeros((17, 1), np.float32))
    close(nats, -0.5 * (np.arange(17) / 8) ** 2 / 1e-4, rtol=1e-4, atol=1e-5)


def test_terms_are_drawn_with_the_odds_that_their_weights_undo():
    """E[1 / P(t)] = T, and each t comes as often as 1 / weight says, within 5 standard errors."""
    seen, T, n = [], 30, 100_000

    class Noted(DDPM):
        def bound_term(self, x0, t, eps, labels=None):
            seen.append(t)
            return np.ones(len(x0))

    model = Noted(None, linear(T), (1,), levels=2)
    nats = model.bound(np.zeros((n, 1)), Generator(0), terms=1).nats
    prior = model.bound(np.zeros((1, 1)), Generator(0)).nats + T
    weights = prior - nats
    assert abs(weights.mean() - T) < 5 * weights.std() / math.sqrt(n)
    for t in range(1, T + 1):
        P = 1 / weights[seen[0] == t]
        close(P, P[0], rtol=1e-9)
        assert abs((seen[0] == t).mean() - P[0]) < 5 * math.sqrt(P[0] / n)


# Guidance and labels


def labelled_model(schedule=None, **settings):
    """A network that says its label; the label for "none" is 3."""
    return DDPM(lambda x, t, labels: 0.1 * x + labels[:, None], schedule or linear(6), (2,), classes=3, **settings)


@pytest.mark.parametrize("predicts", KINDS)
def test_guidance_mixes_the_conditional_and_the_unconditional_model(predicts):
    model, rng = labelled_model(predicts=predicts), np.random.default_rng(0)
    x, t, y = rng.normal(size=(4, 2)), np.array([1, 2, 3, 6]), np.array([0, 1, 2, 0])
    conditional, unconditional = np.array(model.denoise(x, t, y)), np.array(model.denoise(x, t))
    assert (abs(conditional - unconditional) > 0).all()
    for w in (0, 1, 0.3, 3.0, 1e-9, 1 - 1e-9):
        close(model.denoise(x, t, y, w), (1 - w) * unconditional + w * conditional, rtol=1e-6, atol=1e-9)
    noise = rng.normal(size=(6, 4, 2))
    np.testing.assert_array_equal(model.sample(Given(noise), 4, y, 0), model.sample(Given(noise), 4))
    np.testing.assert_array_equal(model.sample(Given(noise), 4, y, 1), model.sample(Given(noise), 4, y))


@pytest.mark.parametrize("drop", [0.0, 0.25, 1.0])
def test_labels_are_hidden_as_often_as_said(drop):
    seen = []

    def network(x, t, labels):
        seen.append(labels)
        return x

    y = np.arange(4000) % 3
    DDPM(network, linear(6), (1,), classes=3).loss(np.zeros((4000, 1)), Generator(0), y, drop)
    hidden = seen[0] == 3
    assert abs(hidden.mean() - drop) < 5 * math.sqrt(drop * (1 - drop) / 4000) + 1e-12
    np.testing.assert_array_equal(seen[0][~hidden], y[~hidden])


# The loss


@pytest.mark.parametrize("predicts", KINDS)
def test_the_perfect_denoiser_has_the_loss_that_cannot_be_avoided(predicts):
    """The mean over t of Var(target | x_t), by Monte Carlo within 5 standard errors; another denoiser has more."""
    schedule, std, n = cosine(10), 0.6, 200_000
    abar = schedule.abar[1:]
    hidden = std**2 * (1 - abar) / (abar * std**2 + 1 - abar)  # Var(x_0 | x_t)
    floor = np.mean(hidden * {"x0": 1, "eps": abar / (1 - abar), "v": 1 / (1 - abar)}[predicts])
    x0 = 0.3 + std * Generator(1).normal((n, 1), np.float64)
    loss = gaussian_model(schedule, 0.3, std, predicts).loss(x0, Generator(0))
    assert loss.shape == (n,)
    assert abs(loss.mean() - floor) < 5 * loss.std() / math.sqrt(n)
    wrong = gaussian_model(schedule, 0.3, 1.5 * std, predicts).loss(x0, Generator(0))
    assert wrong.mean() > floor + 5 * wrong.std() / math.sqrt(n)


@pytest.mark.parametrize("shape", [(3,), (4, 4, 2)])
def test_the_loss_is_a_mean_over_dimensions(shape):
    """Of eps^2, for a network that says 0: on average 1, whatever the shape."""
    loss = DDPM(lambda x, t, labels: 0 * x, linear(6), shape).loss(np.zeros((4000, *shape)), Generator(0))
    assert abs(loss.mean() - 1) < 5 * math.sqrt(2 / math.prod(shape) / 4000)


def test_every_time_is_trained_equally_often():
    seen = []

    def network(x, t, labels):
        seen.append(t)
        return x

    model, rng = DDPM(network, linear(10), (1,)), Generator(0)
    model.loss(np.zeros((30, 1)), rng)
    np.testing.assert_array_equal(np.unique(np.round(seen[0] / 100), return_counts=True), (np.arange(1, 11), np.full(10, 3)))
    for _ in range(300):
        model.loss(np.zeros((1, 1)), rng)
    counts = np.bincount(np.round(np.concatenate(seen[1:]) / 100).astype(int), minlength=11)
    assert counts[0] == 0 and (counts[1:] > 8).all()


# Networks


def networks(dtype=np.float64):
    rng = Generator(0)
    for model, shape in (
        (DDPM.mlp(rng, 2, linear(4), width=6, depth=2, classes=3), (2,)),
        (DDPM.unet(rng, (4, 8, 1), cosine(4), channels=(4, 6), heads=2, classes=3, predicts="v"), (4, 8, 1)),
        (DDPM.unet(rng, (4, 4, 2), cosine(4), channels=(4,), heads=2, classes=3, predicts="x0", patch=2), (4, 4, 2)),
        (DDPM.mlp(rng, 2, geometric(4), width=6, depth=1, classes=3, frequencies=(0.5, 2.0)), (2,)),
    ):
        full = tree.map(lambda leaf: (leaf + 0.3 * rng.normal(leaf.shape)).astype(dtype), model)  # the zeros of the start too
        yield full, rng.normal((3, *shape)).astype(dtype), np.array([0, 2, 1])


@pytest.mark.parametrize("which", range(4))
def test_gradients_of_the_loss_and_the_bound(which):
    model, x, y = list(networks())[which]

    check_grads(lambda model: model.loss(x, Generator(0), y).sum(), (model,), order=1)
    check_grads(lambda model: model.bound(x, Generator(0), y, terms=2).nats, (model,), order=1)


@pytest.mark.parametrize("which", range(4))
def test_every_parameter_is_trained_and_the_schedule_is_none(which):
    model, x, y = list(networks())[which]
    g = grad(lambda model: (model.loss(x, Generator(0), y, drop=0) ** 2).sum() + model.loss(x, Generator(1), y, drop=1).sum())(
        model
    )
    paths, leaves = tree.paths(g), tree.flatten(g)[0]
    assert all(np.any(leaf) for leaf in leaves), [path for path, leaf in zip(paths, leaves) if not np.any(leaf)]
    assert all(path.startswith("network.") for path in paths)


@pytest.mark.parametrize("which", range(4))
def test_networks_hear_of_time_and_label_and_keep_examples_apart(which):
    model, x, y = list(networks())[which]
    t = np.array([1, 2, 4])
    together = model.network(x, 250.0 * t, y)
    assert together.shape == x.shape
    for i in range(3):
        alone = model.network(x[i : i + 1], 250.0 * t[i : i + 1], y[i : i + 1])
        close(together[i], alone[0], rtol=1e-10, atol=1e-12)
    assert abs(model.network(x, 250.0 * (5 - t), y) - together).max() > 1e-3
    assert abs(model.network(x, 250.0 * t, y[[1, 2, 0]]) - together).max() > 1e-3


@pytest.mark.parametrize("which", range(4))
def test_one_time_for_all_is_that_time_for_each(which):
    model, x, y = list(networks())[which]
    for one, each in zip(model.denoise(x, np.array([2]), y, 1.5), model.denoise(x, np.array([2, 2, 2]), y, 1.5)):
        close(one, each, rtol=1e-10, atol=1e-12)
    eps = np.ones_like(x)
    for t in (1, 2):
        close(model.bound_term(x, np.array([t]), eps, y), model.bound_term(x, np.full(3, t), eps, y), rtol=1e-10)


def test_a_pixel_is_seen_from_everywhere():
    model, x, y = list(networks())[1]
    reached = grad(lambda x: model.network(x, np.array([250.0] * 3), y)[0, 3, 7, 0])(x)
    assert reached[0].all() and not reached[1:].any()


def test_new_networks_predict_nothing():
    rng, x, t = Generator(0), np.ones((2, 4, 4, 1), np.float32), np.array([1.0, 900.0])
    assert not UNet.init(rng, 1, (8, 16), 4, 0)(x, t, None).any()
    assert not MLP.init(rng, 4, 8, 1, 0)(x[:, 0, :, 0], t, None).any()


@pytest.mark.parametrize("which", range(4))
def test_float32_is_kept(which):
    model, x, y = list(networks(np.float32))[which]
    rng = Generator(0)
    results = [model.loss(x, rng, y), model.bound(x, rng, y), model.sample(rng, 3, y, 2.0), model.sample_ddim(rng, 3, 2, 0.5)]
    results += [model.to_latent(x, 2, iterations=1), grad(lambda model: model.loss(x, rng, y).sum())(model)]
    assert {leaf.dtype for leaf in tree.flatten(results)[0]} == {np.dtype(np.float32)}
    assert results[2].shape == x.shape and results[1].nats.shape == (3,)


def test_training_lowers_the_loss_and_averages_only_the_network():
    rng, optimiser = Generator(0), Adam(1e-2)
    state = begin(DDPM.mlp(rng, 1, cosine(20), width=8, depth=1, classes=2, predicts="v"), optimiser, averaged=True)
    step, x = train_step(optimiser, prepare=lambda batch, rng: (batch[0], batch[1])), rng.normal((64, 1)) * 0.1 + 1
    losses = []
    for n in range(40):
        state, metrics = step(state, (x, np.arange(64) % 2), rng.at(n))
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5]) and metrics["gradient_norm"] > 0
    np.testing.assert_array_equal(state.best.schedule.abar, cosine(20).abar)


def test_unless_told_a_step_averages_and_limits():
    """The first step: of another decay than none the average has nine tenths of the new parameters (optim.ema)."""
    model, optimiser = DDPM.mlp(Generator(0), 1, cosine(4), width=4, depth=1), SGD(1.0)
    state = begin(model, optimiser, averaged=True)
    after, metrics = train_step(optimiser)(state, 100 * np.ones((8, 1), np.float32), Generator(1))
    first, last, average = (tree.flatten(m)[0] for m in (model, after.params, after.best))
    for a, b, c in zip(first, last, average):
        close(c, 0.1 * a + 0.9 * b, rtol=1e-5, atol=1e-6)
    moved = math.sqrt(sum(float(((b - a) ** 2).sum()) for a, b in zip(first, last)))
    assert metrics["gradient_norm"] > 1 and moved == pytest.approx(1, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name, detail", [("two_moons", 0.2), ("swiss_roll", 0.2), ("pinwheel", 0.1)])
def test_ddim_learns_densities_of_the_plane_to_within_a_tenth_of_a_nat(name, detail):
    """KL(truth || model) of its map f in 50 steps: log p(x) = log N(z; 0, I) - log |det df/dz|, f(z) = x."""
    rng, toy, steps = Generator(0), toy_density(name), 900
    scale, optimiser = float(toy.sample(rng, 10_000).std()), Adam(decay_by_cosine(3e-3, steps))
    model = DDPM.mlp(rng, 2, geometric(200, detail / scale / 4, 4.0), width=96, predicts="v")
    state, step = begin(model, optimiser, averaged=True), train_step(optimiser, limit=5.0, decay=0.99)
    for n in range(steps):
        state, _ = step(state, toy.sample(rng.at(n), 512) / scale, rng.at(steps + n))
    model, x = state.best, toy.sample(rng, 700)
    z = model.to_latent(x / scale, 50)
    found, pullback = vjp(lambda z: model.sample_ddim(None, len(z), 50, start=z), z)
    close(found, x / scale, atol=1e-4)
    (a, b), (c, d) = (pullback(np.broadcast_to(row, x.shape))[0].T for row in np.eye(2, dtype=np.float32))
    log_p = log_normal(z, 0, 1).sum(axis=1) - np.log(abs(a * d - b * c)) - 2 * math.log(scale)
    excess = toy.log_prob(x) - log_p
    assert -0.03 < excess.mean() < 0.1


# Structure and doors


def test_a_ddpm_can_be_bounded_and_sampled_and_nothing_else():
    model = labelled_model()
    assert [isinstance(model, kind) for kind in (Bounded, Sampler, Tractable, Unnormalised)] == [True, True, False, False]
    assert type(model.bound(np.zeros((3, 2)), Generator(0))) is LowerBound


def test_grey_levels_fill_the_range_of_the_model():
    g = np.arange(17, dtype=np.uint8)
    x = to_signed(g, 17)
    assert x.dtype == np.float32 and x[0] == -1 and x[16] == 1
    close(to_unit(x), g / 16, atol=1e-7)
    close(to_unit(np.array([-3.0, 3.0])), [0, 1])


MODEL = labelled_model()
X = np.zeros((3, 2))


@pytest.mark.parametrize("call, complaint", [
    (lambda: linear(0), "linear: T is 0"),
    (lambda: cosine(2.5), "cosine: T is 2.5"),
    (lambda: geometric(0), "geometric: T is 0"),
    (lambda: geometric(10, 0.0, 1.0), "from 0.0 to 1.0; both must be positive"),
    (lambda: geometric(10, 2.0, 1.0), "from 2.0 to 1.0; .* the lower one first"),
    (lambda: DDPM.mlp(Generator(0), 2, linear(3), width=7, frequencies=(1.0, 2.0)), "7 features are not pairs"),
    (lambda: DDPM.mlp(Generator(0), 2, linear(3), frequencies=(2.0, 1.0)), "the frequencies are 2.0 to 1.0"),
    (lambda: Schedule([]), "at least one step"),
    (lambda: Schedule([0.1, 1.0]), r"lies in \(0, 1\)"),
    (lambda: DDPM(None, linear(3), (2,), predicts="noise"), "predicts must be one of"),
    (lambda: DDPM(None, linear(3), (2,), variance="learned"), "variance must be one of"),
    (lambda: DDPM.unet(Generator(0), (6, 9, 1), linear(3)), "6 x 9 images cannot be made 2 times smaller"),
    (lambda: DDPM.unet(Generator(0), (8, 8), linear(3)), r"the shape of an image is \(H, W, C\), not \(8, 8\)"),
    (lambda: DDPM.unet(Generator(0), (8, 8, 1), linear(3), patch=0), "patch is 0; it must be an integer of at least 1"),
    (lambda: DDPM.unet(Generator(0), (8, 8, 1), linear(3), channels=()), "levels is 0"),
    (lambda: DDPM(None, linear(3), (2,), classes=-1), "classes = -1 must be at least 0"),
    (lambda: DDPM(None, linear(3), (2,), levels=1), "levels = 1 at least 2"),
    (lambda: both_from("noise", X, X, 0.5), "both_from: kind must be one of"),
    (lambda: target("noise", X, X, 0.5), "target: kind must be one of"),
    (lambda: MODEL.loss(np.zeros((3, 4)), Generator(0)), r"shape \(4,\).*made for \(2,\)"),
    (lambda: MODEL.loss(X, Generator(0), np.array([0, 1, 3])), "from 0 to 2"),
    (lambda: MODEL.loss(X, Generator(0), np.array([0.0, 1, 2])), "3 integers"),
    (lambda: MODEL.sample(Generator(0), 3, np.array([0, 1])), "3 integers"),
    (lambda: gaussian_model(linear(3)).sample(Generator(0), 1, np.array([0])), "made without classes; leave the labels out"),
    (lambda: MODEL.loss(X, Generator(0), drop=1.5), r"drop is 1.5; it is the probability .* in \[0, 1\]"),
    (lambda: MODEL.loss(X, Generator(0), drop=math.nan), "drop is nan"),
    (lambda: MODEL.denoise(X, 1), r"integers in 1 \.\. 6, or one for all examples; got 1"),
    (lambda: MODEL.denoise(X, np.array([1.0])), r"integers in 1 \.\. 6"),
    (lambda: MODEL.denoise(X, np.array([0, 1, 2])), r"integers in 1 \.\. 6"),
    (lambda: MODEL.denoise(X, np.array([1, 2, 7])), r"integers in 1 \.\. 6"),
    (lambda: MODEL.denoise(X, np.array([1, 2])), "or one for all"),
    (lambda: MODEL.bound(X, Generator(0), terms=0), "bound nothing"),
    (lambda: MODEL.sample_ddim(Generator(0), 1, times=0), "end in 6"),
    (lambda: MODEL.sample_ddim(Generator(0), 1, 6, eta=1.5), "eta is 1.5, but there is noise for 0 to 1"),
    (lambda: MODEL.sample_ddim(Generator(0), 1, 6, eta=-0.1), "eta is -0.1"),
    (lambda: MODEL.sample_ddim(Generator(0), 1, times=7), "end in 6"),
    (lambda: MODEL.sample_ddim(Generator(0), 1, times=[1, 3]), "end in 6"),
    (lambda: MODEL.sample_ddim(Generator(0), 1, times=[3, 1, 6]), "increasing"),
    (lambda: labelled_model(levels=17).bound(X + 0.03, Generator(0)), "17 grey levels"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_at_the_door(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_integers_are_refused_where_noise_is_added_to_them():
    for use in (lambda x: MODEL.loss(x, Generator(0)), lambda x: MODEL.bound(x, Generator(0))):
        with pytest.raises(TypeError, match="x holds int64; .* scale grey levels with to_signed"):
            use(X.astype(int))


def test_numbers_of_steps_may_be_integers_of_numpy():
    assert linear(np.int64(6)).T == 6
    same = [MODEL.sample_ddim(Generator(0), 2, times) for times in (3, np.int64(3))]
    np.testing.assert_array_equal(*same)
