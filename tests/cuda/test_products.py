"""Whatever multiplies matrices does so without cuBLAS where a step is captured, at first and second order."""

import numpy as np
import pytest

from tests.cuda import pretended
from tests.cuda.tiers import MARKS
from tests.ops.test_linalg import SUBSCRIPTS
from tinygen import grad, ops
from tinygen.backend import to_device
from tinygen.kernels import cuda

pytestmark = MARKS["harness"]
RNG = np.random.default_rng(0)
REFUSED = "matmul", "dot", "tensordot", "einsum"


@pytest.fixture
def gpu(monkeypatch):
    """A pretended GPU where a step is captured, and which has no cuBLAS."""

    def refuse(*_, **__):
        raise NotImplementedError("cuBLAS is not allowed while a graph is captured")

    for name in ("__matmul__", "__rmatmul__", "dot"):
        monkeypatch.setattr(pretended.ndarray, name, refuse)
    with pretended.gpu() as transfers:
        import cupy

        for name in REFUSED:
            setattr(cupy, name, refuse)
        with cuda.as_captured():
            yield transfers


def numbers(*shapes):
    return [RNG.normal(size=shape) for shape in shapes]


CASES = {
    "matrices": (ops.matmul, numbers((5, 7), (7, 3))),
    "a batch and one matrix": (ops.matmul, numbers((2, 5, 7), (7, 3))),
    "two batches": (ops.matmul, numbers((2, 1, 4, 3), (3, 3, 2))),
    "a vector and a batch": (ops.matmul, numbers((3,), (2, 3, 2))),
    "a matrix and a vector": (ops.matmul, numbers((4, 3), (3,))),
    "affine": (ops.affine, numbers((4, 3), (3, 2), (2,))),
    "affine, one number": (ops.affine, numbers((4, 1), (1, 2), (2,))),
    "affine, tanh": (lambda x, w, b: ops.affine(x, w, b, ops.tanh), numbers((4, 3), (3, 2), (2,))),
    "affine, silu": (lambda x, w, b: ops.affine(x, w, b, ops.silu), numbers((4, 3), (3, 2), (2,))),
    "a bias": (lambda x, b: ops.tanh(x) * b, numbers((3, 4, 2), (2,))),
    "attention": (ops.attention, numbers((1, 2, 3, 2), (1, 2, 3, 2), (1, 2, 3, 4))),
    "einsum of three": (lambda *xs: ops.einsum("nij,jk,nk->ni", *xs), numbers((2, 3, 4), (4, 2), (2, 2))),
}


@pytest.mark.parametrize("case", CASES)
def test_products_and_their_derivatives_are_those_of_the_cpu(case, gpu):
    f, args = CASES[case]

    def slope(*args):  # along a curve, so that its own derivative is not zero
        return sum(
            (ops.square(g)).sum()
            for g in grad(lambda *args: ops.square(f(*args)).sum(), argnums=tuple(range(len(args))))(*args)
        )

    expected = [f(*args), *grad(slope, argnums=tuple(range(len(args))))(*args)]
    there = [to_device(x, "gpu") for x in args]
    seen = [f(*there), *grad(slope, argnums=tuple(range(len(args))))(*there)]
    for a, b in zip(seen, expected, strict=True):
        np.testing.assert_allclose(to_device(a, "cpu"), b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("subscripts, shapes", [(s, shapes) for s, *shapes in SUBSCRIPTS if "," in s], ids=str)
def test_einsum_is_a_row_of_products(subscripts, shapes, gpu):
    args = numbers(*shapes)
    there = [to_device(x, "gpu") for x in args]
    gpu.forget()
    seen = ops.einsum(subscripts, *there)
    assert not gpu.uploads + gpu.downloads + gpu.reads
    np.testing.assert_allclose(to_device(seen, "cpu"), np.einsum(subscripts, *args), rtol=1e-12)
