"""The VAE against mathematics: exact expectations by Gauss-Hermite quadrature, and linear models whose log p(x) is known.

Where the noise is an argument, an expectation over it is a sum: quadrature nodes take the place of random numbers. With linear
networks and Gaussian pixels the log-weights are quadratic in the noise, and two or three nodes for each latent are exact.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator, check_grads, data, grad, ops, value_and_grad
from tinygen.autograd import tree
from tinygen.density import Bounded, LowerBound, Sampler, Tractable, Unnormalised
from tinygen.distributions import kl
from tinygen.models.vae import PRIOR, VAE, train_step
from tinygen.nn import Sequential
from tinygen.optim import SGD, Adam, begin, cosine

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**32)
close = np.testing.assert_allclose


class Given:
    """In place of a Generator: its normal numbers are given, and taken in order."""

    def __init__(self, noise):
        self.rest = np.ravel(noise)

    def normal(self, shape, dtype=np.float32):
        n = math.prod(shape)
        taken, self.rest = self.rest[:n], self.rest[n:]
        return taken.reshape(shape).astype(dtype)


def expectation(f, x, latent, nodes, k=1):
    """E[f(x, rng)], (N,), over the noise of k latents for each x: by nodes^(k latent) Gauss-Hermite nodes."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / math.sqrt(2 * math.pi)
    grid = np.stack(np.meshgrid(*[points] * (k * latent), indexing="ij"), axis=-1).reshape(-1, k, latent)
    weights = np.prod(np.meshgrid(*[weights] * (k * latent), indexing="ij"), axis=0).reshape(-1, 1)
    noise = np.repeat(grid, len(x), axis=0).swapaxes(0, 1)
    values = f(np.concatenate([x] * len(grid)), Given(noise))
    return (values.reshape(len(grid), len(x)) * weights).sum(axis=0)


def double(model):
    return tree.map(lambda leaf: leaf.astype(np.float64), model)


def with_parts(model, **parts):
    """The model with arrays at some paths, written with __ for the dots."""
    for path, value in parts.items():
        model = tree.replace(model, path.replace("__", "."), np.array(value, np.float64))
    return model


def bits(shape, seed=0):
    return Generator(seed).bernoulli(np.full(shape, 0.5), np.float64)


def small_mlp(likelihood="bernoulli", latent=2, shape=(2, 3, 1)):
    return double(VAE.mlp(Generator(1), shape, latent, hidden=(5,), likelihood=likelihood))


def small_convolutional(likelihood="bernoulli"):
    return double(VAE.convolutional(Generator(1), (4, 8, 2), 3, channels=(2, 3), activation=ops.tanh, likelihood=likelihood))


SMALL = [small_mlp, small_convolutional]


class LinearGaussian:
    """x | z ~ N(z W + b, variance I), of which everything is known (Tipping & Bishop 1999, eq. 4 and 6).

    The rows of W are orthogonal, so that the true posterior has independent latents, as q has.
    """

    def __init__(self, seed, latent=2, pixels=4):
        rng = Generator(seed)
        directions = np.linalg.qr(rng.normal((pixels, latent), np.float64))[0].T
        self.W = directions * (0.5 + rng.uniform((latent, 1), np.float64))
        self.b, self.variance = rng.normal((pixels,), np.float64), 0.2 + float(rng.uniform((), np.float64))
        self.x = rng.normal((5, pixels), np.float64) * 1.5
        self.precision = 1 + (self.W**2).sum(axis=1) / self.variance  # of the posterior

    @property
    def log_prob(self):
        pixels = len(self.b)
        covariance, deviation = self.W.T @ self.W + self.variance * np.eye(pixels), self.x - self.b
        distance = (deviation * np.linalg.solve(covariance, deviation.T).T).sum(axis=1)
        return -0.5 * (pixels * math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1] + distance)

    def posterior(self):
        """Mean and variance of p(z | x), (N, d)."""
        mean = (self.x - self.b) @ self.W.T / self.variance / self.precision
        return mean, np.broadcast_to(1 / self.precision, mean.shape)

    def vae(self, shift=0.0, stretch=0.0):
        """The model as a VAE: q is the posterior, moved by `shift` standard deviations, its variance times e^stretch."""
        latent, pixels = self.W.shape
        weight = self.W.T / self.variance / self.precision
        mean, log_var = -self.b @ weight + shift / np.sqrt(self.precision), stretch - np.log(self.precision)
        return with_parts(
            VAE.mlp(Generator(0), (pixels,), latent, hidden=(), likelihood="gaussian", mean=0),
            encoder__layers__0__amount=np.zeros(pixels),
            encoder__layers__2__weight=np.concatenate([weight, np.zeros_like(weight)], axis=1),
            encoder__layers__2__bias=np.concatenate([mean, log_var]),
            decoder__layers__0__weight=self.W,
            decoder__layers__0__bias=self.b,
            log_var=math.log(self.variance),
        )


