"""Trees: taking them apart and putting them together, where they differ, and what counts as a leaf."""

from collections import namedtuple
from dataclasses import FrozenInstanceError, dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import grad, module
from tinygen.autograd import tree

Pair = namedtuple("Pair", "first second")


@module
class Linear:
    weight: object
    bias: object = None
    stride: int = 1

    def double(self):
        return tree.map(lambda leaf: 2 * leaf, self)


@module
class Model:
    layers: tuple
    table: dict
    activation: object = np.tanh


def model():
    return Model((Linear(np.zeros((2, 3)), np.zeros(3)), Linear(np.ones((3, 1)))), {"b": np.full(4, 2.0), "a": np.float32(3)})


leaves = st.integers(0, 3).map(lambda n: np.full(n, float(n)))
constants = st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), st.text(max_size=3), st.booleans())
trees = st.recursive(
    leaves | constants,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
        st.builds(Pair, inner, inner),
        st.builds(Linear, inner, inner, st.integers()),
    ),
    max_leaves=12,
)


def same(a, b):
    """Whether two trees are of the same types and hold the same things."""
    if tree.is_leaf(a):
        return a is b
    if type(a) is not type(b):
        return False
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, Linear):
        return same(a.weight, b.weight) and same(a.bias, b.bias) and a.stride == b.stride
    return a == b


@given(t=trees)
@settings(max_examples=60, deadline=None)
def test_unflatten_is_the_inverse_of_flatten(t):
    leaves, structure = tree.flatten(t)
    assert all(map(tree.is_leaf, leaves))
    assert same(t, structure.unflatten(leaves))
    assert same(t, tree.map(lambda leaf: leaf, t))
    assert structure.difference(tree.flatten(t)[1]) is None


@given(t=trees)
@settings(max_examples=60, deadline=None)
def test_what_a_structure_writes_for_itself_does_what_the_walk_does(t):
    leaves, structure = tree.flatten(t)
    for _ in range(5):
        assert same(t, structure.unflatten(iter(leaves)))
        read = structure.read(t)
        assert len(read) == len(leaves) and all(a is b for a, b in zip(read, leaves))
    with pytest.raises(ValueError, match="unflatten: there are more leaves than places"):
        structure.unflatten([*leaves, np.ones(1)])


@given(t=trees, other=trees)
@settings(max_examples=100, deadline=None)
def test_reading_a_tree_of_another_structure_or_other_constants_gives_none(t, other):
    leaves, structure = tree.flatten(t)
    read = structure.read(other)
    if not same(structure.unflatten(range(len(leaves))), tree.flatten(other)[1].unflatten(range(len(tree.flatten(other)[0])))):
        assert read is None or not all(map(tree.is_leaf, read))


@pytest.mark.parametrize("a, b", [(0.0, -0.0), (1, True), (1, 1.0), ("1", 1), (None, 0), (np.tanh, np.sin), ((), [])])
def test_constants_that_only_look_alike_are_told_apart(a, b):
    structure = tree.flatten((a, X := np.ones(1)))[1]
    assert structure.read((a, X)) == [X] and structure.read((b, X)) is None


def test_methods_of_one_object_are_one_constant():
    layer = Linear(np.ones(1))
    assert tree.flatten((layer.double, np.ones(1)))[1].read((layer.double, np.ones(1))) is not None


@given(t=trees)
@settings(max_examples=60, deadline=None)
def test_paths_are_parallel_to_the_leaves_and_differ(t):
    paths, leaves = tree.paths(t), tree.flatten(t)[0]
    assert len(paths) == len(leaves)
    assert len(set(paths)) == len(paths)
    assert tree.size(t) == sum(leaf.size for leaf in leaves)


def test_paths_spell_fields_indices_and_keys():
    assert tree.paths(model()) == ["layers.0.weight", "layers.0.bias", "layers.1.weight", "table.a", "table.b"]
    assert tree.paths(Pair(np.ones(1), [np.ones(2)])) == ["0", "1.0"]
    assert tree.paths(np.ones(1)) == [""]
    assert tree.paths((1, None, "x")) == []


def test_leaves_are_arrays_of_any_kind_and_tracers_and_nothing_else():
    seen = []
    grad(lambda x: seen.append(tree.is_leaf(x)) or x)(1.0)
    assert seen == [True]
    assert all(map(tree.is_leaf, (np.ones(2), np.float32(1), np.array(True), np.zeros(0))))
    assert not any(map(tree.is_leaf, (1, 1.0, True, None, "x", np.float32, np.dtype("f4"), [np.ones(1)], np.tanh)))


def test_dictionaries_are_ordered_by_key_so_that_equal_ones_agree():
    a, b = {"x": np.ones(1), "y": np.zeros(1)}, {"y": np.zeros(1), "x": np.ones(1)}
    assert [leaf[0] for leaf in tree.flatten(a)[0]] == [leaf[0] for leaf in tree.flatten(b)[0]] == [1, 0]
    assert tree.map(lambda p, q: p + q, a, b)["x"] == 2


