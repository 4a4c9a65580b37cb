"""conv2d: every tier of this machine against the definition, and the definition against arithmetic done by hand."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers
from tinygen.kernels import tensor_cores

TIERS = tiers("conv2d")
spec = TIERS["spec"]
every_tier = pytest.mark.parametrize("tier", every(TIERS))
every_fast_tier = pytest.mark.parametrize("tier", every(TIERS, but=["spec"]))

LARGER_THAN_A_BLOCK = [  # N, (H, W), C, O, kernel, stride, padding
    (5, (40, 40), 24, 16, (3, 3), (1, 1), (1, 1)),  # an image in several pieces
    (70, (14, 14), 8, 4, (5, 3), (1, 2), (2, 1)),  # several images in one piece
    (40, (28, 28), 1, 8, (7, 7), (1, 1), (3, 3)),
    (40, (28, 28), 8, 1, (3, 3), (1, 1), (1, 1)),
    (30, (33, 17), 32, 32, (4, 4), (2, 2), (1, 1)),
    (3, (150, 130), 17, 3, (5, 5), (3, 3), (2, 0)),
    (300, (16, 16), 16, 16, (1, 1), (1, 1), (0, 0)),
    (3, (29, 15), 20, 40, (4, 5), (2, 3), (1, 2)),
    (3, (29, 9), 40, 70, (3, 3), (1, 1), (4, 3)),  # more padding than the kernel is long
]


class Case:
    """A size of problem with random x, w and g, and what each of the three maps takes."""

    def __init__(self, N, size, C, O, kernel, stride, padding, dtype=np.float64, layout="contiguous", seed=0):
        rng = np.random.default_rng(seed)
        shapes = (N, *size, C), (*kernel, C, O), (N, *spec.output_size(size, kernel, stride, padding), O)
        self.x, self.w, self.g = (LAYOUTS[layout](rng.normal(size=shape).astype(dtype)) for shape in shapes)
        for array in (self.x, self.w, self.g):
            array.flags.writeable = False
        self.calls = {  # name: arrays, the rest, number of terms in a sum
            "forward": ((self.x, self.w), (stride, padding), kernel[0] * kernel[1] * C),
            "input_gradient": ((self.g, self.w), (size, stride, padding), kernel[0] * kernel[1] * O),
            "weight_gradient": ((self.x, self.g), (kernel, stride, padding), math.prod(self.g.shape[:3])),
        }

    def run(self, tier, name):
        arrays, rest, _ = self.calls[name]
        return getattr(TIERS[tier], name)(*arrays, *rest)


LAYOUTS = {
    "contiguous": lambda a: a,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "sliced": lambda a: np.repeat(np.repeat(a, 2, axis=-1), 3, axis=1)[:, ::3, :, ::2],
    "reversed": lambda a: np.ascontiguousarray(np.flip(a))[::-1, ::-1, ::-1, ::-1],
}


@st.composite
def cases(draw, dtypes=(np.float32, np.float64)):
    def pair(low, high):
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    size, padding, stride = pair(1, 9), pair(0, 3), pair(1, 3)
    kernel = tuple(draw(st.integers(1, min(5, n + 2 * p))) for n, p in zip(size, padding))
    channels = st.integers(1, 5) | st.sampled_from([8, 15, 16, 17, 33, 64])
    N, C, O = draw(st.integers(0, 3)), draw(channels), draw(channels)
    dtype, layout = draw(st.sampled_from(dtypes)), draw(st.sampled_from(sorted(LAYOUTS)))
    return Case(N, size, C, O, kernel, stride, padding, dtype, layout, seed=draw(st.integers(0, 1000)))


def assert_equals_definition(case, tier, u=0.0):
    """|computed - exact| <= gamma_n sum |terms|, gamma_n = n u / (1 - n u), u = eps / 2: holds for a sum of n products in
    any order, with or without fused multiply-add (Higham 2002, section 3.1). Here the definition, in float64, stands in
    for the exact value and brings a gamma_n of its own; n + 1 covers the rounding of the bound itself. Factors that are rounded
    before, by at most u, make (1 + u)^2 of a term, and tensor cores may add with an error twice as large.
    """
    for name, (arrays, rest, terms) in case.calls.items():
        definition = getattr(spec, name)
        exact = definition(*(a.astype(np.float64) for a in arrays), *rest)
        magnitude = definition(*(abs(a.astype(np.float64)) for a in arrays), *rest)
        bound = (gamma(terms + 1, case.x.dtype) + gamma(terms + 1, np.float64)) * magnitude
        bound = bound if not u else ((1 + u) ** 2 * (1 + 2 * gamma(terms + 1, case.x.dtype)) - 1) * magnitude
        result = case.run(tier, name)
        assert result.dtype == case.x.dtype and result.shape == exact.shape, name
        assert np.all(abs(result - exact) <= bound), f"{name}: off by {np.max(abs(result - exact) / bound)} bounds"


def gamma(n, dtype):
    u = np.finfo(dtype).eps / 2
    return n * u / (1 - n * u)


# The definition


def test_forward_by_hand():
    x = np.arange(1.0, 10).reshape(1, 3, 3, 1)
    w = np.array([[1.0, 10], [100, 1000]]).reshape(2, 2, 1, 1)
    assert spec.forward(x, w, (1, 1), (0, 0))[0, :, :, 0].tolist() == [[5421, 6532], [8754, 9865]]
    assert spec.forward(x, w, (2, 2), (1, 1))[0, :, :, 0].tolist() == [[1000, 3200], [7040, 9865]]
    assert spec.forward(x, w, (1, 2), (0, 1))[0, :, :, 0].tolist() == [[4010, 6532], [7040, 9865]]


def test_channels_are_mixed_by_the_matrix_of_their_tap():
    x, w = np.array([1.0, 2]).reshape(1, 1, 1, 2), np.array([[1.0, 2, 3], [10, 20, 30]]).reshape(1, 1, 2, 3)
    assert spec.forward(x, w, (1, 1), (0, 0)).tolist() == [[[[21, 42, 63]]]]


def test_a_delta_kernel_shifts_the_image():
    x, w = np.random.default_rng(0).normal(size=(2, 4, 5, 1)), np.zeros((3, 3, 1, 1))
    w[0, 2] = 1  # the pixel above and to the right
    y = spec.forward(x, w, (1, 1), (1, 1))
    assert np.array_equal(y[:, 1:, :-1], x[:, :-1, 1:])
    assert not y[:, 0].any() and not y[:, :, -1].any()


def test_a_box_kernel_on_ones_counts_the_pixels_inside():
    y = spec.forward(np.ones((1, 3, 4, 1)), np.ones((3, 3, 1, 1)), (1, 1), (1, 1))
    assert y[0, :, :, 0].tolist() == [[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]]


@given(
    st.integers(1, 8), st.integers(1, 8), st.integers(1, 4), st.integers(1, 4),
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.tuples(st.integers(2, 3), st.integers(2, 3)),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_a_separable_kernel_is_two_one_dimensional_correlations(H, W, kh, kw, stride, padding):
    rng = np.random.default_rng(H + 10 * W)
    image, vertical, horizontal = rng.normal(size=(H, W)), rng.normal(size=kh), rng.normal(size=kw)
    expected = np.pad(image, [(padding[0],) * 2, (padding[1],) * 2])
    expected = np.apply_along_axis(np.correlate, 0, expected, vertical, "valid")
    expected = np.apply_along_axis(np.correlate, 1, expected, horizontal, "valid")
    y = spec.forward(image[None, :, :, None], np.outer(vertical, horizontal)[:, :, None, None], stride, padding)
    np.testing.assert_allclose(y[0, :, :, 0], expected[:: stride[0], :: stride[1]], rtol=1e-12, atol=1e-12)


# Every tier


@every_fast_tier
@for_all(examples=150, on_harness=20, case=cases())
def test_equals_the_definition(tier, case):
    assert_equals_definition(case, tier)


@every_fast_tier
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", LARGER_THAN_A_BLOCK, ids=str)
def test_equals_the_definition_beyond_one_block(tier, sizes, dtype):
    N, *rest = sizes
    assert_equals_definition(Case(-(-N // 20) if tier == "harness" else N, *rest, dtype), tier)


@every_fast_tier
@pytest.mark.parametrize("padding", [(0, 0), (6, 4)], ids=str)
def test_equals_the_definition_without_channels_or_images(tier, padding):
    for N, C, O in [(0, 2, 3), (2, 0, 3), (2, 3, 0), (0, 0, 0)]:
        for stride in [(1, 1), (2, 3)]:
            assert_equals_definition(Case(N, (4, 5), C, O, (1, 1), stride, padding), tier)
            assert_equals_definition(Case(N, (4, 5), C, O, (3, 2), stride, padding), tier)


@pytest.mark.parametrize("tier", every(TIERS, but=["spec", "cpu"]))
@pytest.mark.parametrize("name", ["tf32", "bf16"])
@for_all(examples=60, on_harness=10, case=cases(dtypes=[np.float32]))
def test_tensor_cores_keep_their_bound(tier, name, case):
    with tensor_cores.precision(name):
        assert_equals_definition(case, tier, u=2.0 ** -(tensor_cores.DIGITS[name] + 1))


@every_tier
@for_all(examples=50, on_harness=5, case=cases(dtypes=[np.float64]))
def test_the_three_maps_are_one_trilinear_form(tier, case):
    y, dx, dw = (case.run(tier, name) for name in case.calls)
    magnitude = np.sum(abs(case.g) * spec.forward(abs(case.x), abs(case.w), *case.calls["forward"][1]))
    terms = case.w.size * math.prod(case.g.shape[:3])  # at most: padding meets no pixel
    bound = 2 * gamma(terms + 1, np.float64) * magnitude
    assert abs(np.sum(case.g * y) - np.sum(dx * case.x)) <= bound
    assert abs(np.sum(case.g * y) - np.sum(dw * case.w)) <= bound


@every_fast_tier
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("O", [1, 16, 40])
def test_a_bias_is_added_at_every_pixel(tier, dtype, O):
    case, bias = Case(3, (9, 15), 5, O, (3, 3), (1, 2), (1, 1), dtype), np.arange(O).astype(dtype)
    y = TIERS[tier].forward(case.x, case.w, (1, 2), (1, 1), bias)
    np.testing.assert_allclose(y, case.run(tier, "forward") + bias, rtol=20 * np.finfo(dtype).eps, atol=1e-5)
    np.testing.assert_allclose(y, spec.forward(case.x, case.w, (1, 2), (1, 1), bias), rtol=1e-4, atol=1e-5)


RELU = [  # N, (H, W), C, O, kernel, stride, padding: by each way that the CPU has
    (2, (7, 9), 5, 20, (3, 3), (1, 1), (1, 1)),
    (2, (7, 9), 20, 12, (1, 1), (1, 1), (0, 0)),
    (2, (9, 8), 12, 17, (3, 4), (2, 1), (1, 2)),
    (4, (8, 8), 33, 24, (3, 3), (1, 1), (1, 1)),
    (2, (8, 6), 16, 1, (3, 3), (1, 1), (1, 1)),
    (2, (6, 7), 1, 2, (2, 2), (2, 2), (0, 1)),
]


@every_fast_tier
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", RELU, ids=str)
def test_a_relu_before_it_is_one_of_the_same_bits(tier, sizes, dtype):
    """Forward and back; the image has zeros, of both signs, and numbers that are not finite stay what they are."""
    case, module = Case(*sizes, dtype), TIERS[tier]
    x, bias = case.x.copy(), np.arange(sizes[3]).astype(dtype)
    x[0, 2, 3], x[1, 2, 3] = 0.0, -0.0
    (H, W), kernel, stride, padding = sizes[1], *sizes[4:]
    y, dw = (
        module.forward(x, case.w, stride, padding, bias, True), module.weight_gradient(x, case.g, kernel, stride, padding, True)
    )  # fmt: skip
    np.testing.assert_array_equal(y, module.forward(np.maximum(x, 0), case.w, stride, padding, bias))
    np.testing.assert_array_equal(dw, module.weight_gradient(np.maximum(x, 0), case.g, kernel, stride, padding))
    dx = module.input_gradient(case.g, case.w, (H, W), stride, padding, x)
    np.testing.assert_array_equal(dx, np.where(x > 0, module.input_gradient(case.g, case.w, (H, W), stride, padding), 0))
    np.testing.assert_allclose(y, spec.forward(x, case.w, stride, padding, bias, True), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(dw, spec.weight_gradient(x, case.g, kernel, stride, padding, True), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(dx, spec.input_gradient(case.g, case.w, (H, W), stride, padding, x), rtol=1e-4, atol=1e-3)
    x[:] = np.nan
    assert np.isnan(module.forward(x, case.w, stride, padding, None, True)[:, 1:-1, 1:-1]).all()
    assert not module.input_gradient(case.g, case.w, (H, W), stride, padding, x).any()


@every_tier
def test_pixels_that_the_stride_skips_get_no_gradient(tier):
    case = Case(1, (7, 7), 1, 1, (1, 2), (3, 3), (0, 0))
    dx = case.run(tier, "input_gradient")
    read = np.zeros((7, 7), bool)
    read[np.ix_([0, 3, 6], [0, 1, 3, 4])] = True
    assert np.array_equal(dx[0, :, :, 0] != 0, read)


@every_tier
def test_the_same_input_gives_the_same_bits(tier):
    case = Case(20, (14, 14), 16, 16, (3, 3), (1, 1), (1, 1), np.float32)
    for name in case.calls:
        assert np.array_equal(case.run(tier, name), case.run(tier, name)), name


def test_the_cpu_never_holds_the_patches_of_all_pixels():
    case = Case(32, (28, 28), 32, 32, (3, 3), (1, 1), (1, 1), np.float32)
    for array in (case.x, case.w, case.g):
        array.flags.writeable = True  # of others, a copy is taken
    for name in case.calls:
        case.run("cpu", name)  # what compiles, the first time, holds memory of its own
        tracemalloc.start()
        result = case.run("cpu", name)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < result.nbytes + 4 * 2**20, name  # all patches: 28 MiB