# The KL and the sample


@pytest.mark.parametrize("make", SMALL)
def test_the_kl_of_the_bound_is_the_integral_that_defines_it(make):
    model = make()
    x, latent = bits((3, *model.shape)), model.latent
    q = model.encode(x)
    m, v = q.mean, np.exp(q.log_var)

    def by_one_sample(x, rng):  # log q(z) - log p(z), written here once more
        eps = rng.normal((len(x) // 3, 3, latent), np.float64)
        z = m + np.sqrt(v) * eps
        return 0.5 * (z**2 - np.log(v) - eps**2).sum(axis=-1).reshape(-1)

    integral = expectation(by_one_sample, x, latent, nodes=3)
    rng = Generator(0)
    divergence = model.elbo_terms(x, rng.at(0))[1]
    close(divergence, integral, rtol=1e-10)
    close(divergence, 0.5 * (m**2 + v - 1 - q.log_var).sum(axis=1), rtol=1e-10)
    closed = expectation(lambda x, rng: model.elbo(x, rng).nats, x, latent, nodes=8)
    sampled = expectation(lambda x, rng: model.elbo(x, rng, closed_form=False).nats, x, latent, nodes=8)
    close(closed, sampled, rtol=1e-12)


@few
@given(seeds)
def test_the_reparameterised_gradient_is_that_of_the_integral(seed):
    """With a linear decoder and Gaussian pixels, log p(x | z) is quadratic, and its expectation a formula of q's variance."""
    known = LinearGaussian(seed)
    model, W, variance = known.vae(shift=0.7, stretch=-0.4), known.W, known.variance
    x, q = known.x, model.encode(known.x)
    v = np.exp(q.log_var)

    def reconstruction(bias):
        moved = tree.replace(model, "encoder.layers.2.bias", bias)
        return expectation(lambda x, rng: moved.elbo_terms(x, rng)[0], x, 2, nodes=3).sum()

    value, gradient = value_and_grad(reconstruction)(model.encoder[2].bias)
    residual, lengths = x - q.mean @ W - known.b, (W**2).sum(axis=1)
    squares = (residual**2).sum() + (v * lengths).sum()
    close(value, -0.5 * (x.size * math.log(2 * math.pi * variance) + squares / variance), rtol=1e-12)
    close(gradient[:2], (residual @ W.T / variance).sum(axis=0), rtol=1e-10, atol=1e-12)
    close(gradient[2:], (-0.5 * v * lengths / variance).sum(axis=0), rtol=1e-10)


# The bounds


@few
@given(seed=seeds, k=st.integers(1, 6))
def test_at_the_true_posterior_every_sample_of_every_bound_is_log_p(seed, k):
    known, rng = LinearGaussian(seed), Generator(seed)
    model, x = known.vae(), known.x
    close(model.log_weights(x, rng, k), np.broadcast_to(known.log_prob, (k, len(x))), rtol=1e-10)
    close(model.iwae(x, rng, k).nats, known.log_prob, rtol=1e-10)
    close(model.elbo(x, rng, closed_form=False).nats, known.log_prob, rtol=1e-10)
    close(model.log_prob_estimate(x, rng, samples=k, rows=7).nats, known.log_prob, rtol=1e-10)


@few
@given(seed=seeds, shift=st.floats(-2, 2), stretch=st.floats(-2, 2))
def test_the_elbo_falls_short_of_log_p_by_the_kl_to_the_posterior(seed, shift, stretch):
    known = LinearGaussian(seed)
    model, x = known.vae(shift, stretch), known.x
    q, (mean, v) = model.encode(x), known.posterior()
    ratio = np.exp(q.log_var) / v
    gap = 0.5 * (ratio - 1 - np.log(ratio) + (q.mean - mean) ** 2 / v).sum(axis=1)
    for bound in (
        lambda x, rng: model.elbo(x, rng).nats,
        lambda x, rng: model.elbo(x, rng, closed_form=False).nats,
        lambda x, rng: model.iwae(x, rng, 1).nats,
    ):
        close(expectation(bound, x, 2, nodes=3), known.log_prob - gap, rtol=1e-10)


@pytest.mark.parametrize("shift, stretch", [(0.5, 0.0), (0.0, 0.5), (0.0, -0.5), (1.0, 0.3)])
def test_more_samples_tighten_the_bound_towards_log_p(shift, stretch):
    """ELBO = IWAE_1 < IWAE_2 < IWAE_3 < log p(x), by quadrature whose error is below 1e-10."""
    known = LinearGaussian(seed=3, latent=1)
    model, x = known.vae(shift, stretch), known.x
    elbo = expectation(lambda x, rng: model.elbo(x, rng).nats, x, 1, nodes=40)
    iwae = [expectation(lambda x, rng, k=k: model.iwae(x, rng, k).nats, x, 1, 40, k) for k in (1, 2, 3)]
    close(iwae[0], elbo, rtol=1e-10)
    close(iwae[1], expectation(lambda x, rng: model.iwae(x, rng, 2).nats, x, 1, nodes=60, k=2), atol=1e-10, rtol=0)
    assert (np.diff([*iwae, known.log_prob], axis=0) > 1e-3).all()


def test_bounds_of_bernoulli_pixels_are_ordered_below_a_likelihood_that_sums_to_1():
    """By quadrature whose error is 1e-7: with larger weights it would need more nodes."""
    model = tree.map(lambda leaf: 0.7 * leaf, small_mlp(latent=1, shape=(3,)))
    x = np.array(list(np.ndindex(2, 2, 2)), np.float64)
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    conditional = np.exp(model.decode(points[:, None, None]).log_prob(x).sum(axis=-1))  # p(x | z), (60, 8)
    log_prob = np.log(weights @ conditional / math.sqrt(2 * math.pi))
    assert abs(np.exp(log_prob).sum() - 1) < 1e-12
    elbo = expectation(lambda x, rng: model.elbo(x, rng).nats, x, 1, nodes=30)
    iwae = [expectation(lambda x, rng, k=k: model.iwae(x, rng, k).nats, x, 1, 30, k) for k in (2, 3)]
    assert (np.diff([elbo, *iwae, log_prob], axis=0) > 1e-3).all()


def test_the_estimate_with_many_samples_reaches_log_p():
    """The mean of n weights has variance V / n: V = E_q[(p(z | x) / q)^2] - 1, a Gaussian integral that exists for wide q."""
    n, known = 20_000, LinearGaussian(seed=0)
    model, x = known.vae(shift=0.5, stretch=0.3), known.x
    q, (mean, v) = model.encode(x), known.posterior()
    w = np.exp(q.log_var)
    second_moment = np.prod(w / np.sqrt(v * (2 * w - v)) * np.exp((q.mean - mean) ** 2 / (2 * w - v)), axis=1)
    estimate = model.log_prob_estimate(x, Generator(0), samples=n)
    assert estimate.how == f"IWAE, k = {n}"
    assert (abs(estimate.nats - known.log_prob) < 5 * np.sqrt((second_moment - 1) / n)).all()
    assert (5 * np.sqrt((second_moment - 1) / n) < 0.05).all()


@pytest.mark.parametrize("make", SMALL)
@pytest.mark.parametrize("rows", [1, 3, 10, 13, 1000])
def test_the_estimate_does_not_depend_on_how_many_latents_are_decoded_at_a_time(make, rows):
    model = make()
    x = bits((3, *model.shape))
    estimate = model.log_prob_estimate(x, Generator(0), samples=11, rows=rows)  # 3, 4 and 333 samples at a time: some left over
    close(estimate.nats, model.iwae(x, Generator(0), 11).nats, rtol=1e-12)


@pytest.mark.parametrize("make", SMALL)
def test_with_one_sample_iwae_is_the_elbo(make):
    model = make()
    x = bits((3, *model.shape))
    elbo = model.elbo(x, Generator(0), closed_form=False).nats
    close(model.iwae(x, Generator(0), 1).nats, elbo, rtol=1e-13)
    close(model.log_weights(x, Generator(0), 1)[0], elbo, rtol=1e-13)


def test_a_linear_vae_learns_probabilistic_pca():
    """Its maximum likelihood is known from the eigenvalues of the data's covariance (Tipping & Bishop 1999, eq. 4, 7 and 8).

    The ELBO has its maximum there too (Lucas et al. 2019). It is quadratic in the noise, so noise of +1 and -1, by which all
    second moments are right, gives it exactly, and the training is deterministic.
    """
    rng, n, d, latent = Generator(0), 100, 5, 2
    W = np.linalg.qr(rng.normal((d, latent), np.float64))[0].T * np.array([[3.0], [1.5]])
    x = 1 + rng.normal((n, latent), np.float64) @ W + 0.5 * rng.normal((n, d), np.float64)
    covariance = np.cov(x.T, bias=True)
    eigenvalues, axes = np.linalg.eigh(covariance)  # ascending
    noise, kept = eigenvalues[:-latent].mean(), eigenvalues[-latent:]
    best = -0.5 * (d * math.log(2 * math.pi) + np.log(kept).sum() + (d - latent) * math.log(noise) + d)

    signs = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)], np.float64)
    four_times, signs = np.tile(x, (4, 1)), np.repeat(signs, n, axis=0)
    optimiser = Adam(cosine(0.2, 1500))
    state = begin(double(VAE.mlp(Generator(4), (d,), latent, hidden=(), likelihood="gaussian", mean=0)), optimiser)
    step, bounds = train_step(optimiser), []
    for _ in range(1500):
        state, metrics = step(state, four_times, Given(signs))
        bounds.append(-float(metrics["loss"]))
    model = state.params

    assert max(bounds) <= best + 1e-12
    assert bounds[-1] > best - 1e-9
    assert math.exp(model.log_var) == pytest.approx(noise, rel=1e-6)
    close(model.decoder[0].bias, x.mean(axis=0), atol=1e-6)
    W = model.decoder[0].weight
    close(W.T @ W, (axes[:, -latent:] * (kept - noise)) @ axes[:, -latent:].T, atol=1e-6)
    assert model.iwae(x, Generator(1), 3).nats.mean() == pytest.approx(best, abs=1e-6)


