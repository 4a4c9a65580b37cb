"""The product of matrices: every tier against the definition, where a GPU must do without cuBLAS, and by tensor cores."""

import math
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.cuda.harness import Harness
from tests.cuda.tiers import every, for_all, tiers
from tinygen.kernels import cuda, tensor_cores
from tinygen.kernels.matmul import gpu

TIERS = tiers("matmul")
SPEC = TIERS["spec"]
every_fast_tier = pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
on_a_gpu = pytest.mark.parametrize("tier", every(TIERS, but=("spec", "cpu")))
batches = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=3).map(lambda s: s.input_shapes)

LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2) if x.ndim > 1 else x,
    "sliced": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: np.ascontiguousarray(np.flip(x))[(slice(None, None, -1),) * x.ndim],
    "broadcast": lambda x: np.broadcast_to(x, (2, *x.shape))[1],
}
BEYOND_A_TILE = [  # shapes of a and b; groups of a long sum leave a rest
    ((70, 20), (20, 66)),
    ((130, 9), (9, 5)),
    ((5, 33), (33, 150)),  # fewer rows than columns: the transposed product
    ((1, 301), (301, 40)),
    ((601,), (601, 3)),
    ((17, 1003), (1003, 20)),
    ((3, 5, 403), (3, 403, 65)),
    ((3, 50, 7), (7, 9)),  # one matrix for all: 150 rows
    ((2, 1, 66, 3), (4, 3, 2)),
    ((2, 1, 4, 3), (5, 3, 70)),
    ((4, 3), (3, 3, 70)),
]


def product(tier, *args):
    """The kernel's own, which is chosen where a step is captured."""
    with cuda.as_captured():
        return TIERS[tier].product(*args)


def arrays(a_shape, b_shape, dtype, a_layout="contiguous", b_layout="contiguous", seed=0):
    rng = np.random.default_rng(seed)
    a, b = (
        LAYOUTS[layout](rng.normal(size=shape).astype(dtype)) for shape, layout in ((a_shape, a_layout), (b_shape, b_layout))
    )
    for x in (a, b):
        x.flags.writeable = False
    return a, b


def assert_equals_definition(tier, a, b, u=0.0):
    """|computed - exact| <= ((1 + u)^2 (1 + gamma_K) - 1) sum |terms|, for factors that are rounded by at most u before."""
    y = product(tier, a, b)
    exact, magnitude = (np.matmul(f(a).astype(np.float64), f(b).astype(np.float64)) for f in (np.asarray, abs))
    eps = np.finfo(y.dtype).eps * (a.shape[-1] + 2)
    assert y.dtype == np.result_type(a, b) and y.shape == exact.shape
    assert np.all(abs(y - exact) <= ((1 + u) ** 2 * (1 + eps) - 1) * magnitude)


# The definition


def test_the_definition_by_hand():
    a, b = np.array([[1.0, 2, 3], [4, 5, 6]]), np.array([[1.0, 10], [100, 1000], [0, 1]])
    assert SPEC.product(a, b).tolist() == [[201, 2013], [504, 5046]]
    assert SPEC.product(a[0], b).tolist() == [201, 2013] and SPEC.product(a, b[:, 0]).tolist() == [201, 504]
    assert SPEC.product(a[0], b[:, 1]) == 2013


# Every tier


@st.composite
def cases(draw):
    sides = st.integers(0, 4) | st.sampled_from([17, 33, 65])
    M, K, N = draw(sides), draw(sides), draw(sides)
    of_a, of_b = draw(batches)
    if math.prod(np.broadcast_shapes(of_a, of_b)) > 8:
        M, K, N = (min(n, 4) for n in (M, K, N))
    a = draw(st.sampled_from([(K,), (M, K), (*of_a, M, K)]))
    b = draw(st.sampled_from([(K,), (K, N), (*of_b, K, N)]))
    layouts, dtype = st.sampled_from(sorted(LAYOUTS)), draw(st.sampled_from([np.float32, np.float64]))
    return arrays(a, b, dtype, draw(layouts), draw(layouts), seed=draw(st.integers(0, 1000)))


@settings(deadline=None, max_examples=60)
@given(case=cases())
def test_the_definition_is_numpys(case):
    a, b = (x[..., :5, :5] if x.ndim > 1 else x[:5] for x in case)
    expected = np.matmul(a, b)
    np.testing.assert_allclose(SPEC.product(a, b), expected, rtol=1e-4, atol=1e-4 if a.dtype == np.float32 else 1e-12)
    assert SPEC.product(a, b).shape == expected.shape


