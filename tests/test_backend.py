"""Arrays and random numbers: streams that can be repeated, split and addressed, and draws with the right distribution.

Statistical tests use fixed seeds; each bound is stated in standard errors of the estimate (five or more, so that a right
generator would fail for about one seed in a million).
"""

import sys
import types

import numpy as np
import pytest

from tests.cuda import pretended
from tests.cuda.harness import missing
from tinygen import Generator, kernels
from tinygen.backend import array_module, beside, device_of, to_device

DRAWS = {
    "normal": lambda rng: rng.normal((3, 4)),
    "uniform": lambda rng: rng.uniform((3, 4)),
    "bernoulli": lambda rng: rng.bernoulli(np.full((6, 6), 0.5)),
    "categorical": lambda rng: rng.categorical(np.full((30, 5), 0.2)),
    "integers": lambda rng: rng.integers(0, 1000, (3, 4)),
    "permutation": lambda rng: rng.permutation(30),
}
every_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
N = 200_000


def same(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b)


# Streams


@every_draw
def test_equal_seeds_give_equal_streams_and_others_give_others(draw):
    a, b, c = Generator(7), Generator(7), Generator(8)
    first, second = draw(a), draw(a)
    assert same(first, draw(b)) and same(second, draw(b))
    assert not same(first, second) and not same(first, draw(c))


@every_draw
def test_the_generator_of_a_step_does_not_depend_on_what_was_drawn_before(draw):
    fresh, used = Generator(7), Generator(7)
    for _ in range(3):
        draw(used)
        used.split(2)
        used.at(1).normal(10)
    assert same(draw(fresh.at(5)), draw(used.at(5)))
    assert same(draw(fresh.at(5)), draw(fresh.at(5)))


@every_draw
def test_steps_and_the_generator_itself_are_different_streams(draw):
    rng = Generator(7)
    drawn = [draw(rng.at(step)) for step in (0, 1, 2, 1000, 2**40)] + [draw(rng), draw(Generator(8).at(0))]
    assert not any(same(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


def test_steps_of_steps_are_streams_of_their_own():
    rng = Generator(7)
    firsts = [float(g.uniform(())) for g in (rng, rng.at(1), rng.at(3), rng.at(3).at(1), rng.at(1).at(3), rng.at(3).at(3))]
    assert len(set(firsts)) == 6
    assert float(rng.at(3).at(1).uniform(())) == firsts[3]


def test_asking_for_a_step_does_not_use_the_generator():
    a, b = Generator(7), Generator(7)
    a.at(3).normal(5)
    assert same(a.normal(5), b.normal(5))


@every_draw
def test_split_generators_differ_from_each_other_and_from_their_parent(draw):
    rng = Generator(7)
    parts = rng.split(4)
    again = rng.split(4)
    drawn = [draw(part) for part in (*parts, *again)] + [draw(rng), draw(Generator(7))]
    assert not any(same(a, b) for i, a in enumerate(drawn) for b in drawn[:i])
    assert all(same(draw(a), draw(b)) for a, b in zip(Generator(7).split(2), Generator(7).split(2)))
    assert not same(draw(parts[0].at(1)), draw(parts[1].at(1)))


def test_streams_are_uncorrelated():
    rng = Generator(3)
    streams = [rng.at(0), rng.at(1), *rng.split(2), rng]
    z = np.stack([stream.normal(N, np.float64) for stream in streams])
    correlation = z @ z.T / N
    assert abs(correlation[~np.eye(len(z), dtype=bool)]).max() < 5 / np.sqrt(N)


@pytest.mark.parametrize("seed", [-1, 1.5, "7", None, True, np.ones(1, int)])
def test_a_seed_that_is_no_natural_number_is_refused(seed):
    with pytest.raises(ValueError, match="Generator: seed must be a non-negative integer, not"):
        Generator(seed)


def test_seeds_may_be_large_and_of_numpy():
    assert same(Generator(np.int64(7)).normal(3), Generator(7).normal(3))
    assert not same(Generator(2**100).normal(3), Generator(2**100 + 1).normal(3))


def test_a_negative_step_is_refused():
    with pytest.raises(ValueError, match="Generator.at: step must be at least 0, not -1"):
        Generator(0).at(-1)


# Shapes and dtypes


@pytest.mark.parametrize("draw", [Generator.normal, Generator.uniform])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0, 4)])
def test_numbers_have_the_shape_and_dtype_asked_for(draw, dtype, shape):
    x = draw(Generator(0), shape, dtype)
    assert np.shape(x) == shape and x.dtype == dtype


