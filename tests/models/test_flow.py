"""Flows against mathematics: brute-force Jacobians, densities that integrate to 1, Gaussians whose density is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator, check_grads, data, grad, jacobian, ops
from tinygen.autograd import tree
from tinygen.density import Bounded, Exact, Sampler, Tractable, Unnormalised, bits_per_dim
from tinygen.models import flow as flows
from tinygen.models.flow import PRIOR, Additive, Affine, Chain, Checkerboard, Coupling, FactorOut, Flow, Halves, Spline
from tinygen.nn import Linear, mlp
from tinygen.nn.invertible import Flatten, Logit, Permutation, Rescale, Scaling, Squeeze
from tinygen.optim import Adam, begin, cosine, warm_up

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32)
close = np.testing.assert_allclose
MASKS = [(kind, parity) for kind in ("halves", "checkerboard") for parity in (0, 1)]


def random(model, seed=0, size=0.5):
    """The model in float64 with noise on every number: a new one has couplings that do nothing."""
    rng = Generator(seed)
    return tree.map(lambda leaf: leaf.astype(np.float64) + size * rng.normal(leaf.shape, np.float64), model)


def numbers(shape, seed=0):
    return Generator(seed).normal(shape, np.float64)


def pixels(shape, seed=0):
    return Generator(seed).uniform(shape, np.float64)


def coupling(law, shape, kind, parity, size=1.0):
    """A coupling by a network whose initial numbers are multiplied by size."""
    mask = {"halves": Halves, "checkerboard": Checkerboard}[kind](parity)
    channels = shape[-1] // 2 if kind == "halves" else shape[-1]
    network = mlp(Generator(1), (channels, 6, law(channels).parameters * channels), ops.tanh)
    return Coupling(tree.map(lambda leaf: size * leaf, network), law(channels), mask)


def additive(shape, kind, parity):
    return coupling(lambda channels: Additive(), shape, kind, parity)


def affine(shape, kind, parity):
    return coupling(lambda channels: Affine(np.ones(channels)), shape, kind, parity)


def spline(shape, kind, parity):
    return coupling(lambda channels: Spline(bins=3), shape, kind, parity, 0.3)  # for the sake of float32; see small_mlp


def small_mlp(kind="affine", mask="halves", dimensions=4, waves=0, before=(), size=0.5):
    size = size if kind != "spline" else 0.1  # of large numbers splines make cliffs, which lose all digits on the way back
    return random(Flow.mlp(Generator(1), dimensions, 4, (6,), ops.tanh, kind, mask, waves, before), size=size)


def small_convolutional(kind="affine", shape=(4, 4, 1), scales=2, before=()):
    flow = Flow.convolutional(Generator(1), shape, scales, couplings=2, width=3, activation=ops.tanh, kind=kind, before=before)
    return random(flow, size=0.2 if kind != "spline" else 0.03)


LAYERS = [
    *((make(shape, *mask), shape) for make in (additive, affine, spline) for mask in MASKS for shape in ((4,), (3, 2, 2))),
    (affine((5,), "checkerboard", 0), (5,)),
    (affine((3, 3, 1), "checkerboard", 1), (3, 3, 1)),
    (Scaling(np.zeros(5)), (5,)),
    (Permutation((2, 0, 3, 1)), (4,)),
    (Permutation((1, 2, 0)), (2, 2, 3)),
    (Squeeze(), (4, 2, 3)),
    (Flatten((2, 3, 1)), (2, 3, 1)),
    (FactorOut(Chain((Flatten((2, 2, 1)), Scaling(np.zeros(4))))), (2, 2, 2)),
    (Rescale(-2.0, 3.0), (2, 3, 1)),
    (Logit(0.05), (2, 3, 1)),
    (Logit(0.0), (4,)),
]
FLOWS = [
    *(small_mlp(kind, mask) for kind in ("additive", "affine") for mask in ("halves", "checkerboard")),
    small_mlp("spline", "halves", waves=2),
    small_mlp(before=(Rescale(0.0, 4.0), Logit())),
    *(small_convolutional(kind, shape) for kind in ("additive", "affine") for shape in ((4, 4, 1), (2, 4, 2))),
    small_convolutional("spline"),
    small_convolutional(scales=1, shape=(3, 3, 1)),
    small_convolutional(scales=3, shape=(4, 4, 1), before=(Logit(0.1),)),
]
FEW_BINS = Flow(Chain((*(random(spline((4,), "halves", i), i, 0.2) for i in (0, 1)), Scaling(numbers(4)))), (4,))  # few kinks
CASES = [
    (random(layer, i, 0.2 if isinstance(getattr(layer, "law", None), Spline) else 0.5), shape)
    for i, (layer, shape) in enumerate(LAYERS)
] + [(flow, flow.shape) for flow in FLOWS]
every_map = pytest.mark.parametrize("f, shape", CASES, ids=[f"{type(f).__name__}-{i}" for i, (f, _) in enumerate(CASES)])
every_flow = pytest.mark.parametrize("flow", FLOWS, ids=range(len(FLOWS)))


def brute_force_log_det(method, x):
    """log |det| of the Jacobian of each example's map, which must not depend on the other examples."""
    D = math.prod(x.shape[1:])
    matrices = [jacobian(lambda x: method(x[None])[0].reshape((D,)))(row).reshape(D, D) for row in x]
    return np.linalg.slogdet(np.stack(matrices))[1]