@every_fast_tier
@for_all(examples=150, on_harness=25, case=cases())
def test_equals_the_definition(tier, case):
    assert_equals_definition(tier, *case)


@every_fast_tier
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes", BEYOND_A_TILE, ids=str)
def test_equals_the_definition_beyond_one_tile(tier, shapes, dtype):
    for layouts in (("contiguous", "transposed"), ("transposed", "contiguous")):
        assert_equals_definition(tier, *arrays(*shapes, dtype, *layouts))


@every_fast_tier
def test_two_dtypes_make_the_wider_one(tier):
    a, b = arrays((5, 7), (7, 3), np.float64)
    y = product(tier, a.astype(np.float32), b)
    np.testing.assert_allclose(y, a.astype(np.float32).astype(np.float64) @ b, rtol=1e-12)


@every_fast_tier
@pytest.mark.parametrize("shapes", [((70, 20), (20, 66)), ((3, 200), (200, 70))], ids=str)
def test_nan_reaches_its_row_and_its_column_and_nothing_else(tier, shapes):
    a, b = (x.copy() for x in arrays(*shapes, np.float32))
    a[1, 3], b[0, 2] = np.nan, np.inf
    y = product(tier, a, b)
    touched = np.zeros(y.shape, bool)
    touched[1], touched[:, 2] = True, True
    assert np.isfinite(y[~touched]).all() and np.isnan(y[1]).all() and not np.isfinite(y[:, 2]).any()


@on_a_gpu
@pytest.mark.parametrize("shapes", [((5, 20), (20, 9)), ((17, 1000), (1000, 20))], ids=str)
def test_infinity_stays_infinity(tier, shapes):
    """It would be NaN where a term is multiplied that belongs to no sum, or to that of another group: 0 times infinity."""
    a, b = (abs(x) for x in arrays(*shapes, np.float32))
    a[1], b[:, 2] = np.inf, np.inf
    y = product(tier, a, b)
    assert (y[1] == np.inf).all() and (y[:, 2] == np.inf).all() and np.isfinite(y).sum() == (len(y) - 1) * (y.shape[1] - 1)


@pytest.mark.parametrize("tier", every(TIERS, but=("gpu",)))
def test_the_product_is_written_where_it_is_asked_for(tier):
    a, b = arrays((20, 150), (150, 9), np.float32)
    for rows in (np.zeros((21, 9), np.float32), np.zeros((21, 18), np.float32)[:, ::2], np.zeros((21, 9))):
        out = rows[:-1]
        assert product(tier, a, b, out) is out
        np.testing.assert_allclose(out, a @ b, rtol=1e-4, atol=1e-4)
        assert not rows[-1].any()
    a, b, out = a.astype(np.float64), b.astype(np.float64), np.zeros((20, 9), np.float32)
    np.testing.assert_array_max_ulp(product(tier, a, b, out), (a @ b).astype(np.float32), 1)


@every_fast_tier
def test_the_same_input_gives_the_same_bits(tier):
    a, b = arrays((20, 1500), (1500, 9), np.float32)
    assert product(tier, a, b).tobytes() == product(tier, a, b).tobytes()


@every_fast_tier
@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 3), (2,)), ((2, 2, 3), (3, 3, 2)), ((3,), (2, 2))], ids=str)
def test_shapes_that_do_not_fit_are_refused(tier, shapes):
    with pytest.raises(ValueError, match="matmul|broadcast"):
        product(tier, *(np.ones(shape) for shape in shapes))


# What the GPU's version does about it


def launches(a, b):
    """The names and arguments of the launches that a product takes."""
    seen = []

    class Recorder(Harness):
        def launch(self, program, kernel, grid, block, args, shared, defines):
            seen.append((kernel, grid, args, defines))

    with cuda.launching_by(Recorder()), cuda.as_captured():
        gpu.product(a, b)
    return seen


def test_outside_of_a_capture_the_librarys_own_product_is_taken(monkeypatch):
    monkeypatch.setattr(gpu.program, "launch", None)
    a, b = arrays((5, 4), (4, 3), np.float32)
    with cuda.launching_by(Harness()):
        assert np.array_equal(gpu.product(a, b), a @ b)
        with pytest.raises(TypeError), cuda.as_captured():
            gpu.product(a, b)