def test_float32_is_the_default():
    rng = Generator(0)
    assert rng.normal((2,)).dtype == rng.uniform((2,)).dtype == rng.bernoulli(np.ones(2)).dtype == np.float32
    assert rng.normal(3).shape == (3,)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0, 4)])
def test_bernoulli_and_categorical_have_the_shape_of_their_probabilities(shape):
    rng = Generator(0)
    for p_dtype in (np.float32, np.float64):
        for dtype in (np.float32, np.float64, np.uint8):
            x = rng.bernoulli(np.full(shape, 0.5, p_dtype), dtype)
            assert np.shape(x) == shape and x.dtype == dtype
    k = rng.categorical(np.full((*shape, 3), 1 / 3))
    assert np.shape(k) == shape and np.issubdtype(k.dtype, np.integer)


def test_bernoulli_takes_a_number():
    assert Generator(0).bernoulli(1.0) == 1 and Generator(0).bernoulli(0.0) == 0


# Distributions


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_of_the_normal_distribution(dtype):
    z = Generator(1).normal(N, dtype).astype(np.float64)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):  # E z^p, and the variance of z^p
        assert abs(np.mean(z**power) - moment) < 5 * np.sqrt(variance / N)
    assert abs(np.mean(z < 1) - 0.8413447460685429) < 5 * np.sqrt(0.1335 / N)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_numbers_fill_the_unit_interval(dtype):
    u = Generator(1).uniform(N, dtype)
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.astype(np.float64).mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / N)
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    chi_squared = ((counts - N / 20) ** 2 / (N / 20)).sum()
    assert chi_squared < 19 + 5 * np.sqrt(2 * 19)


@pytest.mark.parametrize("p_dtype", [np.float32, np.float64])
def test_bernoulli_frequencies(p_dtype):
    p = np.array([0, 0.01, 0.3, 0.5, 0.99, 1], p_dtype)
    x = Generator(2).bernoulli(np.broadcast_to(p, (N, 6)))
    assert set(np.unique(x)) == {0, 1}
    assert np.all(abs(x.mean(axis=0, dtype=np.float64) - p) <= 5 * np.sqrt(p * (1 - p) / N))


@pytest.mark.parametrize("scale", [1, 7.5])
def test_categorical_frequencies(scale):
    p = np.array([0.0, 0.1, 0.0, 0.65, 0.25, 0.0])
    k = Generator(2).categorical(np.broadcast_to(scale * p, (N, 6)))
    frequencies = np.bincount(k, minlength=6) / N
    assert np.all(abs(frequencies - p) <= 5 * np.sqrt(p * (1 - p) / N))  # in particular, 0 stays 0


def test_each_row_has_its_own_categorical_distribution():
    assert Generator(0).categorical(np.eye(5)[[3, 0, 4]]).tolist() == [3, 0, 4]
    assert Generator(0).categorical(np.eye(4).reshape(2, 2, 4)).tolist() == [[0, 1], [2, 3]]


def test_what_has_probability_zero_is_not_drawn_even_by_the_number_zero():
    rng = Generator(0)
    rng._random = types.SimpleNamespace(random=lambda shape, dtype=np.float64: np.zeros(shape, dtype))
    assert rng.categorical([0.0, 0.0, 1.0]) == 2
    assert rng.bernoulli(0.0) == 0


@pytest.mark.parametrize("p", [2.0, -0.1, np.nan, np.array([0.5, 1.01]), np.array([[np.nan, 0.5]], np.float32), [-1e-6]])
def test_bernoulli_takes_probabilities_only(p):
    with pytest.raises(ValueError, match=r"Generator.bernoulli: p is a probability, in \[0, 1\], not (NaN|within \[)"):
        Generator(0).bernoulli(p)


@pytest.mark.parametrize("row", [[0.0, 0.0], [np.nan, 1.0], [-1.0, 2.0], [np.inf, 1.0], [1.0, np.nan]])
def test_categorical_takes_probabilities_only(row):
    for p in (np.array(row), np.array([[0.5, 0.5], row], np.float32)):
        with pytest.raises(ValueError, match="Generator.categorical: each row must hold finite .* and not all 0, not"):
            Generator(0).categorical(p)


