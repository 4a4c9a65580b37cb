"""Flat trees: what is laid side by side, what is found again without a copy, and what is not taken for flat."""

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen import flat
from tinygen.autograd import tree
from tinygen.autograd.tree import module
from tinygen.optim import Adam, ema
from tinygen.train.checkpoint import load_checkpoint, save_checkpoint


@module
class Pair:
    a: object
    b: object


def leaf(shape, dtype):
    return st.just((shape, dtype))


leaves = st.tuples(
    st.sampled_from([(), (3,), (2, 3), (0, 2), (1, 1, 4)]), st.sampled_from([np.float32, np.float64])
).map(lambda drawn: np.random.default_rng(len(drawn[0])).standard_normal(drawn[0]).astype(drawn[1]))  # fmt: skip
constants = st.sampled_from([None, 7, "relu", np.tanh])
trees = st.recursive(
    leaves | constants,
    lambda t: st.lists(t, max_size=3) | st.tuples(t, t) | st.dictionaries(st.sampled_from("abc"), t) | st.builds(Pair, t, t),
    max_leaves=8,
)


def same(a, b):
    assert tree.flatten(a)[1].difference(tree.flatten(b)[1]) is None
    for x, y in zip(tree.flatten(a)[0], tree.flatten(b)[0]):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@given(params=trees)
def test_a_tree_is_laid_flat_and_found_again_without_a_copy(params):
    layout, vectors = flat.vectors(params)
    laid = layout.tree(vectors)
    same(laid, params)
    assert sum(v.size for v in vectors) == tree.size(params) and all(v.ndim == 1 for v in vectors)
    assert len({v.dtype for v in vectors}) == len(vectors) == len(layout.dtypes)
    again, found = flat.vectors(laid)
    assert all(a is b for a, b in zip(found, vectors)) and layout.same_as(again)
    assert all(a is b for a, b in zip(layout.gather(laid), vectors))
    for x in tree.flatten(laid)[0]:
        assert not x.size or any(np.shares_memory(x, v) for v in vectors)


@given(params=trees)
def test_another_tree_is_gathered_in_the_same_order(params):
    layout, vectors = flat.vectors(params)
    other = tree.map(lambda x: x * 2 + 1, params)
    same(layout.tree(layout.gather(other)), tree.map(np.asarray, other))
    for mine, its in zip(vectors, layout.gather(other)):
        np.testing.assert_array_equal(mine * 2 + 1, its)


def small():
    return {"a": np.arange(6.0).reshape(2, 3), "b": [np.ones(2), None], "c": Pair(np.zeros(()), 3)}


@pytest.mark.parametrize(
    "other",
    [
        lambda t: {**t, "a": t["a"].T},
        lambda t: {**t, "b": [t["b"][0]]},
        lambda t: {**t, "b": [t["b"][0], np.ones(1)]},
        lambda t: {**t, "b": [t["b"][0], ()]},
        lambda t: {**t, "b": (t["b"][0], None)},
        lambda t: {**t, "d": None},
        lambda t: {"a": t["a"], "b": t["b"], "d": t["c"]},
        lambda t: {**t, "c": (t["c"].a, 3)},
        lambda t: {**t, "a": None},
        lambda t: t["a"],
    ],
)
def test_a_tree_of_another_shape_is_not_gathered(other):
    layout, _ = flat.vectors(small())
    assert layout.gather(small()) and layout.gather({**small(), "c": Pair(np.zeros(()), 4)})  # constants may differ
    assert layout.gather(other(small())) is None


def test_what_only_looks_flat_is_copied():
    """Leaves of a flat tree in another order, one of them replaced, or too few."""
    layout, vectors = flat.vectors([np.arange(3.0), np.arange(3.0, 6.0)])
    a, b = layout.tree(vectors)
    for other in ([b, a], [a, b.copy()], [a, a[:]], [a], [a, b, a], [a[::-1], b]):
        (found,) = flat.vectors(other)[1]
        assert not np.shares_memory(found, vectors[0]) or len(other) == 1
        np.testing.assert_array_equal(found, np.concatenate(other))


def test_leaves_are_gathered_whatever_their_layout_in_memory():
    a = np.arange(12.0).reshape(3, 4)
    layout, _ = flat.vectors([a, a])
    (vector,) = layout.gather([np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2]])
    np.testing.assert_array_equal(vector, np.tile(np.arange(12.0), 2))


def test_a_flat_tree_that_is_gone_leaves_nothing_behind():
    gc.collect()
    before = len(flat._flat_trees)
    params = small()
    for _ in range(5):
        layout, vectors = flat.vectors(params)
        params = layout.tree([v + 1 for v in vectors])
    assert len(flat._flat_trees) == before + 1
    del params, layout, vectors
    assert len(flat._flat_trees) == before


