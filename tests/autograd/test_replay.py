"""A captured function gives what the function gives, to the last bit, or says why it cannot."""

import gc
import itertools
import threading
import warnings
from dataclasses import dataclass

import numpy as np
import pytest

from tests.ops.test_every_primitive import PRIMITIVES, examples
from tinygen import Generator, Primitive, grad, hvp, jacobian, ops, stop_gradient, value_and_grad, vjp
from tinygen.autograd import capture, opaque, tree
from tinygen.autograd.core import observe
from tinygen.autograd.program import NotRecordable

X = np.linspace(-1, 2, 6, dtype=np.float32).reshape(2, 3)


def bits(t):
    """A tree as bytes, constants and dtypes."""
    leaves, structure = tree.flatten(t)
    return [(leaf.shape, leaf.dtype, leaf.tobytes()) for leaf in leaves], repr(structure.unflatten(range(len(leaves))))


def agree(f, calls):
    """f and capture(f) on a series of calls, each a function that makes the arguments anew, long enough for bare replays."""
    captured = capture(f)
    for make in calls:
        assert bits(captured(*make())) == bits(f(*make()))
    return captured


def scaled(args, factor):
    return [a * a.dtype.type(factor) if a.dtype.kind == "f" else a for a in args]


# The same results


@pytest.mark.parametrize("name", PRIMITIVES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_primitive_and_its_derivatives_are_replayed_to_the_last_bit(name, dtype):
    for f, args in examples(name, dtype):
        if not args:
            continue
        u = np.cos(np.arange(f(*args).size, dtype=dtype)).reshape(f(*args).shape)

        def backward(u, *args, f=f):
            return vjp(f, *args)[1](u)

        def twice(u, *args):
            return vjp(backward, u, *args)[1](args)

        calls = [scaled(args, 1 + k / 16) for k in range(4)]
        agree(f, [lambda args=args: args for args in calls])
        agree(backward, [lambda args=args, u=u: (u, *args) for args in calls])
        agree(twice, [lambda args=args, u=u: (u, *args) for args in calls])


def network(params, x, rng):
    """A loss with everything that leaks: draws, comparisons, a choice by number, a stopped gradient, a closure."""
    h = ops.tanh(x @ params["w"] + params["b"])
    keep = rng.uniform(tuple(h.shape)) >= 0.25
    h = ops.where(h > 0.5, h, 0.5 * h) * keep.astype(h.dtype)
    noise = rng.split(2)[1].at(3).normal(tuple(h.shape))
    coin = rng.bernoulli(ops.sigmoid(stop_gradient(h)))
    i = rng.categorical(ops.softmax(stop_gradient(h)))
    picked = ops.take_along_axis(h, i[:, None]) + ops.take(params["b"], rng.integers(0, 4, 3))[:, None].sum()
    slope = grad(lambda h: (h * h * noise).sum())(h)  # closes over what an outer derivative follows
    loss = (slope * coin).sum() + (picked * stop_gradient(picked)).mean() + x[rng.permutation(len(x))][0].sum()
    return loss, {"largest": stop_gradient(h).max(), "n": 3}


def parameters():
    rng = np.random.default_rng(1)
    return {"w": rng.normal(size=(3, 4)).astype(np.float32), "b": rng.normal(size=4).astype(np.float32)}


def test_random_numbers_are_drawn_anew_by_the_generator_of_each_call():
    step = agree(
        value_and_grad(network, has_aux=True),
        [lambda n=n: (parameters(), np.roll(X, n), Generator(2).at(n)) for n in range(9)],
    )
    assert step.reason is None and len(step._tapes) == 1


def test_a_generator_goes_on_as_if_the_function_had_drawn():
    ours, theirs = Generator(5), Generator(5)
    captured = capture(lambda rng: rng.normal((2,)) + rng.uniform((2,)))
    for _ in range(6):
        captured(ours)
        theirs.normal((2,)), theirs.uniform((2,))
        assert bits(ours.normal((3,))) == bits(theirs.normal((3,)))


def test_what_is_drawn_and_not_used_is_drawn_all_the_same():
    def f(rng):
        rng.normal((3,))
        return rng.normal((3,))

    agree(f, [lambda n=n: (Generator(n),) for n in range(4)])


@pytest.mark.parametrize("second", [hvp, lambda f, x, v: jacobian(grad(f))(x) @ v], ids=["hvp", "jacobian"])
def test_second_order(second):
    def f(x):
        return (ops.exp(x) * ops.sin(x)).sum() + (x > 0.5).astype(np.float64) @ x

    agree(lambda x, v: second(f, x, v), [lambda k=k: (np.linspace(0, 1 + k, 4), np.arange(4.0)) for k in range(5)])


def test_a_captured_function_inside_a_derivative_and_a_derivative_inside_a_captured_function():
    inner = capture(lambda x: ops.tanh(x) * x)
    for k in range(4):
        x = X + np.float32(k)
        inner(x)
        both = capture(grad(lambda x: inner(x).sum()))
        assert bits(grad(lambda x: inner(x).sum())(x)) == bits(both(x)) == bits(grad(lambda x: (ops.tanh(x) * x).sum())(x))


def test_other_shapes_dtypes_layouts_and_constants_are_recorded_for_themselves():
    def f(x, power=2, *, scale=1.0):
        return (x**power * scale).sum(axis=0)

    captured = capture(f)
    for x in (X, X[:1], X.astype(float), np.asfortranarray(X), X[:, ::2]):
        for power, scale in ((2, 1.0), (3, 1.0), (2, 0.0), (2, -0.0), (2.0, 1.0), (True, 1)):
            for _ in range(4):
                assert bits(captured(x, power, scale=scale)) == bits(f(x, power, scale=scale))
    assert captured.reason is None and len(captured._tapes) == 8, "the programs that ran last are kept, and no others"
    assert bits(captured(X, power=2)) == bits(f(X))


def test_a_layout_in_which_results_are_views_is_another_kind_of_argument():
    captured = capture(lambda x: (ops.exp(x).reshape(-1), ops.exp(x).reshape(-1)))
    for x in (np.asfortranarray(X), X):  # of the first, reshape makes a copy
        for _ in range(4):
            a, b = captured(x)
            assert not np.shares_memory(a, b)


def test_results_are_never_overwritten():
    captured = capture(lambda x: (x * 2, (x * 2).T, np.zeros(3, np.float32), x, ops.exp(x) @ ops.exp(x).T))
    x = np.random.default_rng(0).normal(size=(90, 90)).astype(np.float32)
    for _ in range(3):
        captured(x)
    first = captured(x)
    before = bits(first)
    for y in captured(x + 1):
        assert not any(np.shares_memory(y, z) for z in first[:3])
    assert bits(first) == before
    first[2][:] = 7  # an optimiser may reuse a gradient's memory
    assert not captured(x)[2].any()
    a, b = captured(x)[:2]
    a[:] = 0
    assert b.any(), "two results that are equal must not become one array"


def test_checks_are_made_again():
    @opaque
    def require_positive(x):
        if x.min() <= 0:
            raise ValueError("f: x must be positive")

    def f(x):
        require_positive(x)
        return ops.log(x)

    captured = capture(f)
    for _ in range(4):
        captured(np.ones(2))
    with pytest.raises(ValueError, match="^f: x must be positive"):
        captured(-np.ones(2))


def test_opaque_functions_are_constants_to_derivatives():
    table = opaque(lambda t, offset=0: np.arange(10.0)[t + offset])

    def f(x, t):
        return (x * table(t, offset=1) * ops.sign(x)).sum()

    assert bits(grad(f)(np.ones(3), np.arange(3))) == bits(np.array([1.0, 2.0, 3.0]))
    agree(grad(f), [lambda k=k: (np.ones(3) - k, np.arange(3) + k) for k in range(4)])


def test_indices_may_be_arguments_where_the_table_is_none():
    table = np.linspace(1, 2, 8).reshape(4, 2)

    def f(i):
        return ops.take(table, i), grad(lambda table: (ops.take(table, i, axis=0) ** 2).sum())(table)

    agree(f, [lambda k=k: (np.array([k, 3, k]),) for k in range(4)])


# Refusals


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x * float(x.sum()),
        lambda x: x * int(x.sum()),
        lambda x: x[: len(range(x.sum()))],
        lambda x: np.sign(x),
        lambda x: np.concatenate([x, x]),
        lambda x: np.arange(9)[x],
        lambda x: grad(lambda y: y.sum() if y.sum() > 0 else -y.sum())(x.astype(float)),
    ],
    ids=["if", "float", "int", "range", "ufunc", "function", "index", "if inside grad"],
)
def test_looking_at_numbers_is_refused_with_the_remedy(f):
    x = np.array([0, 2, 1])
    with pytest.raises(NotRecordable, match="capture: the function looks at a number .*ops.where"):
        capture(f)(x)
    fallen_back = capture(f, required=False)
    for _ in range(3):
        assert bits(fallen_back(x)) == bits(f(x))
    assert "looks at a number" in fallen_back.reason