# beta, and sums over pixels


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0])
def test_beta_scales_the_gradient_of_the_kl_alone(beta):
    model = small_mlp()
    x = bits((4, *model.shape))

    def moved(beta):  # by one step of plain gradient descent with rate 1: minus the gradient
        step = train_step(SGD(1.0), beta=beta)
        after = step(begin(model, SGD(1.0)), x, Generator(0))[0].params
        return tree.flatten(tree.map(lambda a, b: a - b, after, model))[0]

    divergence = tree.flatten(grad(lambda model: kl(model.encode(x), PRIOR).mean())(model))[0]
    latent = model.latent  # the mean over examples and latents, where the loss sums over latents
    for mixed, reconstruction, g in zip(moved(beta), moved(0.0), divergence):
        close(mixed, reconstruction - beta * latent * g, atol=1e-12)


def test_beta_has_no_meaning_for_the_iwae_bound():
    with pytest.raises(ValueError, match="beta"):
        train_step(Adam(1e-3), k=5, beta=0.5)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_an_image_of_two_equal_halves_has_twice_the_reconstruction_term_and_the_same_kl(likelihood):
    model = small_mlp(likelihood)
    H, W, C = model.shape
    doubled = VAE(
        Sequential([lambda x: x[:, :H], *model.encoder.layers]),
        Sequential([*model.decoder.layers, lambda y: ops.concatenate(y, y, axis=1)]),
        model.log_var, (2 * H, W, C), model.latent,
    )  # fmt: skip
    x = bits((4, *model.shape))
    twice = np.concatenate([x, x], axis=1)
    reconstruction = model.elbo_terms(x, Generator(0))[0]
    close(doubled.elbo_terms(twice, Generator(0))[0], 2 * reconstruction, rtol=1e-12)
    close(doubled.elbo(twice, Generator(0)).nats, model.elbo(x, Generator(0)).nats + reconstruction, rtol=1e-12)
    close(doubled.iwae(twice, Generator(0), 1).nats, model.iwae(x, Generator(0), 1).nats + reconstruction, rtol=1e-12)


