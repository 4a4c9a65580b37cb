"""PixelCNN against enumeration of all images, against its own order of pixels, and cached sampling against the naive one."""

import math

import numpy as np
import pytest

from tinygen import Generator, check_grads, data, grad, ops
from tinygen.autograd import tree
from tinygen.density import Bounded, Exact, Sampler, Tractable, Unnormalised, bits_per_dim
from tinygen.models.pixelcnn import Memory, PixelCNN, Residual, receptive_field, train_step
from tinygen.nn import live_taps
from tinygen.optim import Adam, begin

close = np.testing.assert_allclose


def plain(shape, levels=2, classes=None, blocks=2, **sizes):
    return PixelCNN.plain(Generator(0), shape, levels, channels=4, blocks=blocks, classes=classes, **sizes)


def gated(shape, levels=2, classes=None, layers=3, **sizes):
    return PixelCNN.gated(Generator(0), shape, levels, channels=4, layers=layers, classes=classes, **sizes)


def scrambled(model, scale=0.5):
    """The model with random weights everywhere, also under dead taps, in float64."""
    rng = Generator(1)
    return tree.map(lambda leaf: scale * rng.normal(leaf.shape, np.float64), model)


def every_image(shape, levels=2):
    pixels = math.prod(shape)
    return np.stack(np.unravel_index(np.arange(levels**pixels), (levels,) * pixels), axis=-1).reshape(-1, *shape)


def labels_for(model, n):
    return None if model.classes is None else np.arange(n) % model.classes


def naive_sample(model, rng, x, known, labels):
    """The whole network once for every pixel."""
    x = x.copy()
    for t, (i, j) in enumerate(np.ndindex(model.shape[:2])):
        if t >= known:
            distribution = model.distribution(np.where(np.isnan(x), 0, x), labels)
            x[:, i : i + 1, j : j + 1] = type(distribution)(distribution.logits[:, i : i + 1, j : j + 1]).sample(rng)
    return x


@pytest.fixture
def smooth(monkeypatch):
    """With softplus in place of relu: central differences need it, and no gradient is zero by accident."""
    monkeypatch.setattr(ops, "relu", ops.softplus)


both = pytest.mark.parametrize("make", [plain, gated])
SIZES = [(3, 1), (3, 3), (5, 3), (7, 3), (7, 5)]
sizes = pytest.mark.parametrize("first_kernel, kernel", SIZES)
heads = pytest.mark.parametrize("levels, classes", [(2, None), (2, 3), (5, None), (256, 2)])


# Likelihood


@both
@pytest.mark.parametrize("classes", [None, 2])
def test_the_probabilities_of_all_binary_images_of_3_by_3_sum_to_1(make, classes):
    model, x = scrambled(make((3, 3, 1), classes=classes)), every_image((3, 3, 1)).astype(np.float64)
    assert len(x) == 512
    for label in [None] if classes is None else range(classes):
        p = np.exp(model.log_prob(x, None if label is None else np.full(512, label)).nats)
        assert abs(p.sum() - 1) < 1e-12
        assert p.max() > 2 * p.min()


@both
def test_the_probabilities_of_all_images_of_three_grey_levels_sum_to_1(make):
    model, x = scrambled(make((2, 3, 1), levels=3)), every_image((2, 3, 1), 3)
    assert abs(np.exp(model.log_prob(x).nats).sum() - 1) < 1e-12


@both
def test_each_factor_is_the_conditional_probability_given_the_pixels_before(make):
    model, x = scrambled(make((2, 3, 1))), every_image((2, 3, 1)).astype(np.float64)
    p, bits = np.exp(model.log_prob(x).nats), x.reshape(len(x), -1)
    factors = model.distribution(x).mean.reshape(len(x), -1)
    for t in range(6):
        for prefix in np.unique(bits[:, :t], axis=0):
            agree = (bits[:, :t] == prefix).all(axis=1)
            close(factors[agree, t], p[agree & (bits[:, t] == 1)].sum() / p[agree].sum(), rtol=1e-10)


