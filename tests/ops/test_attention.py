"""attention: what it must do, its fused derivatives against the decomposition's to the third order, and its door."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import check_grads, grad, ops, vjp
from tinygen.autograd.core import observe
from tinygen.ops.attention import decomposed

few = settings(deadline=None, max_examples=30)
close = np.testing.assert_allclose


@st.composite
def problems(draw):
    """(q, k, v, causal, key_mask)."""
    N, heads, T, D, E = (draw(st.integers(1, most)) for most in (2, 2, 4, 3, 3))
    causal = draw(st.booleans())
    S = draw(st.integers(T if causal else 1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    arrays = (rng.normal(size=(N, heads, *ends)) for ends in ((T, D), (S, D), (S, E)))
    return *arrays, causal, rng.random((N, S)) < 0.6 if draw(st.booleans()) else None


@few
@given(problems())
def test_value_and_gradients_are_those_of_the_decomposition(problem):
    q, k, v, causal, key_mask = problem
    y, pullback = vjp(lambda *qkv: ops.attention(*qkv, causal, key_mask), q, k, v)
    expected, its_pullback = vjp(lambda *qkv: decomposed(*qkv, causal, key_mask)[0], q, k, v)
    close(y, expected, atol=1e-13)
    g = np.cos(np.arange(y.size)).reshape(y.shape)
    for a, b in zip(pullback(g), its_pullback(g)):
        close(a, b, atol=1e-13)


@few
@given(problems())
def test_derivatives_are_right_to_the_second_order(problem):
    q, k, v, causal, key_mask = problem
    check_grads(lambda *qkv: ops.attention(*qkv, causal, key_mask), (q, k, v), order=2)


def test_derivatives_are_right_to_the_third_order():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, 2, n, 2)) for n in (2, 3, 3))
    check_grads(lambda q, k, v: ops.attention(q, k * k, v, causal=True), (q, k, v), order=3)


def test_one_array_can_be_query_key_and_value():
    x = np.random.default_rng(0).normal(size=(2, 1, 4, 3))
    check_grads(lambda x: ops.attention(x, x, x, causal=True), (x,), order=2)


def test_three_gradients_take_one_backward_pass():
    rng, seen = np.random.default_rng(0), []
    q, k, v = rng.normal(size=(3, 1, 2, 4, 3))
    y, pullback = vjp(ops.attention, q, k, v)
    with observe(lambda primitive, args, y: seen.append(primitive.__name__)):
        pullback(y)
    assert seen.count("_attention_gradient") == 1 and "_attention" not in seen and "softmax" not in seen


@few
@given(problems(), st.integers(0, 100))
def test_the_order_of_the_keys_does_not_matter(problem, seed):
    q, k, v, _, key_mask = problem
    order = np.random.default_rng(seed).permutation(k.shape[2])
    y = ops.attention(q, k[:, :, order], v[:, :, order], key_mask=None if key_mask is None else key_mask[:, order])
    close(y, ops.attention(q, k, v, key_mask=key_mask), atol=1e-13)


def test_a_masked_key_is_as_good_as_absent():
    q, k, v = np.random.default_rng(0).normal(size=(3, 2, 2, 5, 3))
    mask = np.array([True, False, True, True, False])
    y = ops.attention(q, k, v, key_mask=np.stack([mask, mask]))
    close(y, ops.attention(q, k[:, :, mask], v[:, :, mask]), rtol=1e-13)


def test_equal_scores_give_the_mean_of_the_values():
    k, v = np.random.default_rng(0).normal(size=(2, 1, 1, 4, 3))
    y = ops.attention(np.zeros((1, 1, 4, 3)), k, v, causal=True)
    close(y[0, 0], np.cumsum(v[0, 0], axis=0) / np.arange(1, 5)[:, None], rtol=1e-13)


def test_two_keys_by_hand():
    q, k = np.array([[2.0, 0, 0, 0]]), np.array([[np.log(3), 0, 0, 0], [0, 1, 1, 1]])  # scores log 3 and 0: weights 3/4, 1/4
    y = ops.attention(q[None, None], k[None, None], np.array([[[[1.0], [5]]]]))
    close(y, [[[[2.0]]]], rtol=1e-14)


@pytest.mark.parametrize("T, S", [(5, 5), (3, 5), (1, 5)])
def test_no_gradient_flows_from_the_future(T, S):
    """Query i stands at position i + S - T: at every one of them, later keys and values get a gradient of exactly 0."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, 2, n, 3)) for n in (T, S, S))
    for i in range(T):

        def at(k, v, i=i):
            return ops.attention(q, k, v, causal=True)[:, :, i].sum()

        dk, dv = (np.any(g != 0, axis=(0, 1, 3)) for g in grad(at, argnums=(0, 1))(k, v))
        seen = np.arange(S) <= i + S - T
        assert (dv == seen).all() and not dk[~seen].any()


def test_the_last_queries_alone_see_what_they_saw_among_all():
    q, k, v = np.random.default_rng(0).normal(size=(3, 2, 2, 6, 3))
    close(ops.attention(q[:, :, 4:], k, v, causal=True), ops.attention(q, k, v, causal=True)[:, :, 4:], rtol=1e-13)


def test_float32_stays_float32():
    q, k, v = np.random.default_rng(0).normal(size=(3, 1, 2, 4, 3)).astype(np.float32)
    y, pullback = vjp(ops.attention, q, k, v)
    assert {x.dtype for x in (y, *pullback(y))} == {np.dtype(np.float32)}


Q, K, V = np.zeros((2, 3, 4, 5)), np.zeros((2, 3, 6, 5)), np.zeros((2, 3, 6, 7))


@pytest.mark.parametrize("arguments, complaint", [
    ({"q": Q[:, :, :0]}, "at least 1"),
    ({"k": K[:, :, :0], "v": V[:, :, :0]}, "at least 1"),
    ({"q": Q[0]}, "N, heads, positions, channels"),
    ({"q": Q[:1]}, "same N and heads"),
    ({"q": Q[..., :4]}, "same channels"),
    ({"v": V[:, :, :5]}, "same positions"),
    ({"q": np.zeros((2, 3, 7, 5)), "causal": True}, "7 queries to 6 keys"),
    ({"key_mask": np.ones((2, 4), bool)}, r"must be \(2, 6\)"),
])  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(arguments, complaint):
    with pytest.raises(ValueError, match=f"attention: .*{complaint}"):
        ops.attention(**{"q": Q, "k": K, "v": V, **arguments})


@pytest.mark.parametrize("arguments, complaint", [
    ({"q": Q.astype(int)}, "q must be a floating array, not int64"),
    ({"v": [1.0]}, "v must be a floating array, not list"),
    ({"key_mask": np.ones((2, 6))}, "boolean array.*not float64"),
    ({"key_mask": [True]}, "boolean array.*not list"),
])  # fmt: skip
def test_wrong_types_are_refused(arguments, complaint):
    with pytest.raises(TypeError, match=f"attention: .*{complaint}"):
        ops.attention(**{"q": Q, "k": K, "v": V, **arguments})
