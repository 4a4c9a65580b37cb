"""The score, against the mutual information of tables, and at its ends."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator, ops
from tinygen.metrics import inception_style_score

few = settings(max_examples=40, deadline=None)


@st.composite
def tables(draw):
    """p(y | x) of n samples and K classes, as sure as one likes."""
    n, K, sure = draw(st.integers(1, 8)), draw(st.integers(1, 6)), draw(st.floats(0, 100))
    return ops.softmax(sure * Generator(draw(st.integers(0, 2**32))).normal((n, K), np.float64))


@few
@given(tables())
def test_it_is_the_exponential_of_the_mutual_information_and_lies_between_1_and_the_number_of_classes(p):
    n, K = p.shape
    marginal = [math.fsum(p[:, j]) / n for j in range(K)]
    information = math.fsum(
        p[i, j] / n * math.log(p[i, j] / marginal[j]) for i in range(n) for j in range(K) if p[i, j] > 0 and marginal[j] > 0
    )
    found = inception_style_score(p)
    assert found == pytest.approx(math.exp(information), rel=1e-9)
    assert 1 - 1e-12 <= found <= min(n, K) + 1e-9


@few
@given(st.integers(1, 10), st.integers(1, 4))
def test_its_ends(K, copies):
    assert inception_style_score(np.repeat(np.eye(K), copies, axis=0)) == pytest.approx(K)
    assert inception_style_score(np.tile(np.eye(K)[0], (copies, 1))) == pytest.approx(1)
    assert inception_style_score(np.full((copies, K), 1 / K)) == pytest.approx(1)


@few
@given(tables())
def test_the_order_of_samples_and_of_classes_does_not_matter(p):
    rng = Generator(0)
    turned = p[rng.permutation(len(p))][:, rng.permutation(p.shape[1])]
    assert inception_style_score(turned) == pytest.approx(inception_style_score(p), rel=1e-12)


def test_rows_that_sum_to_1_but_for_rounding_are_divided_by_it_and_the_argument_stays_as_it_is():
    p = np.array([[1.0, 0.0], [0.0, 1.0]]) * (1 + 5e-5)
    p.setflags(write=False)
    assert inception_style_score(p) == pytest.approx(2, rel=1e-12)


def test_what_is_no_table_of_probabilities_is_refused():
    for p in ([[0.5, 0.4]], [[1.5, -0.5]], [[np.nan, 1.0]]):
        with pytest.raises(ValueError, match="give probabilities, not logits"):
            inception_style_score(np.array(p))
    for shape in ((3,), (0, 4), (2, 2, 2)):
        with pytest.raises(ValueError, match=r"inception_style_score: probabilities have shape .*; give p\(y \| x\)"):
            inception_style_score(np.full(shape, 0.5))