@both
@heads
def test_a_new_model_finds_all_images_equally_likely(make, levels, classes):
    model = make((4, 5, 1), levels, classes)
    x = Generator(0).integers(0, levels, (6, 4, 5, 1)).astype(np.uint8)
    density = model.log_prob(x, labels_for(model, 6))
    assert type(density) is Exact and density.nats.shape == (6,) and density.nats.dtype == np.float32
    close(density.nats, -20 * math.log(levels), rtol=1e-6)
    assert bits_per_dim(density, 20).relation == "="


@both
def test_it_is_tractable_and_can_be_sampled_and_nothing_else(make):
    kinds = [isinstance(make((3, 3, 1)), kind) for kind in (Tractable, Sampler, Bounded, Unnormalised)]
    assert kinds == [True, True, False, False]


@both
@heads
def test_gradients_of_the_likelihood(smooth, make, levels, classes):
    model = scrambled(make((3, 3, 1), levels, classes, first_kernel=3), 0.3)
    x = Generator(2).integers(0, levels, (2, 3, 3, 1)).astype(np.uint8)
    check_grads(lambda model: model.log_prob(x, labels_for(model, 2)).nats, (model,), order=1)


# What is seen


@both
@sizes
def test_no_gradient_flows_from_the_future(smooth, make, first_kernel, kernel):
    model = scrambled(make((5, 4, 1), first_kernel=first_kernel, kernel=kernel))
    x = Generator(0).normal((1, 5, 4, 1), np.float64)
    for t, (i, j) in enumerate(np.ndindex(5, 4)):
        dx = grad(lambda x: model.distribution(x).logits[0, i, j].sum())(x).reshape(-1)  # noqa: B023
        assert not dx[t:].any(), (i, j)
        assert t == 0 or dx[:t].any(), (i, j)


@both
@sizes
@pytest.mark.parametrize("levels, classes", [(2, None), (4, 2)])
def test_the_future_may_be_nan(make, first_kernel, kernel, levels, classes):
    model = scrambled(make((5, 4, 1), levels, classes, first_kernel=first_kernel, kernel=kernel))
    labels, x = labels_for(model, 21), np.ones((21, 20))
    x[np.arange(20) >= np.arange(21)[:, None]] = np.nan  # image t knows its first t pixels
    logits = model.distribution(x.reshape(21, 5, 4, 1), labels).logits.reshape(21, 20, -1)
    for t, s in np.ndindex(21, 20):
        if s <= t:
            assert np.isfinite(logits[t, s]).all()
        elif s % 4:  # its left neighbour is not known
            assert np.isnan(logits[t, s]).all()


@pytest.mark.parametrize("first_kernel, kernel", SIZES[1:])  # a 1 x 1 kernel sees no further at any depth
def test_the_gated_network_has_no_blind_spot(first_kernel, kernel):
    """With layers enough for the width: every pixel above, and to the left in the same row."""
    model = scrambled(gated((6, 7, 1), layers=8, first_kernel=first_kernel, kernel=kernel))
    for i, j in np.ndindex(6, 7):
        seen = receptive_field(model, i, j).reshape(-1)
        assert np.array_equal(seen, np.arange(42) < 7 * i + j)


@pytest.mark.parametrize("blocks", [1, 4, 12])
def test_the_blind_spot_of_the_plain_network_is_a_wedge_to_the_right_that_depth_does_not_fill(blocks):
    """A step up leads at most one column to the right under 3 x 3 kernels: pixels above right of that diagonal stay unseen."""
    model = scrambled(plain((7, 9, 1), blocks=blocks, first_kernel=3))
    rows, columns = np.indices((7, 9))
    for i, j in [(6, 2), (5, 4), (3, 0)]:
        seen = receptive_field(model, i, j)
        before = rows * 9 + columns < i * 9 + j
        wedge = columns - j > i - rows
        assert not (seen & wedge).any() and not (seen & ~before).any()
        if blocks == 12:
            assert np.array_equal(seen, before & ~wedge)
            assert (before & wedge).any()


