"""erf: every tier of this machine against the definition, and the definition against known values."""

import math

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.cuda.tiers import every, for_all, tiers
from tinygen.kernels.erf import spec

TIERS = tiers("erf")
every_tier = pytest.mark.parametrize("tier", every(TIERS))
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])

LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: np.array(x.T, order="C").T,
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "read-only": lambda x: np.broadcast_to(x, (2, *x.shape))[1],
}


def run(tier, x):
    return TIERS[tier].forward(x)


def assert_close(y, reference):
    """Within four units in the last place of each element; NaN and infinity where the reference has them."""
    epsilon = np.finfo(y.dtype).eps
    np.testing.assert_allclose(y, reference, rtol=4 * epsilon, atol=np.finfo(y.dtype).tiny)


def test_the_definition_knows_the_table():
    x = np.array([0.0, 0.5, 1.0, 2.0, 3.0])  # Abramowitz & Stegun 1964, table 7.1
    np.testing.assert_allclose(spec.forward(x), [0, 0.5204998778, 0.8427007929, 0.9953222650, 0.9999779095], rtol=0, atol=5e-11)


def test_the_definition_integrates_the_gaussian():
    for upper in (0.3, 1.7):
        t = (np.arange(20000) + 0.5) * upper / 20000
        integral = 2 / math.sqrt(math.pi) * np.exp(-(t**2)).sum() * upper / 20000
        assert abs(spec.forward(np.array([upper, -upper])) - [integral, -integral]).max() < 1e-8


@every_tier
@pytest.mark.parametrize("layout", LAYOUTS)
@every_dtype
@for_all(
    examples=20,
    on_harness=10,
    x=hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5), elements=st.floats(-7, 7)),
)
def test_agrees_with_the_definition_whatever_the_layout(tier, layout, dtype, x):
    x = LAYOUTS[layout](x.astype(dtype))
    before = x.copy()
    y = run(tier, x)
    assert y.shape == x.shape and y.dtype == dtype
    assert_close(y, spec.forward(x.astype(np.float64)))
    np.testing.assert_array_equal(x, before)


@every_tier
@every_dtype
def test_takes_an_array_without_axes(tier, dtype):
    y = run(tier, np.array(0.5, dtype))
    assert y.shape == () and y.dtype == dtype
    assert_close(y, math.erf(0.5))


@every_tier
@every_dtype
def test_tails_saturate_small_numbers_keep_their_digits_and_nan_stays(tier, dtype):
    tiny = 1e-30
    x = np.array([-np.inf, -1e4, -0.0, tiny, 30, np.inf, np.nan], dtype)
    y = run(tier, x)
    assert_close(y, [-1, -1, 0, 2 / math.sqrt(math.pi) * float(x[3]), 1, 1, math.nan])


@every_tier
def test_is_odd(tier):
    x = np.linspace(0, 6, 601)
    np.testing.assert_array_equal(run(tier, -x), -run(tier, x))
