"""Optimisers against the recurrences of their papers, schedules at their corners, clipping and averages in closed form."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cuda import pretended
from tinygen import Generator, flat, ops, value_and_grad
from tinygen.autograd import module, tree
from tinygen.backend import to_device
from tinygen.optim import (
    SGD,
    Adam,
    AdamW,
    begin,
    clip_by_global_norm,
    clip_by_value,
    constant,
    cosine,
    ema,
    exponential,
    minimise,
    warm_up,
)

OPTIMISERS = [SGD(0.1), SGD(0.1, 0.9), SGD(0.1, 0.9, nesterov=True), Adam(0.1), AdamW(0.1, weight_decay=0.05)]


@module
class Layer:
    weight: np.ndarray
    bias: np.ndarray
    activation: object


def mixed_tree(rng, dtype=np.float64):
    """Modules, lists, tuples and dicts, a 0-d and an empty array, and things that are not arrays."""

    def normal(*shape):
        return np.asarray(rng.standard_normal(shape), dtype)

    return {
        "layers": [Layer(normal(3, 4), normal(4), ops.relu), Layer(normal(2, 2), normal(0, 2), None)],
        "scale": (normal(), 7),
        "none": None,
    }


def frozen(t):
    """The tree with read-only copies of its arrays."""

    def freeze(leaf):
        leaf = np.array(leaf)
        leaf.setflags(write=False)
        return leaf

    return tree.map(freeze, t)


def assert_trees_close(a, b, **tolerance):
    tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def run(optimiser, params, gradients):
    state = optimiser.init(params)
    for g in gradients:
        params, state = optimiser.update(frozen(g), frozen(state), frozen(params))
    return params, state


def by_the_book(optimiser, p, gradients):
    """The papers' recurrences for one array, in float64."""
    u = m = v = np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        if isinstance(optimiser, SGD):
            u = optimiser.momentum * u + g
            p = p - optimiser.learning_rate * (g + optimiser.momentum * u if optimiser.nesterov else u)
        else:
            m = optimiser.beta1 * m + (1 - optimiser.beta1) * g
            v = optimiser.beta2 * v + (1 - optimiser.beta2) * g * g
            m_hat, v_hat = m / (1 - optimiser.beta1**t), v / (1 - optimiser.beta2**t)
            p = p - optimiser.learning_rate * (m_hat / (np.sqrt(v_hat) + optimiser.eps) + optimiser.weight_decay * p)
    return p


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_twenty_steps_follow_the_recurrence_leaf_by_leaf(optimiser, dtype, tolerance):
    rng = np.random.default_rng(0)
    params = mixed_tree(rng, dtype)
    gradients = [mixed_tree(rng, dtype) for _ in range(20)]
    got, state = run(optimiser, params, gradients)
    wide = [tree.map(lambda leaf: leaf.astype(np.float64), t) for t in (params, *gradients)]
    right = tree.map(lambda p, *g: by_the_book(optimiser, p, g), *wide)
    assert_trees_close(got, right, rtol=tolerance, atol=tolerance)
    assert int(state.step) == 20 and state.step.dtype == np.int64 and state.step.shape == ()
    assert {leaf.dtype for leaf in tree.flatten(got)[0]} == {np.dtype(dtype)}
    assert {leaf.dtype for leaf in tree.flatten(state)[0]} <= {np.dtype(dtype), np.dtype(np.int64)}


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=str)
def test_params_gradients_and_state_are_left_as_they_were(optimiser):
    rng = np.random.default_rng(1)
    params, gradients = frozen(mixed_tree(rng)), frozen(mixed_tree(rng))
    state = frozen(optimiser.init(params))
    before = tree.map(np.array, (params, gradients, state))
    new_params, new_state = optimiser.update(gradients, state, params)
    assert_trees_close((params, gradients, state), before, rtol=0)
    old = [leaf for leaf in tree.flatten((params, state))[0] if leaf.size]
    assert not any(np.shares_memory(a, b) for a in old for b in tree.flatten((new_params, new_state))[0])