# The determinant


@every_map
def test_log_det_is_that_of_the_brute_force_jacobian_both_ways(f, shape):
    x = pixels((2, *shape))
    z, log_det = f.to_latent(x)
    close(log_det, brute_force_log_det(f.to_latent, x), rtol=1e-10, atol=1e-10)
    close(f.to_data(z)[1], brute_force_log_det(f.to_data, z), rtol=1e-10, atol=1e-10)
    assert log_det.shape == (2,)


@few
@given(seed=seeds, order=st.permutations(range(4)))
def test_log_det_of_random_stacks(seed, order):
    kinds = [additive, affine, spline]
    layers = [kinds[(seed >> i) % 3]((4,), *MASKS[(seed >> 2 * i) % 4]) for i in range(4)]
    chain = random(Chain((*layers[:2], Permutation(order), *layers[2:], Scaling(np.zeros(4)))), seed)
    x = numbers((2, 4), seed)
    z, log_det = chain.to_latent(x)
    close(log_det, brute_force_log_det(chain.to_latent, x), atol=1e-9)
    back, inverse = chain.to_data(z)
    close(back, x, atol=1e-8)
    close(inverse, -log_det, atol=1e-8)


@pytest.mark.parametrize("make, stretches", [(additive, False), (affine, True), (spline, True)])
@pytest.mark.parametrize("kind, parity", MASKS)
def test_a_coupling_passes_what_it_keeps_to_the_last_bit_and_moves_the_rest(make, stretches, kind, parity):
    layer, x = random(make((4, 4, 2), kind, parity)), numbers((3, 4, 4, 2))
    z, log_det = layer.to_latent(x)
    rows, columns, channels = np.indices((4, 4, 2))
    kept = np.broadcast_to((channels if kind == "halves" else rows + columns) % 2 == parity, x.shape)
    np.testing.assert_array_equal(z[kept], x[kept])
    assert kept.sum() == x.size / 2 and (z != x)[~kept].all()
    assert (log_det != 0).all() == stretches
    if make is not spline:  # whose slope is not the same everywhere
        np.testing.assert_array_equal(layer.to_latent(np.where(kept, x, x + 1))[1], log_det)


def test_however_large_the_network_a_coupling_stretches_by_no_more_than_its_scale():
    layer = tree.map(lambda leaf: leaf * 1e6, affine((4,), "halves", 0))
    layer = tree.replace(layer, "law.scale", np.full(2, 1.5))
    z, log_det = layer.to_latent(numbers((50, 4)))
    assert np.isfinite(z).all() and abs(log_det).max() <= 2 * 1.5


# Densities