def test_the_receptive_field_is_that_of_the_gradient():
    model = scrambled(gated((5, 5, 1), classes=2, layers=2, first_kernel=3))
    x = Generator(0).normal((1, 5, 5, 1), np.float64)
    dx = grad(lambda x: model.distribution(x, np.array([1])).logits[0, 4, 2].sum())(x)[0, :, :, 0]
    assert np.array_equal(receptive_field(model, 4, 2, label=1), dx != 0)


# Samples


@both
@heads
@pytest.mark.parametrize("known", [0, 7, 20])
def test_cached_sampling_is_naive_sampling_pixel_for_pixel(make, levels, classes, known):
    model = scrambled(make((5, 4, 1), levels, classes))
    labels = labels_for(model, 6)
    start = Generator(3).integers(0, levels, (6, 5, 4, 1)).astype(np.float64)
    cached = model.complete(Generator(4), start, known, labels)
    assert np.array_equal(cached, naive_sample(model, Generator(4), start, known, labels))
    assert np.array_equal(cached.reshape(6, 20)[:, :known], start.reshape(6, 20)[:, :known])
    if known == 0:
        assert np.array_equal(model.sample(Generator(4), 6, labels), cached)


@both
@sizes
def test_cached_sampling_is_naive_sampling_for_every_kernel(make, first_kernel, kernel):
    model = scrambled(make((4, 6, 1), first_kernel=first_kernel, kernel=kernel))
    x = np.zeros((5, 4, 6, 1))
    assert np.array_equal(model.complete(Generator(4), x, 0), naive_sample(model, Generator(4), x, 0, None))


@both
@heads
@pytest.mark.parametrize("known", [0, 7, 20])
def test_the_kernel_draws_the_same_images_from_the_same_random_numbers(make, levels, classes, known):
    """In float32, where the probabilities differ by rounding: another level is drawn once in a million pixels."""
    model = tree.map(lambda leaf: leaf.astype(np.float32), scrambled(make((5, 4, 1), levels, classes, first_kernel=5)))
    x, labels = Generator(3).integers(0, levels, (37, 5, 4, 1)).astype(np.uint8), labels_for(model, 37)
    assert model._program(x, labels) is not None
    by_kernel, by_python = Generator(4), Generator(4)
    drawn, expected = model.complete(by_kernel, x, known, labels), model._draw(by_python, x, known, labels)
    assert drawn.dtype == np.uint8 and np.array_equal(drawn, expected)
    assert by_kernel.uniform() == by_python.uniform()  # and as many of them
    assert np.array_equal(expected, naive_sample(model, Generator(4), x, known, labels))


@both
@sizes
def test_the_kernel_draws_the_same_images_for_every_size(make, first_kernel, kernel):
    model = tree.map(np.float32, scrambled(make((4, 6, 1), first_kernel=first_kernel, kernel=kernel)))
    x = np.zeros((5, 4, 6, 1), np.float32)
    assert np.array_equal(model.complete(Generator(4), x, 0), model._draw(Generator(4), x, 0, None))


def test_the_kernel_is_for_float32_and_for_what_it_knows(monkeypatch):
    model, x = plain((3, 3, 1)), np.zeros((2, 3, 3, 1), np.float32)
    assert model._program(x, None) is not None
    assert scrambled(model)._program(x, None) is None
    assert plain((3, 3, 1), first_kernel=1)._program(x, None) is None  # of a 1 x 1 kernel, mask A leaves nothing
    monkeypatch.setattr(ops, "relu", ops.softplus)
    assert model._program(x, None) is None and model.sample(Generator(0), 2).shape == (2, 3, 3, 1)


@both
def test_every_activation_is_computed_once(make, monkeypatch):
    """Counting the pixels at which each masked layer is evaluated: those of one image, no more."""
    model, counts, at = scrambled(make((5, 4, 1))), {}, Memory.at

    def counting(memory, row, columns):
        convolve = at(memory, row, columns)

        def count(layer, x, before=None):
            counts[id(layer)] = counts.get(id(layer), 0) + x.shape[2]
            return convolve(layer, x, before)

        return count

    monkeypatch.setattr(Memory, "at", counting)
    model.sample(Generator(0), 2)
    assert set(counts.values()) == {20}