def test_first_steps_by_hand():
    p, g = np.array([1.0, 2.0]), np.array([0.5, -4.0])
    np.testing.assert_allclose(run(SGD(0.1), p, [g])[0], [0.95, 2.4])
    np.testing.assert_allclose(run(SGD(0.1, 0.5), p, [g, g])[0], [1 - 0.05 - 0.075, 2 + 0.4 + 0.6])
    np.testing.assert_allclose(run(SGD(0.1, 0.5, nesterov=True), p, [g])[0], [1 - 0.075, 2 + 0.6])
    np.testing.assert_allclose(run(Adam(0.1), p, [g])[0], [0.9, 2.1], rtol=1e-7)
    np.testing.assert_allclose(run(AdamW(0.1, weight_decay=0.5), p, [g])[0], [0.9 - 0.05, 2.1 - 0.1], rtol=1e-7)


@given(g=st.floats(-1e6, 1e6).filter(lambda g: abs(g) > 1e-3), rate=st.floats(1e-5, 1))
def test_adams_first_step_has_the_size_of_the_learning_rate(g, rate):
    p, _ = run(Adam(rate), np.zeros(1), [np.array([g])])
    np.testing.assert_allclose(p, -np.sign(g) * rate, rtol=2e-5)


def test_adamw_decays_at_the_same_rate_whatever_the_gradients_scale():
    rng = np.random.default_rng(2)
    p, gradients = rng.standard_normal(5), rng.standard_normal((10, 5))
    small, large = (run(AdamW(0.01, weight_decay=0.3), p, s * gradients)[0] for s in (1, 1e4))
    np.testing.assert_allclose(small, large, rtol=1e-5)

    def l2(scale):
        q, optimiser = p, Adam(0.01)
        state = optimiser.init(p)
        for g in gradients:
            q, state = optimiser.update(scale * g + 0.3 * q, state, q)
        return q

    assert np.abs(l2(1) - l2(1e4)).max() > 1e-2  # an L2 penalty drowns in large gradients
    assert np.abs(small - run(Adam(0.01), p, gradients)[0]).max() > 1e-2


def test_adamw_without_gradients_shrinks_the_parameters_geometrically():
    p = np.array([3.0, -2.0])
    got, _ = run(AdamW(0.1, weight_decay=0.5), p, [np.zeros(2)] * 8)
    np.testing.assert_allclose(got, p * 0.95**8)


@pytest.mark.parametrize(
    "optimiser",
    [SGD(1e-3, 0.95), SGD(1e-3, 0.95, True), Adam(exponential(0.3, 0.5, 100)), AdamW(cosine(0.3, 1500), weight_decay=0)],
    ids=str,
)
def test_reaches_the_minimum_of_an_ill_conditioned_quadratic(optimiser):
    """Curvatures from 1 to 1000; gradient descent at its best rate still has 5% of the error after as many steps."""
    curvature, minimum = np.array([1.0, 30.0, 1000.0]), np.array([1.0, -2.0, 3.0])

    def loss(x):
        return 0.5 * (curvature * (x - minimum) ** 2).sum()

    x = np.zeros(3)
    state = optimiser.init(x)
    for _ in range(1500):
        _, g = value_and_grad(loss)(x)
        x, state = optimiser.update(g, state, x)
    np.testing.assert_allclose(x, minimum, atol=1e-4)


def test_a_schedule_is_asked_for_the_number_of_updates_made_before():
    asked = []

    def schedule(step):
        asked.append(step)
        return np.float64(0.5) ** step  # a NumPy scalar, which must not promote float32

    for optimiser in (SGD(schedule), Adam(schedule)):
        asked.clear()
        p, _ = run(optimiser, np.ones(1, np.float32), [np.ones(1, np.float32)] * 3)
        assert asked == [0, 1, 2] and all(type(step) is int for step in asked)
        assert p.dtype == np.float32
        np.testing.assert_allclose(p, 1 - 1.75, rtol=1e-6)