def plane(low, high, n):
    """Midpoints of n x n cells of [low, high]^2, and the area of a cell."""
    t = low + (high - low) * (np.arange(n) + 0.5) / n
    return np.stack(np.meshgrid(t, t), axis=-1).reshape(-1, 2), ((high - low) / n) ** 2


@pytest.mark.parametrize(
    "kind, side, n, error", [("additive", 12, 400, 1e-6), ("affine", 12, 400, 1e-6), ("spline", 6, 300, 1e-4)]
)
def test_densities_integrate_to_one(kind, side, n, error):
    """The sum over a grid converges exponentially for smooth densities; those of splines have kinks at the knots."""
    x, area = plane(-side, side, n)
    total = np.exp(small_mlp(kind, dimensions=2, size=0.3).log_prob(x).nats).sum() * area
    assert total == pytest.approx(1, abs=error)


@pytest.mark.parametrize("alpha", [0.0, 0.05])
def test_densities_of_pixels_integrate_to_one_over_all_that_the_logit_takes(alpha):
    """Which is [0, 1] and a little more: p = alpha + (1 - 2 alpha) x runs from 0 to 1."""
    beyond = alpha / (1 - 2 * alpha)
    x, area = plane(-4 * beyond, 4 * (1 + beyond), 400)
    flow = small_mlp(dimensions=2, before=(Rescale(0.0, 4.0), Logit(alpha)), size=0.2)
    assert np.exp(flow.log_prob(x).nats).sum() * area == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", ["additive", "affine", "spline"])
def test_a_new_flow_is_the_prior(kind):
    x = numbers((5, 4))
    new = Flow.mlp(Generator(0), 4, kind=kind, waves=3)
    close(new.log_prob(x).nats, -0.5 * (x**2).sum(axis=1) - 2 * math.log(2 * math.pi), rtol=1e-6)
    images = numbers((5, 4, 4, 2))
    expected = PRIOR.log_prob(images).sum(axis=(1, 2, 3))
    close(Flow.convolutional(Generator(0), (4, 4, 2), kind=kind).log_prob(images).nats, expected, rtol=1e-6)


@pytest.mark.parametrize("mask, d", [(Halves, 2), (Checkerboard, 4)])
def test_linear_couplings_make_a_gaussian_of_known_covariance(mask, d):
    """Additive couplings by linear networks are shears: z = x A + c, and x is N(-c A^-1, (A A^T)^-1)."""
    couplings = [Coupling(Linear.init(Generator(i), d, d), Additive(), mask(i)) for i in range(3)]
    flow = random(Flow(Chain((*couplings, Permutation((2, 0, 3, 1)), Scaling(np.zeros(4)))), (4,)))
    c = flow.to_latent(np.zeros((1, 4)))[0][0]
    A = flow.to_latent(np.eye(4))[0] - c
    x = numbers((6, 4), seed=1)
    deviation = x + c @ np.linalg.inv(A)
    distance = np.einsum("ni,ij,nj->n", deviation, A @ A.T, deviation)
    expected = 0.5 * np.linalg.slogdet(A @ A.T)[1] - 0.5 * distance - 2 * math.log(2 * math.pi)
    close(flow.log_prob(x).nats, expected, rtol=1e-10)


@every_flow
def test_log_prob_is_the_change_of_variables_formula(flow):
    x = pixels((3, *flow.shape))
    z = flow.to_latent(x)[0]
    gaussian = -0.5 * (z**2).sum(axis=1) - 0.5 * z.shape[1] * math.log(2 * math.pi)
    close(flow.log_prob(x).nats, gaussian + brute_force_log_det(flow.to_latent, x), rtol=1e-10)


# Pixels


