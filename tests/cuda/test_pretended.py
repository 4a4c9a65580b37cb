"""The GPU that is not there sees what moves numbers unasked, and otherwise gives what NumPy gives."""

import sys

import numpy as np
import pytest

from tests.cuda import pretended
from tests.cuda.harness import missing
from tinygen import grad, kernels, ops
from tinygen.backend import array_module, to_device

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def transfers():
    with pretended.gpu() as transfers:
        yield transfers


@pytest.fixture
def x(transfers):
    x = to_device(X, "gpu")
    transfers.forget()
    return x


def passed(transfers):
    return [len(kind) for kind in (transfers.uploads, transfers.downloads, transfers.reads)]


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x + 1 - 2 * x / 3.0 @ x.T[:, :1] ** 2,
        lambda x: -abs(x) % np.float32(2),
        lambda x: np.float32(2) * x,
        lambda x: 1 / (x + 1) > 0.3,
        lambda x: x.sum(axis=0, keepdims=True).astype(np.float64),
        lambda x: x[:, None, ::-1].reshape(-1, 2)[1],
        lambda x: x[(x > 2).argmax(axis=1)],
        lambda x: array_module(x).concatenate([x, array_module(x).exp(x)], axis=1),
        lambda x: array_module(x).where(x > 1, x, 0),
        lambda x: array_module(x).full(3, 2.0, x.dtype),
    ],
)
def test_computes_what_numpy_does_and_passes_nothing(compute, x, transfers):
    seen, expected = compute(x), compute(X)
    assert passed(transfers) == [0, 0, 0]
    np.testing.assert_array_equal(seen.get(), expected)
    assert seen.dtype == expected.dtype and type(seen).__module__ == "cupy"


@pytest.mark.parametrize(
    "compute, message",
    [
        (lambda x: np.exp(x), "numpy.exp was given an array on the GPU"),
        (lambda x: np.concatenate([x, x]), "numpy.concatenate was given an array on the GPU"),
        (lambda x: np.asarray(x), "would have been copied to the CPU"),
        (lambda x: np.zeros(2)[x], "arrays used as indices|only integers|would have been copied"),
        (lambda x: x + X, "add of an array on the GPU and one of NumPy"),
        (lambda x: X * x, "numpy.multiply was given an array on the GPU"),
        (lambda x: array_module(x).maximum(x, X), "maximum of an array on the GPU and one of NumPy"),
        (lambda x: x[np.array([1, 0])], "an index is <class 'numpy.ndarray'>: it would be uploaded at each use"),
        (lambda x: x.__setitem__(0, X[0]), "assignment of an array on the GPU and one of NumPy"),
        (lambda x: ops.exp(x) + ops.exp(X), "of an array on the GPU and one of NumPy"),
        (lambda x: grad(lambda x: (x * X).sum())(x), "arrays of NumPy and CuPy are mixed: move them to one device with"),
        (lambda x: kernels.activations.silu_gradient(x, X), "some arrays are on the CPU and some on the GPU"),
    ],
)
def test_what_would_move_numbers_unasked_is_an_error(compute, message, x):
    with pytest.raises((TypeError, IndexError), match=message):
        compute(x)


@pytest.mark.parametrize(
    "compute, counts",
    [
        (lambda x: to_device(X, "gpu"), [1, 0, 0]),
        (lambda x: array_module(x).asarray([1.0, 2.0]), [1, 0, 0]),
        (lambda x: x[[1, 0]], [1, 0, 0]),
        (lambda x: to_device(x, "cpu"), [0, 1, 0]),
        (lambda x: float(x.sum()), [0, 0, 1]),
        (lambda x: int(x[1, 1]), [0, 0, 1]),
        (lambda x: x.sum() > 3 and x.any(), [0, 0, 1]),
        (lambda x: f"{x.max():g}", [0, 0, 1]),
        (lambda x: x.tolist(), [0, 0, 1]),
        (lambda x: x.max().item(), [0, 0, 1]),
    ],
)
def test_what_is_moved_on_request_is_written_down_with_its_line(compute, counts, x, transfers):
    compute(x)
    assert passed(transfers) == counts
    (noted,) = transfers.uploads + transfers.downloads + transfers.reads
    assert "test_pretended.py:" in noted or "backend.py:" in noted


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_kernels_and_derivatives_run_there(x, transfers):
    slope = grad(lambda x: ops.silu(x).sum())(x)
    assert passed(transfers) == [0, 0, 0]
    np.testing.assert_allclose(slope.get(), grad(lambda x: ops.silu(x).sum())(X), rtol=1e-5)