def test_schedules_at_their_corners():
    assert [constant(0.3)(t) for t in (0, 10**6)] == [0.3, 0.3]
    fall = cosine(1.0, 100, final=0.2)
    np.testing.assert_allclose([fall(0), fall(50), fall(100), fall(10**6)], [1, 0.6, 0.2, 0.2])
    halve = exponential(0.8, 0.5, every=10)
    np.testing.assert_allclose([halve(0), halve(10), halve(25)], [0.8, 0.4, 0.8 * 0.5**2.5])
    rise = warm_up(4, 1.0)
    np.testing.assert_allclose([rise(t) for t in (0, 1, 3, 4, 5, 100)], [0.2, 0.4, 0.8, 1, 1, 1])
    both = warm_up(4, cosine(1.0, 10))
    np.testing.assert_allclose([both(t) for t in (0, 4, 9, 14, 15)], [0.2, 1, 0.5, 0, 0], atol=1e-15)


@given(steps=st.integers(1, 500), then_steps=st.integers(1, 500), peak=st.floats(1e-4, 1))
def test_a_warmed_up_cosine_is_continuous_never_negative_and_rises_before_it_falls(steps, then_steps, peak):
    schedule = warm_up(steps, cosine(peak, then_steps))
    rates = np.array([schedule(t) for t in range(steps + then_steps + 2)])
    assert rates[0] > 0 and rates.min() >= 0 and rates.argmax() == steps and math.isclose(rates.max(), peak)
    assert np.abs(np.diff(rates)).max() <= peak * max(1 / (steps + 1), math.pi / 2 / then_steps) * (1 + 1e-9)


@given(seed=st.integers(0, 1000), limit=st.floats(1e-3, 100))
def test_clipping_by_norm_keeps_the_direction_and_bounds_the_length(seed, limit):
    gradients = mixed_tree(np.random.default_rng(seed))
    before = np.concatenate([leaf.ravel() for leaf in tree.flatten(gradients)[0]])
    clipped, norm = clip_by_global_norm(frozen(gradients), limit)
    after = np.concatenate([leaf.ravel() for leaf in tree.flatten(clipped)[0]])
    assert type(norm) is float and math.isclose(norm, np.linalg.norm(before), rel_tol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(after), min(norm, limit), rtol=1e-12)
    np.testing.assert_allclose(after * norm, before * np.linalg.norm(after), atol=1e-12 * norm**2)


def test_clipping_survives_gradients_whose_square_overflows_float32():
    clipped, norm = clip_by_global_norm([np.full(4, 1e30, np.float32)], 1.0)
    np.testing.assert_allclose(norm, 2e30, rtol=1e-6)
    np.testing.assert_allclose(clipped[0], np.full(4, 0.5), rtol=1e-6)
    assert clipped[0].dtype == np.float32


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_clipping_does_not_hide_a_gradient_that_is_not_finite(bad):
    clipped, norm = clip_by_global_norm([np.array([1.0, bad]), np.ones(3)], 1.0)
    assert not math.isfinite(norm) and all(np.isnan(leaf).all() for leaf in clipped)


@pytest.mark.parametrize("limit", [0.5, 100.0])
@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_clipping_on_a_gpu_does_the_same(limit, bad):
    gradients = [np.array([3.0, bad], np.float32), np.full(2, -4.0, np.float32)]
    expected, its_norm = clip_by_global_norm(gradients, limit)
    with pretended.gpu() as transfers:
        there = [to_device(g, "gpu") for g in gradients]
        transfers.forget()
        clipped, norm = clip_by_global_norm(there, limit)
        assert not transfers.reads
        np.testing.assert_allclose([float(norm)], [its_norm])
        for g, e in zip(clipped, expected):
            np.testing.assert_allclose(g.get(), e, rtol=1e-6)


def test_clipping_by_value_limits_each_number():
    clipped = clip_by_value({"a": np.array([-3.0, 0.5], np.float32), "b": np.float64(2)}, 1.0)
    assert clipped["a"].tolist() == [-1, 0.5] and clipped["a"].dtype == np.float32 and clipped["b"] == 1


@given(decay=st.floats(0, 1), n=st.integers(1, 30), seed=st.integers(0, 100))
def test_ema_is_the_geometric_sum(decay, n, seed):
    values = np.random.default_rng(seed).standard_normal((n + 1, 3))
    average = values[0]
    for value in values[1:]:
        average = ema(average, value, decay)
    weights = [decay**n, *((1 - decay) * decay ** (n - k) for k in range(1, n + 1))]
    np.testing.assert_allclose(average, weights @ values, atol=1e-12)
    assert math.isclose(sum(weights), 1, abs_tol=1e-9)