@pytest.mark.parametrize("levels", [2, 5])
def test_scaled_to_the_unit_cube_the_bits_are_those_of_the_grey_levels(levels):
    """A density of g + u and one of (g + u) / levels say the same about g: log levels for each pixel is the difference."""
    raw = small_mlp(before=(Rescale(0.0, float(levels)), Logit()))
    scaled = small_mlp(before=(Rescale(0.0, 1.0), Logit()))
    x = pixels((4, 4))
    of_grey_levels = -raw.log_prob(levels * x).nats / (4 * math.log(2))
    close(bits_per_dim(scaled.log_prob(x), 4, levels).bits, of_grey_levels, rtol=1e-12)


def test_probabilities_of_grey_levels_sum_to_one_and_are_at_least_their_bounds():
    levels, n = 3, 60
    flow = small_mlp(dimensions=2, before=(Rescale(0.0, float(levels)), Logit(0.0)), size=0.2)
    u, area = plane(0, 1, n)
    cells = [np.array(g) for g in np.ndindex(levels, levels)]
    log_densities = np.stack([flow.log_prob(g + u).nats for g in cells])  # (9, n^2)
    P = np.exp(log_densities).sum(axis=1) * area
    assert P.sum() == pytest.approx(1, abs=1e-3)
    assert (log_densities.mean(axis=1) < np.log(P) - 1e-3).all()


# Round trips


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
@every_map
def test_round_trips_are_exact_to_a_few_roundings(f, shape, dtype, tolerance):
    f = tree.map(lambda leaf: leaf.astype(dtype), f)
    x = pixels((20, *shape)).astype(dtype)
    z, log_det = f.to_latent(x)
    back, inverse = f.to_data(z)
    assert back.dtype == inverse.dtype == z.dtype == log_det.dtype == dtype
    close(back, x, atol=tolerance)
    close(inverse, -log_det, rtol=10 * tolerance, atol=10 * tolerance)


@every_flow
def test_latents_come_back_too(flow):
    z = numbers((10, math.prod(flow.shape)))
    x, log_det = flow.to_data(z)
    back, inverse = flow.to_latent(x)
    close(back, z, atol=1e-9)
    close(inverse, -log_det, rtol=1e-9, atol=1e-9)


# Sampling


@every_flow
def test_the_density_of_a_sample_is_that_of_its_noise_over_the_stretch(flow):
    rng = Generator(0)
    x = flow.sample(rng.at(1), 5)
    noise = rng.at(1).normal((5, math.prod(flow.shape)))
    again, log_det = flow.to_data(noise)
    np.testing.assert_array_equal(x, again)
    close(flow.log_prob(x).nats, PRIOR.log_prob(noise).sum(axis=1) - log_det, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["additive", "affine", "spline"])
def test_samples_fall_as_often_as_the_density_says(kind):
    """The counts of 8 x 8 squares and of the rest are multinomial: their chi-square has mean k - 1 and variance 2 (k - 1)."""
    n, squares, fine = 40_000, 8, 20
    flow = small_mlp(kind, dimensions=2)
    x, area = plane(-3, 3, squares * fine)
    p = np.exp(flow.log_prob(x).nats).reshape(squares, fine, squares, fine).sum(axis=(1, 3)) * area
    edges = np.linspace(-3, 3, squares + 1)
    counts = np.histogram2d(*flow.sample(Generator(3), n).T[::-1], bins=(edges, edges))[0]  # rows are the second coordinate
    p, counts = np.append(p, 1 - p.sum()), np.append(counts, n - counts.sum())
    chi_square, k = ((counts - n * p) ** 2 / (n * p)).sum(), p.size
    assert abs(chi_square - (k - 1)) < 5 * math.sqrt(2 * (k - 1))


# Structure of the layers


@pytest.mark.parametrize("mask", [Halves, Checkerboard])
@pytest.mark.parametrize("shape", [(2, 3, 3, 4), (2, 6)])
def test_masks_keep_what_they_say_and_the_other_parity_the_rest(mask, shape):
    x, y = numbers(shape), numbers(shape, 1)
    if mask is Halves:
        b = np.arange(shape[-1]) < shape[-1] // 2
    else:
        b = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], bool)[..., None] if len(shape) == 4 else np.array([1, 0] * 3, bool)
    for parity, kept in ((0, b), (1, ~b), (2, b)):
        (of_x, _), (_, of_y) = mask(parity).split(x), mask(parity).split(y)
        np.testing.assert_array_equal(mask(parity).join(of_x, of_y), np.where(kept, x, y))
        if mask is Checkerboard:
            np.testing.assert_array_equal(of_x, np.where(kept, x, 0))  # the network sees nothing else
        close(mask(parity).total(of_y), np.where(kept, 0, y).sum(axis=tuple(range(1, len(shape)))))


