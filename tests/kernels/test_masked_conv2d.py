"""masked_conv2d: every tier of this machine against the definition, and the definition against conv2d and against NaN."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers
from tinygen import kernels

TIERS = tiers("masked_conv2d")
spec = TIERS["spec"]
every_tier = pytest.mark.parametrize("tier", every(TIERS))
every_fast_tier = pytest.mark.parametrize("tier", every(TIERS, but=["spec"]))


class Case:
    """Random x, w and g of one size, and what each of the three maps takes. Dead taps lie on weights of NaN."""

    def __init__(self, N, size, C, O, kernel, taps, padding, dtype=np.float64, seed=0, sliced=False):
        rng = np.random.default_rng(seed)
        shapes = (N, *size, C), (*kernel, C, O), (N, *spec.output_size(size, kernel, padding), O)
        self.x, self.w, self.g = (_random(rng, shape, dtype, sliced) for shape in shapes)
        self.dead = np.ones(kernel, bool)
        for tap in taps:
            self.dead[tap] = False
        self.full_w = np.where(self.dead[..., None, None], 0, self.w).astype(dtype)  # for a convolution without a mask
        self.w[self.dead] = np.nan
        self.kernel, self.padding = kernel, padding
        self.calls = {  # name: arrays, the rest, number of terms in a sum
            "forward": ((self.x, self.w), (taps, padding), len(taps) * C),
            "input_gradient": ((self.g, self.w), (taps, size, padding), len(taps) * O),
            "weight_gradient": ((self.x, self.g), (taps, kernel, padding), int(np.prod(shapes[2][:3]))),
        }

    def run(self, tier, name):
        arrays, rest, _ = self.calls[name]
        return getattr(TIERS[tier], name)(*arrays, *rest)


def _random(rng, shape, dtype, sliced):
    array = rng.normal(size=shape).astype(dtype)
    return np.repeat(np.repeat(array, 2, axis=3), 3, axis=1)[:, ::3, :, ::2] if sliced else array


@st.composite
def cases(draw, dtypes=(np.float32, np.float64)):
    def pair(low, high):
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    kernel = pair(1, 5)
    padding = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    size = tuple(draw(st.integers(max(1, k - 2 * p), 7)) for k, p in zip(kernel, padding))
    taps = draw(st.lists(st.sampled_from(list(np.ndindex(kernel))), unique=True))  # in any order, perhaps none
    channels = st.integers(1, 6) | st.sampled_from([8, 15, 16, 17, 33, 64])
    N, C, O = draw(st.integers(0, 3)), draw(channels), draw(channels)
    dtype, sliced, seed = draw(st.sampled_from(dtypes)), draw(st.booleans()), draw(st.integers(0, 1000))
    return Case(N, size, C, O, kernel, tuple(taps), padding, dtype, seed, sliced)


def assert_equals_definition(case, tier):
    """|computed - exact| <= gamma_n sum |terms|, gamma_n = n u / (1 - n u), u = eps / 2, in any order of summation (Higham
    2002, section 3.1); the definition in float64 stands in for the exact value, and brings a gamma_n of its own."""
    for name, (arrays, rest, terms) in case.calls.items():
        definition = getattr(spec, name)
        exact = definition(*(a.astype(np.float64) for a in arrays), *rest)
        magnitude = definition(*(abs(a.astype(np.float64)) for a in arrays), *rest)
        n, result = terms + 1, case.run(tier, name)
        u, u64 = np.finfo(case.x.dtype).eps / 2, np.finfo(np.float64).eps / 2
        bound = (n * u / (1 - n * u) + n * u64 / (1 - n * u64)) * magnitude
        assert result.dtype == case.x.dtype and result.shape == exact.shape, name
        assert np.all(abs(result - exact) <= bound), name


# The definition


@given(case=cases(dtypes=[np.float64]))
@settings(deadline=None, max_examples=60)
def test_it_is_the_convolution_whose_dead_weights_are_zero(case):
    static = (1, 1), case.padding
    full = kernels.conv2d.spec
    y, dx, dw = (spec_call(case, name) for name in case.calls)
    close = dict(rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(y, full.forward(case.x, case.full_w, *static), **close)
    np.testing.assert_allclose(dx, full.input_gradient(case.g, case.full_w, case.x.shape[1:3], *static), **close)
    expected = full.weight_gradient(case.x, case.g, case.kernel, *static)
    np.testing.assert_allclose(dw, np.where(case.dead[..., None, None], 0, expected), **close)


def spec_call(case, name):
    arrays, rest, _ = case.calls[name]
    return getattr(spec, name)(*arrays, *rest)


def test_a_single_live_tap_shifts_the_image():
    x, w = np.random.default_rng(0).normal(size=(2, 4, 5, 1)), np.full((3, 3, 1, 1), 1.0)
    y = spec.forward(x, w, [(0, 2)], (1, 1))  # the pixel above and to the right
    assert np.array_equal(y[:, 1:, :-1], x[:, :-1, 1:])
    assert not y[:, 0].any() and not y[:, :, -1].any()


# Every tier


@every_fast_tier
@for_all(examples=150, on_harness=20, case=cases())
def test_equals_the_definition(tier, case):
    assert_equals_definition(case, tier)


@every_fast_tier
@pytest.mark.parametrize(
    "N, size, C, O, kernel, live, padding",
    [
        (3, (40, 40), 24, 16, (3, 3), 5, (1, 1)),  # an image in several pieces
        (70, (14, 14), 8, 4, (5, 3), 8, (2, 1)),  # several images in one piece
        (40, (28, 28), 1, 8, (7, 7), 24, (3, 3)),
        (40, (20, 20), 2, 3, (3, 5), 9, (0, 2)),
        (9, (28, 28), 16, 16, (1, 7), 4, (0, 3)),
    ],
)
def test_equals_the_definition_beyond_one_block(tier, N, size, C, O, kernel, live, padding):
    taps, N = tuple(np.ndindex(kernel))[:live], -(-N // 20) if tier == "harness" else N
    assert_equals_definition(Case(N, size, C, O, kernel, taps, padding, np.float32), tier)


@every_fast_tier
@pytest.mark.parametrize("tap", list(np.ndindex(3, 3)))
def test_equals_the_definition_with_one_tap(tier, tap):
    """Of which only the middle one is a product for each pixel by itself."""
    assert_equals_definition(Case(2, (4, 5), 3, 16, (3, 3), (tap,), (1, 1), np.float32), tier)


@every_fast_tier
def test_equals_the_definition_without_images_or_taps(tier):
    for N, taps in [(0, ((0, 1),)), (2, ()), (0, ())]:
        for C in (1, 5):
            assert_equals_definition(Case(N, (4, 5), C, 3, (3, 3), taps, (1, 1)), tier)


@every_tier
@for_all(examples=50, on_harness=5, case=cases(dtypes=[np.float64]))
def test_the_three_maps_are_one_trilinear_form(tier, case):
    y, dx, dw = (case.run(tier, name) for name in case.calls)
    form = np.sum(case.g * y)
    assert np.isclose(form, np.sum(dx * case.x), rtol=1e-10, atol=1e-10)
    assert np.isclose(form, np.sum(dw * case.full_w), rtol=1e-10, atol=1e-10)


@every_tier
@for_all(examples=50, on_harness=5, case=cases())
def test_dead_weights_are_never_read_and_their_gradients_are_exactly_zero(tier, case):
    y, dx, dw = (case.run(tier, name) for name in case.calls)
    assert np.isnan(case.w[case.dead]).all()
    assert np.isfinite(y).all() and np.isfinite(dx).all()
    assert np.array_equal(dw[case.dead], np.zeros_like(dw[case.dead]))


@every_tier
@pytest.mark.parametrize("C", [1, 8])
def test_pixels_under_dead_taps_are_never_read(tier, C):
    taps = ((0, 0), (0, 1), (0, 2), (1, 0))
    x, w = np.ones((2, 5, 5, C)), np.ones((3, 3, C, 2))
    x[0, 2, 2] = np.nan
    y = TIERS[tier].forward(x, w, taps, (1, 1))
    reached = {(i, j) for i, j in np.argwhere(np.isnan(y[0, :, :, 0])).tolist()}
    assert reached == {(2, 3), (3, 1), (3, 2), (3, 3)}
    assert np.isfinite(y[1]).all()


@every_tier
def test_the_same_input_gives_the_same_bits(tier):
    case = Case(9, (14, 14), 16, 16, (3, 3), tuple(np.ndindex(3, 3))[:5], (1, 1), np.float32)
    for name in case.calls:
        assert np.array_equal(case.run(tier, name), case.run(tier, name)), name


@every_fast_tier
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C, O", [(5, 20), (16, 3), (24, 33)])
def test_a_relu_before_it_is_one_of_the_same_bits(tier, C, O, dtype):
    taps, module, bias = ((0, 0), (0, 1), (0, 2), (1, 0)), TIERS[tier], np.arange(O).astype(dtype)
    case = Case(2, (6, 7), C, O, (3, 3), taps, (1, 1), dtype)
    x, rest = case.x, (taps, (1, 1))
    y = module.forward(x, case.w, *rest, bias, True)
    np.testing.assert_array_equal(y, module.forward(np.maximum(x, 0), case.w, *rest, bias))
    np.testing.assert_allclose(y, spec.forward(x, case.w, *rest, bias, True), rtol=1e-4, atol=1e-4)
    dw = module.weight_gradient(x, case.g, taps, (3, 3), (1, 1), True)
    np.testing.assert_array_equal(dw, module.weight_gradient(np.maximum(x, 0), case.g, taps, (3, 3), (1, 1)))
    np.testing.assert_allclose(dw, spec.weight_gradient(x, case.g, taps, (3, 3), (1, 1), True), rtol=1e-4, atol=1e-4)
    dx = module.input_gradient(case.g, case.w, taps, (6, 7), (1, 1), x)
    np.testing.assert_array_equal(dx, np.where(x > 0, module.input_gradient(case.g, case.w, taps, (6, 7), (1, 1)), 0))
    np.testing.assert_allclose(dx, spec.input_gradient(case.g, case.w, taps, (6, 7), (1, 1), x), rtol=1e-4, atol=1e-4)


@every_fast_tier
@pytest.mark.parametrize("O", [1, 40])
def test_a_bias_is_added_at_every_pixel(tier, O):
    taps, bias = ((0, 1), (1, 0)), np.arange(O).astype(np.float32)
    case = Case(3, (9, 15), 5, O, (3, 3), taps, (1, 1), np.float32)
    y = TIERS[tier].forward(case.x, case.w, taps, (1, 1), bias)
    np.testing.assert_allclose(y, spec.forward(case.x, case.w, taps, (1, 1), bias), rtol=1e-4, atol=1e-5)