def test_outside_of_a_recording_nothing_is_refused():
    capture(lambda x: x + 1)(X)
    assert grad(lambda x: x.sum() if x.sum() > 0 else -x.sum())(X).shape == X.shape


def test_a_closure_over_what_an_outer_derivative_follows_is_refused():
    def f(x):
        return capture(lambda y: (x * y).sum())(np.ones(2))

    with pytest.raises(NotRecordable, match="another derivative .*make it an argument"):
        grad(f)(np.ones(2))


def test_a_generator_cannot_be_given_out():
    with pytest.raises(NotRecordable, match="returns a Generator"):
        capture(lambda rng: rng.at(1))(Generator(0))


def test_the_fallback_rewinds_the_generator():
    def f(rng):
        return rng.normal((2,)) if rng.uniform() < 2 else None

    captured = capture(f, required=False)
    for n in range(3):
        assert bits(captured(Generator(n))) == bits(f(Generator(n)))
    assert "looks at a number" in captured.reason


def test_a_failure_of_the_function_itself_is_no_reason():
    captured = capture(lambda x: x @ np.ones((7, 1)), required=False)
    with pytest.raises(ValueError, match="matmul"):
        captured(np.ones((2, 3)))
    assert captured.reason is None and captured.program is None
    assert captured(np.ones((2, 7))).shape == (2, 1)