def test_factored_out_channels_are_latents_as_they_are_and_the_others_go_on():
    x = numbers((3, 2, 2, 4))
    factor_out = FactorOut(Chain((Flatten((2, 2, 2)), Scaling(np.full(8, 0.5)))))
    z, log_det = factor_out.to_latent(x)
    np.testing.assert_array_equal(z[:, :8], x[..., :2].reshape(3, 8))
    close(z[:, 8:], x[..., 2:].reshape(3, 8) * math.exp(0.5))
    close(log_det, 4)


@every_flow
def test_after_all_couplings_every_latent_depends_on_every_number_of_an_image_or_vector(flow):
    """Unless it was factored out before the couplings could mix it: then at least on more than itself."""
    x = pixels((1, *flow.shape))
    D = x.size
    depends = jacobian(lambda x: flow.to_latent(x)[0][0])(x).reshape(D, D) != 0
    assert depends.any(axis=0).all() and depends.any(axis=1).all()
    if len(flow.shape) == 1:
        assert depends.all()
    assert (depends.sum(axis=1) > 1).all()


def test_the_multi_scale_flow_has_a_number_of_latents_for_every_number_of_the_image():
    flow = small_convolutional(scales=3, shape=(8, 4, 2))
    x = numbers((2, 8, 4, 2))
    assert flow.to_latent(x)[0].shape == (2, 64)
    assert flow.sample(Generator(0), 3).shape == (3, 8, 4, 2)


# Gradients and training


@pytest.mark.parametrize("flow", [FLOWS[2], FEW_BINS, FLOWS[5], FLOWS[8]], ids=["mlp", "spline", "pixels", "convolutional"])
def test_gradients_of_the_density_by_parameters_and_by_data(flow):
    x = pixels((2, *flow.shape))
    check_grads(lambda flow: flow.log_prob(x).nats, (flow,), order=1)
    check_grads(lambda x: flow.log_prob(x).nats, (x,), order=2)


@pytest.mark.parametrize("make", [small_mlp, small_convolutional])
@pytest.mark.parametrize("kind", ["additive", "affine", "spline"])
def test_every_parameter_is_trained(make, kind):
    flow = make(kind)
    g = grad(lambda flow: flow.log_prob(pixels((3, *flow.shape))).nats.sum())(flow)
    for path, leaf in zip(tree.paths(g), tree.flatten(g)[0]):
        assert np.any(leaf), path


def test_float32_is_kept():
    for flow, shape in (
        (Flow.mlp(Generator(0), 4, before=(Logit(),)), (4,)),
        (Flow.convolutional(Generator(0), (4, 4, 1)), (4, 4, 1)),
    ):
        x = pixels((3, *shape)).astype(np.float32)
        results = [flow.log_prob(x), flow.to_latent(x), flow.sample(Generator(0), 2)]
        results.append(grad(lambda flow, x=x: flow.log_prob(x).nats.sum())(flow))
        assert {leaf.dtype for leaf in tree.flatten(results)[0]} == {np.dtype(np.float32)}


def test_maximum_likelihood_finds_the_gaussian_that_the_data_has():
    """With shears and a scaling, f is linear and can whiten any covariance: the best -log p is then the Gaussian's entropy."""
    W = np.array([[1.5, 0.0], [-0.8, 0.4]])
    x = numbers((200, 2)) @ W
    covariance = x.T @ x / len(x)
    best = 0.5 * np.linalg.slogdet(covariance)[1] + 1 + math.log(2 * math.pi)
    shears = tuple(Coupling(Linear.init(Generator(i), 1, 1, bias=False), Additive(), Halves(i)) for i in range(3))
    optimiser = Adam(cosine(0.1, 400))
    state = begin(random(Flow(Chain((*shears, Scaling(np.zeros(2)))), (2,))), optimiser)
    step, losses = flows.train_step(optimiser), []
    for _ in range(400):
        state, metrics = step(state, x, None)
        losses.append(float(metrics["loss"]))
    assert min(losses) > best - 1e-12
    assert losses[-1] < best + 1e-5


