"""The chains against mathematics: detailed balance between all pairs of points of a grid, and Gaussians, of which all is known.

Where the noise is an argument, a proposal can be led from any point to any other: the probability of that move, and of the
acceptance that the kernel itself computes, is then compared with that of the way back.
"""

import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator, mcmc, ops
from tinygen.mcmc import AdjustedLangevin, Hamiltonian, Langevin, Point, RandomWalk

few = settings(max_examples=20, deadline=None)
steps = st.floats(0.05, 0.8)
close = np.testing.assert_allclose
KERNELS = [Langevin(0.1), AdjustedLangevin(0.3), RandomWalk(0.8), RandomWalk(0.1, 3.0), Hamiltonian(0.3, 3)]
ADJUSTED = KERNELS[1:]


def two_hills(x):
    """log of a density with two modes, skewed and correlated, not normalised; x (N, d)."""
    return ops.logsumexp(ops.stack(-0.5 * ((x - 1) ** 2).sum(axis=1), 0.4 - ((x + 1) ** 2).sum(axis=1)), axis=0) - 0.1 * (
        x**4
    ).mean(axis=1)


def gaussian(variance):
    return lambda x: -0.5 * (x * x / variance).sum(axis=1)


class Given:
    """In place of a Generator: its normal numbers are given, and its uniform ones."""

    def __init__(self, noise, uniform=0.5):
        self.noise, self.given_uniform = noise, uniform

    def uniform(self, shape, dtype):
        return np.full(shape, self.given_uniform, dtype)

    def normal(self, shape, dtype):
        return np.broadcast_to(self.noise, shape).astype(dtype)


def all_pairs(points):
    """(origins, targets), (n^2, d) each, for n points."""
    n = len(points)
    return np.repeat(points, n, axis=0), np.tile(points, (n, 1))


def grid(d, n=9, reach=2.5):
    axis = np.linspace(-reach, reach, n) + 0.1
    return np.stack(np.meshgrid(*[axis] * d), axis=-1).reshape(-1, d)


def normal_density(noise):
    return np.exp(-0.5 * (noise**2).sum(axis=1)) / (2 * math.pi) ** (noise.shape[1] / 2)


# Detailed balance


@few
@given(step=steps, d=st.integers(1, 2), kind=st.sampled_from([AdjustedLangevin, RandomWalk]))
def test_the_flow_between_any_two_points_is_the_same_in_both_directions(step, d, kind):
    kernel, points = kind(step), grid(d)
    origins, targets = all_pairs(points)
    point = kernel.start(two_hills, origins)
    still, _ = kernel.propose(two_hills, point, Given(0.0))  # the centre of the proposals, and then their spread
    spread = kernel.propose(two_hills, point, Given(1.0))[0].x - still.x
    noise = (targets - still.x) / spread
    reached, log_r = kernel.propose(two_hills, point, Given(noise))
    close(reached.x, targets, atol=1e-12)
    rate = normal_density(noise) / spread.prod(axis=1)
    flow = (np.exp(two_hills(origins)) * rate * np.minimum(1, np.exp(log_r))).reshape(len(points), -1)
    close(flow, flow.T, rtol=1e-9, atol=1e-300)
    assert (np.minimum(1, np.exp(log_r)) < 0.9).any()  # or nothing was tested