@both
def test_samples_come_as_often_as_their_probability_says(make):
    model, n = scrambled(make((2, 2, 1)), 1.0), 20_000
    p = np.exp(model.log_prob(every_image((2, 2, 1)).astype(np.float64)).nats)
    drawn = model.sample(Generator(5), n).reshape(n, 4) @ [8, 4, 2, 1]
    counts = np.bincount(drawn.astype(int), minlength=16)
    assert (abs(counts - n * p) < 5 * np.sqrt(n * p * (1 - p))).all()


@both
def test_what_comes_after_the_known_pixels_is_not_looked_at(make):
    model = scrambled(make((4, 4, 1)))
    x = np.zeros((3, 4, 4, 1))
    other = x.copy()
    other.reshape(3, 16)[:, 6:] = np.nan
    assert np.array_equal(model.complete(Generator(0), x, 6), model.complete(Generator(0), other, 6))
    assert not x.any()


@both
def test_samples_have_the_type_of_the_data(make):
    for levels, kind in ((2, np.float32), (7, np.uint8)):
        x = make((4, 5, 1), levels).sample(Generator(0), 3)
        assert x.shape == (3, 4, 5, 1) and x.dtype == kind and x.max() <= levels - 1 and x.min() >= 0


# Networks


def test_the_residual_is_added_exactly_once():
    """Blocks that compute nothing hand on what they are given, at any depth: added twice it would grow by 2 in each."""
    shallow, deep = (scrambled(plain((4, 4, 1), blocks=blocks)) for blocks in (1, 15))
    silent = tree.map(np.zeros_like, deep.network.blocks)
    network = tree.replace(deep.network, "blocks", silent)
    x = Generator(0).normal((2, 4, 4, 1), np.float64)
    convolve = lambda layer, x, before=None: layer(x, before)  # noqa: E731
    close(network.pixels(x, (), None, convolve), network.first(x), rtol=1e-13)
    block, h = shallow.network.blocks[0], Generator(1).normal((2, 4, 4, 4), np.float64)
    net = block.widen(np.maximum(block.masked(np.maximum(block.narrow(np.maximum(h, 0)), 0)), 0))
    close(block(h, None, convolve), h + net, rtol=1e-13)


def test_the_gated_network_is_its_equations():
    model = scrambled(gated((4, 5, 1), layers=3, classes=2))
    x, labels = Generator(0).bernoulli(np.full((2, 4, 5, 1), 0.5), np.float64), np.array([1, 0])
    v = h = 2 * x - 1

    def gate(y):
        f, g = y[..., :4], y[..., 4:]
        return np.tanh(f) / (1 + np.exp(-g))

    for n, layer in enumerate(model.network.layers):
        y = layer.vertical(v) + layer.label.weight[labels][:, None, None]
        new = (
            gate(layer.horizontal(h) + y @ layer.link.weight[0, 0] + layer.link.bias) @ layer.out.weight[0, 0] + layer.out.bias
        )
        v, h = gate(y), new if n == 0 else h + new
    close(model.distribution(x, labels).logits, model.head(h), rtol=1e-11)


@both
def test_the_first_layers_hide_the_pixel_itself_and_the_others_do_not(make):
    model = make((4, 4, 1))
    for layer in model.network.readers:
        assert layer.taps in (live_taps("A", layer.kernel), live_taps("vertical A", layer.kernel))
    if make is plain:
        assert {block.masked.taps for block in model.network.blocks} == {live_taps("B", (3, 3))}
    else:
        for layer in model.network.layers[1:]:
            assert (layer.vertical.taps, layer.horizontal.taps) == (live_taps("vertical B", (3, 3)), live_taps("B", (1, 3)))


def test_the_default_network_has_the_stated_number_of_parameters():
    model = PixelCNN.plain(Generator(0), (28, 28, 1), 2)
    layers = [model.network.first, *(block.masked for block in model.network.blocks)]
    dead = sum(layer.weight.size - len(layer.taps) * layer.weight[0, 0].size for layer in layers)
    assert (tree.size(model), tree.size(model) - dead) == (53_569, 37_409)
    assert isinstance(model.network.blocks[0], Residual) and len(model.network.blocks) == 15