def test_a_step_reports_minus_log_p_of_what_was_prepared():
    flow, rng, optimiser, x = small_mlp(), Generator(0), Adam(1e-3), pixels((5, 4))
    step = flows.train_step(optimiser, prepare=lambda batch, rng: batch + rng.uniform((5, 4), np.float64), limit=1.0)
    _, metrics = step(begin(flow, optimiser), x, rng.at(0))
    expected = -flow.log_prob(x + rng.at(0).uniform((5, 4), np.float64)).nats.mean()
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-12)
    assert metrics["gradient_norm"] > 0


@pytest.mark.parametrize("kind", ["additive", "affine"])
def test_thirty_steps_raise_the_likelihood_of_unseen_digits(kind):
    digits = data.load("digits")
    flow = Flow.convolutional(Generator(0), (8, 8, 1), width=8, kind=kind, before=(Logit(),))
    optimiser = Adam(3e-3)
    step = flows.train_step(optimiser, prepare=lambda grey, rng: data.prepare("dequantised", grey, digits.levels, rng))
    state, batches = begin(flow, optimiser), data.Batches(digits.train.images, 100, seed=0)
    for n in range(30):
        state, _ = step(state, batches.at(n), Generator(0).at(n))
    x = data.prepare_once("dequantised", digits.validation.images, digits.levels)
    before, after = (bits_per_dim(f.log_prob(x), 64, digits.levels).summary() for f in (flow, state.params))
    assert after.mean < before.mean - 0.1


def divergence_from_a_toy(name, steps, batch):
    """KL(truth || flow) on a grid, nats, after a short training of spline couplings."""
    toy, small = data.toy.load(name), name == "ring_of_8"
    stretch = Scaling(np.full(2, math.log(4) if small else 0, np.float32))
    flow = Flow.mlp(Generator(0), 2, couplings=4, kind="spline", waves=8, before=(stretch,))
    optimiser = Adam(warm_up(50, cosine(1e-2, steps)))
    step, state = flows.train_step(optimiser, limit=10.0, decay=0.98), begin(flow, optimiser, averaged=True)
    for n in range(steps):
        state, _ = step(state, toy.sample(Generator(1).at(n), batch), None)
    x, area = plane(-1.25, 1.25, 500) if small else plane(-4.5, 4.5, 252)
    truth = toy.log_prob(x)
    x, truth = x[truth > -30], truth[truth > -30]  # elsewhere truth is nothing
    return (np.exp(truth) * (truth - state.best.log_prob(x.astype(np.float32)).nats)).sum() * area


def test_a_hundred_steps_bring_splines_within_a_tenth_of_a_nat_of_two_moons():
    assert 0 < divergence_from_a_toy("two_moons", 100, 256) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(data.toy.TOYS))
def test_splines_come_within_a_tenth_of_a_nat_of_every_toy(name):
    assert 0 < divergence_from_a_toy(name, 1000 if name == "ring_of_8" else 500, 512) < 0.1


def test_a_flow_has_a_density_and_samples_and_no_need_of_bounds():
    flow = small_mlp()
    assert [isinstance(flow, kind) for kind in (Tractable, Sampler, Bounded, Unnormalised)] == [True, True, False, False]
    assert type(flow.log_prob(numbers((3, 4)))) is Exact
    assert str(bits_per_dim(flow.log_prob(numbers((3, 4))), 4)).startswith("=")


# Refusals