@settings(max_examples=8, deadline=None)
@given(time=st.floats(0.2, 0.6), leapfrogs=st.integers(1, 4))
def test_the_flow_of_trajectories_between_any_two_points_is_the_same_in_both_directions(time, leapfrogs):
    """In one dimension the push that leads from x to x' is found by bisection; |dx'/dv| turns its density into that of x'."""

    def ripples(x):
        return (ops.sin(2 * x) - 0.5 * x * x).sum(axis=1)

    kernel, points = Hamiltonian(time / leapfrogs, leapfrogs), grid(1, n=12)
    origins, targets = all_pairs(points)
    point = kernel.start(ripples, origins)

    def end(velocity):
        return kernel.roll(ripples, point, velocity)[0].x

    low, high = np.full_like(origins, -60.0), np.full_like(origins, 60.0)
    for _ in range(60):
        middle = (low + high) / 2
        short = end(middle) < targets
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    reached, log_r = kernel.propose(ripples, point, Given(low))
    close(reached.x, targets, atol=1e-12)
    slope = (end(low + 1e-4) - end(low - 1e-4)) / 2e-4
    rate = normal_density(low) / abs(slope[:, 0])
    flow = (np.exp(ripples(origins)) * rate * np.minimum(1, np.exp(log_r))).reshape(len(points), -1)
    close(flow, flow.T, rtol=1e-5, atol=1e-300)


@few
@given(step=steps, leapfrogs=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_a_trajectory_leads_back_and_keeps_volumes_and_almost_the_energy(step, leapfrogs, seed):
    rng, kernel, d = Generator(seed), Hamiltonian(step, leapfrogs), 2
    x, v = rng.normal((5, d), np.float64), rng.normal((5, d), np.float64)
    end, end_v = kernel.roll(two_hills, kernel.start(two_hills, x), v)
    back, back_v = kernel.roll(two_hills, end, -end_v)
    scale = 1 + abs(end.x).max()
    close(back.x, x, atol=1e-7 * scale)
    close(back_v, -v, atol=1e-7 * scale)

    small, moved = 1e-5, []
    for direction in np.eye(2 * d):
        pair = [
            np.concatenate([p.x, w], axis=1)
            for s in (small, -small)
            for p, w in [kernel.roll(two_hills, kernel.start(two_hills, x + s * direction[:d]), v + s * direction[d:])]
        ]
        moved.append((pair[0] - pair[1]) / (2 * small))
    size = np.prod([np.linalg.norm(column, axis=1) for column in moved], axis=0)  # of the products that make up a determinant
    assert (abs(np.linalg.det(np.stack(moved, axis=-1)) - 1) < 1e-6 * size).all()


@pytest.mark.parametrize("leapfrogs", [1, 2, 5, 50])
def test_a_ball_in_a_bowl_swings_for_as_long_as_the_steps_last(leapfrogs):
    """x'' = -x: x(t) = x cos t + v sin t, at t = L epsilon, up to O(epsilon^2)."""
    x, v = Generator(0).normal((2, 5, 3), np.float64)
    kernel, t = Hamiltonian(0.01, leapfrogs), 0.01 * leapfrogs
    end, end_v = kernel.roll(gaussian(1.0), kernel.start(gaussian(1.0), x), v)
    close(end.x, x * math.cos(t) + v * math.sin(t), atol=1e-4 * t)
    close(end_v, v * math.cos(t) - x * math.sin(t), atol=1e-4 * t)


def test_the_energy_error_of_a_trajectory_falls_with_the_square_of_its_step():
    rng = Generator(0)
    x, v = rng.normal((50, 2), np.float64), rng.normal((50, 2), np.float64)
    errors = []
    for step, leapfrogs in ((0.02, 40), (0.01, 80)):
        kernel = Hamiltonian(step, leapfrogs)
        errors.append(abs(kernel.propose(two_hills, kernel.start(two_hills, x), Given(v))[1]).mean())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.02)


@few
@given(step=steps, seed=st.integers(0, 2**32))
def test_one_leapfrog_step_is_a_step_of_langevin(step, seed):
    """With h = epsilon^2 / 2: the same proposal, and the same acceptance, by another formula."""
    rng = Generator(seed)
    x, noise = rng.normal((20, 3), np.float64), rng.normal((20, 3), np.float64)
    ball, langevin = Hamiltonian(step, 1), AdjustedLangevin(step**2 / 2)
    (a, log_a), (b, log_b) = (k.propose(two_hills, k.start(two_hills, x), Given(noise)) for k in (ball, langevin))
    close(a.x, b.x, atol=1e-12)
    close(log_a, log_b, atol=1e-10)
    unadjusted = Langevin(step**2 / 2).propose(two_hills, Point(x), Given(noise))
    close(unadjusted[0].x, b.x, atol=1e-12)
    assert not unadjusted[1].any()


