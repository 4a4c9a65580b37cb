"""Linear algebra: products of every kind of shape, solutions and determinants of well-conditioned matrices, two orders."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygen import check_grads, grad, ops, vjp

some = settings(max_examples=30, deadline=None)
sides = st.integers(0, 3)
batches = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, min_side=0, max_side=2).map(lambda s: s.input_shapes)
close = np.testing.assert_allclose

LAYOUTS = [
    lambda x: x,
    lambda x: np.array(x.T, order="C").T,
    lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    lambda x: np.ascontiguousarray(x[::-1])[::-1] if x.ndim else x,
]


@st.composite
def arrays(draw, shape):
    x = np.random.default_rng(draw(st.integers(0, 2**32))).normal(size=shape)
    return draw(st.sampled_from(LAYOUTS))(x)


@st.composite
def invertible(draw, batch, n):
    """Matrices whose singular values lie between 1 and 3: an orthogonal one, scaled, and another orthogonal one."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    q, r = (np.linalg.qr(rng.normal(size=(*batch, n, n)))[0] for _ in range(2))
    return draw(st.sampled_from(LAYOUTS))((q * rng.uniform(1, 3, (*batch, 1, n))) @ r)


def assert_agrees_with_numpy(op, reference, *args, tolerance=100):
    for dtype in (np.float32, np.float64):
        cast = [x.astype(dtype) for x in args]
        y, pullback = vjp(op, *cast)
        expected = reference(*(x.astype(np.float64) for x in cast))
        assert y.dtype == dtype and y.shape == np.shape(expected)
        close(y, expected, rtol=tolerance * np.finfo(dtype).eps, atol=tolerance * np.finfo(dtype).eps)
        for x, g in zip(cast, pullback(np.ones(y.shape, dtype))):
            assert g.dtype == dtype and g.shape == x.shape


def product_by_hand(a, b):
    return np.einsum("...ik,...kj->...ij", np.atleast_2d(a), b[:, None] if b.ndim == 1 else b).reshape((a @ b).shape)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_matmul_of_vectors_matrices_and_batches(data):
    n, k, m = (data.draw(sides) for _ in range(3))
    batch_a, batch_b = data.draw(batches)
    a = data.draw(arrays(data.draw(st.sampled_from([(k,), (n, k), (*batch_a, n, k)]))))
    b = data.draw(arrays(data.draw(st.sampled_from([(k,), (k, m), (*batch_b, k, m)]))))
    assert_agrees_with_numpy(ops.matmul, product_by_hand, a, b)
    check_grads(ops.matmul, (a, b), order=2)


SUBSCRIPTS = [  # subscripts and the shapes of the operands
    ("ij,jk->ik", (2, 3), (3, 2)),
    ("ij,jk", (2, 3), (3, 2)),
    ("nij,njk->nik", (2, 2, 3), (2, 3, 1)),
    ("nhtd,nhsd->nhts", (1, 2, 3, 2), (1, 2, 2, 2)),
    ("i,j->ij", (2,), (3,)),
    ("i,i->", (3,), (3,)),
    ("i,i", (3,), (3,)),
    ("ij->ji", (2, 3)),
    ("ij->", (2, 3)),
    ("ij->j", (2, 3)),
    ("b a", (2, 3)),
    ("ij,k->ik", (2, 3), (2,)),  # j is summed although only one operand has it
    ("ij,jk,kl->il", (2, 2), (2, 3), (3, 2)),
    ("ij,i,j->", (2, 3), (2,), (3,)),
    (",i->i", (), (3,)),
    ("ij,jk->ik", (0, 3), (3, 2)),
    ("ij,jk->ik", (2, 0), (0, 2)),
]


@pytest.mark.parametrize("subscripts, shapes", [(s, shapes) for s, *shapes in SUBSCRIPTS], ids=[s for s, *_ in SUBSCRIPTS])
@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_einsum(subscripts, shapes, data):
    operands = [data.draw(arrays(shape)) for shape in shapes]
    assert_agrees_with_numpy(
        lambda *xs: ops.einsum(subscripts, *xs), lambda *xs: np.einsum(subscripts, *xs, optimize=False), *operands
    )
    check_grads(lambda *xs: ops.einsum(subscripts, *xs), operands, order=2)


@pytest.mark.parametrize(
    "subscripts, shapes, says",
    [
        ("ii->i", [(2, 2)], r"^einsum: 'ii' in 'ii->i' must be single letters without repetition"),
        ("...i->i", [(2, 2)], r"^einsum: '\.\.\.i' in"),
        ("ij->jj", [(2, 2)], r"^einsum: 'jj' in"),
        ("ij,jk->ik", [(2, 2)], r"^einsum: 'ij,jk->ik' does not fit operands of shapes \[\(2, 2\)\]"),
        ("ij->i", [(2,)], r"^einsum: 'ij->i' does not fit operands of shapes \[\(2,\)\]"),
    ],
)
def test_einsum_refuses_what_it_cannot_differentiate(subscripts, shapes, says):
    with pytest.raises(ValueError, match=says):
        ops.einsum(subscripts, *(np.ones(shape) for shape in shapes))


batch = st.sampled_from([(), (2,), (0,), (2, 1)])