@pytest.mark.parametrize("make", [additive, affine, spline])
def test_an_odd_number_of_channels_cannot_be_halved(make):
    with pytest.raises(
        ValueError, match="3 channels cannot be cut into two halves; squeeze the image first, .* or add a channel"
    ):
        make((3,), "halves", 0).to_latent(numbers((2, 3)))
    with pytest.raises(ValueError, match="3 channels cannot be cut"):
        make((3,), "halves", 0).to_data(numbers((2, 3)))
    with pytest.raises(ValueError, match="3 channels cannot be cut"):
        FactorOut(Chain(())).to_latent(numbers((2, 4, 4, 3)))
    with pytest.raises(ValueError, match="3 channels cannot be cut"):
        Flow.mlp(Generator(0), 3)


@pytest.mark.parametrize("shape, scales", [((6, 8, 1), 3), ((8, 6, 1), 3), ((5, 4, 1), 2)])
def test_sizes_that_cannot_be_halved_are_refused_with_a_way_out(shape, scales):
    with pytest.raises(ValueError, match="cannot be made . times smaller; pad them to a multiple of .*, or take fewer scales"):
        Flow.convolutional(Generator(0), shape, scales)


def test_examples_and_latents_of_another_shape_are_refused():
    flow = small_convolutional()
    with pytest.raises(ValueError, match=r"Flow: examples have shape \(4, 2, 1\), but this model was made for \(4, 4, 1\)"):
        flow.log_prob(np.zeros((1, 4, 2, 1)))
    with pytest.raises(ValueError, match=r"Flow: z has shape \(1, 4, 4, 1\), but the latents of this model are \(N, 16\)"):
        flow.to_data(np.zeros((1, 4, 4, 1)))


def test_grey_levels_without_noise_are_refused_as_their_type_cannot_hold_a_determinant():
    flow = Flow.mlp(Generator(0), 2, before=(Rescale(0.0, 256.0),))
    for dtype in (np.uint8, np.int64):
        with pytest.raises(TypeError, match=f"density of real numbers, and x holds {np.dtype(dtype)}; dequantise grey levels"):
            flow.log_prob(np.array([[3, 4]], dtype))


@pytest.mark.parametrize("make, complaint", [
    (lambda: Flow.mlp(Generator(0), 4, kind="quadratic"), "kind must be 'additive', 'affine' or 'spline', not 'quadratic'"),
    (lambda: Flow.mlp(Generator(0), 4, mask="stripes"), "mask must be 'halves' or 'checkerboard', not 'stripes'"),
    (lambda: Flow.convolutional(Generator(0), (4, 4, 1), width=0), "width is 0; it must be an integer of at least 1"),
    (lambda: Flow.convolutional(Generator(0), (4, 4, 1), scales=0), "scales is 0; it must be an integer of at least 1"),
    (lambda: Flow.convolutional(Generator(0), (4, 4)), r"the shape of an image is \(H, W, C\), not \(4, 4\)"),
    (lambda: Flow.mlp(Generator(0), 0), "dimensions is 0"),
    (lambda: Flow.mlp(Generator(0), 4, waves=-1), "waves = -1 must be at least 0"),
    (lambda: Spline(bins=0), "Spline: bins = 0 must be at least 1, and reach = 5.0 positive"),
    (lambda: Spline(reach=0.0), "reach = 0.0 positive"),
])  # fmt: skip
def test_settings_that_mean_nothing_are_refused(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


@pytest.mark.parametrize("couplings", [1, 2, 3])
def test_each_scale_has_as_many_couplings_of_either_mask_as_said_and_the_last_one_more(couplings):
    def masks(chain):
        found = [type(layer.mask).__name__ for layer in chain.layers if isinstance(layer, Coupling)]
        return found, *(part for layer in chain.layers if isinstance(layer, FactorOut) for part in masks(layer.rest))

    *scales, last = masks(Flow.convolutional(Generator(0), (8, 8, 1), scales=3, couplings=couplings, width=2).chain)
    assert scales == [["Checkerboard"] * couplings + ["Halves"] * couplings] * 2
    assert last == ["Checkerboard"] * (couplings + 1)