@pytest.mark.parametrize("kernel", ADJUSTED)
def test_one_transition_leaves_the_density_as_it_is(kernel):
    """E[g(x')] = E[g(x)] for x ~ p: sums over grids of x and of the noise, and the acceptance that the kernel computes."""
    x, noise = (np.linspace(-reach, reach, n)[:, None] for reach, n in ((5, 501), (6, 241)))
    p, rate = np.exp(two_hills(x)), normal_density(noise)
    weight = np.repeat(p / p.sum(), len(noise)) * np.tile(rate / rate.sum(), len(x))
    start = kernel.start(two_hills, np.repeat(x, len(noise), axis=0))
    new, log_r = kernel.propose(two_hills, start, Given(np.tile(noise, (len(x), 1))))
    accepted = np.minimum(1, np.exp(log_r))
    for g in (lambda x: x, lambda x: x**2, lambda x: np.tanh(3 * x - 1)):
        before, after = g(start.x)[:, 0], g(new.x)[:, 0]
        assert weight @ (accepted * (after - before)) == pytest.approx(0, abs=1e-4)
    assert 0.2 < weight @ accepted < 0.99


# Gaussians


@few
@given(variance=st.floats(0.1, 10), ratio=st.floats(0.01, 1.9))
def test_the_stationary_variance_of_unadjusted_langevin_has_its_closed_form(variance, ratio):
    """For a Gaussian a transition is x' = a x + b eps, whose stationary variance is b^2 / (1 - a^2)."""
    kernel, target = Langevin(ratio * variance), gaussian(variance)
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    a = kernel.propose(target, Point(one), Given(0.0))[0].x.item()
    b = kernel.propose(target, Point(zero), Given(1.0))[0].x.item()
    assert b**2 / (1 - a**2) == pytest.approx(variance / (1 - kernel.step / (2 * variance)), rel=1e-10)


def test_unadjusted_langevin_flies_apart_from_the_step_that_is_documented():
    variance, x = 0.5, np.full((10, 1), 3.0)
    ends = [abs(mcmc.run(Langevin(r * variance), gaussian(variance), x, Generator(0), 300).x).max() for r in (1.9, 2.2)]
    assert ends[0] < 30 and ends[1] > 1e6


def variance_of_many_chains(kernel, variances, n=20_000, transitions=40):
    x = 2 * Generator(0).normal((n, len(variances)), np.float64)  # all started too wide
    chains = mcmc.run(kernel, gaussian(variances), x, Generator(1), transitions)
    return chains.x.var(axis=0), chains.acceptance.mean()


VARIANCES = np.array([1.0, 0.4])
BOUND = 5 * math.sqrt(2 / 20_000)  # five standard errors of a variance from that many chains, relative: 5%


@pytest.mark.parametrize("kernel", [AdjustedLangevin(0.25), RandomWalk(0.9), RandomWalk(0.4, 2.0), Hamiltonian(0.4, 3)])
def test_adjusted_chains_forget_a_wrong_start_and_have_the_variance_of_the_target(kernel):
    found, acceptance = variance_of_many_chains(kernel, VARIANCES)
    close(found, VARIANCES, rtol=BOUND)
    assert 0.3 < acceptance < 0.995


def test_unadjusted_chains_have_the_variance_that_their_step_gives_them():
    h = 0.25
    found, acceptance = variance_of_many_chains(Langevin(h), VARIANCES)
    biased = VARIANCES / (1 - h / (2 * VARIANCES))
    close(found, biased, rtol=BOUND)
    assert (biased / VARIANCES > 1 + 2 * BOUND).all() and acceptance == 1


