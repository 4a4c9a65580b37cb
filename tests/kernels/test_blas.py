"""BLAS with one thread: large products in pieces are those of NumPy, and no number of threads changes a bit of them."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.kernels import blas, threads


@pytest.fixture
def pool_of():
    before = threads._pool
    yield threads.use
    threads._pool = before


def problem(M, K, N, dtype=np.float32):
    rng = np.random.default_rng(0)
    return rng.normal(size=(M, K)).astype(dtype), rng.normal(size=(K, N)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("M, K, N", [(1031, 300, 130), (130, 300, 1031), (256, 300, 256), (255, 900, 255), (3000, 70, 40)])
def test_a_product_in_pieces_is_the_product(pool_of, M, K, N, dtype):
    a, b = problem(M, K, N, dtype)
    pool_of(1)
    alone = blas.product(a, b)
    np.testing.assert_allclose(alone, a @ b, rtol=0, atol=1e-6 * K if dtype == np.float32 else 1e-14 * K)
    assert alone.dtype == dtype
    for size in 2, 3, 5:
        pool_of(size)
        out = np.full((M, N), np.nan, dtype)
        assert blas.product(a, b, out) is out
        np.testing.assert_array_equal(out, alone)


@given(M=st.integers(0, 700), K=st.integers(0, 70), N=st.integers(0, 700), turned=st.booleans())
def test_products_of_any_shape(M, K, N, turned):
    a, b = problem(M, K, N)
    a, b = (np.asfortranarray(a), b[:, ::-1]) if turned else (a, b)
    np.testing.assert_allclose(blas.product(a, b), a @ b, rtol=0, atol=1e-4)


@pytest.mark.parametrize("M, N", [(512, 200), (200, 512)])
def test_the_pieces_are_of_the_longer_side(monkeypatch, M, N):
    pieces = []

    def matmul(a, b, out):
        pieces.append(out.shape)
        return np.matmul(a, b, out=out)

    monkeypatch.setattr(blas, "np", SimpleNamespace(matmul=matmul, empty=np.empty, result_type=np.result_type))
    blas.product(*problem(M, 100, N))
    assert sorted(pieces) == [(128, N) if M > N else (M, 128)] * 4


def test_a_large_product_is_divided_and_others_are_numpys(pool_of, monkeypatch):
    pool_of(2)
    divided = []
    monkeypatch.setattr(blas, "in_parts", lambda loop, *how: divided.append(how) or loop(0, how[0]))
    blas.product(*problem(512, 100, 200))
    assert divided == [(512, 512 * 100 * 200, 128)]
    stack = np.ones((2, 300, 300), np.float32)
    whole = np.ones((300, 300), int)
    for a, b in problem(512, 30, 200), (stack, stack), (whole, whole), (np.ones(3), np.ones(3)):
        np.testing.assert_array_equal(blas.product(a, b), a @ b)
    assert len(divided) == 1
    with pytest.raises(ValueError, match="matmul"):
        blas.product(np.ones((300, 300)), np.ones((299, 300)))


def test_blas_has_one_thread_once_a_loop_was_divided():
    code = """
import numpy as np
from threadpoolctl import threadpool_info

def of_blas():
    return {each["filepath"]: each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}

before = of_blas()  # NumPy's; that of SciPy, which Numba loads, is nobody's
from tinygen.kernels import threads
threads.use(2)
threads.in_parts(lambda *_: None, 2, 10**12)
print([of_blas()[path] for path in before])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() in ("[1]", "[]"), done.stderr