@both
def test_the_class_changes_the_distribution_of_every_pixel(make):
    model = scrambled(make((3, 4, 1), classes=2))
    x = np.zeros((2, 3, 4, 1))
    a, b = model.distribution(x, np.array([0, 1])).logits
    assert (a != b).all()


# Training


@both
@pytest.mark.parametrize("classes", [None, 10])
def test_thirty_steps_raise_the_likelihood_of_unseen_digits(make, classes):
    digits = data.load("digits")
    model, optimiser = make((8, 8, 1), classes=classes), Adam(1e-2)
    step = train_step(optimiser, lambda grey, rng: data.prepare("dynamic", grey, digits.levels, rng))
    state = begin(model, optimiser)
    pairs = data.Batches((digits.train.images, digits.train.labels), 50, seed=0)
    for n in range(30):
        images, labels = pairs.at(n)
        state, metrics = step(state, images if classes is None else (images, labels), Generator(0).at(n))
    x = data.prepare_once("dynamic", digits.validation.images, digits.levels)
    density = state.params.log_prob(x, None if classes is None else digits.validation.labels)
    assert set(metrics) == {"loss"}
    assert density.nats.mean() > -64 * math.log(2) + 10


@both
@heads
def test_every_live_weight_is_trained(make, levels, classes):
    model = scrambled(make((5, 5, 1), levels, classes))
    x = Generator(2).integers(0, levels, (9, 5, 5, 1)).astype(np.uint8)
    g = grad(lambda model: model.log_prob(x, labels_for(model, 9)).nats.sum())(model)
    for path, leaf in zip(tree.paths(g), tree.flatten(g)[0]):
        assert leaf.any(), path


# Refusals


def test_what_is_no_image_or_no_label_is_refused():
    model, classed = plain((3, 4, 1)), gated((3, 4, 1), levels=5, classes=2)
    x = np.zeros((2, 3, 4, 1), np.float32)
    for call in (model.log_prob, model.distribution, lambda x: model.complete(Generator(0), x, 0)):
        with pytest.raises(ValueError, match=r"examples have shape \(4, 3, 1\), but this model was made for \(3, 4, 1\)"):
            call(x.transpose(0, 2, 1, 3))
    for wrong in (0.5, -1, 2, np.nan):
        with pytest.raises(ValueError, match="must hold whole grey levels, 0 .. 1: .* binarise with data.prepare"):
            model.log_prob(x + wrong)
    with pytest.raises(ValueError, match=r"x lies in \[5, 5\] and must hold whole grey levels, 0 .. 4"):
        classed.log_prob(x + 5, np.array([0, 1]))
    with pytest.raises(ValueError, match="this model was made for 2 classes; give labels, 2 integers from 0 to 1"):
        classed.sample(Generator(0), 2)
    with pytest.raises(ValueError, match="this model was made without classes; leave the labels out"):
        model.log_prob(x, np.array([0, 1]))
    with pytest.raises(ValueError, match=r"labels must be 2 integers .* got int64 of shape \(3,\)"):
        classed.log_prob(x, np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="labels must be 2 integers from 0 to 1, .* some from 0 to 2"):
        classed.log_prob(x, np.array([0, 2]))
    for known in (-1, 13):
        with pytest.raises(ValueError, match=f"complete: known = {known} pixels of 3 x 4; give a number from 0 to 12"):
            model.complete(Generator(0), x, known)


@pytest.mark.parametrize("make", [PixelCNN.plain, PixelCNN.gated])
def test_what_is_no_design_is_refused(make):
    rng = Generator(0)
    for shape in [(8, 8, 3), (8, 8), (0, 8, 1)]:
        with pytest.raises(ValueError, match="images of one channel"):
            make(rng, shape, 2)
    for levels in (1, 257):
        with pytest.raises(ValueError, match=f"levels is {levels}; a pixel has 2"):
            make(rng, (8, 8, 1), levels)
    with pytest.raises(ValueError, match="channels must be even"):
        make(rng, (8, 8, 1), 2, channels=5)
    with pytest.raises(ValueError, match="a 4 x 4 kernel has no tap in its middle"):
        make(rng, (8, 8, 1), 2, first_kernel=4)
