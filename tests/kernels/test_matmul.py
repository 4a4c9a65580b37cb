"""The product of matrices: every tier against the definition, where a GPU must do without cuBLAS, and by tensor cores."""

import math
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.cuda.harness import Harness
from tests.cuda.tiers import every, for_all, tiers
from tinygen.kernels import cuda, tensor_cores, threads
from tinygen.kernels.bias import cpu as bias
from tinygen.kernels.matmul import cpu, gpu

ROOT = Path(__file__).parents[2]

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


# What the CPU's version does about it

sizes = st.sampled_from([cpu.TALL, 9, 17, 30]), st.sampled_from([1, 2, 15, 16, 33]), st.sampled_from([cpu.WIDE, 33, 47, 48, 65])
fast = pytest.mark.skipif(not cpu.FAST, reason="this processor has no fused multiply-add")
STRIDED = (
    LAYOUTS
    | {  # rows with gaps between them, and in their reversed order
        "columns of more": lambda x: np.pad(x, [(0, 0), (1, 2)])[:, 1:-2],
        "rows of more": lambda x: np.repeat(x, 2, axis=0)[::2],
        "rows upside down": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    }
)
GUARD = np.float32(7.25)


@fast
@settings(deadline=None, max_examples=100)
@given(M=sizes[0], K=sizes[1], N=sizes[2], layouts=st.tuples(*[st.sampled_from(sorted(STRIDED))] * 2), seed=st.integers(0, 99))
def test_tiles_write_what_they_should_and_nothing_else(M, K, N, layouts, seed):
    rng = np.random.default_rng(seed)
    a, b = (STRIDED[layout](rng.normal(size=shape).astype(np.float32)) for shape, layout in zip([(M, K), (K, N)], layouts))
    guarded = np.full((M + 2, N), GUARD)
    assert cpu.suits(a, b) and cpu.product(a, b, guarded[1:-1]) is not None
    np.testing.assert_allclose(guarded[1:-1], SPEC.product(a.astype(np.float64), b), rtol=1e-5, atol=1e-4)
    assert (guarded[[0, -1]] == GUARD).all()
    assert guarded[1:-1].tobytes() == cpu.product(np.array(a), np.array(b)).tobytes()  # wherever the factors lie


@fast
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("M, K, N", [(40, 2 * cpu.STRETCH + 7, 50), (2 * cpu.ROWS + 5, 40, 33), (cpu.ROWS + 1, 600, 70)])
def test_stretches_of_a_sum_and_of_rows_are_put_together(M, K, N, turned):
    assert_equals_definition("cpu", *arrays((M, K), (K, N), np.float32, *["transposed" if turned else "contiguous"] * 2))


@fast
@settings(deadline=None, max_examples=60)
@given(M=sizes[0], K=sizes[1] | st.just(cpu.STRETCH + 5), N=sizes[2], turned=st.booleans(), seed=st.integers(0, 99))
def test_what_follows_a_product_is_what_separate_passes_make(M, K, N, turned, seed):
    rng = np.random.default_rng(seed)
    a, b, y = (rng.normal(size=shape).astype(np.float32) for shape in ((M, K), (K, N), (M, N)))
    b, rows = LAYOUTS["transposed"](b) if turned else b, np.empty((M + 1, N), np.float32)
    rows[:-1], rows[-1] = cpu.product(a, b), rng.normal(size=N)
    y[1], y[0, 0], rows[-1, 1] = 0, np.nan, np.nan
    assert cpu.affine(a, b, rows[-1]).tobytes() == (rows[:-1] + rows[-1]).tobytes()
    assert cpu.affine(a, b, rows[-1], relu=True).tobytes() == bias.forward(rows, "relu").tobytes()
    assert cpu.relu_gradient(a, b, y).tobytes() == bias.backward(rows[:-1], y, "relu").tobytes()


@fast
def test_no_bit_depends_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    for shapes in (((130, 300), (300, 210)), ((3001, 90), (90, 40))):  # divided by columns, and by rows
        a, b = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
        y = rng.normal(size=(shapes[0][0], shapes[1][1])).astype(np.float32)
        several = []
        for n in (1, 2, 3):
            with threads_used(n):
                several.append([cpu.product(a, b), cpu.affine(a, b, y[0], True), cpu.relu_gradient(a, b, y)])
        assert all(x.tobytes() == z.tobytes() for others in several[1:] for x, z in zip(several[0], others))


@contextmanager
def threads_used(n):
    before = threads._pool.size
    threads.use(n)
    try:
        yield
    finally:
        threads.use(before)


def test_what_tiles_do_not_suit_is_blas_affair(monkeypatch):
    def x(*shape, dtype=np.float32):
        return np.zeros(shape, dtype)

    many = 1 << 15
    unsuited = [
        (x(cpu.TALL - 1, 9), x(9, 64)), (x(64, 9), x(9, cpu.WIDE - 1)), (x(64, 0), x(0, 64)), (x(2, 64, 9), x(9, 64)),
        (x(64), x(64, 64)), (x(64, 9, dtype=np.float64), x(9, 64)), (x(64, 8), x(9, 64)),
        (np.broadcast_to(x(1, 1), (many, many)), np.broadcast_to(x(1, 1), (many, many))),
    ]  # fmt: skip
    assert not any(cpu.suits(a, b) for a, b in unsuited)
    assert cpu.suits(x(64, 9), x(9, 64)) == cpu.FAST
    monkeypatch.setattr(cpu, "FAST", False)
    assert not cpu.suits(x(64, 9), x(9, 64))
    np.testing.assert_array_equal(cpu.product(x(64, 9) + 1, x(9, 64) + 1), 9)


def test_blas_gives_the_same_bits_wherever_its_factors_lie():
    """NumPy hands it vectors with gaps, and it sums them in another order."""
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(256, 2)).astype(np.float32)
    g = rng.normal(size=(256, 64)).astype(np.float32)
    assert cpu.product(pairs[:, :1].T, g).tobytes() == cpu.product(pairs[:, :1].copy().T, g).tobytes()
    assert cpu.product(g.T, pairs[:, :1]).tobytes() == cpu.product(g.T, pairs[:, :1].copy()).tobytes()


OLDER = """
import numpy as np
from llvmlite import binding
features = binding.get_host_cpu_features()
features.update({name: False for name in features if name.startswith("avx512")})
binding.get_host_cpu_features = lambda: features
from tinygen.kernels.matmul import cpu
assert (cpu.TALL, cpu.WIDE) == (6, 16)
rng = np.random.default_rng(0)
for M, K, N in [(6, 1, 16), (13, 33, 40), (300, 600, 23), (31, 8, 8 * 7)]:
    a, b, c = (rng.normal(size=shape).astype(np.float32) for shape in ((M, K), (K, N), (N, K)))
    assert cpu.suits(a, b)
    np.testing.assert_allclose(cpu.product(a, b), a.astype(float) @ b, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(cpu.product(a, c.T), a.astype(float) @ c.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(cpu.product(a.T.copy().T, b), a.astype(float) @ b, rtol=1e-4, atol=1e-4)
"""


@fast
def test_registers_of_eight_numbers_give_the_same(tmp_path):
    own_cache = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}  # or machine code for 16 would be found
    result = subprocess.run([sys.executable, "-c", OLDER], cwd=ROOT, env=own_cache, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


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
