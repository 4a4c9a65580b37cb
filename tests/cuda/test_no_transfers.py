"""Training steps of all six families on a GPU: nothing passes between the devices unasked, and both devices agree.

In CI the GPU is pretended (pretended.py), and its kernels run in the harness; with `pytest -m gpu` it is the machine's own.
Both devices draw the same random numbers, those of kernels/random, and so their results differ by rounding alone.
"""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from tests.cuda import pretended
from tests.cuda.tiers import MARKS
from tinygen import Generator, data, mcmc, ops, optim, train
from tinygen.autograd import tree
from tinygen.backend import device_of, to_device
from tinygen.models import ddpm, ebm, flow, gan, pixelcnn, vae
from tinygen.nn.invertible import Logit

DEVICES = [pytest.param("pretended", marks=MARKS["harness"]), pytest.param("gpu", marks=MARKS["gpu"])]
BITS = np.random.default_rng(0).integers(0, 2, (4, 8, 8, 1)).astype(np.uint8)
GREY = np.random.default_rng(1).random((4, 8, 8, 1)).astype(np.float32)
POINTS = np.random.default_rng(2).standard_normal((6, 2)).astype(np.float32)
LABELS = np.array([0, 2, 1, 2])


class SameEverywhere(Generator):
    """The numbers of kernels/random on the CPU, too."""

    def normal(self, shape=(), dtype=np.float32):
        return self._fill("normal", shape, dtype)

    def uniform(self, shape=(), dtype=np.float32):
        return self._fill("uniform", shape, dtype)

    def permutation(self, n):
        return self.uniform((n,), np.float64).argsort()


def binarise(images, rng):
    return data.prepare("dynamic", images, 2, rng)


def dequantise(images, rng):
    return data.prepare("dequantised", images, 2, rng)


def adam():
    return optim.Adam(optim.warm_up(2, 1e-2), eps=1e-3)  # with a small one, a gradient of rounding errors makes a whole step


def a_vae(rng, optimiser, k=1, likelihood="bernoulli"):
    model = vae.VAE.mlp(rng, (8, 8, 1), 3, hidden=(12,), likelihood=likelihood)
    return optim.begin(model, optimiser), vae.train_step(optimiser, k=k, prepare=binarise), BITS


def a_convolutional_vae(rng, optimiser):
    model = vae.VAE.convolutional(rng, (8, 8, 1), 3, channels=(4, 6), activation=ops.silu)
    return optim.begin(model, optimiser), vae.train_step(optimiser, prepare=binarise), BITS


def a_gan(rng, optimiser, objective, convolutional=False):
    make = gan.GAN.dcgan if convolutional else gan.GAN.mlp
    sizes = {"channels": (4, 8), "groups": 2} if convolutional else {"hidden": (12,)}
    model = make(rng, (8, 8, 1), 3, **sizes)
    return gan.players(model, optimiser, optimiser, True), gan.train_step(objective, optimiser, optimiser, decay=0.9), GREY


def a_flow(rng, optimiser, kind):
    model = flow.Flow.mlp(rng, 2, couplings=2, hidden=(12,), kind=kind, waves=1)
    return optim.begin(model, optimiser, True), flow.train_step(optimiser, limit=1.0, decay=0.9), POINTS


def a_convolutional_flow(rng, optimiser):
    model = flow.Flow.convolutional(rng, (8, 8, 1), scales=2, couplings=1, width=4, before=(Logit(0.05),))
    return optim.begin(model, optimiser), flow.train_step(optimiser, prepare=dequantise), BITS


def a_pixelcnn(rng, optimiser):
    model = pixelcnn.PixelCNN.plain(rng, (8, 8, 1), 2, channels=8, blocks=1, first_kernel=5)
    return optim.begin(model, optimiser), pixelcnn.train_step(optimiser, prepare=binarise), BITS


def a_gated_pixelcnn(rng, optimiser):
    model = pixelcnn.PixelCNN.gated(rng, (8, 8, 1), 4, channels=4, layers=2, first_kernel=5, classes=3)
    return optim.begin(model, optimiser), pixelcnn.train_step(optimiser), (BITS + 1, LABELS)