# In place


@pytest.mark.parametrize("start", [{"w": np.ones(3)}, {"v": np.ones(2), "w": np.ones(3)}], ids=["one leaf", "two"])
def test_a_first_step_in_place_does_not_overwrite_the_average_that_is_the_parameters(start):
    step = minimise(lambda p, batch, rng: (ops.square(p["w"]).sum(), {}), Adam(0.1), decay=0.9)
    layout, vectors = flat.vectors(start)
    one, other = (begin(layout.tree([v.copy() for v in vectors]), Adam(0.1), averaged=True) for _ in range(2))
    for n in range(3):
        one, other = step(one, n, None)[0], step.in_place(other, n, None)[0]
        assert_trees_close(other, one, rtol=0)


@pytest.mark.parametrize("optimiser", [o for o in OPTIMISERS if isinstance(o, Adam)], ids=str)
@pytest.mark.parametrize("dtypes", [(np.float32,), (np.float32, np.float64)], ids=str)
def test_updates_in_place_have_the_bits_of_others(optimiser, dtypes):
    rng = np.random.default_rng(0)
    params = [mixed_tree(rng, dtype) for dtype in dtypes]
    own = tree.map(np.array, params)
    state, its_state = optimiser.init(params), optimiser.init(own)
    for n in range(5):
        gradients = [mixed_tree(rng, dtype) for dtype in dtypes]
        before, same = own, tree.map(np.array, gradients)
        params, state = optimiser.update(gradients, state, params)
        own, its_state = optimiser.update_in_place(same, its_state, own)
        assert_trees_close((own, its_state), (params, state), rtol=0)
        assert n == 0 or own is before


def test_in_place_a_gradient_may_be_a_parameter():
    """That of a b is (b, a): were they read as they are written over, the second would be the first one's update."""
    n, rng = 20_000, np.random.default_rng(0)  # large enough that they are not copied together

    def halves(x, y):
        both = np.concatenate([x, y])
        return {"a": both[:n], "b": both[n:]}

    optimiser, params = Adam(0.1), halves(*rng.standard_normal((2, n)))
    params, state = optimiser.update_in_place(params, optimiser.init(params), params)
    right, its_state = tree.map(np.array, (params, state))
    for _ in range(3):
        right, its_state = optimiser.update({"a": right["b"], "b": right["a"]}, its_state, right)
        params, state = optimiser.update_in_place({"a": params["b"], "b": params["a"]}, state, params)
        assert_trees_close(params, right, rtol=0)


def test_an_average_in_place_is_the_array_that_was_given():
    rng = np.random.default_rng(0)
    average, params = {"a": rng.standard_normal(3), "b": rng.standard_normal(2)}, {"a": np.ones(3), "b": np.zeros(2)}
    average = ema(average, params, 0.5)
    expected = ema(average, params, 0.9, 3)
    assert ema(average, params, 0.9, 3, in_place=True) is average
    assert_trees_close(average, expected, rtol=0)


@pytest.mark.parametrize("settings", [{}, {"limit": 0.5}, {"decay": 0.9}], ids=str)
def test_a_step_in_place_has_the_bits_of_another_and_keeps_what_it_reports(settings):
    def loss(p, batch, rng):
        return (ops.square(p["w"] @ batch - rng.normal((3,)))).sum(), {"scale": p["scale"]}

    step = minimise(loss, Adam(0.1), **settings)
    rng = np.random.default_rng(0)
    params = {"scale": np.array(3.0), "w": rng.standard_normal((3, 4))}
    state, own = (begin(tree.map(np.array, params), Adam(0.1), averaged="decay" in settings) for _ in range(2))
    for n in range(6):
        batch = rng.standard_normal(4)
        state, metrics = step(state, batch, Generator(n))
        own, seen = step.in_place(own, batch, Generator(n))
        assert_trees_close((own, seen), (state, metrics), rtol=0)
        assert not np.may_share_memory(seen["scale"], own.params["scale"])


def test_ema_with_steps_follows_quickly_at_first_and_slowly_later():
    decays = [1 - ema(np.array(0.0), np.array(1.0), 0.9, step) for step in (0, 8, 79, 80, 81, 10**6)]
    np.testing.assert_allclose(decays, [0.1, 0.5, 80 / 89, 0.9, 0.9, 0.9])