# Chains are separate, of any shape, and reproducible


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_chain_does_not_depend_on_its_neighbours(kernel):
    x, noise = Generator(0).normal((2, 6, 2), np.float64)
    together, log_r = kernel.propose(two_hills, kernel.start(two_hills, x), Given(noise))
    for i in range(6):
        alone, log_r_alone = kernel.propose(two_hills, kernel.start(two_hills, x[i : i + 1]), Given(noise[i]))
        close(alone.x[0], together.x[i], rtol=1e-12)
        close(log_r_alone[0], log_r[i], atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_states_have_any_shape_and_keep_it_and_their_dtype(kernel, shape, dtype):
    x = Generator(0).normal((5, *shape), dtype)
    before = x.copy()
    chains = mcmc.run(kernel, lambda x: -0.5 * (x * x).reshape(5, -1).sum(axis=1), x, Generator(1), 4)
    assert chains.x.shape == x.shape and chains.x.dtype == dtype and chains.acceptance.shape == (5,)
    np.testing.assert_array_equal(x, before)
    again = mcmc.run(kernel, lambda x: -0.5 * (x * x).reshape(5, -1).sum(axis=1), x, Generator(1), 4)
    np.testing.assert_array_equal(chains.x, again.x)


@pytest.mark.parametrize("kernel", ADJUSTED)
def test_a_chain_moves_where_it_accepts_and_carries_what_is_true_where_it_is(kernel):
    kernel = replace(kernel, step=kernel.step * 3)  # often rejected
    x, accepted = Generator(0).normal((40, 2), np.float64), []
    for point, accepts in islice(mcmc.walk(kernel, two_hills, x, Generator(1)), 6):
        np.testing.assert_array_equal((point.x != x).any(axis=1), accepts)
        there = mcmc.evaluate(two_hills, point.x)
        close(point.log_p, there.log_p, rtol=1e-12)
        if point.score is not None:
            close(point.score, there.score, rtol=1e-10, atol=1e-12)
        x = point.x
        accepted.append(accepts)
    fraction = np.mean(accepted, axis=0)
    assert 0 < fraction.mean() < 1
    start = Generator(0).normal((40, 2), np.float64)
    np.testing.assert_allclose(mcmc.run(kernel, two_hills, start, Generator(1), 6).acceptance, fraction)


def test_proposals_are_accepted_as_often_as_r_says():
    x = np.full((100_000, 1), 0.3)
    kernel = RandomWalk(1.5)
    _, log_r = kernel.propose(gaussian(0.5), kernel.start(gaussian(0.5), x), Generator(0))
    expected = np.minimum(1, np.exp(log_r))
    _, accepts = next(mcmc.walk(kernel, gaussian(0.5), x, Generator(0)))
    assert accepts[expected == 1].all()
    assert accepts.mean() == pytest.approx(expected.mean(), abs=5 * 0.5 / math.sqrt(len(x)))


# A random walk of many lengths


def test_the_lengths_of_a_random_walk_are_uniform_between_the_logarithms_of_two():
    kernel, x, n = RandomWalk(0.02, 3.0), np.zeros((20_000, 2)), 20_000
    sigma = kernel.propose(gaussian(1.0), kernel.start(gaussian(1.0), x), OnesOf(Generator(0)))[0].x
    np.testing.assert_array_equal(sigma[:, 0], sigma[:, 1])  # one for each chain
    u = np.log(sigma[:, 0] / 0.02) / math.log(3.0 / 0.02)
    distance = abs(np.sort(u) - (np.arange(n) + 0.5) / n).max()
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov's statistic, exceeded by chance once in a thousand


class OnesOf:
    """A Generator whose normal numbers are all 1."""

    def __init__(self, rng):
        self.uniform = rng.uniform

    def normal(self, shape, dtype):
        return np.ones(shape, dtype)


def test_only_the_long_moves_of_a_random_walk_find_a_far_island():
    def islands(x):
        return ops.logsumexp(
            ops.stack(-0.5 * ((x / 0.05) ** 2).sum(axis=1), -0.5 * (((x - 4) / 0.05) ** 2).sum(axis=1)), axis=0
        )

    found = [mcmc.run(kernel, islands, np.zeros((2000, 1)), Generator(0), 600).x.mean() / 4 for kernel in
             (RandomWalk(0.05), RandomWalk(0.05, 8.0))]  # fmt: skip
    assert found[0] == pytest.approx(0, abs=0.01)
    assert found[1] == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(2000))