@given(data=st.data())
@some
def test_outer_products_traces_and_diagonals(data):
    b, n = data.draw(batch), data.draw(sides)
    x, y = data.draw(arrays((*b, n))), data.draw(arrays((*b, 2)))
    a = data.draw(arrays((*b, n, n)))
    assert_agrees_with_numpy(ops.outer, lambda x, y: np.einsum("...i,...j->...ij", x, y), x, y)
    assert_agrees_with_numpy(ops.diagonal, lambda a: np.diagonal(a, axis1=-2, axis2=-1), a)
    assert_agrees_with_numpy(ops.trace, lambda a: np.trace(a, axis1=-2, axis2=-1), a)
    check_grads(lambda x, y, a: (ops.outer(x, y), ops.diagonal(a), ops.trace(a)), (x, y, a), order=2)


@given(data=st.data())
@some
def test_inverses_and_determinants(data):
    a = data.draw(invertible(data.draw(batch), data.draw(sides)))
    assert_agrees_with_numpy(ops.inv, np.linalg.inv, a)
    assert_agrees_with_numpy(ops.log_abs_det, lambda a: np.log(abs(np.linalg.det(a))), a)
    assert_agrees_with_numpy(lambda a: ops.slogdet(a)[1], lambda a: np.linalg.slogdet(a)[1], a)
    close(ops.slogdet(a)[0], np.sign(np.linalg.det(a)))
    check_grads(lambda a: (ops.inv(a), ops.log_abs_det(a), ops.slogdet(a)[1]), (a,), order=2)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_solutions_of_one_or_many_systems_and_right_sides(data):
    batch_a, batch_b = data.draw(batches)
    n = data.draw(sides)
    a = data.draw(invertible(batch_a, n))
    b = data.draw(arrays(data.draw(st.sampled_from([(n,), (n, 2), (*batch_b, n, 2)]))))
    assert_agrees_with_numpy(ops.solve, lambda a, b: np.linalg.inv(a) @ b, a, b)
    check_grads(ops.solve, (a, b), order=2)


@pytest.mark.parametrize("lower", [True, False])
@given(data=st.data())
@some
def test_triangular_systems_read_one_triangle(lower, data):
    b, n = data.draw(batch), data.draw(sides)
    a = data.draw(arrays((*b, n, n))) * 0.3 + 2 * np.eye(n)
    x = data.draw(arrays(data.draw(st.sampled_from([(n,), (*b, n, 2)]))))
    triangle = np.tril if lower else np.triu

    def op(a, x):
        return ops.solve_triangular(a, x, lower=lower)

    assert_agrees_with_numpy(op, lambda a, x: np.linalg.inv(triangle(a)) @ x, a, x)
    check_grads(op, (a, x), order=2)
    (ga,) = vjp(lambda a: op(a, x), a)[1](np.ones(op(a, x).shape))
    np.testing.assert_array_equal(ga, triangle(ga))
    np.testing.assert_array_equal(op(np.where(triangle(np.ones((n, n))), a, np.nan), x), op(a, x))


@given(data=st.data())
@some
def test_cholesky_factors(data):
    a = data.draw(invertible(data.draw(batch), data.draw(sides)))

    def factor(a):
        return ops.cholesky(a @ ops.swapaxes(a, -1, -2))

    for dtype in (np.float32, np.float64):
        y, pullback = vjp(factor, a.astype(dtype))
        assert y.dtype == pullback(y)[0].dtype == dtype
        close(y @ np.swapaxes(y, -1, -2), a @ np.swapaxes(a, -1, -2), rtol=0, atol=200 * np.finfo(dtype).eps)
        np.testing.assert_array_equal(y, np.tril(y))
    check_grads(factor, (a,), order=2)


def test_the_gradient_of_cholesky_is_symmetric():
    a = np.array([[4.0, 1.0], [1.0, 3.0]])
    g = grad(lambda a: (ops.cholesky(a) * np.array([[1.0, 5.0], [2.0, 3.0]])).sum())(a)
    close(g, g.T)
    close(grad(lambda a: 2 * ops.log(ops.diagonal(ops.cholesky(a))).sum())(a), np.linalg.inv(a))


def test_derivatives_known_in_closed_form():
    a = np.array([[2.0, 1.0], [0.5, 3.0]])
    close(grad(ops.log_abs_det)(a), np.linalg.inv(a).T)
    close(grad(lambda a: ops.trace(ops.inv(a)))(a), -np.linalg.inv(a @ a).T)
    close(grad(ops.trace)(a), np.eye(2))


def test_a_determinant_of_either_sign():
    sign, log_det = ops.slogdet(np.diag([-2.0, 3.0]))
    assert sign == -1
    close(log_det, np.log(6))
    assert ops.log_abs_det(np.zeros((2, 2))) == -np.inf


@pytest.mark.parametrize(
    "f", [ops.inv, lambda a: ops.solve(a, np.ones(2)), lambda a: ops.cholesky(-np.eye(2) + a)], ids=["inv", "solve", "cholesky"]
)
def test_singular_matrices_are_refused_by_name(request, f):
    name = request.node.callspec.id
    with pytest.raises(np.linalg.LinAlgError, match=rf"^{name}\(float64\(2, 2\)"):
        f(np.zeros((2, 2)))
