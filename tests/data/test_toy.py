from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.backend import Generator
from tinygen.data import toy

# half the side of a square that holds all but 1e-7 of the probability, and cells a side, fine enough for the narrowest ridge
GRIDS = {
    "ring_of_8": (1.1, 440),
    "grid_of_25": (4.4, 440),
    "checkerboard": (4.0, 80),
    "pinwheel": (7.0, 440),
    "rings": (4.0, 160),
    "two_moons": (5.0, 160),
    "swiss_roll": (5.0, 160),
}
every_toy = pytest.mark.parametrize("name", toy.TOYS)
N = 20000


@lru_cache
def grid(name):
    """log p at the centres of a square's cells, (cells, cells), the first axis along the first coordinate; a cell's area."""
    half, cells = GRIDS[name]
    centres = (np.arange(cells) + 0.5) * (2 * half / cells) - half
    x = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2)
    return toy.load(name).log_prob(x).reshape(cells, cells), (2 * half / cells) ** 2


@lru_cache
def drawn(name):
    return toy.load(name).sample(Generator(0), N)


@every_toy
def test_the_density_integrates_to_one(name):
    log_p, area = grid(name)
    assert abs(np.exp(log_p).sum() * area - 1) < 1e-6


@every_toy
def test_samples_fall_into_the_cells_as_the_density_says(name):
    """Pearson's chi-square over 20 x 20 cells; those that expect fewer than 5 samples are one cell together."""
    log_p, area = grid(name)
    half, cells = GRIDS[name]
    block = cells // 20
    expected = N * area * np.exp(log_p).reshape(20, block, 20, block).sum(axis=(1, 3))
    counts, *_ = np.histogram2d(*drawn(name).T.astype(np.float64), 20, [(-half, half)] * 2)
    rare = expected < 5
    expected = np.append(expected[~rare], max(expected[rare].sum(), 1))
    counts = np.append(counts[~rare], N - counts[~rare].sum())
    freedom = len(counts) - 1
    assert ((counts - expected) ** 2 / expected).sum() < freedom + 5 * np.sqrt(2 * freedom)


@every_toy
def test_the_mean_log_density_of_samples_is_minus_the_entropy(name):
    log_p, area = grid(name)
    p = np.exp(log_p) * area
    log_p = np.where(p > 0, log_p, 0)
    mean = (p * log_p).sum()
    standard_error = np.sqrt((p * (log_p - mean) ** 2).sum() / N)
    assert abs(toy.load(name).log_prob(drawn(name)).mean() - mean) < 4 * standard_error + 1e-5


@every_toy
@given(n=st.integers(0, 300), seed=st.integers(0, 2**32))
def test_shapes_types_and_seeds(name, n, seed):
    density = toy.load(name)
    x = density.sample(Generator(seed), n)
    assert x.shape == (n, 2) and x.dtype == np.float32
    np.testing.assert_array_equal(x, density.sample(Generator(seed), n))
    log_p = density.log_prob(x)
    assert log_p.shape == (n,) and log_p.dtype == np.float64 and np.isfinite(log_p).all()
    np.testing.assert_array_equal(log_p, density.log_prob(x.astype(np.float64)))


@every_toy
@given(st.tuples(*[st.floats(-1e6, 1e6)] * 2))
def test_the_density_is_a_number_everywhere(name, point):
    (log_p,) = toy.load(name).log_prob(np.array([point]))
    assert log_p < 9 and not np.isnan(log_p)


@pytest.mark.parametrize("name, k, std", [("ring_of_8", 8, 0.01), ("grid_of_25", 25, 0.05)])
def test_every_mode_of_a_mixture_has_its_share_of_the_samples(name, k, std):
    mixture = toy.load(name)
    assert mixture.modes.shape == (k, 2) and mixture.std == std
    distances = np.linalg.norm(drawn(name)[:, None] - mixture.modes, axis=2)
    counts = np.bincount(distances.argmin(axis=1), minlength=k)
    assert np.abs(counts - N / k).max() < 4 * np.sqrt(N / k)
    within_three = (distances.min(axis=1) < 3 * std).mean()
    assert abs(within_three - (1 - np.exp(-4.5))) < 4 * np.sqrt(np.exp(-4.5) / N)  # of a 2-D Gaussian


def test_modes_lie_where_the_literature_puts_them():
    ring, square = toy.load("ring_of_8").modes, toy.load("grid_of_25").modes
    np.testing.assert_allclose(np.linalg.norm(ring, axis=1), 1, rtol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(ring - np.roll(ring, 1, axis=0), axis=1), 2 * np.sin(np.pi / 8), rtol=1e-14)
    assert {tuple(mode) for mode in square} == {(a, b) for a in (-4, -2, 0, 2, 4) for b in (-4, -2, 0, 2, 4)}


