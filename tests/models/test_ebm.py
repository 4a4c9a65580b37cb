"""Energy-based models against mathematics: on finite state spaces log Z is a sum, and on the plane it is a sum over a grid."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator, check_grads, data, grad, ops
from tinygen.autograd import tree
from tinygen.density import Bounded, Energy, Sampler, Tractable, Unnormalised
from tinygen.mcmc import AdjustedLangevin, Hamiltonian, Langevin, Point, RandomWalk
from tinygen.models import ebm
from tinygen.models.ebm import EBM, Waves, contrastive_loss, train_step
from tinygen.optim import SGD, Adam, cosine

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32)
close = np.testing.assert_allclose
BITS = np.array(list(np.ndindex(2, 2, 2, 2)), np.float64).reshape(16, 2, 2, 1)  # all images of 2 x 2 bits
KERNELS = [Langevin(0.01), AdjustedLangevin(0.01), RandomWalk(0.1), Hamiltonian(0.1, 2)]


def awake(model, seed=0):
    """In float64, with random numbers in the last layer too, which begins as 0."""
    rng = Generator(seed)
    model = tree.map(lambda leaf: leaf.astype(np.float64), model)
    for path, leaf in zip(tree.paths(model), tree.flatten(model)[0]):
        if path.startswith("network"):
            model = tree.replace(model, path, leaf + 0.5 * rng.normal(leaf.shape, np.float64))
    return model


def small_mlp(shape=(2, 2, 1), **settings):
    return awake(EBM.mlp(Generator(1), shape, hidden=(6, 5), **settings))


def small_convolutional(shape=(2, 2, 1), **settings):
    return awake(EBM.convolutional(Generator(1), shape, channels=(2, 3), **settings))


def small_waves(shape=(2, 2, 1), **settings):
    return awake(EBM.mlp(Generator(1), shape, hidden=(6, 5), frequencies=(0.5, 1.0), **settings))


SMALL = [small_mlp, small_waves, small_convolutional]


def log_likelihood(model, x, states):
    """mean log p(x), with log Z by enumeration, written here once more."""
    return model.log_density(x).mean() - ops.log(ops.sum(ops.exp(model.log_density(states))))


def network_of(t):
    return tree.flatten(t.network)[0]


# The gradient of the likelihood


@pytest.mark.parametrize("make", SMALL)
def test_over_negatives_from_the_model_the_gradient_is_exactly_that_of_the_likelihood(make):
    model, x = make(), BITS[[3, 3, 9, 12]]
    p = np.exp(model.log_density(BITS) - model.log_partition(BITS))
    assert p.sum() == pytest.approx(1, abs=1e-12) and p.max() > 2 * p.min()
    expected = 0
    for probability, state in zip(p, BITS):
        gradient = grad(lambda model, state=state: contrastive_loss(model, x, state[None]))(model)
        expected = expected + probability * np.concatenate([leaf.ravel() for leaf in network_of(gradient)])
    exact = grad(lambda model: -log_likelihood(model, x, BITS))(model)
    exact = np.concatenate([leaf.ravel() for leaf in network_of(exact)])
    close(expected, exact, atol=1e-12)
    assert abs(exact).max() > 1e-2


class Draws:
    """A kernel that draws from all states in given proportions, whatever the chain did before: it always accepts."""

    def __init__(self, states, counts):
        self.sample = np.repeat(states, counts, axis=0)

    def start(self, log_density, x):
        return Point(x)

    def propose(self, log_density, point, rng):
        return Point(self.sample), np.zeros(len(self.sample))


@pytest.mark.parametrize("make", SMALL)
def test_a_training_step_with_an_exact_sampler_climbs_the_likelihood(make):
    """The kernel draws each state as often as p says, but for rounding to 1/20000."""
    model = make()
    counts = np.round(20_000 * np.exp(model.log_density(BITS) - model.log_partition(BITS))).astype(int)
    x = np.repeat(BITS[[3, 9]], [counts.sum() - 5000, 5000], axis=0)
    step = train_step(SGD(1.0), Draws(BITS, counts), k=1)
    state, metrics = step(ebm.start(model, SGD(1.0)), x, Generator(0))
    exact = grad(lambda model: log_likelihood(model, x, BITS))(model)
    for before, after, slope in zip(network_of(model), network_of(state.training.params), network_of(exact)):
        close(after - before, slope, atol=2e-3 * abs(slope).max() + 1e-12)
    negatives = np.repeat(BITS, counts, axis=0)
    gap = model.energy(x).energy.mean() - model.energy(negatives).energy.mean()
    assert float(metrics["loss"]) == pytest.approx(gap, rel=1e-9)
    assert metrics["acceptance"] == 1


@pytest.mark.parametrize("make", SMALL)
def test_the_penalty_adds_the_squares_of_the_correction_on_both_sides(make):
    model, rng = make(), Generator(0)
    x, y = rng.normal((2, 5, 2, 2, 1), np.float64)
    plain, with_penalty = (contrastive_loss(model, x, y, penalty) for penalty in (0.0, 0.3))
    squares = (model.correction(x) ** 2).mean() + (model.correction(y) ** 2).mean()
    assert with_penalty - plain == pytest.approx(0.3 * squares, rel=1e-10)


def test_a_constant_added_to_the_network_changes_only_the_penalty_and_it_draws_it_back():
    model, rng = small_mlp(), Generator(0)
    x, y = rng.normal((2, 5, 2, 2, 1), np.float64)
    path = f"network.layers.{len(model.network) - 1}.bias"
    raised = tree.replace(model, path, model.network[-1].bias + 100.0)
    assert contrastive_loss(raised, x, y) == pytest.approx(contrastive_loss(model, x, y), abs=1e-10)
    assert grad(contrastive_loss)(model, x, y).network[-1].bias == pytest.approx(0, abs=1e-12)
    assert grad(contrastive_loss)(raised, x, y, 0.01).network[-1].bias > 1
    close(np.diff(raised.log_density(BITS) - raised.log_partition(BITS)), np.diff(model.log_density(BITS)), atol=1e-9)


def test_no_gradient_passes_through_the_negatives_nor_into_the_parabola():
    model, rng = small_mlp(), Generator(0)
    x, y = rng.normal((2, 5, 2, 2, 1), np.float64)
    of_x, of_y = grad(contrastive_loss, argnums=(1, 2))(model, x, y, 0.1)
    assert of_x.any() and not of_y.any()
    gradient = grad(contrastive_loss)(model, x, y, 0.1)
    assert not gradient.mean.any() and not gradient.std.any()
    assert all(leaf.any() for leaf in network_of(gradient))


# Energies


@pytest.mark.parametrize("make", SMALL)
def test_gradients_of_the_energy_in_its_parameters_and_in_x(make):
    model = make(mean=0.3, std=1.7)
    x = Generator(0).normal((3, *model.mean.shape), np.float64)
    leaves, structure = tree.flatten(model.network)

    def energy(x, *leaves):
        return EBM(structure.unflatten(leaves), model.mean, model.std).energy(x).energy

    check_grads(energy, (x, *leaves), order=1)


@few
@given(seeds, st.sampled_from(SMALL))
def test_the_energy_is_the_network_plus_the_parabola_of_the_standardised_x(seed, make):
    rng = Generator(seed)
    mean, std = rng.normal((2, 2, 1)), 0.5 + rng.uniform((2, 2, 1))
    model, x = make(mean=mean, std=std), rng.normal((4, 2, 2, 1), np.float64)
    u = (x - mean) / std
    close(model.energy(x).energy, model.network(u)[:, 0] + 0.5 * (u**2).reshape(4, -1).sum(axis=1), rtol=1e-10)
    close(model.log_density(x), -model.energy(x).energy, rtol=0)


@pytest.mark.parametrize("make", [EBM.mlp, EBM.convolutional])
def test_a_new_model_is_the_gaussian_from_which_its_chains_start(make):
    rng = Generator(0)
    mean, std = rng.normal((4, 6, 1)), 0.5 + rng.uniform((4, 6, 1))
    model = make(Generator(1), (4, 6, 1), mean=mean, std=std)
    noise = model.noise(rng, 20_000)
    close(noise.mean(axis=0), mean, atol=5 * 1.5 / math.sqrt(20_000))
    close(noise.std(axis=0), std, rtol=5 / math.sqrt(2 * 20_000))
    close(model.energy(noise[:10]).energy, 0.5 * (((noise[:10] - mean) / std) ** 2).reshape(10, -1).sum(axis=1), rtol=1e-4)


@pytest.mark.parametrize("make", SMALL)
def test_the_energy_rises_on_all_sides_however_large_the_weights(make):
    """So Z is finite: far out, the parabola outgrows a network of Lipschitz activations."""
    model = make()
    model = tree.replace(model, "network", tree.map(lambda leaf: 4 * leaf, model.network))
    directions = Generator(0).normal((50, 2, 2, 1), np.float64)
    near, far = (model.energy(r * directions).energy for r in (1e4, 2e4))
    assert (far > 2 * near).all() and (near > 0).all()


@few
@given(seeds)
def test_log_z_of_a_plane_does_not_depend_on_the_grid(seed):
    model = awake(EBM.mlp(Generator(seed), (2,), hidden=(8,)), seed)

    def on_grid(n, reach):
        axis = (np.arange(n) + 0.5) / n * 2 * reach - reach
        points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        return model.log_partition(points, (2 * reach / n) ** 2)

    assert on_grid(80, 12.0) == pytest.approx(on_grid(150, 15.0), abs=1e-3)
    zero = EBM.mlp(Generator(seed), (2,), hidden=(8,))
    axis = np.linspace(-8, 8, 81)
    gaussian = zero.log_partition(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), 0.04)
    assert gaussian == pytest.approx(math.log(2 * math.pi), abs=1e-6)


def test_waves_are_sines_and_cosines_of_frequencies_in_equal_ratios():
    waves = Waves.init(Generator(0), 4000, 10, lowest=0.5, highest=8.0)
    assert waves.weight.shape == (4000, 5)
    close(waves.weight.std(axis=0), [0.5, 1, 2, 4, 8], rtol=5 / math.sqrt(2 * 4000))
    waves, u = Waves.init(Generator(0), 3, 8, 0.5, 2.0), Generator(1).normal((5, 3))
    angle = u @ waves.weight
    close(waves(u), np.concatenate([np.sin(angle), np.cos(angle)], axis=1), atol=1e-6)


@pytest.mark.parametrize("lowest, highest", [(0, 1), (2, 1), (1, math.inf), (math.nan, 1)])
def test_waves_that_are_not_pairs_or_have_no_frequencies_are_refused(lowest, highest):
    with pytest.raises(ValueError, match="7 features are not pairs of a sine and a cosine; give an even number"):
        Waves.init(Generator(0), 3, 7, 1.0, 2.0)
    with pytest.raises(ValueError, match=f"the frequencies are {lowest} to {highest}; both must be positive"):
        Waves.init(Generator(0), 3, 8, lowest, highest)


def test_an_ebm_has_an_energy_and_samples_and_no_likelihood():
    model = small_mlp()
    assert [isinstance(model, kind) for kind in (Unnormalised, Sampler, Tractable, Bounded)] == [True, True, False, False]
    assert type(model.energy(BITS)) is Energy and len(model.energy(BITS)) == 16


@pytest.mark.parametrize(
    "make, shape", [(EBM.mlp, (7,)), (EBM.mlp, (4, 6, 2)), (EBM.convolutional, (4, 6, 2)), (EBM.convolutional, (7, 5, 1))]
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_shapes_and_float32_are_kept(make, shape, kernel):
    model, rng = make(Generator(0), shape), Generator(1)
    samples = model.sample(rng, 3, kernel, steps=2)
    assert samples.shape == (3, *shape)
    assert model.energy(samples).energy.shape == model.log_density(samples).shape == (3,)
    assert model.log_partition(samples).shape == ()
    gradient = grad(contrastive_loss)(model, samples, model.noise(rng, 3), 0.1)
    results = [samples, model.energy(samples), model.log_partition(samples), gradient]
    assert {leaf.dtype for leaf in tree.flatten(results)[0]} == {np.dtype(np.float32)}


# Chains


def steps_of(state, kernel, k, n, **settings):
    """The states before and after each of n training steps on random data."""
    step, rng = train_step(SGD(1e-3), kernel, k, **settings), Generator(5)
    states = [state]
    for i in range(n):
        x = Generator(i).normal((4, *state.training.params.mean.shape), np.float64)
        states.append(step(states[-1], x, rng.at(i))[0])
    return states


def test_contrastive_divergence_starts_at_the_data():
    """A kernel that hardly moves leaves the negatives at the data: nothing is learned, and the state has no chains."""
    model = small_mlp()
    states = steps_of(ebm.start(model, SGD(1e-3)), Langevin(1e-14), 3, 2)
    assert states[-1].chains is None
    for a, b in zip(network_of(model), network_of(states[-1].training.params)):
        close(a, b, atol=1e-8)
    moved = steps_of(ebm.start(model, SGD(1e-3)), Langevin(1e-1), 3, 2)[-1]
    assert any(abs(a - b).max() > 1e-5 for a, b in zip(network_of(model), network_of(moved.training.params)))


def test_persistent_chains_go_on_where_they_were():
    model = small_mlp()
    states = steps_of(ebm.start(model, SGD(1e-3), Generator(0), chains=4), RandomWalk(1e-6), 3, 4)
    for before, after in zip(states, states[1:]):
        np.testing.assert_allclose(before.chains, after.chains, atol=1e-4)
        assert (before.chains != after.chains).any(axis=(1, 2, 3)).all()


def test_a_replay_buffer_lends_as_many_chains_as_the_batch_has_and_takes_them_back():
    model = small_mlp()
    states = steps_of(ebm.start(model, SGD(1e-3), Generator(0), chains=40), Langevin(1e-6), 3, 30)
    moved = [(a.chains != b.chains).any(axis=(1, 2, 3)) for a, b in zip(states, states[1:])]
    assert {row.sum() for row in moved} == {4}
    assert np.any(moved, axis=0).mean() > 0.8  # every row has its turn
    close(states[0].chains, states[-1].chains, atol=0.1)
    assert states[0].chains.shape == states[-1].chains.shape


@pytest.mark.parametrize("renew", [0.0, 0.3, 1.0])
def test_a_fraction_of_the_chains_begins_anew(renew):
    model = tree.replace(small_mlp(), "mean", np.full((2, 2, 1), 50.0))  # a fresh chain is seen at once
    state = ebm.start(model, SGD(1e-3), Generator(0), chains=2000)
    state = ebm.Contrast(state.training, state.chains - 1000)
    step = train_step(SGD(1e-3), Langevin(1e-9), 1, renew=renew)
    after, _ = step(state, model.noise(Generator(1), 2000), Generator(2))
    fresh = (after.chains > -500).all(axis=(1, 2, 3)).mean()
    assert fresh == pytest.approx(renew, abs=5 * 0.5 / math.sqrt(2000) if 0 < renew < 1 else 0)


def test_a_step_is_a_function_of_its_state_its_batch_and_its_numbers():
    state, x = ebm.start(small_mlp(), Adam(1e-3), Generator(0), chains=10), Generator(1).normal((4, 2, 2, 1), np.float64)
    before = [leaf.copy() for leaf in tree.flatten(state)[0]]
    step = train_step(Adam(1e-3), AdjustedLangevin(0.1), 2, penalty=0.01, renew=0.5)
    (a, metrics), (b, _) = (step(state, x, Generator(3)) for _ in range(2))
    for one, other in zip(tree.flatten(a)[0], tree.flatten(b)[0]):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(tree.flatten(state)[0], before):
        np.testing.assert_array_equal(one, other)
    assert set(metrics) == {"loss", "acceptance"}


def test_a_batch_is_prepared_first_and_the_step_is_limited_and_averaged():
    model, negatives = small_mlp(), Draws(BITS[:4], [1] * 4)
    step = train_step(SGD(1.0), negatives, 1, prepare=lambda batch, rng: batch / 16, limit=1e-3, decay=0.75)
    state, metrics = step(ebm.start(model, SGD(1.0), averaged=True), 16 * BITS[12:], Generator(0))
    assert float(metrics["loss"]) == pytest.approx(contrastive_loss(model, BITS[12:], BITS[:4]), rel=1e-9)
    moves = [b - a for a, b in zip(network_of(model), network_of(state.training.params))]
    assert metrics["gradient_norm"] > 1e-2
    assert math.sqrt(sum((move**2).sum() for move in moves)) == pytest.approx(1e-3, rel=1e-6)
    decay = min(0.75, 1 / 10)  # that of `optim.ema` at its first step
    for a, move, average in zip(network_of(model), moves, network_of(state.training.best)):
        close(average - a, (1 - decay) * move, rtol=1e-6, atol=1e-12)


def test_without_a_kernel_samples_are_drawn_by_steps_of_a_hundredth_of_the_smallest_variance():
    model = small_mlp(std=np.array([0.2, 0.5, 1.0, 3.0]).reshape(2, 2, 1))
    a, b = (model.sample(Generator(0), 3, kernel, steps=5) for kernel in (None, AdjustedLangevin(0.01 * 0.2**2)))
    close(a, b, rtol=1e-5)


def test_samples_have_the_density_of_the_grid():
    model = awake(EBM.mlp(Generator(3), (1,), hidden=(6,)), seed=2)
    axis = np.linspace(-6, 6, 2001)[:, None]
    p = np.exp(model.log_density(axis) - model.log_partition(axis))
    n = 4000
    mean, second = p @ axis[:, 0], p @ axis[:, 0] ** 2
    for kernel, steps in ((AdjustedLangevin(0.3), 60), (RandomWalk(1.5), 60), (Hamiltonian(0.5, 3), 20)):
        x = model.sample(Generator(4), n, kernel, steps)[:, 0]
        assert x.mean() == pytest.approx(mean, abs=5 * math.sqrt((second - mean**2) / n))
        cdf = np.cumsum(p)
        distance = abs(np.interp(np.sort(x), axis[:, 0], cdf) - (np.arange(n) + 0.5) / n).max()
        assert distance < 1.95 / math.sqrt(n)  # Kolmogorov's statistic, exceeded by chance once in a thousand
    assert abs(mean) > 0.1 or abs(second - 1) > 0.1  # it is not the Gaussian of the start


@pytest.mark.parametrize("name, finest, bound", [("two_moons", 0.2, 0.05), ("rings", 0.08, 0.1)])
def test_a_learned_density_of_the_plane_comes_close_to_the_true_one(name, finest, bound):
    """KL(truth || model) = E[log truth - log model], with log Z, as sums over a grid; before training it is a Gaussian's."""
    toy, rng, n_steps = data.toy.load(name), Generator(0), 300
    axis = (np.arange(100) + 0.5) / 100 * 12 - 6
    points, area = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(np.float32), 0.12**2
    truth = toy.log_prob(points)
    p = np.exp(truth) * area
    assert p.sum() == pytest.approx(1, abs=2e-3)

    def divergence(model):
        return float(p @ (truth - model.log_density(points) + model.log_partition(points, area)))

    x = toy.sample(rng, 5000)
    std = x.std(axis=0)
    model = EBM.mlp(rng, (2,), (128, 128), mean=x.mean(axis=0), std=std, frequencies=(1.0, 0.7 * float(std.max()) / finest))
    optimiser, kernel = Adam(cosine(1e-2, n_steps, final=5e-4)), RandomWalk(finest / 2, longest=2 * float(std.max()))
    state = ebm.start(model, optimiser, rng, chains=256, averaged=True)
    step = train_step(optimiser, kernel, k=8, decay=0.99)
    for i in range(n_steps):
        state, _ = step(state, toy.sample(Generator(1).at(i), 256), rng.at(i))
    before, after = divergence(model), divergence(state.training.best)
    assert before > 0.8
    assert 0 < after < bound


