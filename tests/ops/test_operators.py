"""What can be written with a value that is being differentiated: the operators, indexing and methods of an array."""

import numpy as np
import pytest

from tinygen import check_grads, grad, ops, vjp

X = np.array([[0.5, 1.5, 2.5], [3.5, 4.5, 5.5]])
SAME = {  # these read the same for an array and for a tracer
    "+": lambda x: x + X,
    "reflected +": lambda x: X + x,
    "number +": lambda x: 2 + x,
    "-": lambda x: x - X,
    "reflected -": lambda x: X - x,
    "number -": lambda x: np.float64(2) - x,
    "*": lambda x: x * X,
    "reflected *": lambda x: X[0] * x,
    "/": lambda x: x / X,
    "reflected /": lambda x: X / x,
    "number /": lambda x: 1 / x,
    "**": lambda x: x**2,
    "reflected **": lambda x: X**x,
    "number **": lambda x: 2**x,
    "@": lambda x: x @ X.T,
    "reflected @": lambda x: X.T @ x,
    "negative": lambda x: -x,
    "abs": abs,
    "index": lambda x: x[0],
    "slice": lambda x: x[:, ::-2],
    "ellipsis": lambda x: x[..., None, 1],
    "array index": lambda x: x[:, [0, 2, 0]],
    "mask": lambda x: x[X > 2],
    "sum": lambda x: x.sum(),
    "sum of an axis": lambda x: x.sum(axis=0, keepdims=True),
    "mean": lambda x: x.mean(axis=-1),
    "max": lambda x: x.max(axis=1),
    "min": lambda x: x.min(),
    "reshape": lambda x: x.reshape(3, 2),
    "reshape to a tuple": lambda x: x.reshape((3, -1)),
    "reshape to a list": lambda x: x.reshape([6]),
    "reshape to one number": lambda x: x.reshape(-1),
    "T": lambda x: x.T,
    "transpose": lambda x: x.transpose(),
    "transpose with axes": lambda x: x.transpose(1, 0),
    "transpose with a tuple": lambda x: x.transpose((1, 0)),
    "unpacking": lambda x: ops.stack(*reversed([*x])),
    "astype": lambda x: x.astype(np.float64),
}


@pytest.mark.parametrize("name", SAME)
def test_an_operation_on_a_tracer_is_that_on_its_array(name):
    f = SAME[name]
    y, _ = vjp(f, X)
    np.testing.assert_array_equal(y, f(X))
    check_grads(f, (X,))


@pytest.mark.parametrize("shape", [(1, 1), (1,), ()])
def test_a_tracer_of_one_number_can_be_reshaped_to_a_scalar(shape):
    assert grad(lambda x: x.reshape(()) ** 2)(np.full(shape, 3.0)) == 6


def test_an_array_is_added_to_in_place_by_a_new_one():
    def f(x):
        total = np.zeros(3)
        for row in x:
            total += row
        return (total * total).sum()

    np.testing.assert_array_equal(grad(f)(X), [2 * X.sum(axis=0)] * 2)


def test_comparisons_give_plain_arrays():
    def f(x):
        for y in (x > 1, x < X, X >= x, x <= 1.0, x == x, x != 2, 1 < x):
            assert type(y) is np.ndarray and y.dtype == bool
        np.testing.assert_array_equal(1 < x, X > 1)
        np.testing.assert_array_equal(X >= x, True)
        return x.sum()

    grad(f)(X)


def test_a_condition_reads_the_value():
    relu = grad(lambda x: x if x > 0 else 0.0 * x)
    assert relu(2.0) == 1 and relu(-2.0) == 0
    assert grad(lambda x: x if x else -x)(0.0) == -1
    with pytest.raises(ValueError, match="truth value of an array"):
        grad(lambda x: x.sum() if x else 0.0)(X)


def test_astype_changes_the_dtype_and_the_cotangent_comes_back_in_the_old_one():
    x = X.astype(np.float32)
    y, pullback = vjp(lambda x: x.astype(np.float64) * 2, x)
    assert y.dtype == np.float64 and pullback(y)[0].dtype == np.float32


def test_an_array_that_is_being_differentiated_cannot_be_written_to():
    def f(x):
        x[0] = 1.0
        return x.sum()

    with pytest.raises(TypeError, match="being differentiated cannot be written to; make a new one, by ops.where"):
        grad(f)(np.ones(2))