def test_of_no_rows_nothing_is_drawn():
    assert Generator(0).categorical(np.zeros((0, 3))).shape == Generator(0).bernoulli(np.zeros(0)).shape == (0,)


def test_integers_include_the_lower_bound_and_exclude_the_upper():
    k = Generator(4).integers(-2, 3, N)
    counts = np.bincount(k + 2, minlength=5)
    assert k.min() == -2 and k.max() == 2
    assert np.all(abs(counts / N - 0.2) < 5 * np.sqrt(0.16 / N))


def test_permutations_hold_every_number_once_in_every_place():
    rng = Generator(5)
    drawn = np.stack([rng.permutation(4) for _ in range(4000)])
    assert np.array_equal(np.sort(drawn, axis=1), np.tile(np.arange(4), (4000, 1)))
    for place in range(4):
        assert np.all(abs(np.bincount(drawn[:, place]) / 4000 - 0.25) < 5 * np.sqrt(0.1875 / 4000))


# Devices


class FakeCuPyArray:
    def get(self):
        return np.ones(2)


FakeCuPyArray.__module__ = "cupy.core"


def test_the_library_is_that_of_the_arrays(monkeypatch):
    cupy = types.ModuleType("cupy")
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert array_module() is array_module(np.ones(2), 3.0, None) is np
    assert array_module(FakeCuPyArray()) is array_module(np.ones(2), FakeCuPyArray()) is cupy


def test_an_array_stays_or_is_copied(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    x = np.ones(2)
    assert to_device(x, "cpu") is x
    assert type(to_device(FakeCuPyArray(), "cpu")) is np.ndarray
    there = FakeCuPyArray()
    assert to_device(there, "gpu") is there


@pytest.mark.parametrize("ask", [lambda: to_device(np.ones(2), "tpu"), lambda: Generator(0, "tpu")])
def test_there_are_two_devices(ask):
    with pytest.raises(ValueError, match="(to_device|Generator): device must be 'cpu' or 'gpu', not 'tpu'"):
        ask()


def cupy_with(devices=1, capability="90", error=None):
    """A module as CuPy is where there are so many devices, or where the driver gives an error."""
    cupy = types.ModuleType("cupy")

    class CUDARuntimeError(RuntimeError):
        pass

    def count():
        if error:
            raise CUDARuntimeError(error)
        return devices

    runtime = types.SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError)
    cupy.cuda = types.SimpleNamespace(runtime=runtime, Device=lambda: types.SimpleNamespace(compute_capability=capability))
    return cupy


@pytest.mark.parametrize("ask", [lambda: to_device(np.ones(2), "gpu"), lambda: Generator(0, "gpu")])
@pytest.mark.parametrize(
    "cupy, message",
    [
        (None, "no GPU arrays: CuPy is not installed; install it with pip install -e '..gpu.' in the checkout"),
        (cupy_with(error="cudaErrorInsufficientDriver"), "no GPU: the CUDA driver gave an error .cudaErrorInsufficientDriver."),
        (cupy_with(devices=0), "no GPU: CUDA sees no device"),
        (cupy_with(capability="61"), "this GPU has compute capability 6.1, and tinygen's kernels are for 7.5 and later"),
    ],
)
def test_a_gpu_that_cannot_be_used_says_why(ask, cupy, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy)  # None: importing it fails
    with pytest.raises(RuntimeError, match=message):
        ask()


