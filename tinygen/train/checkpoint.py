"""Checkpoints: the arrays of a state under the names of their paths, in one safetensors file, which holds no code to run.

A file is written beside the old one and renamed into its place: a reader finds the old or the new one, never half of one.
"""

import json
from pathlib import Path

import numpy as np

from ..autograd import tree
from ..backend import array_module, to_device
from ..files import write_whole

FORMAT = 1  # of the metadata


def save_checkpoint(path, state, step, seed, extra=None):
    """Write the arrays of a state, how many steps made it, the seed, and in `extra` anything that JSON can hold."""
    from safetensors.numpy import save

    about = {"format": FORMAT, "step": int(step), "seed": int(seed), "extra": extra}
    arrays = {name: _contiguous(to_device(array, "cpu")) for name, array in named_arrays(state).items()}
    write_whole(path, save(arrays, {"tinygen": json.dumps(about)}))


def load_checkpoint(path, like):
    """(state, step, seed): the state has the structure of `like`, and its arrays lie on the device of those of `like`.

    FileNotFoundError where there is no file; ValueError where it is damaged, or where a path, shape or dtype differs.
    """
    about, arrays = _read(Path(path))
    expected = named_arrays(like)
    if difference := first_difference(expected, arrays):
        raise ValueError(
            f"load_checkpoint: {path} does not fit the state that it is loaded into: {difference}; build that state with the "
            "settings of the run that wrote the checkpoint"
        )
    loaded = [array_module(a).asarray(arrays[name]) for name, a in expected.items()]
    return tree.flatten(like)[1].unflatten(loaded), about["step"], about["seed"]


def checkpoint_info(path):
    """{"format": 1, "step": ..., "seed": ..., "extra": ...}, what a checkpoint says about itself. Errors as above."""
    return _read(Path(path))[0]


def named_arrays(state):
    """The arrays of a state by their paths ("params.layers.0.weight"), in the order of its leaves."""
    leaves, structure = tree.flatten(state)
    names = [path or "state" for path in structure.paths()]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two arrays of the state have the path {twice}; use no dots in the keys of its dicts")
    return dict(zip(names, leaves))


def first_difference(expected, found):
    """Where two dicts of arrays differ in names, shapes or dtypes, in words, or None."""
    for name in expected:
        if name not in found:
            return f"{name} is missing"
        a, b = (f"{array.dtype}{tuple(array.shape)}" for array in (expected[name], found[name]))
        if a != b:
            return f"{name} is {b} where {a} is expected"
    return next((f"{name} is not expected" for name in found if name not in expected), None)


def _contiguous(array):
    return np.asarray(array, order="C")  # safetensors reads past strides; ascontiguousarray would make 0-d arrays 1-d


def _read(path):
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"load_checkpoint: there is no checkpoint {path}; give the folder of a run that has one")
    try:
        with safe_open(path, "numpy") as file:
            about = dict(json.loads((file.metadata() or {}).get("tinygen", "{}")))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, ValueError, TypeError) as error:  # ValueError and TypeError: the metadata is no dict of JSON
        raise ValueError(f"load_checkpoint: {path} is truncated or damaged ({error}); take an earlier checkpoint") from None
    if about.get("format") != FORMAT:
        raise ValueError(
            f"load_checkpoint: {path} has format {about.get('format')}, not {FORMAT}: it was written by another program, or by "
            "another version of tinygen"
        )
    if not all(isinstance(about.get(name), int) for name in ("step", "seed")):
        raise ValueError(f"load_checkpoint: {path} does not say its step and seed: it is damaged; take an earlier checkpoint")
    return about, arrays
