"""Random numbers by address: the published words, the same bits from every tier, exact formulas, and the right distributions.

Statistical bounds are stated in standard errors of the estimate, five or more, for one fixed key.
"""

import math
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers
from tinygen.kernels import cuda, threads
from tinygen.kernels.random import cpu

TIERS = tiers("random")
KINDS = [("bits", np.uint32), ("uniform", np.float32), ("uniform", np.float64), ("normal", np.float32), ("normal", np.float64)]
WORDS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**64 - 1])
N = 200_000

every_tier = pytest.mark.parametrize("tier", every(TIERS))
every_fast_tier = pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
every_kind = pytest.mark.parametrize("kind, dtype", KINDS)


def draw(tier, kind, dtype, n, key=0, stream=0, first=0):
    return getattr(TIERS[tier], kind)(np.zeros(n, dtype), key, stream, first)


def ulps(y, exact):
    return np.abs(y - exact) / np.spacing(np.abs(exact).astype(y.dtype))


PUBLISHED = [  # Random123's kat_vectors: (counter, key, words)
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@every_tier
@pytest.mark.parametrize("counter, key, words", PUBLISHED)
def test_the_published_words(tier, counter, key, words):
    (n0, n1, s0, s1), (k0, k1) = (([int(word, 16) for word in line.split()]) for line in (counter, key))
    y = draw(tier, "bits", np.uint32, 4, key=k0 + (k1 << 32), stream=s0 + (s1 << 32), first=n0 + (n1 << 32))
    assert [f"{word:08x}" for word in y] == words.split()


@every_fast_tier
@every_kind
@for_all(examples=30, on_harness=10, n=st.integers(0, 40), key=WORDS, stream=WORDS, first=WORDS)
def test_agrees_with_the_definition(tier, kind, dtype, n, key, stream, first):
    y, expected = (draw(t, kind, dtype, n, key, stream, first) for t in (tier, "spec"))
    assert y.dtype == dtype and y.shape == (n,)
    if kind == "normal":
        assert np.all(ulps(y, expected) <= 5)
    else:
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("tier", every(TIERS, but=("spec", "cpu")))
@every_kind
def test_every_device_gives_the_same_bits(tier, kind, dtype):
    for n in (3001, 3002, 3004):
        here, there = (draw(t, kind, dtype, n, key=7, stream=2**40 + 1, first=2**32 - 5) for t in ("cpu", tier))
        assert here.tobytes() == there.tobytes()


@every_tier
@every_kind
def test_a_number_depends_on_its_address_alone(tier, kind, dtype):
    width = 16 // np.dtype(dtype).itemsize
    whole = draw(tier, kind, dtype, 40, key=3, stream=9, first=100)
    assert np.array_equal(draw(tier, kind, dtype, 40 - 4 * width, key=3, stream=9, first=104), whole[4 * width :])
    assert np.array_equal(draw(tier, kind, dtype, 17, key=3, stream=9, first=100), whole[:17])
    others = [draw(tier, kind, dtype, 40, *address) for address in ((4, 9, 100), (3, 8, 100), (9, 3, 100), (3, 9, 110))]
    assert not any(np.any(other == whole) for other in others)  # of 40 numbers, one would be equal for one key in 10^5


@every_fast_tier
@every_kind
def test_arrays_of_any_shape_are_filled_and_nothing_else(tier, kind, dtype):
    flat = draw(tier, kind, dtype, 15, key=1)
    shaped = getattr(TIERS[tier], kind)(np.zeros((3, 1, 5), dtype), 1, 0, 0)
    assert np.array_equal(shaped, flat.reshape(3, 1, 5))
    assert getattr(TIERS[tier], kind)(np.zeros((), dtype), 1, 0, 0) == flat[0]
    assert getattr(TIERS[tier], kind)(np.zeros((2, 0), dtype), 1, 0, 0).shape == (2, 0)


@pytest.mark.parametrize("tier", every(TIERS, but=("spec", "cpu")))
@every_kind
def test_the_stream_may_be_found_on_the_gpu(tier, kind, dtype):
    for stream in (0, 9, 2**64 - 1):
        found = draw(tier, kind, dtype, 301, key=3, stream=np.array(stream, np.uint64), first=5)
        assert found.tobytes() == draw(tier, kind, dtype, 301, key=3, stream=stream, first=5).tobytes()


@every_tier
@pytest.mark.parametrize("in_a_capture", [False, True])
@for_all(examples=50, on_harness=20, numbers=st.lists(st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0]), max_size=300))
def test_the_order_is_that_of_a_stable_sort(tier, in_a_capture, numbers):
    with cuda.as_captured() if in_a_capture else nullcontext():
        y = TIERS[tier].order(np.zeros(len(numbers), np.int64), np.array(numbers))
    if in_a_capture or len(set(numbers)) == len(numbers):  # in others CuPy's sort may choose
        assert y.tolist() == sorted(range(len(numbers)), key=lambda i: numbers[i])
    assert sorted(y.tolist()) == list(range(len(numbers))) and [numbers[i] for i in y] == sorted(numbers)


@every_tier
def test_an_order_that_does_not_fit_is_refused(tier):
    with pytest.raises(TypeError, match="random.order: y is of int32; it must be of int64"):
        TIERS[tier].order(np.zeros(4, np.int32), np.zeros(4))
    for shape in ((3,), (2, 2)):
        with pytest.raises(ValueError, match="random.order: y has shape .*; both must be"):
            TIERS[tier].order(np.zeros(shape, np.int64), np.zeros(4))


