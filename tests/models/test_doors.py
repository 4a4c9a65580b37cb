"""What is often given in place of what a model needs, and the sentence that says so: one table for all models."""

import numpy as np
import pytest

from tinygen import Generator
from tinygen.models import ddpm, ebm, flow, gan, pixelcnn, vae
from tinygen.models.bayes import GaussianDiscriminant, NaiveBayes
from tinygen.models.ddpm import DDPM
from tinygen.nn import Linear
from tinygen.optim import Adam

RNG, ADAM, X = Generator(0), Adam(1e-3), np.zeros((3, 2), np.float32)
VAE = vae.VAE.mlp(RNG, (2,), 2, (4,))
GAN = gan.GAN.mlp(RNG, (2,), 2, (4,))
FLOW = flow.Flow.mlp(RNG, 2, 2, (4,))
EBM = ebm.EBM.mlp(RNG, (2,), (4,))
PIXELS = pixelcnn.PixelCNN.plain(RNG, (2, 3, 1), 4, channels=4, blocks=1, classes=2)
LABELLED = DDPM.mlp(RNG, 2, ddpm.linear(3), 4, 1, classes=2)
LEVELS = DDPM.mlp(RNG, 2, ddpm.linear(3), 4, 1, levels=17)
BITS, LABELS = np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([0, 1])
BAYES = NaiveBayes.fit(BITS, LABELS)

SAMPLERS = {
    "VAE": VAE.sample,
    "GAN": GAN.sample,
    "Flow": FLOW.sample,
    "PixelCNN": lambda rng, n: PIXELS.sample(rng, n, np.zeros(n, int)),
    "EBM": lambda rng, n: EBM.sample(rng, n, steps=1),
    "DDPM": LABELLED.sample,
}
OF_EXAMPLES = {
    "VAE": lambda x: VAE.elbo(x, RNG),
    "Flow": FLOW.log_prob,
    "PixelCNN": PIXELS.log_prob,
    "EBM": EBM.energy,
    "DDPM": lambda x: LABELLED.loss(x, RNG),
    "NaiveBayes": BAYES.log_prob,
    "GaussianDiscriminant.fit": lambda x: GaussianDiscriminant.fit(x, LABELS, shared=True),
    "GAN": lambda x: gan.train_step(gan.MINIMAX, ADAM, ADAM)(gan.players(GAN, ADAM, ADAM), x, RNG),
}
OF_LABELS = {
    "PixelCNN": lambda labels: PIXELS.sample(RNG, 2, labels),
    "GAN.sample": lambda labels: gan.GAN.mlp(RNG, (2,), 2, (4,), classes=2).sample(RNG, 2, labels),
    "NaiveBayes.fit": lambda labels: NaiveBayes.fit(BITS, labels),
    "NaiveBayes.error": lambda labels: BAYES.error(BITS, labels),
    "NaiveBayes.sample": lambda labels: BAYES.sample(RNG, 2, labels),
}
SEEDS = [0, np.int64(3), np.random.default_rng(0), np.random.RandomState(0), None]  # noqa: NPY002 (as people have them)


@pytest.mark.parametrize("name", OF_EXAMPLES)
def test_a_list_of_examples_is_no_array(name):
    with pytest.raises(TypeError, match=rf"{name}: x is a list; give a NumPy array, np.array\(x\)"):
        OF_EXAMPLES[name]([[0.0, 1.0], [1.0, 1.0]])


@pytest.mark.parametrize("name", OF_LABELS)
def test_a_list_of_labels_is_no_array(name):
    with pytest.raises(TypeError, match=rf"{name}: labels is a list; give a NumPy array, np.array\(labels\)"):
        OF_LABELS[name]([0, 1])


@pytest.mark.parametrize("rng", SEEDS, ids=lambda rng: type(rng).__name__)
@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_are_drawn_by_a_generator_of_tinygen(name, rng):
    with pytest.raises(TypeError, match=rf"^{name}.*: rng is .*; give a tinygen.Generator\(seed\)"):
        SAMPLERS[name](rng, 2)


@pytest.mark.parametrize("rng", SEEDS, ids=lambda rng: type(rng).__name__)
@pytest.mark.parametrize("make", [
    lambda rng: vae.VAE.mlp(rng, (2,), 2, (4,)),
    lambda rng: gan.GAN.mlp(rng, (2,), 2, (4,)),
    lambda rng: ebm.EBM.mlp(rng, (2,), (4,)),
    lambda rng: pixelcnn.PixelCNN.gated(rng, (2, 3, 1), 4, channels=4, layers=1, classes=2),
    lambda rng: DDPM.mlp(rng, 2, ddpm.linear(3), 4, 1),
])  # fmt: skip
def test_networks_are_made_by_a_generator_of_tinygen(make, rng):
    with pytest.raises(TypeError, match=r"rng is .*; give a tinygen.Generator\(seed\)"):
        make(rng)