# Refusals


def test_examples_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"EBM: examples have shape \(4, 1\), but this model was made for \(2, 2, 1\)"):
        small_mlp().energy(np.zeros((3, 4, 1)))
    with pytest.raises(ValueError, match=r"EBM: examples have shape \(3, 2, 1\)"):
        contrastive_loss(small_convolutional(), BITS, np.zeros((3, 3, 2, 1)))


def test_a_pixel_that_never_changes_is_refused():
    with pytest.raises(ValueError, match="the smallest std is 0; each must be positive, so add noise to a constant pixel"):
        EBM.mlp(Generator(0), (2, 2, 1), std=np.array([1, 0, 1, 1]).reshape(2, 2, 1))


def test_data_with_nan_make_no_model():
    for name in ("mean", "std"):
        with pytest.raises(ValueError, match="EBM: (mean and std must be finite|the smallest std is nan)"):
            EBM.mlp(Generator(0), (2,), **{name: np.array([1.0, math.nan])})


def test_a_sum_over_no_states_or_of_no_volume_is_refused():
    for points, volume in ((np.zeros((0, 2, 2, 1)), 1.0), (BITS, 0.0), (BITS, math.nan)):
        with pytest.raises(ValueError, match=f"EBM.log_partition: {len(points)} points of volume {volume}; give one or more"):
            small_mlp().log_partition(points, volume)