def test_a_broken_cupy_says_so(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('libnvrtc.so.12: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match=r"CuPy cannot be imported \(libnvrtc.so.12: cannot open.*\); install it anew"):
        to_device(np.ones(2), "gpu")


def test_a_constant_is_copied_to_the_gpu_once():
    constant = np.arange(3.0)
    assert beside(constant, np.ones(2)) is constant
    with pretended.gpu() as transfers:
        x = to_device(np.ones(2), "gpu")
        first = beside(constant, x)
        assert beside(constant, x) is first and first.get().tolist() == [0, 1, 2]
        assert len(transfers.uploads) == 2  # x, and the constant


# Random numbers on a GPU: kernels/random, whose numbers are tested beside it


@pytest.fixture
def gpu():
    if missing():
        pytest.skip(missing())
    with pretended.gpu() as transfers:
        yield transfers


@every_draw
def test_draws_on_a_gpu_stay_there_and_are_functions_of_the_seed(gpu, draw):
    a, b = Generator(7, "gpu"), Generator(7, "gpu")
    if draw in (DRAWS["bernoulli"], DRAWS["categorical"]):
        p = to_device(np.full((30, 5), 0.2), "gpu")
        draw = (lambda rng: rng.bernoulli(p)) if draw is DRAWS["bernoulli"] else lambda rng: rng.categorical(p)
    gpu.forget()
    first, second, same_again, stepped = draw(a), draw(a), draw(b), draw(a.at(5))
    assert not gpu.uploads and not gpu.reads and device_of(first) == a.at(5).device == a.split(1)[0].device == "gpu"
    first, second, same_again, stepped = (x.get() for x in (first, second, same_again, stepped))
    on_cpu = draw(Generator(7)) if draw in DRAWS.values() else None
    assert on_cpu is None or (first.shape == on_cpu.shape and first.dtype == on_cpu.dtype)
    assert same(first, same_again) and not same(first, second) and not same(first, stepped)


def test_a_gpu_draws_the_numbers_of_kernels_random_one_stretch_after_another(gpu):
    rng = Generator(7, "gpu").at(3)
    drawn = np.concatenate([rng.normal(n).get() for n in (5, 4, 1)])  # two blocks of 4, one, and one
    key = int(np.random.SeedSequence(7).generate_state(2, np.uint64)[0])
    stream = kernels.random.normal(np.empty(16, np.float32), key, 4, 0)
    assert np.array_equal(drawn, stream[[0, 1, 2, 3, 4, 8, 9, 10, 11, 12]])


def test_distributions_on_a_gpu(gpu):
    rng, n = Generator(1, "gpu"), 4000
    p = np.array([0.0, 0.1, 0.65, 0.25])
    choices = rng.categorical(to_device(np.broadcast_to(p, (n, 4)), "gpu")).get()
    assert np.all(abs(np.bincount(choices, minlength=4) / n - p) <= 5 * np.sqrt(p * (1 - p) / n))
    bits = rng.bernoulli(to_device(np.broadcast_to(p, (n, 4)), "gpu")).get()
    assert np.all(abs(bits.mean(axis=0) - p) <= 5 * np.sqrt(p * (1 - p) / n))
    whole = rng.integers(-2, 3, n).get()
    assert np.all(abs(np.bincount(whole + 2, minlength=5) / n - 0.2) < 5 * np.sqrt(0.16 / n)) and whole.max() == 2
    assert np.array_equal(np.sort(rng.permutation(50).get()), np.arange(50))
    with pytest.raises(ValueError, match="there is no integer from 3 to 3 - 1"):
        rng.integers(3, 3, 2)


def test_probabilities_on_another_device_than_the_generator_are_refused(gpu):
    p = np.full((2, 2), 0.5)
    with pytest.raises(
        TypeError, match="Generator.bernoulli: the probabilities are on the CPU, and this generator draws on the"
    ):
        Generator(0, "gpu").bernoulli(p)
    with pytest.raises(
        TypeError, match="Generator.categorical: the probabilities are on the GPU, and this generator draws on the"
    ):
        Generator(0).categorical(to_device(p, "gpu"))


def test_splitting_is_the_same_on_both_devices(gpu):
    for a, b in zip(Generator(3).split(3), Generator(3, "gpu").split(3)):
        assert np.array_equal(a.at(2).at(1)._key, b.at(2).at(1)._key)


def test_a_generator_on_a_stream_that_is_an_array_draws_what_that_stream_holds_and_makes_no_others(gpu):
    rng = Generator(3, "gpu")
    other = rng.on_stream(to_device(np.array([5], np.uint64), "gpu")[0])
    assert np.array_equal(other.normal((9,)).get(), rng.at(4).normal((9,)).get())
    for make in (lambda: other.at(1), lambda: other.split(2)):
        with pytest.raises(TypeError, match="it makes generators on the CPU, and this one is in a graph; draw from it"):
            make()


def test_a_copy_draws_the_same_numbers():
    rng = Generator(3)
    rng.normal((4,))
    copy = rng.copy()
    assert np.array_equal(copy.normal((4,)), rng.normal((4,))) and np.array_equal(copy.split(2)[1]._key, rng.split(2)[1]._key)