# Gradients


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("make", SMALL)
def test_gradients_of_the_bounds(make, likelihood):
    model = make(likelihood)
    x = bits((3, *model.shape))
    leaves, structure = tree.flatten(model)
    constant = [path.endswith("amount") for path in structure.paths()]  # the shift by the mean image is not trained
    assert sum(constant) == (1 if make is small_mlp else 2)

    def of(bound):
        def f(*trained):
            trained = iter(trained)
            parts = [leaf if fixed else next(trained) for leaf, fixed in zip(leaves, constant)]
            return bound(structure.unflatten(parts)).nats

        return f

    trained = tuple(leaf for leaf, fixed in zip(leaves, constant) if not fixed)
    check_grads(of(lambda model: model.elbo(x, Generator(0))), trained, order=1)
    check_grads(of(lambda model: model.elbo(x, Generator(0), closed_form=False)), trained, order=1)
    check_grads(of(lambda model: model.iwae(x, Generator(0), 3)), trained, order=1)


@pytest.mark.parametrize("make", SMALL)
def test_every_parameter_is_trained_and_the_shift_is_not(make):
    model = make("gaussian")
    g = grad(lambda model: model.elbo(bits((3, *model.shape)), Generator(0)).nats.sum())(model)
    for path, leaf in zip(tree.paths(g), tree.flatten(g)[0]):
        assert np.any(leaf) != path.endswith("amount"), path


