import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygen
from tinygen import data
from tinygen.data import images


def test_digits_have_the_documented_sizes_types_and_levels():
    digits = data.load("digits")
    assert (digits.name, digits.levels) == ("digits", 17)
    for split, n in (digits.train, 1297), (digits.validation, 200), (digits.test, 300):
        assert split.images.shape == (n, 8, 8, 1) and split.images.dtype == np.uint8
        assert split.labels.shape == (n,) and split.labels.dtype == np.int64
        assert split.images.max() == digits.levels - 1 and split.images.min() == 0
        assert set(split.labels) == set(range(10))


def test_no_digit_is_in_two_parts():
    digits = data.load("digits")
    together = np.concatenate([digits.train.images, digits.validation.images, digits.test.images])
    assert len(np.unique(together.reshape(1797, 64), axis=0)) == 1797


def test_the_file_of_digits_is_small_and_is_what_its_script_makes():
    path = Path(images.__file__).with_name("digits.npz")
    assert path.stat().st_size < 100_000
    pytest.importorskip("sklearn", reason="make_digits.py reads the digits from scikit-learn")
    made = runpy.run_path(str(Path(__file__).with_name("make_digits.py")))["arrays"]()
    with np.load(path, allow_pickle=False) as file:
        assert set(file) == set(made)
        for name in made:
            np.testing.assert_array_equal(file[name], made[name])
            assert file[name].dtype == made[name].dtype


def test_digits_keep_their_labels():
    sklearn_datasets = pytest.importorskip("sklearn.datasets", reason="the reference copy of the digits")
    reference = sklearn_datasets.load_digits()
    label_of = {image.astype(np.uint8).tobytes(): label for image, label in zip(reference.images, reference.target)}
    digits = data.load("digits")
    for split in digits.train, digits.validation, digits.test:
        assert [label_of[image.tobytes()] for image in split.images] == split.labels.tolist()


def test_parts_are_consecutive_and_end_where_the_data_end():
    rows = np.arange(10, dtype=np.uint8)
    parts = images._parts(rows[:, None, None], rows, 6, 1, 3)
    assert [part.labels.tolist() for part in parts] == [[0, 1, 2, 3, 4, 5], [6], [7, 8, 9]]
    for part in parts:
        np.testing.assert_array_equal(part.images[:, 0, 0, 0], part.labels)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="'cifar'.*digits, mnist"):
        data.load("cifar")


def test_importing_the_data_package_is_light():
    program = "import sys, tinygen.data; print([m for m in ('pooch', 'requests', 'numba', 'matplotlib') if m in sys.modules])"
    root = Path(tinygen.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