# Impure functions


def _changing_constant(state):
    return lambda x: ops.exp(x) * np.float32(state["n"])


def _changing_way(state):
    return lambda x: ops.exp(x) if state["n"] < 3 else ops.tanh(x)


def _changing_length(state):
    return lambda x: sum([x * 2.0] * (1 if state["n"] < 3 else 2))


def _changing_metric(state):
    return lambda x: (x * 2, state["n"])


def _impure_primitive(state):
    count = itertools.count()
    return Primitive(lambda x: x + next(count) * (state["n"] == 3)).rule(x=lambda g: g)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_changing_constant, "in its operation 1, multiply.float32.2, 3.., a constant has changed"),
        (_changing_way, "its operation 0 was exp.float32.2, 3.. and is now tanh.float32.2, 3..; so it takes different ways"),
        (_changing_length, "it made 2 operations and now makes 3|a constant has changed"),
        (_changing_metric, "is not pure"),
        (_impure_primitive, "is not pure"),
    ],
)
def test_an_impure_function_is_caught_and_the_first_difference_named(make, message):
    state = {"n": 2}
    captured, tolerant = capture(make(state)), capture(make(state), required=False)
    for each in (captured, tolerant):
        for _ in range(3):
            each(X)
    state["n"] = 3
    for each in (captured, tolerant):
        each(X)  # the third replay, which is not compared
        with pytest.raises(NotRecordable, match=message):
            each(X)