def test_transposed_views_are_read_where_they_lie():
    w, x = np.ones((2, 40, 50), np.float32), np.ones((2, 70, 50), np.float32)
    for a, b in [(x, w.swapaxes(1, 2)), (w[0], x[0].T), (w.swapaxes(1, 2), w), (x[0].T, x[0])]:
        ((_, _, (left, right, *_), _), *_) = launches(a, b)
        assert {True} == {
            np.shares_memory(left, a) or np.shares_memory(left, b),
            np.shares_memory(right, a) or np.shares_memory(right, b),
        }


def test_matrices_that_repeat_are_not_copied_and_few_rows_take_a_narrow_tile():
    q, k = np.ones((2, 3, 70, 4), np.float32), np.ones((3, 4, 70), np.float32)
    ((_, grid, (left, right, *_), _),) = launches(q, k)
    assert left is q and right is k and grid == (2 * 6, 2, 1)
    ((_, grid, _, defines),) = launches(np.ones((3, 8), np.float32), np.ones((8, 640), np.float32))
    assert grid == (10, 1, 1) and defines["WIDTH"] == 8


def test_a_long_sum_is_cut_into_groups_that_are_added_in_their_order():
    (_, grid, _, _), (second, *_) = launches(np.ones((64, 3000), np.float32), np.ones((3000, 64), np.float32))
    assert grid == (1, 1, 24) and second == "add_groups"


# Tensor cores


@contextmanager
def rounded_to(name):
    with tensor_cores.precision(name):
        yield 2.0 ** -(tensor_cores.DIGITS[name] + 1)


every_precision = pytest.mark.parametrize("name", ["tf32", "bf16"])


@on_a_gpu
@every_precision
@for_all(examples=60, on_harness=8, case=cases())
def test_tensor_cores_keep_their_bound(tier, name, case):
    with rounded_to(name) as u:
        assert_equals_definition(tier, *case, u=u if case[0].dtype == np.float32 else 0.0)


@on_a_gpu
@every_precision
@pytest.mark.parametrize("shapes", BEYOND_A_TILE, ids=str)
def test_tensor_cores_keep_their_bound_beyond_one_tile(tier, name, shapes):
    with rounded_to(name) as u:
        assert_equals_definition(tier, *arrays(*shapes, np.float32, "transposed"), u=u)


@on_a_gpu
@every_precision
def test_of_numbers_with_few_digits_tensor_cores_make_the_exact_product(tier, name):
    rng = np.random.default_rng(0)
    a, b = rng.integers(-99, 99, (70, 40)), rng.integers(-99, 99, (40, 66))
    with rounded_to(name):
        assert np.array_equal(product(tier, a.astype(np.float32), b.astype(np.float32)), a @ b)


@on_a_gpu
@every_precision
def test_numbers_are_rounded_to_the_nearest(tier, name):
    """Between 1 and the next number above it; a tie goes away from zero (tf32), or to the even number (bf16)."""
    with rounded_to(name) as u:
        x = np.array([1 + 0.9 * u, 1 + 1.1 * u, 1 + 3 * u, 1 + u, 3e38, -np.inf, np.nan], np.float32)
        y = product(tier, x[:, None], np.ones((1, 1), np.float32))[:, 0]
    np.testing.assert_array_equal(y[:4], [1, 1 + 2 * u, 1 + 4 * u, 1 + 2 * u if name == "tf32" else 1])
    assert abs(y[4] / x[4] - 1) <= u and y[5] == -np.inf and np.isnan(y[6])


@on_a_gpu
@every_precision
def test_nan_stays_in_its_row_in_tensor_cores_too(tier, name):
    with rounded_to(name):
        test_nan_reaches_its_row_and_its_column_and_nothing_else(tier, ((70, 20), (20, 66)))


def test_an_unknown_precision_and_a_card_without_it_are_refused():
    with pytest.raises(ValueError, match="precision: 'fp16' is none of fp32, tf32, bf16"), tensor_cores.precision("fp16"):
        pass
    device = Harness()
    device.capability = 75
    x = np.ones((3, 3), np.float32)
    with cuda.launching_by(device), tensor_cores.precision("bf16"):
        with pytest.raises(
            RuntimeError, match="of compute capability 7.5, has no tensor cores for bf16; that takes 8.0 or later"
        ):
            gpu.product(x, x)
        assert np.array_equal(gpu.product(x.astype(float), x.astype(float)), 3 * np.ones((3, 3)))
    assert not tensor_cores.asked(x)