def test_networks_that_cannot_be_made_are_refused():
    with pytest.raises(ValueError, match="EBM.mlp: frequencies are those of the first hidden layer, and there is none"):
        EBM.mlp(Generator(0), (2,), hidden=(), frequencies=(1.0, 2.0))
    with pytest.raises(ValueError, match=r"EBM.convolutional: the shape of an image is \(H, W, C\), not \(8, 8\)"):
        EBM.convolutional(Generator(0), (8, 8))


def test_no_samples_are_no_error():
    assert small_mlp().sample(Generator(0), 0, steps=1).shape == (0, 2, 2, 1)


def test_too_few_chains_and_wrong_fractions_are_refused():
    state = ebm.start(small_mlp(), SGD(1e-3), Generator(0), chains=3)
    with pytest.raises(ValueError, match="a batch of 16 examples needs as many chains, and there are 3"):
        train_step(SGD(1e-3), Langevin(0.1), 1)(state, BITS, Generator(0))
    for renew in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=f"renew is {renew}; it is the fraction of chains that begin anew"):
            train_step(SGD(1e-3), Langevin(0.1), 1, renew=renew)
    with pytest.raises(ValueError, match="3 chains begin at random; give an rng"):
        ebm.start(small_mlp(), SGD(1e-3), chains=3)
