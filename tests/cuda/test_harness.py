"""The harness finds the faults that are planted in faults.cu, and without them gives what a GPU would."""

import numpy as np
import pytest

from tests.cuda.harness import Harness, missing
from tinygen.kernels import cuda

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

PROGRAM = cuda.Program(__file__, "faults.cu", FAULT=(0, 1))
X = np.arange(1, 65, dtype=np.float32)


def launch(kernel, *args, fault, grid=(1,), block=(64,), shared=0, real="float"):
    with cuda.launching_by(Harness()):
        PROGRAM.launch(kernel, grid, block, *args, shared=shared, defines={"real": real, "FAULT": int(fault)})


ZEROS = np.zeros(64, np.float32)


def lines_with(word, kernel):
    """The numbers of a kernel's lines on which a word stands."""
    lines = PROGRAM.path.read_text().split("\n")
    first = next(i for i, line in enumerate(lines) if f"void {kernel}(" in line)
    return [i + 1 for i in range(first, first + 6) if word in lines[i]]


@pytest.mark.parametrize(
    "kernel, args, message",
    [
        ("scale", (X[:50], ZEROS[:50], np.int32(50), np.float32(3)), "argument 1: the kernel wrote behind it"),
        ("scale_before", (X,), "argument 0: the kernel wrote before it"),
        ("copy", (X[:50], ZEROS[:50], np.int32(50)), "argument 1: the kernel wrote behind it"),
        ("reverse", (X, ZEROS), "argument 1 depends on the order in which threads run"),
        ("exchange_twice", (ZEROS,), "argument 0 depends on the order in which threads run"),
        ("reverse_dynamic", (X, ZEROS), "wrote behind its 256 bytes of dynamic shared memory"),
        ("before_dynamic", (X, ZEROS), "wrote before its 256 bytes of dynamic shared memory"),
        ("static_beyond", (X, ZEROS), "wrote beyond static shared memory, beside what line {declared[1]} declares"),
        ("static_beyond_the_last", (X, ZEROS), "wrote beyond static shared memory, beside what line"),
        ("half_a_barrier", (ZEROS,), "32 threads wait at the barrier on line {0}, which 32 never reach"),
        ("two_barriers", (ZEROS,), "threads wait at different barriers, on lines {0} and {1}"),
        ("absent_lane", (ZEROS,), "thread 0 waits in a warp operation on line {0} for lane 20, which does not come"),
        ("lane_outside_the_mask", (ZEROS,), "thread 0, on line {0}, reads lane 16, which its mask 0000ffff leaves out"),
        ("stranger", (ZEROS,), "thread 16, on line {0}, is not among the lanes of its mask"),
    ],
)
def test_a_planted_fault_is_named_and_its_absence_is_not(kernel, args, message):
    args = [a.copy() for a in args]
    launch(kernel, *args, fault=False, shared=256)
    message = message.format(*lines_with("sync", kernel), declared=lines_with("__shared__", kernel))
    with pytest.raises(RuntimeError, match=f"faults.cu, {kernel}: .*{message}"):
        launch(kernel, *args, fault=True, shared=256)
    launch(kernel, *args, fault=False, shared=256)  # as if nothing had been


def test_blocks_that_wait_for_one_another_are_found():
    launch("between_blocks", np.zeros(4, np.float32), fault=False, grid=(4,))
    with pytest.raises(RuntimeError, match="depends on the order"):
        launch("between_blocks", np.zeros(4, np.float32), fault=True, grid=(4,))


@pytest.mark.parametrize("fault", [False, True])
def test_what_was_never_written_is_nan(fault):
    y, z = np.zeros(64, np.float32), np.zeros(64, np.float32)
    launch("never_written", y, fault=fault)
    assert np.isnan(y).all() if fault else (y == 1).all()
    launch("read_beyond", X, z, fault=fault)
    assert np.array_equal(z[:63], X[1:] if fault else X[:63]) and np.isnan(z[63]) == fault
    with cuda.launching_by(Harness()):
        assert np.isnan(cuda.empty((2, 3), np.float64)).all()


@pytest.mark.parametrize("real", ["float", "double"])
def test_results_without_faults(real):
    dtype = {"float": np.float32, "double": np.float64}[real]
    x, y = X.astype(dtype), np.zeros(64, dtype)
    launch("scale", x, y, np.int32(64), dtype(3), fault=False, grid=(2,), block=(32,), real=real)
    assert np.array_equal(y, 3 * x)
    launch("reverse", x, y, fault=False, real=real)
    assert np.array_equal(y, x[::-1])
    launch("reverse_dynamic", x[:48], y[:48], fault=False, block=(48,), shared=48 * x.itemsize, real=real)
    assert np.array_equal(y[:48], x[47::-1])


def test_warps_sum_vote_and_count():
    sums, ballots, votes = np.zeros(194, np.float32), np.zeros(2, np.uint32), np.ones(1, np.int32)
    launch("warp_sums", X, sums, ballots, votes, fault=False)
    warps = X.reshape(2, 32)
    assert sums[:2].tolist() == warps.sum(axis=1).tolist()
    assert sums[2:66].reshape(2, 32).tolist() == np.repeat(warps.sum(axis=1)[:, None], 32, axis=1).tolist()
    assert sums[66:130].reshape(2, 32).tolist() == warps.cumsum(axis=1).tolist()
    assert sums[130:].reshape(8, 8).tolist() == np.repeat(X.reshape(8, 8)[:, 3:4], 8, axis=1).tolist()
    assert ballots.tolist() == [0xAAAAAAAA] * 2 and votes == [6]


def test_threads_and_blocks_know_where_they_are():
    y = np.zeros(2 * 3 * 2 * 24, np.int32)
    launch("where", y, fault=False, grid=(2, 3, 2), block=(4, 3, 2))
    assert y.tolist() == [1000 * block + thread for block in range(12) for thread in range(24)]


@pytest.mark.parametrize(
    "args, message",
    [
        ((X, X.copy(), np.int64(64), np.float32(3)), "argument 2 is of type i8, where the kernel takes i4"),
        ((X, X.astype(float), np.int32(64), np.float32(3)), "argument 1 is of type f8, where the kernel takes f4"),
        ((X, X.copy(), np.int32(64), np.float64(3)), "argument 3 is of type f8, where the kernel takes f4"),
        ((X, np.int32(0), np.int32(64), np.float32(3)), "argument 1 is int32, where the kernel takes an array"),
        ((X, X.copy()), "takes 4 arguments, not 2"),
    ],
)  # fmt: skip
def test_arguments_of_the_wrong_type_are_refused(args, message):
    with pytest.raises(TypeError, match=f"faults.cu, scale: .*{message}"):
        launch("scale", *args, fault=False)


def test_an_array_to_write_to_must_be_writeable():
    y = np.zeros(64, np.float32)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="argument 1 is read-only"):
        launch("scale", X, y, np.int32(64), np.float32(3), fault=False)


def test_an_unknown_kernel_and_a_mistake_in_c_are_reported(tmp_path):
    with pytest.raises(RuntimeError, match="faults.cu, scales: there is no"):
        launch("scales", X, fault=False)
    (tmp_path / "wrong.cu").write_text('extern "C" __global__ void wrong(float* y) {\n    y[0] = z;\n}\n')
    with pytest.raises(RuntimeError, match="cannot compile(?s:.)*wrong.cu:2:"), cuda.launching_by(Harness()):
        cuda.Program(tmp_path / "gpu.py", "wrong.cu").launch("wrong", (1,), (1,), X)
