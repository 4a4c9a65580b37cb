"""Moving numbers about: what NumPy does, in every layout; and as all of these maps are linear, derivatives are exact."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygen import check_grads, grad, ops, vjp

some = settings(max_examples=25, deadline=None)

LAYOUTS = [
    lambda x: x,
    lambda x: np.array(x.T, order="C").T,
    lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    lambda x: np.ascontiguousarray(x[::-1])[::-1] if x.ndim else x,
]


@st.composite
def arrays(draw, min_dims=1, max_dims=3, min_side=0):
    shape = draw(hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=3))
    x = np.random.default_rng(draw(st.integers(0, 2**32))).normal(size=shape)
    return draw(st.sampled_from(LAYOUTS))(x)


def an_axis(draw, x, extra=0):
    return draw(st.integers(-x.ndim - extra, x.ndim + extra - 1))


# Each case draws the rest of a problem for x and returns (operation, NumPy's), both functions of x


def reshape(draw, x):
    shape = tuple(draw(st.permutations([n for n in x.shape] + [1])))
    shape = draw(st.sampled_from([shape, (-1,) if x.size else (0,), (math.prod(x.shape),)]))
    return (lambda x: ops.reshape(x, shape=shape)), (lambda x: np.reshape(x, shape))


def transpose(draw, x):
    axes = draw(st.none() | st.permutations(range(x.ndim)).map(lambda p: tuple(a - x.ndim * (a % 2) for a in p)))
    return (lambda x: ops.transpose(x, axes=axes)), (lambda x: np.transpose(x, axes))


def basic_index(draw, x):
    key = draw(hnp.basic_indices(x.shape, allow_newaxis=True, allow_ellipsis=True))
    return (lambda x: ops.index(x, key=key)), (lambda x: x[key])


def integer_index(draw, x):
    if 0 in x.shape:
        return basic_index(draw, x)
    key = draw(hnp.integer_array_indices(x.shape, result_shape=hnp.array_shapes(max_dims=2, max_side=4)))
    return (lambda x: ops.index(x, key=key)), (lambda x: x[key])


def mask_index(draw, x):
    mask = draw(hnp.arrays(bool, x.shape[: draw(st.integers(1, x.ndim))]))
    return (lambda x: ops.index(x, key=mask)), (lambda x: x[mask])


def take(draw, x):
    axis = an_axis(draw, x)
    indices = draw(hnp.arrays(int, (2, 2), elements=st.integers(0, x.shape[axis] - 1))) if x.shape[axis] else np.zeros(0, int)
    return (lambda x: ops.take(x, indices, axis=axis)), (lambda x: np.take(x, indices, axis=axis))


def take_along_axis(draw, x):
    axis = an_axis(draw, x)
    shape = [draw(st.sampled_from([n, 1])) for n in x.shape]  # the other axes may broadcast
    shape[axis] = draw(st.integers(0, 4)) if x.shape[axis] else 0
    indices = draw(hnp.arrays(int, shape, elements=st.integers(0, max(x.shape[axis] - 1, 0))))
    return (lambda x: ops.take_along_axis(x, indices, axis=axis)), (lambda x: np.take_along_axis(x, indices, axis))


def pad(draw, x):
    widths = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in x.shape)
    return (lambda x: ops.pad(x, widths=widths)), (lambda x: np.pad(x, widths))


def flip(draw, x):
    axis = an_axis(draw, x)
    return (lambda x: ops.flip(x, axis=axis)), (lambda x: np.flip(x, axis))


def expand_dims(draw, x):
    axis = draw(st.integers(-x.ndim - 1, x.ndim))
    return (lambda x: ops.expand_dims(x, axis)), (lambda x: np.expand_dims(x, axis))


def squeeze(draw, x):
    axis = draw(st.sampled_from([None, *(i - x.ndim * (i % 2) for i, n in enumerate(x.shape) if n == 1)]))
    return (lambda x: ops.squeeze(x, axis)), (lambda x: np.squeeze(x, axis))


def flatten(draw, x):
    start = draw(st.integers(0, x.ndim - 1))
    return (lambda x: ops.flatten(x, start)), (lambda x: x.reshape(*x.shape[:start], math.prod(x.shape[start:])))


def swapaxes(draw, x):
    a, b = an_axis(draw, x), an_axis(draw, x)
    return (lambda x: ops.swapaxes(x, a, b)), (lambda x: np.swapaxes(x, a, b))


def moveaxis(draw, x):
    a, b = an_axis(draw, x), an_axis(draw, x)
    return (lambda x: ops.moveaxis(x, a, b)), (lambda x: np.moveaxis(x, a, b))


def repeat(draw, x):
    n, axis = draw(st.integers(0, 3)), an_axis(draw, x)
    return (lambda x: ops.repeat(x, n, axis=axis)), (lambda x: np.repeat(x, n, axis=axis))


def tril(draw, x):
    k = draw(st.integers(-3, 3))
    wide = x[None] if x.ndim == 1 else x
    return (lambda x: ops.tril(x.reshape(wide.shape), k)), (lambda x: np.tril(x.reshape(wide.shape), k))


def triu(draw, x):
    k = draw(st.integers(-3, 3))
    wide = x[None] if x.ndim == 1 else x
    return (lambda x: ops.triu(x.reshape(wide.shape), k)), (lambda x: np.triu(x.reshape(wide.shape), k))


def broadcast_to(draw, x):
    shape = tuple(draw(st.integers(0, 3)) if n == 1 else n for n in x.shape)
    shape = (*draw(st.lists(st.integers(0, 2), max_size=2)), *shape)
    return (lambda x: ops.broadcast_to(x, shape=shape)), (lambda x: np.broadcast_to(x, shape))


def sum_to(draw, x):
    kept = draw(st.integers(0, x.ndim))
    shape = tuple(draw(st.sampled_from([1, n])) for n in x.shape[x.ndim - kept :])

    def by_hand(x):
        x = x.sum(axis=tuple(range(x.ndim - kept)))
        return x.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)

    return (lambda x: ops.sum_to(x, shape=shape)), by_hand


def scatter_add(draw, x):
    """Rows of x, added to rows that may be named twice."""
    rows = draw(hnp.arrays(int, x.shape[:1], elements=st.integers(0, 3)))

    def by_hand(x):
        y = np.zeros((4, *x.shape[1:]), x.dtype)
        for i, row in enumerate(rows):
            y[row] += x[i]
        return y

    return (lambda x: ops.scatter_add(x, key=rows, shape=(4, *x.shape[1:]))), by_hand


CASES = [
    reshape, transpose, basic_index, integer_index, mask_index, take, take_along_axis, pad, flip, expand_dims, squeeze, flatten,
    swapaxes, moveaxis, repeat, tril, triu, broadcast_to, sum_to, scatter_add,
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@given(data=st.data())
@some
def test_does_what_numpy_does_and_its_derivatives_are_right(case, data):
    x = data.draw(arrays())
    op, reference = case(data.draw, x)
    for dtype in (np.float32, np.float64):
        z = x.astype(dtype)
        y, pullback = vjp(op, z)
        assert y.dtype == dtype and y.shape == reference(z).shape
        np.testing.assert_allclose(y, reference(z), rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)
        (g,) = pullback(np.ones(y.shape, dtype))
        assert g.dtype == dtype and g.shape == x.shape
    assert max(check_grads(op, (x,), order=2), default=0) < 1e-9


@given(data=st.data())
@some
def test_scattering_to_a_slice_and_indexing_undo_one_another(data):
    key = data.draw(hnp.basic_indices((3, 4), allow_newaxis=True, allow_ellipsis=True))
    x = np.random.default_rng(0).normal(size=np.zeros((3, 4))[key].shape)
    y = ops.scatter_add(x, key=key, shape=(3, 4))
    np.testing.assert_array_equal(y[key], x)
    assert np.count_nonzero(y) == x.size
    assert max(check_grads(lambda x: ops.scatter_add(x, key=key, shape=(3, 4)), (x,), order=2)) < 1e-9


@pytest.mark.parametrize("join", ["concatenate", "stack"])
@given(data=st.data())
@some
def test_joining(join, data):
    x = data.draw(arrays(min_side=1))
    if join == "stack":
        axis = data.draw(st.integers(-x.ndim - 1, x.ndim))
        parts = [x, 2 * x, x - 1]
    else:
        axis = an_axis(data.draw, x)
        parts = [x, np.flip(x), x.take([0] * data.draw(st.integers(0, 2)), axis=axis)]
    y = getattr(ops, join)(*(part.astype(np.float32) for part in parts), axis=axis)
    np.testing.assert_array_equal(y, getattr(np, join)([part.astype(np.float32) for part in parts], axis))
    assert y.dtype == np.float32
    assert max(check_grads(lambda *parts: getattr(ops, join)(*parts, axis=axis), parts, order=2)) < 1e-9


@given(data=st.data())
@some
def test_splitting_undoes_concatenating(data):
    x = data.draw(arrays())
    axis = an_axis(data.draw, x)
    n = x.shape[axis]
    cut = data.draw(st.integers(0, n))
    for sections in ((cut, n - cut), [n], n or [0], *([2] if n == 2 else [])):
        parts = ops.split(x, sections, axis=axis)
        np.testing.assert_array_equal(np.concatenate(parts, axis=axis), x)
    assert max(check_grads(lambda x: tuple(ops.split(x, (cut, n - cut), axis=axis)), (x,), order=2)) < 1e-9


def test_equal_parts_are_equal():
    a, b = ops.split(np.arange(12).reshape(2, 6), 2)
    assert a.tolist() == [[0, 1, 2], [6, 7, 8]] and b.tolist() == [[3, 4, 5], [9, 10, 11]]
    assert [part.shape for part in ops.split(np.ones((4, 3)), (1, 3), axis=0)] == [(1, 3), (3, 3)]


def test_an_entry_that_is_indexed_twice_gets_both_cotangents():
    g = grad(lambda x: (x[[0, 2, 0]] * np.array([1.0, 10.0, 100.0])).sum())(np.ones(3))
    assert g.tolist() == [101, 0, 10]
    x, rows = np.zeros((2, 3)), np.array([[0, 0], [2, 1]])
    y, pullback = vjp(lambda x: ops.take_along_axis(x, rows, axis=1), x)
    assert pullback(np.array([[1.0, 10.0], [100.0, 1000.0]]))[0].tolist() == [[11, 0, 0], [0, 1000, 100]]


@pytest.mark.parametrize(
    "key", [1, np.int64(1), -2, slice(0, 2), None, Ellipsis, (slice(None), 1), True, [0, 1], np.array([1, 1])]
)
def test_every_kind_of_key(key):
    x = np.arange(6.0).reshape(3, 2)
    assert max(check_grads(lambda x: x[key], (x,))) < 1e-9


def test_triangles_ignore_what_they_leave_out():
    x = np.array([[1.0, np.inf], [2.0, np.nan]])
    assert ops.tril(x)[0].tolist() == [1, 0] and ops.triu(x)[1, 0] == 0
    np.testing.assert_array_equal(grad(lambda x: ops.tril(x, -1).sum())(x), [[0, 0], [1, 0]])
    np.testing.assert_array_equal(grad(lambda x: ops.triu(x, 1).sum())(x), [[0, 1], [0, 0]])
    assert ops.tril(np.ones((2, 2), int)).dtype == int


@pytest.mark.parametrize(
    "f, says",
    [
        (lambda x: ops.reshape(x, shape=(4,)), r"^reshape\(float64\(2, 3\)\): cannot reshape array of size 6"),
        (lambda x: ops.split(x, 2), r"^split: axis -1 of shape \(2, 3\) cannot be cut into 2 equal parts; give the lengths"),
        (lambda x: ops.split(x, (1, 1)), r"^split: lengths \[1, 1\] add up to 2, but axis -1 of \(2, 3\) has 3"),
        (lambda x: ops.squeeze(x, 1), r"^squeeze: axis 1 of shape \(2, 3\) has length 3, not 1"),
        (lambda x: ops.concatenate(x, x[0]), r"^concatenate\(float64\(2, 3\), float64\(3,\)\): "),
        (lambda x: ops.stack(x, x[0]), r"^stack\(float64\(2, 3\), float64\(3,\)\): "),
        (lambda x: ops.transpose(x, axes=(0,)), r"^transpose\(float64\(2, 3\)\): axes don't match"),
        (lambda x: ops.broadcast_to(x, shape=(3, 2)), r"^broadcast_to\(float64\(2, 3\)\): "),
    ],
)
def test_errors_name_the_operation_and_the_shapes(f, says):
    with pytest.raises(ValueError, match=says):
        f(np.ones((2, 3)))


def test_concatenate_refuses_a_list():
    with pytest.raises(TypeError, match=r"concatenate\(a, b\)"):
        ops.concatenate([np.ones(2), np.ones(2)])