@pytest.mark.parametrize("longest, message", [(0.1, "shorter than the step 0.5"), (math.inf, "positive Python number")])
def test_a_longest_move_that_is_none_is_refused(longest, message):
    with pytest.raises(ValueError, match=message):
        RandomWalk(0.5, longest)


# Limits


@pytest.mark.parametrize("kernel", ADJUSTED)
def test_no_chain_enters_where_the_density_is_zero(kernel):
    def half(x):
        inside = ops.stop_gradient(x)[:, 0] > 0
        return ops.where(inside, -x[:, 0], -np.inf)

    for point, _ in islice(mcmc.walk(kernel, half, np.full((200, 1), 0.5), Generator(0)), 30):
        assert (point.x > 0).all()
    assert point.x.std() > 0.1


@pytest.mark.parametrize("kernel", [AdjustedLangevin(1e3), Hamiltonian(1e3, 40), RandomWalk(1e30)])
def test_a_proposal_that_flew_away_is_rejected(kernel):
    x = np.ones((4, 2), np.float32)
    chains = mcmc.run(kernel, lambda x: -(x**4).sum(axis=1), x, Generator(0), 3)
    np.testing.assert_array_equal(chains.x, x)
    assert not chains.acceptance.any()


@pytest.mark.parametrize("kernel", ADJUSTED)
@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_a_start_without_density_is_refused(kernel, value):
    with pytest.raises(ValueError, match=rf"log p is {value} at the start of a chain; start where p\(x\) > 0"):
        mcmc.run(kernel, lambda x: x[:, 0] * 0 + value, np.ones((3, 1)), Generator(0), 1)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_density_that_is_not_one_number_for_each_chain_is_refused(kernel):
    with pytest.raises(ValueError, match=r"states of shape \(3, 2\) has shape \(3, 2\), not \(3,\); sum over the axes"):
        mcmc.run(kernel, lambda x: -x * x, np.ones((3, 2)), Generator(0), 1)
    with pytest.raises(ValueError, match=r"has shape \(\), not \(3,\)"):
        mcmc.run(kernel, lambda x: -(x * x).sum(), np.ones((3, 2)), Generator(0), 1)


@pytest.mark.parametrize("x", [np.ones((3, 2), int), 1.0, np.ones(())])
def test_states_that_are_no_floating_array_of_chains_are_refused(x):
    with pytest.raises(TypeError, match=r"the states must be a floating array \(N, ...\)"):
        mcmc.run(RandomWalk(1.0), gaussian(1.0), x, Generator(0), 1)


@pytest.mark.parametrize("kind", [Langevin, AdjustedLangevin, RandomWalk, lambda step: Hamiltonian(step, 3)])
@pytest.mark.parametrize("step", [0, -0.1, math.inf, math.nan, np.float64(0.1), "0.1"])
def test_steps_that_are_not_positive_python_numbers_are_refused(kind, step):
    with pytest.raises(ValueError, match="must be a positive Python number"):
        kind(step)


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_counts_are_integers_from_1(count):
    with pytest.raises(ValueError, match=f"leapfrogs is {count!r}; it must be an integer of at least 1"):
        Hamiltonian(0.1, count)
    with pytest.raises(ValueError, match=f"steps is {count!r}; it must be an integer of at least 1"):
        mcmc.run(RandomWalk(1.0), gaussian(1.0), np.ones((3, 1)), Generator(0), count)