def test_what_was_exchanged_in_a_list_of_a_module_is_seen():
    fixed, loose = Pair(np.ones(2), (np.zeros(3), Pair(np.ones(1), 7))), Pair(np.ones(2), [np.zeros(3)])
    laid = [layout.tree(vectors) for layout, vectors in map(flat.vectors, (fixed, loose))]
    assert [id(t) in flat._flat_modules for t in laid] == [True, False]
    assert flat.own_vectors(laid[0])[1][0].tolist() == [1, 1, 0, 0, 0, 1]
    laid[1].b[0] = np.full(3, 5.0)
    assert flat.own_vectors(laid[1]) is None and flat.vectors(laid[1])[1][0].tolist() == [1, 1, 5, 5, 5]


def test_training_from_a_flat_state_is_training_from_any_other():
    """The bits of parameters, moments and averages do not depend on whether they were flat before."""
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in {"w": (5, 3), "b": (3,), "s": ()}.items()}
    gradients = [tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), params) for _ in range(4)]  # noqa: B023
    optimiser = Adam(0.1)

    def run(before):
        p, average, state = params, params, optimiser.init(params)
        for n, g in enumerate(gradients):
            p, average, state = before((p, average, state))
            p, state = optimiser.update(g, state, p)
            average = ema(average, p, 0.9, n)
        return p, average, state

    for before in (lambda t: tree.map(np.copy, t), lambda t: tree.map(lambda x: np.array(x, order="F"), t)):
        same(run(lambda t: t), run(before))
    p, average, state = run(lambda t: t)
    for moment in (state.m, state.v):
        assert moment.keys() == params.keys() and moment["w"].shape == (5, 3)
    with pytest.raises(AttributeError, match="AdamState has no attribute 'n'"):
        state.n  # noqa: B018


def test_a_moment_that_is_replaced_counts():
    """The trees of m and v are made when somebody asks; a state in which one was replaced is no longer the vectors'."""
    params, g = {"a": np.ones(2), "b": np.ones(3)}, {"a": np.ones(2), "b": np.ones(3)}
    optimiser = Adam(0.1)
    p, state = optimiser.update(g, optimiser.init(params), params)
    changed = tree.replace(state, "m.a", np.full(2, 100.0))
    moved = optimiser.update(g, changed, p)[1]
    np.testing.assert_allclose(moved.m["a"], 0.9 * 100 + 0.1)
    np.testing.assert_allclose(moved.m["b"], 0.9 * 0.1 + 0.1)


def test_a_checkpoint_holds_each_leaf_once_and_the_run_goes_on_to_the_last_bit(tmp_path):
    params = [np.ones(1000, np.float32), np.ones((10, 100), np.float32)]
    optimiser = Adam(0.1)
    state = optimiser.update(params, optimiser.init(params), params)
    one = (state[0][1], state[1])
    save_checkpoint(tmp_path / "all", state, 1, 0)
    save_checkpoint(tmp_path / "part", one, 1, 0)
    assert (tmp_path / "all").stat().st_size < 4 * 6000 + 2000
    assert (tmp_path / "part").stat().st_size < 4 * 5000 + 2000
    loaded, _, _ = load_checkpoint(tmp_path / "all", state)
    same(loaded, state)
    same(optimiser.update(params, *reversed(loaded)), optimiser.update(params, *reversed(state)))


@given(before=trees, params=trees, after=trees)
def test_a_copy_has_arrays_of_its_own_and_is_flat_where_the_tree_was(before, params, after):
    layout, vectors = flat.vectors(params)
    whole = {"a": before, "b": layout.tree(vectors), "c": after}
    made = flat.copy(whole)
    same(made, whole)
    for x, y in zip(tree.flatten(made)[0], tree.flatten(whole)[0]):
        assert not np.shares_memory(x, y)
    for x, y in zip(flat.vectors(made["b"])[1], vectors):
        assert np.array_equal(x, y) and not np.shares_memory(x, y)
    for x in tree.flatten(made["b"])[0]:
        assert not x.size or any(np.shares_memory(x, y) for y in flat.vectors(made["b"])[1])


def test_the_pieces_of_a_state_are_its_vectors_and_what_is_left():
    params = {"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
    optimiser = Adam(0.1)
    laid, state = optimiser.update(params, optimiser.init(params), params)
    leaves = tree.flatten((laid, state, np.zeros(2)))[0]
    sizes = [[a.size for a in arrays] for _, arrays in flat.pieces(leaves)]
    assert sizes == [[9], [1], [9], [9], [2]]
    assert [[a.size for a in arrays] for _, arrays in flat.pieces(leaves[1:])] == [[6], *sizes[1:]]


def test_large_arrays_are_not_copied_when_gathered_in_parts(monkeypatch):
    monkeypatch.setattr(flat, "LARGE", 6)
    leaves = [np.full(n, n, np.float32) for n in (2, 3, 7, 6, 1, 9)]
    layout, _ = flat.vectors(leaves)
    [parts] = layout.gather(leaves, in_parts=True)
    assert [part.size for part in parts] == [5, 7, 6, 1, 9]
    assert parts[1] is leaves[2] and parts[2] is leaves[3] and parts[4] is leaves[5]
    np.testing.assert_array_equal(np.concatenate(parts), layout.gather(leaves)[0])
    assert [part.size for part in flat.vectors(leaves[:2])[0].gather(leaves[:2], in_parts=True)] == [5]
