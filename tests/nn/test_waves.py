"""Waves: features that turn as fast as they are asked to."""

import numpy as np

from tinygen import Generator, check_grads
from tinygen.nn.waves import Waves

close = np.testing.assert_allclose


def test_the_product_of_the_waves_of_two_points_depends_only_on_what_is_between_them():
    """Sines and cosines of one angle are a point on a circle: z(u).z(v) = sum_k cos((u - v).w_k)."""
    waves, rng = Waves.init(Generator(0), 2, 12, 0.5, 8.0), Generator(1)
    u, v, shift = (rng.normal((7, 2), np.float64) for _ in range(3))
    product = (waves(u) * waves(v)).sum(axis=1)
    close(product, np.cos((u - v) @ waves.weight).sum(axis=1), rtol=1e-10)
    close(product, (waves(u + shift) * waves(v + shift)).sum(axis=1), rtol=1e-10)
    close((waves(u) ** 2).sum(axis=1), 6, rtol=1e-12)


def test_frequencies_are_trained():
    waves, u = Waves.init(Generator(0), 2, 6, 0.5, 2.0), Generator(1).normal((4, 2), np.float64)
    exact = Waves(waves.weight.astype(np.float64))
    check_grads(lambda waves, u: waves(u), (exact, u), order=2)


def test_float32_is_kept():
    assert Waves.init(Generator(0), 2, 6, 0.5, 2.0)(np.ones((3, 2), np.float32)).dtype == np.float32