@pytest.mark.parametrize("count, says", [(1, "fewer"), (3, "more")])
def test_unflatten_with_a_wrong_number_of_leaves_is_refused(count, says):
    _, structure = tree.flatten((np.ones(1), {"a": np.ones(1)}))
    with pytest.raises(ValueError, match=f"unflatten: there are {says} leaves than places"):
        structure.unflatten([np.ones(1)] * count)


# map, dot, size


def test_map_goes_through_several_trees_at_once():
    a, b = (np.array(1.0), {"k": np.array(2.0)}, "text"), (np.array(10.0), {"k": np.array(20.0)}, "other")
    assert tree.map(lambda x, y: x + y, a, b) == (11, {"k": 22}, "text")


def test_map_passes_any_result_through():
    assert tree.map(lambda x: x.shape, [np.ones((2, 3)), 5]) == [(2, 3), 5]


X = np.ones(2)


@pytest.mark.parametrize(
    "a, b, place",
    [
        (X, (X,), "the root"),
        ((X, X), (X, X, X), "the root"),
        ((X, X), [X, X], "the root"),
        ((X, [X]), (X, [X, X]), "1"),
        ({"a": X, "b": [X, {"c": X}]}, {"a": X, "b": [X, {"d": X}]}, "b.1"),
        ({"a": X, "b": [X, {"c": X}]}, {"a": X, "b": [X, {"c": None}]}, "b.1.c"),
        (Linear(X, X), Linear(X, None), "bias"),
        (Model((Linear(X),), {}), Model((Linear(2.0),), {}), "layers.0.weight"),
        (Pair(X, X), (X, X), "the root"),
    ],
)
def test_map_names_the_place_where_trees_differ(a, b, place):
    with pytest.raises(ValueError, match=rf"^tree\.map: the trees differ at {place}: .* must match$"):
        tree.map(lambda *xs: xs[0], a, b)
    with pytest.raises(ValueError, match=rf"differ at {place}:"):
        tree.dot(a, b)


def test_dot_sums_over_all_leaves():
    a = (np.array([1.0, 2.0]), {"k": np.array([[3.0]])}, None)
    b = (np.array([10.0, 20.0]), {"k": np.array([[30.0]])}, None)
    assert tree.dot(a, b) == 10 + 40 + 90


def test_size_counts_numbers():
    assert tree.size(model()) == 6 + 3 + 3 + 4 + 1
    assert tree.size(()) == 0


# Modules


def test_a_module_is_frozen_and_hides_no_arrays():
    layer = Linear(np.ones(2))
    with pytest.raises(FrozenInstanceError):
        layer.bias = np.ones(1)
    assert layer.double().weight.tolist() == [2, 2] and layer.double().stride == 1


def test_a_module_is_rebuilt_without_its_checks():
    @module
    class Checked:
        x: object

        def __post_init__(self):
            if tree.is_leaf(self.x) and self.x.size != 2:
                raise ValueError

    assert tree.map(lambda leaf: leaf.sum(), Checked(np.ones(2))).x == 2  # the leaves of a tree may change their shape


def test_a_dataclass_that_is_not_a_module_is_refused_wherever_it_is():
    @dataclass
    class Hidden:
        weight: object

    with pytest.raises(TypeError, match="^Hidden is a dataclass but not a tree: decorate it with @module"):
        tree.flatten((1, {"a": Hidden(np.ones(2))}))
    assert tree.flatten((Hidden, Linear))[0] == []  # a class is a constant


def test_a_module_shows_shapes_instead_of_numbers():
    layer = Linear(np.zeros((784, 400), np.float32), np.zeros(400))
    assert repr(layer) == "Linear(weight=float32(784, 400), bias=float64(400,), stride=1)"
    assert repr(Model((Linear(np.ones(2)),), None)) == (
        "Model(layers=[Linear(weight=float64(2,), bias=None, stride=1)], table=None, activation=tanh)"
    )


# replace


@pytest.mark.parametrize("path", ["layers.1.weight", "layers.0", "table.a", "activation", "layers"])
def test_replace_changes_one_part_and_shares_the_others(path):
    def at(t, path):
        for key in path.split("."):
            t = t[int(key)] if isinstance(t, tuple) else t[key] if isinstance(t, dict) else getattr(t, key)
        return t

    old, new = model(), np.full(7, 7.0)
    replaced = tree.replace(old, path, new)
    assert at(replaced, path) is new and at(old, path) is not new
    assert type(replaced) is Model
    for other in ("layers.0.bias", "layers.1.weight", "table.b"):
        if not other.startswith(path):
            assert at(replaced, other) is at(old, other)


def test_replace_keeps_the_type_of_sequences():
    assert tree.replace([1, [2, 3]], "1.0", 9) == [1, [9, 3]]
    assert tree.replace(Pair(1, (2,)), "1.0", 9) == Pair(1, (9,))
    assert type(tree.replace(Pair(1, 2), "0", 9)) is Pair


def test_dot_sums_products_and_refuses_to_broadcast():
    a, b = {"x": np.array([1.0, 2.0]), "y": [np.array(3.0)]}, {"x": np.array([4.0, 5.0]), "y": [np.array(6.0)]}
    assert float(tree.dot(a, b)) == 32
    with pytest.raises(ValueError, match=r"tree\.dot: leaves of shapes \(2,\) and \(1,\)"):
        tree.dot([a["x"]], [np.ones(1)])
