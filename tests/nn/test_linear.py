"""Linear maps against NumPy's products, and lookups against one-hot products."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator, check_grads, grad, ops
from tinygen.autograd import tree
from tinygen.nn import Embedding, Linear, init


def as_float64(t):
    return tree.map(lambda leaf: leaf.astype(np.float64), t)


@settings(max_examples=30, deadline=None)
@given(batch=st.lists(st.integers(0, 4), max_size=3), d_in=st.integers(1, 5), d_out=st.integers(1, 5), bias=st.booleans())
def test_linear_is_the_product_along_the_last_axis(batch, d_in, d_out, bias):
    rng = Generator(0)
    layer = as_float64(Linear.init(rng, d_in, d_out, bias, initialiser=init.normal(1)))
    if bias:
        layer = tree.replace(layer, "bias", rng.normal(d_out, np.float64))
    x = rng.normal((*batch, d_in), np.float64)
    y = layer(x)
    assert y.shape == (*batch, d_out) and y.dtype == np.float64
    for i in np.ndindex(*batch):
        start = layer.bias if bias else np.zeros(d_out)
        expected = [sum((x[i][k] * layer.weight[k, j] for k in range(d_in)), start[j]) for j in range(d_out)]
        np.testing.assert_allclose(y[i], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_linear_has_gradients_of_second_order(bias, batch):
    rng = Generator(1)
    check_grads(lambda layer, x: layer(x), (Linear.init(rng, 3, 2, bias), rng.normal((*batch, 3))))


def test_linear_keeps_float32_and_starts_with_bias_0():
    layer = Linear.init(Generator(0), 3, 2)
    assert (layer.bias == 0).all()
    assert layer(np.ones((4, 3), np.float32)).dtype == np.float32
    assert Linear.init(Generator(0), 3, 2, bias=False).bias is None


@pytest.mark.parametrize("shape", [(), (3,), (5, 3), (4, 2, 2)])
def test_linear_refuses_another_last_axis_and_says_how_to_flatten(shape):
    layer = Linear.init(Generator(0), 4, 2)
    with pytest.raises(ValueError, match=r"Linear: x has shape \(.*\), but its last axis must have length 4; .*flatten"):
        layer(np.ones(shape, np.float32))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4), max_size=3), st.integers(1, 6), st.integers(1, 4))
def test_embedding_is_the_one_hot_product(shape, n, d):
    rng = Generator(0)
    table = Embedding.init(rng, n, d)
    i = np.asarray(rng.integers(0, n, tuple(shape)))
    np.testing.assert_array_equal(table(i), np.eye(n, dtype=np.float32)[i] @ table.weight)
    assert table(i).shape == (*shape, d)


def test_embedding_has_gradients_of_second_order_and_adds_up_repeated_rows():
    table = Embedding.init(Generator(0), 4, 3)
    i = np.array([[1, 1], [3, 1]])
    check_grads(lambda table: ops.exp(table(i)), (table,))
    g = grad(lambda table: table(i).sum())(table)
    np.testing.assert_array_equal(g.weight, np.array([0, 3, 0, 1])[:, None] * np.ones(3))


def test_embedding_starts_as_standard_normal():
    assert abs(Embedding.init(Generator(0), 500, 100).weight.var() - 1) < 5 * np.sqrt(2 / 50_000)


@pytest.mark.parametrize("i, seen", [([0, 4], "from 0 to 4"), ([-1, 2], "from -1 to 2")])
def test_embedding_refuses_indices_out_of_range(i, seen):
    with pytest.raises(IndexError, match=f"Embedding: indices {seen}, but the table has rows 0 to 3"):
        Embedding.init(Generator(0), 4, 2)(np.array(i))


def test_embedding_refuses_what_is_not_an_integer_array_and_takes_an_empty_one():
    table = Embedding.init(Generator(0), 4, 2)
    with pytest.raises(TypeError, match="integer array, not float64"):
        table(np.zeros(2))
    with pytest.raises(TypeError, match="integer array, not list"):
        table([0, 1])
    assert table(np.zeros((0,), int)).shape == (0, 2)