def an_ebm(rng, optimiser, kernel, **chains):
    model = ebm.EBM.mlp(rng, (2,), hidden=(12,))
    step = ebm.train_step(optimiser, kernel, 2, penalty=0.1, renew=0.5)
    return ebm.start(model, optimiser, rng, **chains), step, POINTS


def a_convolutional_ebm(rng, optimiser):
    model = ebm.EBM.convolutional(rng, (8, 8, 1), channels=(4, 6))
    return ebm.start(model, optimiser, rng), ebm.train_step(optimiser, mcmc.Langevin(0.01), 2), GREY


def a_ddpm(rng, optimiser):
    model = ddpm.DDPM.mlp(rng, 2, ddpm.linear(50), width=8, depth=1, frequencies=(0.5, 2.0))
    return optim.begin(model, optimiser, True), ddpm.train_step(optimiser, prepare=lambda x, rng: (x, None)), POINTS


def a_unet(rng, optimiser):
    model = ddpm.DDPM.unet(rng, (8, 8, 1), ddpm.cosine(50), channels=(8, 8), heads=2, classes=3, predicts="v")
    return optim.begin(model, optimiser, True), ddpm.train_step(optimiser, prepare=lambda pair, rng: pair), (GREY, LABELS)


CASES = {
    "VAE": a_vae,
    "IWAE": lambda rng, o: a_vae(rng, o, k=3),
    "Gaussian VAE": lambda rng, o: a_vae(rng, o, likelihood="gaussian"),
    "convolutional VAE": a_convolutional_vae,
    "GAN": lambda rng, o: a_gan(rng, o, gan.NON_SATURATING),
    "WGAN-GP": lambda rng, o: a_gan(rng, o, gan.gradient_penalty(), convolutional=True),
    "R1": lambda rng, o: a_gan(rng, o, gan.r1()),
    "affine flow": lambda rng, o: a_flow(rng, o, "affine"),
    "spline flow": lambda rng, o: a_flow(rng, o, "spline"),
    "multi-scale flow": a_convolutional_flow,
    "PixelCNN": a_pixelcnn,
    "gated PixelCNN": a_gated_pixelcnn,
    "EBM, contrastive divergence": lambda rng, o: an_ebm(rng, o, mcmc.AdjustedLangevin(0.01)),
    "EBM, persistent chains": lambda rng, o: an_ebm(rng, o, mcmc.Hamiltonian(0.05, 2), chains=9),
    "convolutional EBM": a_convolutional_ebm,
    "DDPM": a_ddpm,
    "U-Net": a_unet,
}


def two_steps(case, device, before_the_second=lambda: None):
    optimiser = adam()
    state, step, batch = CASES[case](Generator(0), optimiser)
    state, batch, random = train.move(state, device), train.move(batch, device), SameEverywhere(3, device)
    metrics = []
    for n in range(2):
        if n == 1:
            before_the_second()
        state, seen = step(state, batch, random.at(n))
        metrics.append(seen)
    return state, metrics


def on_cpu(part):
    return [np.asarray(to_device(leaf, "cpu")) for leaf in tree.flatten(part)[0]]


@contextmanager
def watched(device):
    if device == "pretended":
        with pretended.gpu() as transfers:
            yield transfers
    else:
        with nullcontext():
            yield SimpleNamespace(uploads=[], downloads=[], reads=[])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