def test_afterwards_everything_is_as_it_was():
    before = sys.modules.get("cupy")
    with pretended.gpu():
        assert sys.modules["cupy"] is not before
    assert sys.modules.get("cupy") is before


# Graphs


@pytest.fixture
def capture(transfers):
    """capture(f): the graph of f(), and what f returned, after f ran once with the pool that it is captured with."""
    import cupy

    def capture(f, warm=True, pool=None, stream=None):
        pool = pool or cupy.cuda.MemoryPool()
        with cupy.cuda.using_allocator(pool.malloc), stream or cupy.cuda.Stream(non_blocking=True) as stream:
            if warm:
                f()
            stream.begin_capture()
            y = f()
            return stream.end_capture(), y

    yield capture
    pretended._capture = None


def test_a_capture_computes_nothing_and_a_launch_does_it_with_what_the_arrays_hold_then(capture, x):
    total = to_device(np.zeros(3, np.float32), "gpu")

    def f():
        nonlocal total
        y = ops.exp(x)[:, ::2].T + 1
        total += y.sum(axis=1)[0]
        total[0] = 7
        return y, y[0], array_module(x).split(y, 2)[1], array_module(x).ones(2), array_module(x).asarray(2.5)

    graph, parts = capture(f)
    before = total.get()
    assert all(np.isnan(part.get()).all() for part in parts) and not np.isnan(before).any()
    for factor in (1, 3):
        x[...] = to_device(factor * X, "gpu")
        graph.launch()
        expected = np.exp(factor * X)[:, ::2].T + 1
        before[1:] += expected.sum(axis=1)[0]
        for part, right in zip(parts, (expected, expected[0], expected[1:], np.ones(2), 2.5)):
            np.testing.assert_allclose(part.get(), right, rtol=1e-6)
        np.testing.assert_allclose(total.get(), [7, *before[1:]], rtol=1e-6)


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_launches_of_kernels_are_part_of_a_graph(capture, x):
    graph, y = capture(lambda: ops.silu(x) * 2)
    x[...] = to_device(-X, "gpu")
    graph.launch()
    np.testing.assert_allclose(y.get(), 2 * ops.silu(-X), rtol=1e-6)


@pytest.mark.parametrize(
    "compute, message",
    [
        (lambda x: float(x.sum()), "not permitted when stream is capturing"),
        (lambda x: x.any() and x, "not permitted when stream is capturing"),
        (lambda x: x.get(), "not permitted when stream is capturing"),
        (lambda x: x[x > 2], "not permitted when stream is capturing: a mask"),
        (lambda x: x.argsort(), "not permitted when stream is capturing: argsort"),
        (lambda x: array_module(x).cuda.get_current_stream().synchronize(), "not permitted when stream is capturing: waiting"),
        (lambda x: x.T @ x, "cuBLAS or cuSOLVER .matmul. is not supported"),
        (lambda x: array_module(x).linalg.qr(x), "cuBLAS or cuSOLVER .qr. is not supported"),
    ],
)
def test_what_no_graph_can_hold_is_an_error(compute, message, capture, x):
    with pytest.raises((pretended.CUDARuntimeError, NotImplementedError), match=message):
        capture(lambda: compute(x))


def test_an_error_of_the_driver_spoils_the_capture(x):
    with pretended.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        with pytest.raises(pretended.CUDARuntimeError, match="Unsupported"):
            int(x[0, 0])
        with pytest.raises(pretended.CUDARuntimeError, match="Invalidated"):
            stream.end_capture()
    assert int(x[0, 1]) == 1


@pytest.mark.parametrize("compute", [lambda x: array_module(x).asarray([1.0, 2.0]), lambda x: array_module(x).stack([x] * 9)])
def test_numbers_that_were_copied_to_the_gpu_are_gone_when_the_graph_is_launched(compute, capture, x):
    graph, y = capture(lambda: compute(x))
    graph.launch()
    assert np.isnan(y.get()).all()


def test_a_graph_takes_memory_from_a_pool_of_its_own_that_has_given_out_as_much(capture, x):
    import cupy

    with pytest.raises(pretended.CUDARuntimeError, match="cudaMalloc would be called"):
        capture(lambda: x + 1, warm=False)
    with pretended.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        with pytest.raises(pretended.CUDARuntimeError, match="memory that the graph does not own"):
            x + 1
        stream.end_capture()
    for other in (cupy.cuda.Stream(), cupy.cuda.Stream.null):
        with pytest.raises(RuntimeError, match="cannot capture on the default"):
            capture(lambda: x + 1, stream=other)