@pytest.mark.parametrize("tier", ["spec", "cpu"])
@every_kind
def test_a_part_of_an_array_is_filled_where_it_lies(tier, kind, dtype):
    y = np.zeros(20, dtype)
    returned = getattr(TIERS[tier], kind)(y[3:14], 1, 0, 0)
    assert np.shares_memory(returned, y)
    assert np.array_equal(y, [0] * 3 + draw(tier, kind, dtype, 11, key=1).tolist() + [0] * 6)


@every_tier
def test_what_cannot_be_filled_is_refused(tier):
    with pytest.raises(TypeError, match="random.bits: y is of int32; it must be of uint32"):
        draw(tier, "bits", np.int32, 4)
    for kind in ("uniform", "normal"):
        with pytest.raises(TypeError, match=f"random.{kind}: y is of float16; it must be of float32 or float64"):
            draw(tier, kind, np.float16, 4)
    if tier != "gpu":  # where the array of the test is copied
        with pytest.raises(ValueError, match=r"random.normal: y, of shape \(5,\), is not contiguous"):
            TIERS[tier].normal(np.zeros(10)[::2], 0, 0, 0)


@every_kind
def test_the_number_of_threads_changes_no_bit(kind, dtype, monkeypatch):
    n = 700_001  # enough for three parts
    alone = draw("cpu", kind, dtype, n, key=5)
    monkeypatch.setattr(threads, "_pool", threads._Pool(3))
    assert draw("cpu", kind, dtype, n, key=5).tobytes() == alone.tobytes()


def test_the_normal_numbers_are_those_of_the_formula_to_four_units_in_the_last_place():
    for dtype, size, words in ((np.float32, 32, np.uint32), (np.float64, 64, np.uint64)):
        n = draw("cpu", "bits", np.uint32, N * size // 32).view(words)
        u = (n[::2].astype(dtype) + dtype(0.5)).astype(np.longdouble) / 2.0**size
        v = n[1::2].astype(np.longdouble) / 2.0**size
        quarters = np.round(4 * v)
        angle = 2 * np.longdouble(math.pi) * (v - quarters / 4)
        radius, c, s, turned = np.sqrt(-2 * np.log(u)), np.cos(angle), np.sin(angle), quarters.astype(int) % 4
        y = draw("cpu", "normal", dtype, N)
        assert ulps(y[::2], radius * np.choose(turned, [c, -s, -c, s])).max() <= 4
        assert ulps(y[1::2], radius * np.choose(turned, [s, c, -s, -c])).max() <= 4


@pytest.mark.parametrize("pair, word, size", [(cpu._pair_single, np.uint32, 32), (cpu._pair_double, np.uint64, 64)])
def test_the_farthest_numbers_the_nearest_and_those_on_the_axes(pair, word, size):
    last, quarter, farthest = word(2**size - 1), word(2 ** (size - 2)), math.sqrt(2 * (size + 1) * math.log(2))
    assert pair(word(0), word(0)) == (pytest.approx(farthest, rel=1e-6), 0)
    assert pair(last, word(0))[0] == 0  # u is rounded to 1
    for turns, direction in enumerate([(1, 0), (0, 1), (-1, 0), (0, -1)]):
        y = pair(word(0), word(turns * int(quarter)))
        assert y == tuple(pytest.approx(farthest * c, rel=1e-6) for c in direction)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_tails_and_frequencies_of_the_normal_distribution(dtype):
    z = draw("cpu", "normal", dtype, N, key=2).astype(np.float64)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):  # E z^p, and the variance of z^p
        assert abs(np.mean(z**power) - moment) < 5 * math.sqrt(variance / N)
    for pairs in (z.reshape(-1, 2), z.reshape(2, -1).T):  # the two of a pair, and numbers far apart
        assert abs(np.mean(pairs[:, 0] * pairs[:, 1])) < 5 * math.sqrt(2 / N)
        assert abs(np.mean((pairs[:, 0] * pairs[:, 1]) ** 2) - 1) < 5 * math.sqrt(2 * 8 / N)
    edges = np.concatenate([[-np.inf], np.linspace(-4, 4, 33), [np.inf]])
    share = np.diff([0.5 * math.erfc(-e / math.sqrt(2)) for e in edges])
    counts = np.histogram(z, edges)[0]
    assert ((counts - N * share) ** 2 / (N * share)).sum() < 33 + 5 * math.sqrt(2 * 33)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_numbers_fill_the_unit_interval(dtype):
    u = draw("cpu", "uniform", dtype, N, key=2)
    assert u.min() >= 0 and u.max() < 1
    for bins in (u, (u * 2**12) % 1, u[::2] * 0.5 + u[1::2] // 0.5 * 0.5):  # high digits, low digits, digits of two numbers
        counts = np.histogram(bins, bins=64, range=(0, 1))[0]
        expected = len(bins) / 64
        assert ((counts - expected) ** 2 / expected).sum() < 63 + 5 * math.sqrt(2 * 63)


def test_half_of_the_bits_change_with_any_bit_of_the_address():
    base = [3, 5, 7]
    for which in range(3):
        for bit in range(0, 64, 7):
            changed = [a ^ (1 << bit) if i == which else a for i, a in enumerate(base)]
            flipped = draw("cpu", "bits", np.uint32, 4, *base) ^ draw("cpu", "bits", np.uint32, 4, *changed)
            assert 30 <= sum(int(word).bit_count() for word in flipped) <= 98  # 128 / 2 and six standard errors