def test_ema_keeps_dtypes_and_arguments_and_rests_where_nothing_moves():
    params = frozen(mixed_tree(np.random.default_rng(3), np.float32))
    average = ema(params, params, 0.999, step=np.int64(3))
    assert_trees_close(average, params, rtol=0)
    assert {leaf.dtype for leaf in tree.flatten(average)[0]} == {np.dtype(np.float32)}


@pytest.mark.parametrize("params, place", [({"b": np.ones(3)}, "the root"), ({"a": np.ones(4)}, "a, of shape")])
def test_an_average_of_other_params_is_refused(params, place):
    with pytest.raises(ValueError, match=f"ema: average and params differ at {place}"):
        ema({"a": np.ones(3)}, params, 0.9)


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=str)
def test_what_does_not_fit_is_named(optimiser):
    params = {"a": np.ones((2, 3)), "b": np.ones(1)}
    state = optimiser.init(params)
    with pytest.raises(ValueError, match=r"update: gradients and params differ at a, of shape \(3, 2\) and \(2, 3\)"):
        optimiser.update({"a": np.ones((3, 2)), "b": np.ones(1)}, state, params)
    with pytest.raises(ValueError, match="update: gradients and params differ at the root"):
        optimiser.update({"a": np.ones((2, 3))}, state, params)
    other = optimiser.init({"a": np.ones((2, 1)), "b": np.ones(1)})
    if len(tree.flatten(other)[0]) > 1:
        with pytest.raises(ValueError, match=r"differ at a, of shape \(2, 1\)"):
            optimiser.update(params, other, params)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(-1e-3), "learning_rate must be a finite number"),
        (lambda: Adam(np.float32(1e-3)), "learning_rate must be a finite number"),
        (lambda: SGD(math.nan), "learning_rate must be a finite number"),
        (lambda: SGD("0.1"), "learning_rate must be a finite number"),
        (lambda: SGD(0.1, momentum=1.0), "momentum must be a number of at least 0 and less than 1"),
        (lambda: SGD(0.1, nesterov=True), "without momentum"),
        (lambda: Adam(0.1, beta2=np.float64(0.9)), "beta2 must be a number"),
        (lambda: AdamW(0.1, weight_decay=-1.0), "eps and weight_decay must be at least 0"),
        (lambda: cosine(0.1, 0), "cosine: steps is 0"),
        (lambda: warm_up(0, 0.1), "warm_up: steps is 0"),
        (lambda: exponential(0.1, 0.5, every=0), "exponential: every is 0"),
        (lambda: exponential(0.1, -1), "exponential: decay is -1; it must be positive, such as 0.9"),
        (lambda: exponential(0.1, math.nan), "exponential: decay is nan"),
        (lambda: clip_by_global_norm([], 0), "clip_by_global_norm: limit is 0"),
        (lambda: clip_by_value([], -1), "clip_by_value: limit is -1"),
        (lambda: ema([], [], 1.5), "ema: decay is 1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_step_says_which_state_it_takes():
    def loss(p, batch, rng):
        return (p * p).sum(), {}

    optimiser, p = SGD(0.1), np.ones(2)
    for state in (p, {"params": p}, optimiser.init(p)):
        with pytest.raises(TypeError, match=r"minimise: the state is a .*; begin with begin\(params, optimiser\)"):
            minimise(loss, optimiser)(state, None, None)
    with pytest.raises(ValueError, match=r"minimise: with a decay there must be an average; begin\(.*, averaged=True\)"):
        minimise(loss, optimiser, decay=0.9)(begin(p, optimiser), None, None)
    with pytest.raises(TypeError, match=r"return y, \{\} if there is nothing else to report"):
        minimise(lambda p, batch, rng: (p * p).sum(), optimiser)(begin(p, optimiser), None, None)


def test_an_optimiser_may_be_part_of_a_state():
    leaves, structure = tree.flatten({"optimiser": Adam(constant(0.1)), "x": np.ones(2)})
    assert len(leaves) == 1 and structure.unflatten(leaves)["optimiser"].beta1 == 0.9