plane = st.tuples(st.floats(-6, 6), st.floats(-6, 6)).map(lambda point: np.array([point]))


@pytest.mark.parametrize("name", ["rings", "two_moons", "swiss_roll"])
@given(plane)
def test_the_integral_along_a_curve_is_exact_to_eleven_digits(name, x):
    """Against rules of other kinds: many more points on a circle, and double-exponential quadrature on an open curve."""
    density = toy.load(name)
    if density.closed:
        t, weights = np.arange(2000) / 2000, 1 / 2000
    else:
        u = np.linspace(-3.6, 3.6, 3000)
        t = 1 / (1 + np.exp(-np.pi * np.sinh(u)))
        weights = (u[1] - u[0]) * np.pi * np.cosh(u) * t / (1 + np.exp(np.pi * np.sinh(u)))
    squares = [sum((a - b) ** 2 for a, b in zip(x[0], density.curve(k, t))) for k in range(density.n_curves)]
    log_terms = np.log(weights) - np.array(squares) / (2 * density.std**2)
    expected = np.logaddexp.reduce(log_terms.ravel()) - np.log(density.n_curves * 2 * np.pi * density.std**2)
    np.testing.assert_allclose(density.log_prob(x), expected, rtol=0, atol=1e-11)


@given(st.floats(0, 1.4), st.floats(0, 2 * np.pi))
def test_rings_have_the_density_of_rice(radius, angle):
    r"""For one circle the integral is known: exp(-(r^2 + a^2) / (2 s^2)) I_0(r a / s^2) / (2 pi s^2)."""
    a, s = 0.75 * np.arange(1, 5), 0.08
    p = np.exp(-(radius**2 + a**2) / (2 * s**2)) * np.i0(radius * a / s**2) / (2 * np.pi * s**2)
    x = np.array([[radius * np.cos(angle), radius * np.sin(angle)]])
    np.testing.assert_allclose(toy.load("rings").log_prob(x), np.log(p.mean()), atol=1e-10)


@given(plane)
def test_two_moons_are_one_moon_and_its_half_turn(x):
    moons = toy.load("two_moons")
    np.testing.assert_allclose(moons.log_prob(x), moons.log_prob(-x), rtol=1e-12)


def test_curves_lie_where_they_are_said_to():
    t = np.linspace(0, 1, 101)
    x, y = toy.load("two_moons").curve(0, t)
    np.testing.assert_allclose(np.hypot(x + 1, y + 0.5), 2, rtol=1e-14)
    assert y.min() >= -0.5 and (x[0], x[-1]) == (1, -3)
    x, y = toy.load("swiss_roll").curve(0, t)
    np.testing.assert_allclose(np.hypot(x, y), 0.3 * np.pi * (1 + 2 * t), rtol=1e-14)
    np.testing.assert_allclose(np.unwrap(np.arctan2(y, x)), 1.5 * np.pi * (1 + 2 * t) - 2 * np.pi, rtol=1e-13)


def test_an_arm_of_the_pinwheel_is_densest_where_the_twist_takes_the_middle_of_its_gaussian():
    top = 2 * np.array([[np.cos(np.e / 4), np.sin(np.e / 4)]])
    near = top + 0.01 * Generator(0).normal((1000, 2), np.float64)
    log_prob = toy.load("pinwheel").log_prob
    np.testing.assert_allclose(log_prob(top), -np.log(5 * 2 * np.pi * 0.3 * 0.1 * 4), rtol=1e-6)
    assert log_prob(near).max() < log_prob(top)


@given(plane, st.integers(0, 4))
def test_the_pinwheel_has_five_equal_arms(x, k):
    c, s = np.cos(2 * np.pi * k / 5), np.sin(2 * np.pi * k / 5)
    pinwheel = toy.load("pinwheel")
    np.testing.assert_allclose(pinwheel.log_prob(x @ np.array([[c, s], [-s, c]])), pinwheel.log_prob(x), rtol=1e-8)


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="'spiral'.*ring_of_8.*swiss_roll"):
        toy.load("spiral")
    for name in toy.TOYS:
        with pytest.raises(ValueError, match=r"\(3,\)"):
            toy.load(name).log_prob(np.zeros(3))
        with pytest.raises(ValueError, match=r"\(5, 3\)"):
            toy.load(name).log_prob(np.zeros((5, 3)))
