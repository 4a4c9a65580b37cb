"""Attention as a layer: by hand for every head, its symmetries, its derivatives; and the sinusoids."""

import numpy as np
import pytest

from tinygen import Generator, check_grads, grad
from tinygen.autograd import tree
from tinygen.nn import SelfAttention, init, sinusoids

close = np.testing.assert_allclose


def layer_of(d=6, heads=3, causal=False):
    rng = Generator(0)
    layer = tree.map(lambda leaf: leaf.astype(np.float64), SelfAttention.init(rng, d, heads, causal, init.normal(0.7)))
    for bias, width in (("project.bias", 3 * d), ("combine.bias", d)):
        layer = tree.replace(layer, bias, rng.normal(width, np.float64))
    return layer


def tokens(*shape):
    return Generator(1).normal(shape, np.float64)


@pytest.mark.parametrize("causal", [False, True])
def test_every_head_attends_with_its_own_channels(causal):
    layer, x = layer_of(causal=causal), tokens(2, 5, 6)
    q, k, v = np.split(x @ layer.project.weight + layer.project.bias, 3, axis=2)
    heads = []
    for h in (slice(0, 2), slice(2, 4), slice(4, 6)):
        p = np.exp(q[..., h] @ k[..., h].swapaxes(1, 2) / np.sqrt(2)) * (np.tri(5) if causal else 1)
        heads.append(p / p.sum(axis=2, keepdims=True) @ v[..., h])
    expected = np.concatenate(heads, axis=2) @ layer.combine.weight + layer.combine.bias
    close(layer(x), expected, rtol=1e-12)


def test_an_image_is_the_sequence_of_its_pixels_row_by_row():
    layer, image = layer_of(causal=True), tokens(2, 3, 4, 6)
    close(layer(image), layer(image.reshape(2, 12, 6)).reshape(2, 3, 4, 6), rtol=1e-13)
    reached = grad(lambda x: layer(x)[0, 1, 2].sum())(image)[0].reshape(12, 6)
    assert reached[:7].any(axis=1).all() and not reached[7:].any()


def test_permuted_tokens_give_permuted_results():
    layer, x = layer_of(), tokens(2, 5, 6)
    order = [3, 0, 4, 1, 2]
    close(layer(x[:, order]), layer(x)[:, order], rtol=1e-12)


def test_padding_behind_a_mask_changes_nothing():
    layer, x = layer_of(), tokens(2, 5, 6)
    padded = np.concatenate([x, 100 * tokens(2, 3, 6)], axis=1)
    mask = np.broadcast_to(np.arange(8) < 5, (2, 8))
    close(layer(padded, key_mask=mask)[:, :5], layer(x), rtol=1e-12)


def test_derivatives_to_the_second_order():
    check_grads(lambda layer, x: layer(x), (layer_of(4, 2, causal=True), tokens(2, 3, 4)))


def test_queries_keys_and_values_begin_as_three_glorot_matrices():
    layer = SelfAttention.init(Generator(0), 64, 4, last=init.zeros)
    assert abs(layer.project.weight).max() == pytest.approx(np.sqrt(6 / 128), rel=1e-3)
    assert not layer.combine.weight.any()
    assert {leaf.dtype for leaf in tree.flatten((layer, layer(np.ones((1, 2, 64), np.float32))))[0]} == {np.dtype(np.float32)}


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="SelfAttention: 6 channels cannot be shared out among 4 heads"):
        SelfAttention.init(Generator(0), 6, 4)
    for shape, complaint in (((2, 5, 5), "length 6"), ((2, 6), "must be a sequence"), ((2, 0, 6), "at least one token")):
        with pytest.raises(ValueError, match=f"SelfAttention: .*{complaint}"):
            layer_of()(np.zeros(shape))


def test_sinusoids_are_sines_and_cosines_of_geometric_frequencies():
    t = np.array([0, 1, 7, 1000])
    y = sinusoids(t, 6, longest=100)
    assert y.dtype == np.float32
    close(y, [[f(n * w) for f in (np.sin, np.cos) for w in (1, 0.1, 0.01)] for n in t], atol=1e-6)


def test_sinusoids_tell_times_apart():
    y = sinusoids(np.arange(1001), 32)
    distances = np.linalg.norm(y[:, None] - y[None, ::50], axis=2)
    assert (distances > 0.4).sum() == distances.size - 21  # all but a time and itself


@pytest.mark.parametrize("d", [2, 5])
def test_sinusoids_need_an_even_number_of_at_least_4(d):
    with pytest.raises(ValueError, match=f"sinusoids: d is {d}"):
        sinusoids(np.arange(3), d)
