r"""Images drawn in raster order, row by row from the top left, by a network of masked convolutions: the definition.

A network is lists of instructions, which at a pixel (i, j) make a value out of others there, and of what is remembered of
others at pixels before. Values have numbers; value 0 is the image, of one channel.

    ("affine", y, x, taps, w, b)     y_ij = b + \sum_t x_{i + a_t, j + b_t} w_t      taps ((a, b), ...), w (T, C, O), b (O,)
    ("relu", y, x)                   y = max(x, 0)
    ("gate", y, x)                   y = tanh(a) s(b), where a and b are the halves of x and s(b) = 1 / (1 + e^-b)
    ("add", y, x, z)                 y = x + z

Outside the image values are 0. Inside, where nothing has been computed yet, they are NaN: what looks ahead would be seen.

    for each row i
        `rows` at all its pixels, an instruction after another: what can be known before the row begins
        for each pixel j
            `pixels`: what can be known before the pixel
            `head`: the last value is logits, (N, 1) for two levels, otherwise (N, levels); and x_ij is chosen
            the image's value there is colours[x_ij]
"""

from typing import NamedTuple

import numpy as np


class Program(NamedTuple):
    """A network: three lists of instructions, and the values that are the same at every pixel, {number: (N, C)}."""

    rows: list
    pixels: list
    head: list
    constants: dict

    def channels(self):
        """{value: its number of channels}, in the order in which they are made."""
        found = {0: 1, **{value: array.shape[1] for value, array in self.constants.items()}}
        for name, y, x, *more in self.rows + self.pixels + self.head:
            found[y] = more[1].shape[2] if name == "affine" else found[x] // 2 if name == "gate" else found[x]
        return found


def sample(x, program, known, uniforms, colours):
    """x (N, H, W), integers: the first `known` pixels are kept, and the others drawn given those before; a new array.

    uniforms (H W - known, N), in [0, 1), one for each that is drawn; colours (levels,). The first level whose cumulated
    probability exceeds the uniform number is chosen; of two levels, the second if its probability does.
    """
    x = x.copy()
    N, H, W = x.shape
    values = {value: np.full((N, H, W, channels), np.nan) for value, channels in program.channels().items()}
    for value, array in program.constants.items():
        values[value][:] = array[:, None, None]
    for i in range(H):
        for instruction in program.rows:
            for j in range(W):
                _run(instruction, values, i, j)
        for j in range(W):
            for instruction in program.pixels:
                _run(instruction, values, i, j)
            if i * W + j >= known:
                for instruction in program.head:
                    _run(instruction, values, i, j)
                logits, u = values[program.head[-1][1]][:, i, j], uniforms[i * W + j - known]
                x[:, i, j] = [_choice(l, v) for l, v in zip(logits, u)]
            values[0][:, i, j, 0] = colours[x[:, i, j]]
    return x


def _run(instruction, values, i, j):
    name, y, x, *more = instruction
    N, H, W, _ = values[0].shape
    here = values[x][:, i, j]
    if name == "affine":
        taps, w, b = more
        sums = np.zeros((N, w.shape[2])) + b
        for (da, db), matrix in zip(taps, w):
            if 0 <= i + da < H and 0 <= j + db < W:
                sums += values[x][:, i + da, j + db] @ matrix
        values[y][:, i, j] = sums
    elif name == "relu":
        values[y][:, i, j] = np.maximum(here, 0)
    elif name == "gate":
        a, b = np.split(here, 2, axis=1)
        values[y][:, i, j] = np.tanh(a) / (1 + np.exp(-b))
    elif name == "add":
        values[y][:, i, j] = here + values[more[0]][:, i, j]


def _choice(logits, u):
    if len(logits) == 1:
        return int(u < 1 / (1 + np.exp(-logits[0])))
    cumulated = np.cumsum(np.exp(logits - logits.max()))
    return int((u * cumulated[-1] >= cumulated).sum())
