"""The README's model works as it says. (Its other examples are run by doctest, and its commands by .ci/run.)"""

import re
from itertools import product
from pathlib import Path

import numpy as np

from tinygen import Generator
from tinygen.density import Sampler, Tractable


def test_a_model_of_your_own():
    (code,) = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    trained = names["state"].params
    assert isinstance(trained, Tractable) and isinstance(trained, Sampler)
    nats = -trained.log_prob(names["test"]).nats.mean()
    assert 22.8 < nats < 23.8  # 23.28; of independent pixels, 26.9

    every_image = np.array(list(product((0.0, 1.0), repeat=5)))
    small = names["LogisticAutoregression"](Generator(0).normal((5, 5), np.float64), Generator(1).normal((5,), np.float64))
    p = np.exp(small.log_prob(every_image).nats)
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-12)
    drawn = small.sample(Generator(2), 20_000) @ 2 ** np.arange(4, -1, -1)
    counted = np.bincount(drawn.astype(int), minlength=32) / 20_000
    assert np.abs(counted - p).max() < 5 * np.sqrt(p.max() / 20_000)