@pytest.mark.parametrize("make", [_changing_constant, _changing_way, _changing_length, _changing_metric])
def test_what_differs_before_anything_went_wrong_can_be_called_as_it_is(make):
    state = {"n": 2}
    tolerant = capture(make(state), required=False)
    tolerant(X)
    for n in (3, 4, 5, 6):
        state["n"] = n
        assert bits(tolerant(X)) == bits(make(state)(X))
    assert "does not repeat itself" in tolerant.reason and tolerant.program is None


def test_arguments_that_never_come_again_are_not_recorded_for_ever():
    captured = capture(lambda x, scale: x * scale)
    for n in range(40):
        assert bits(captured(X, n / 7)) == bits(X * (n / 7))
    assert "nearly every call has arguments of a new kind" in captured.reason


def test_an_array_in_place_of_nothing_is_another_kind_of_argument():
    captured = capture(lambda x, bias: x if bias is None else x + bias)
    for _ in range(3):
        for bias in (None, np.float32(1), np.ones(3, np.float32), None):
            assert bits(captured(X, bias)) == bits(X if bias is None else X + bias)


def test_a_generator_of_numpys_is_not_mistaken_for_a_constant():
    numpys = np.random.default_rng(0)
    with pytest.raises(NotRecordable, match="a constant has changed"):
        captured = capture(lambda x, rng: x + rng.normal(size=3))
        for _ in range(3):
            captured(np.ones(3), numpys)


# Around it


def test_an_observer_sees_every_primitive():
    captured, seen = capture(grad(lambda x: ops.tanh(x).sum())), []
    for _ in range(5):  # the fifth replay would not be compared with an ordinary call
        captured(X)
    with observe(lambda primitive, args, y: seen.append(primitive.__name__)):
        captured(X)
    assert seen == ["tanh", "sum", "reshape", "broadcast_to", "tanh_gradient"]


def test_memory_does_not_grow_over_replays():
    captured = capture(grad(lambda x: (ops.exp(x) @ ops.tanh(x).T).sum()))
    x = np.ones((100, 100), np.float32)
    for _ in range(4):
        captured(x)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(50):
        captured(x)
    gc.collect()
    assert len(gc.get_objects()) <= before + 5


def test_two_threads_at_a_time():
    captured = capture(lambda x: ops.tanh(ops.exp(-x) * x + 1) @ x)
    x = np.random.default_rng(0).normal(size=(200, 200)).astype(np.float32)
    for _ in range(3):
        captured(x)
    right, wrong = [bits(captured(x + k)) for k in range(2)], []

    def work(k):
        for _ in range(20):
            if bits(captured(x + np.float32(k))) != right[k]:
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_it_looks_like_the_function():
    def loss(w, x):
        """The loss."""

    assert capture(loss).__name__ == "loss" and capture(loss).__doc__ == "The loss."


def test_no_warning_is_made_that_the_function_does_not_make():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agree(lambda x: ops.where(x > 0, ops.log(ops.where(x > 0, x, 1)), 0), [lambda: (X,)] * 4)


def test_an_argument_that_is_no_tree_is_refused_or_falls_back():
    @dataclass
    class Batch:
        x: np.ndarray

    def f(batch):
        return batch.x + 1

    with pytest.raises(TypeError, match="Batch is a dataclass but not a tree"):
        capture(f)(Batch(np.ones(2)))
    tolerant = capture(f, required=False)
    for n in range(3):
        np.testing.assert_array_equal(tolerant(Batch(np.full(2, n))), n + 1)
    assert "Batch is a dataclass but not a tree" in tolerant.reason