@pytest.mark.parametrize("make", [VAE.mlp, VAE.convolutional])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_float32_is_kept(make, likelihood):
    model = make(Generator(0), (4, 4, 1), 2, likelihood=likelihood)
    x, rng = bits((3, 4, 4, 1)).astype(np.float32), Generator(0)
    results = [model.elbo(x, rng), model.iwae(x, rng, 2), model.log_prob_estimate(x, rng, 10), model.reconstruct(x)]
    results += [model.sample(rng, 2), model.interpolate(x, x, 3), grad(lambda model: model.iwae(x, rng, 2).nats.sum())(model)]
    assert {leaf.dtype for leaf in tree.flatten(results)[0]} == {np.dtype(np.float32)}


def test_the_derivative_of_logsumexp_holds_no_subnormal_numbers_nor_makes_them():
    """Log-weights differ by hundreds of nats early in training; subnormal weights made a step of IWAE five times slower."""
    for dtype, furthest in ((np.float32, 200), (np.float64, 1500)):
        x = -np.linspace(0, furthest, 2001, dtype=dtype)
        p = grad(ops.logsumexp)(x)
        tiny = np.finfo(dtype).tiny
        assert np.exp(x)[(0 < np.exp(x)) & (np.exp(x) < tiny)].size > 0  # left alone, there would be some
        assert p[p > 0].min() ** 2 >= tiny and p[p > 0].size > 300
        close(p, np.exp(x) / np.exp(x).sum(), atol=2 * math.sqrt(tiny), rtol=1e-5)