@pytest.mark.parametrize("name", SAMPLERS)
def test_of_no_samples_there_is_an_empty_array(name):
    x = SAMPLERS[name](Generator(0), 0)
    assert len(x) == 0 and x.shape[1:] == ((2, 3, 1) if name == "PixelCNN" else (2,))


def test_a_bound_on_no_grey_levels_is_empty():
    assert LEVELS.bound(X[:0], RNG).nats.shape == (0,)


@pytest.mark.parametrize("call, complaint", [
    (lambda: vae.VAE.mlp(RNG, (2,), 2, hidden=64), r"VAE.mlp: hidden is 64; give a tuple, such as \(64,\)"),
    (lambda: vae.VAE.mlp(RNG, 2, 2), r"VAE.mlp: shape is 2; give a tuple"),
    (lambda: gan.GAN.mlp(RNG, 2, 2), r"GAN.mlp: shape is 2; give a tuple"),
    (lambda: gan.GAN.mlp(RNG, (2,), 2, hidden=64), r"GAN.mlp: hidden is 64; give a tuple"),
    (lambda: ebm.EBM.mlp(RNG, 2), r"EBM.mlp: shape is 2; give a tuple"),
    (lambda: ebm.EBM.mlp(RNG, (2,), hidden=64), r"EBM.mlp: hidden is 64; give a tuple"),
    (lambda: OF_EXAMPLES["GAN"](np.zeros((4, 2), np.uint8)), "GAN: the data hold uint8, but samples are real .*data.prepare"),
])  # fmt: skip
def test_what_is_of_another_type_is_refused(call, complaint):
    with pytest.raises(TypeError, match=complaint):
        call()


@pytest.mark.parametrize("call, complaint", [
    (lambda: vae.VAE.mlp(RNG, (2,), 2, mean=np.nan), r"VAE: mean has shape \(\); give a finite number, or a mean image"),
    (lambda: vae.VAE.mlp(RNG, (2,), 2, mean=np.array([0.5, np.inf])), "VAE: mean has shape .* give a finite number"),
    (lambda: vae.VAE.mlp(RNG, (2,), 2, mean=np.zeros(5)), r"VAE: mean has shape \(5,\); .* a mean image of shape \(2,\)"),
    (lambda: vae.VAE.mlp(RNG, (2,), 2, hidden=(0,)), "Linear: d_out is 0; it must be an integer of at least 1"),
    (lambda: Linear.init(RNG, 0, 2), "Linear: d_in is 0"),
    (lambda: VAE.interpolate(X[:2], X, 4), "VAE.interpolate: 2 and 3 images are no pairs; give as many, or one"),
    (lambda: vae.train_step(ADAM, beta=-1), "VAE: beta = -1 must be at least 0"),
    (lambda: vae.train_step(ADAM, beta=float("nan")), "VAE: beta = nan must be at least 0"),
    (lambda: LABELLED.sample(RNG, 1, guidance=3.0), "DDPM: guidance is 3.0; it must be finite, and .* needs labels"),
    (lambda: LABELLED.sample(RNG, 1, np.array([0]), guidance=float("nan")), "DDPM: guidance is nan; it must be finite"),
    (lambda: DDPM.mlp(RNG, 2, ddpm.linear(3), width=7), "the width is 7; .* give an even width of at least 4"),
    (lambda: DDPM.mlp(RNG, 2, ddpm.linear(3), width=2), "the width is 2; .* give an even width of at least 4"),
    (lambda: ddpm.cosine(10, offset=-2), "cosine: offset is -2; it must be at least 0"),
    (lambda: ddpm.cosine(10, offset=float("nan")), "cosine: offset is nan"),
    (lambda: ddpm.to_signed(X, 1), "to_signed: levels is 1; give how many grey levels there are, at least 2"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_an_image_may_stand_for_all_and_guidance_of_none_needs_no_labels():
    close = np.testing.assert_allclose
    close(VAE.interpolate(X[:1], X + 0.5, 4)[:, 2], VAE.interpolate(X, X + 0.5, 4)[:, 2], rtol=1e-5)
    close(VAE.interpolate(X, X[:1] + 0.5, 4)[:, 2], VAE.interpolate(X, X + 0.5, 4)[:, 2], rtol=1e-5)
    close(LABELLED.sample(Generator(0), 2, guidance=0), LABELLED.sample(Generator(0), 2))