def test_training_steps_are_those_of_the_cpu_and_move_nothing(case, device):
    expected, expected_metrics = two_steps(case, "cpu")
    with watched(device) as transfers:
        state, metrics = two_steps(case, "gpu", transfers.forget)
        passed = transfers.uploads + transfers.reads + transfers.downloads
        seen, metrics = on_cpu(state), [{name: float(value) for name, value in m.items()} for m in metrics]
    assert not passed
    for a, b in zip(seen, on_cpu(expected)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for a, b in zip(metrics, expected_metrics):
        assert a == pytest.approx(b, rel=1e-4)


USES = {  # of a trained state, with a generator and with arrays on its device
    "VAE": lambda m, rng, put: [
        m.params.sample(rng, 3), m.params.log_prob_estimate(put(BITS), rng, 20, 8).nats, m.params.reconstruct(put(BITS)),
        m.params.interpolate(put(BITS), put(BITS[::-1]), 3),
    ],
    "GAN": lambda m, rng, put: [m.gan.sample(rng, 3)],
    "spline flow": lambda m, rng, put: [m.params.sample(rng, 3), m.params.log_prob(put(POINTS)).nats],
    "multi-scale flow": lambda m, rng, put: [m.params.sample(rng, 3)],
    "EBM, contrastive divergence": lambda m, rng, put: [
        m.training.params.sample(rng, 3, steps=3), m.training.params.log_partition(put(POINTS)),
    ],
    "DDPM": lambda m, rng, put: [
        m.best.sample(rng, 3), m.best.sample_ddim(rng, 3, times=4, eta=0.5), m.best.bound(put(POINTS), rng).nats,
        m.best.bound(put(POINTS), rng, terms=3).nats,
    ],
    "U-Net": lambda m, rng, put: [m.best.sample_ddim(rng, 4, times=2, labels=put(LABELS), guidance=2.0)],
    "gated PixelCNN": lambda m, rng, put: [m.params.log_prob(put(1 + BITS), put(LABELS)).nats],
}  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", USES)
def test_samples_and_likelihoods_are_those_of_the_cpu(case, device):
    def use(device):
        def put(x):
            return to_device(x.astype(np.float32) if case == "VAE" else x, device)

        state = train.move(CASES[case](Generator(0), adam())[0], device)
        return on_cpu(USES[case](state, SameEverywhere(5, device), put))

    expected = use("cpu")
    with watched(device):
        seen = use("gpu")
    for a, b in zip(seen, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case, labels", [("PixelCNN", None), ("gated PixelCNN", LABELS[:2])])
def test_a_pixelcnn_draws_on_the_gpu(case, labels, device):
    with watched(device):
        model = train.move(CASES[case](Generator(0), adam())[0].params, "gpu")
        labels = None if labels is None else to_device(labels, "gpu")
        x = to_device(model.sample(Generator(1, "gpu"), 2, labels), "cpu")
    assert x.shape == (2, 8, 8, 1) and x.min() == 0 and x.max() == model.levels - 1


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_on_the_cpu_is_refused_by_a_model_on_the_gpu(device):
    with watched(device):
        state, step, batch = a_pixelcnn(Generator(0), adam())
        with pytest.raises(TypeError, match="GPU"):
            step(train.move(state, "gpu"), batch, Generator(0, "gpu"))


@pytest.mark.parametrize("device", DEVICES)
def test_a_run_goes_on_on_another_device(device, tmp_path):
    """Two steps on the GPU and two on the CPU are four on either, but for the noise, of which a flow needs none."""
    optimiser = adam()
    state, step, _ = a_flow(Generator(0), optimiser, "affine")

    def fit(state, steps, device, **places):
        batches = train.Moving(data.Batches(POINTS, 3, seed=1), device)
        return train.fit(step, train.move(state, device), batches, steps, progress=False, **places)

    with watched(device):
        there = on_cpu(fit(state, 4, "gpu"))
        fit(state, 2, "gpu", out=tmp_path)
        fit(state, 4, "cpu", resume=tmp_path)
        resumed = on_cpu(fit(state, 4, "gpu", resume=tmp_path))
    for a, b, c in zip(there, resumed, on_cpu(fit(state, 4, "cpu"))):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_counters_stay_on_the_cpu_and_nothing_is_moved_twice(device):
    with watched(device):
        there = train.move({"x": POINTS, "labels": LABELS, "n": np.array(3)}, "gpu")
        assert {name: device_of(a) for name, a in there.items()} == {"x": "gpu", "labels": "gpu", "n": "cpu"}
        assert train.move(there, "gpu")["x"] is there["x"]
        back = train.move(there, "cpu")
    assert np.array_equal(back["x"], POINTS) and np.array_equal(back["labels"], LABELS) and back["n"] == 3


@pytest.mark.parametrize("device", DEVICES)
def test_fit_draws_where_the_state_is(device):
    seen = []

    def step(state, batch, rng):
        seen.append(rng.device)
        return state, {}

    with watched(device):
        train.fit(step, train.move({"x": POINTS, "n": np.array(3)}, "gpu"), [None], 1, progress=False)
        train.fit(step, {"x": POINTS}, [None], 1, progress=False)
    assert set(seen[:-1]) == {"gpu"} and seen[-1] == "cpu"  # a graph's step is run a few times