# Structure


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize(
    "make, shape", [(VAE.mlp, (7,)), (VAE.mlp, (4, 8, 2)), (VAE.convolutional, (4, 8, 2))], ids=["vectors", "mlp", "conv"]
)
def test_shapes_and_labels(make, shape, likelihood):
    model, rng = make(Generator(0), shape, latent=3, likelihood=likelihood), Generator(1)
    x = bits((5, *shape)).astype(np.float32)
    for bound, how in (
        (model.elbo(x, rng), "ELBO"),
        (model.bound(x, rng), "ELBO"),
        (model.iwae(x, rng, 4), "IWAE, k = 4"),
        (model.log_prob_estimate(x, rng, 9, rows=20), "IWAE, k = 9"),
    ):
        assert type(bound) is LowerBound and bound.nats.shape == (5,) and bound.how == how
    assert model.encode(x).shape == (5, 3)
    assert model.log_weights(x, rng, 4).shape == (4, 5)
    assert model.reconstruct(x).shape == (5, *shape)
    assert model.sample(rng, 6).shape == (6, *shape)
    assert model.interpolate(x, x[::-1], 7).shape == (7, 5, *shape)
    assert model.decode(np.zeros((2, 4, 3), np.float32)).mean.shape == (2, 4, *shape)


def test_a_vae_can_be_bounded_and_sampled_and_nothing_else():
    model = small_mlp()
    assert [isinstance(model, kind) for kind in (Bounded, Sampler, Tractable, Unnormalised)] == [True, True, False, False]
    x = bits((3, *model.shape))
    np.testing.assert_array_equal(model.bound(x, Generator(0)).nats, model.elbo(x, Generator(0)).nats)


@pytest.mark.parametrize("make", SMALL)
def test_every_latent_is_decoded_on_its_own_and_judged_against_its_own_image(make):
    model, rng = make(), Generator(0)
    x, z = bits((3, *model.shape)), rng.normal((4, 3, model.latent), np.float64)
    together = model.decode(z)
    for i, j in np.ndindex(4, 3):
        close(together.logits[i, j], model.decode(z[i, j]).logits, rtol=1e-12, atol=1e-14)
    noise = rng.normal((4, 3, model.latent), np.float64)
    weights = model.log_weights(x, Given(noise), 4)
    for j in range(3):
        close(weights[:, j], model.log_weights(x[j : j + 1], Given(noise[:, j]), 4)[:, 0], rtol=1e-12)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("make", [VAE.mlp, VAE.convolutional])
def test_a_new_model_starts_at_the_mean_image(make, likelihood):
    mean = 0.1 + 0.8 * Generator(0).uniform((4, 8, 2))
    model = make(Generator(1), mean.shape, 3, likelihood=likelihood, mean=mean)
    close(model.decode(np.zeros((1, 3), np.float32)).mean[0], mean, rtol=1e-5)
    np.testing.assert_array_equal(model.encode(mean[None]).mean, np.zeros((1, 3)))


def test_reconstructions_are_decoded_means_and_samples_decode_the_prior():
    model, rng = small_mlp(), Generator(0)
    x = bits((3, *model.shape))
    close(model.reconstruct(x), 1 / (1 + np.exp(-model.decode(model.encode(x).mean).logits)), rtol=1e-12)
    z = rng.at(0).normal((5, 2))
    close(model.sample(rng.at(0), 5), model.decode(z).mean, rtol=1e-12)


@pytest.mark.parametrize("make", SMALL)
def test_interpolations_are_straight_lines_of_latents_from_one_reconstruction_to_the_other(make):
    model = make()
    a, b = bits((2, 3, *model.shape))
    walk = model.interpolate(a, b, 5)
    close(walk[0], model.reconstruct(a), rtol=1e-12)
    close(walk[-1], model.reconstruct(b), rtol=1e-12)
    close(walk[1], model.decode(0.75 * model.encode(a).mean + 0.25 * model.encode(b).mean).mean, rtol=1e-12)


# Training


@pytest.mark.parametrize("k", [1, 5])
def test_a_step_reports_minus_the_bound_of_what_was_prepared(k):
    model, rng = small_mlp(), Generator(0)
    optimiser, x = Adam(1e-3), bits((4, *model.shape))
    step = train_step(optimiser, k, prepare=lambda batch, rng: 1 - batch)
    _, metrics = step(begin(model, optimiser), 1 - x, rng.at(0))
    bound = model.elbo(x, rng.at(0)) if k == 1 else model.iwae(x, rng.at(0), k)
    assert float(metrics["loss"]) == pytest.approx(-bound.nats.mean(), rel=1e-12)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("make", [VAE.mlp, VAE.convolutional])
def test_thirty_steps_raise_the_bound_of_unseen_digits(make, k):
    digits = data.load("digits")
    model = make(Generator(0), (8, 8, 1), latent=4)
    optimiser = Adam(3e-3)
    step = train_step(optimiser, k, prepare=lambda grey, rng: data.prepare("dynamic", grey, digits.levels, rng))
    state, batches = begin(model, optimiser), data.Batches(digits.train.images, 100, seed=0)
    for n in range(30):
        state, _ = step(state, batches.at(n), Generator(0).at(n))
    x = data.prepare_once("dynamic", digits.validation.images, digits.levels)
    before, after = (vae.bound(x, Generator(1)).summary() for vae in (model, state.params))
    assert after.mean > before.mean + 10  # nats, some thirty standard errors; it was -45


# Refusals


def test_images_of_another_shape_are_refused():
    model = small_mlp(shape=(2, 3, 1))
    with pytest.raises(ValueError, match=r"VAE: examples have shape \(3, 2, 1\), but this model was made for \(2, 3, 1\)"):
        model.bound(np.zeros((5, 3, 2, 1)), Generator(0))
    with pytest.raises(ValueError, match=r"VAE: examples have shape \(3, 1\)"):
        model.reconstruct(np.zeros((2, 3, 1)))


@pytest.mark.parametrize("shape", [(6, 8, 1), (8, 6, 1)])
def test_sizes_that_cannot_be_halved_are_refused_with_a_way_out(shape):
    with pytest.raises(ValueError, match="cannot be made 4 times smaller; pad them to a multiple of 4, or give fewer channels"):
        VAE.convolutional(Generator(0), shape, 2, channels=(4, 8))


def test_latents_of_another_number_are_refused_and_a_model_without_any():
    with pytest.raises(ValueError, match=r"VAE: z has shape \(2, 4\), but the latents of this model are \(..., 2\)"):
        small_mlp().decode(np.zeros((2, 4)))
    for make in (VAE.mlp, VAE.convolutional):
        with pytest.raises(ValueError, match=rf"VAE.{make.__name__}: latent is 0; it must be an integer of at least 1"):
            make(Generator(0), (4, 4, 1), 0)


def test_no_images_have_no_bounds():
    model = small_mlp()
    assert model.log_prob_estimate(np.zeros((0, *model.shape)), Generator(0), 3).nats.shape == (0,)


@pytest.mark.parametrize("make", [VAE.mlp, VAE.convolutional])
def test_unknown_likelihoods_are_refused(make):
    with pytest.raises(ValueError, match="likelihood must be 'bernoulli' or 'gaussian', not 'laplace'"):
        make(Generator(0), (4, 4, 1), 2, likelihood="laplace")


def test_bernoulli_pixels_outside_0_to_1_are_refused():
    model = small_mlp()
    for x in (np.full((1, *model.shape), 1.5), np.full((1, *model.shape), -0.1)):
        with pytest.raises(ValueError, match="Bernoulli.log_prob: x lies in"):
            model.bound(x, Generator(0))
    assert small_mlp("gaussian").bound(np.full((1, 2, 3, 1), 1.5), Generator(0)).nats.shape == (1,)


@pytest.mark.parametrize("k", [0, -1])
def test_bounds_need_a_sample(k):
    model, optimiser = small_mlp(), Adam(1e-3)
    x = bits((3, *model.shape))

    def train(x, rng, k):
        return train_step(optimiser, k)(begin(model, optimiser), x, rng)

    for use in (model.iwae, model.log_weights, model.log_prob_estimate, train):
        with pytest.raises(ValueError, match=rf"samples of q\(z \| x\), and {k} were asked for; take at least 1"):
            use(x, Generator(0), k)
