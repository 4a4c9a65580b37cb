r"""Drawing in raster order on a GPU: one launch for whole images, in which a block of threads goes along its images.

No pixel can begin before the one before it has been drawn. A launch for each instruction of each pixel would take some 5 us,
mostly to begin and to end; so the loops over pixels and instructions are inside of the kernel, with barriers where launches
would be. Blocks know nothing of one another. Instructions are lines of a table of numbers; values lie in memory as

    [image][row][column][channel]        a plane: what other pixels read
    [image][column][channel]             a row: what `rows` makes, and each pixel reads in its place
    [image][channel]                     a place: what the next pixel writes over

and all that a pixel needs stays in the caches. Float32; uniforms and cumulated probabilities are float64, as in spec.py.

Floor: every block reads all weights once for a pixel. With few images each has a block to itself, so that more processors work;
with many, some share a block, and its reads.
"""

import math

import numpy as np

from .. import cuda

IMAGES = (1, 4)  # of a block
MANY = 256  # images: from here on they share blocks
THREADS = 256  # of a block
MOST = 1 << 28  # numbers that are remembered at a time: 1 GiB
CODES = {"affine": 0, "relu": 1, "gate": 2, "add": 3}  # as in raster.cu

program = cuda.Program(__file__, "raster.cu", IMAGES=IMAGES)


def sample(x, program, known, uniforms, colours):
    N, H, W = x.shape
    xp, drawn, table = cuda.array_module(), x.astype(np.int32), _Table(program, H, W)
    uniforms, colours = uniforms.astype(np.float64, copy=False), cuda.contiguous(colours.astype(np.float32, copy=False))
    for part in _parts(N, max(1, MOST // table.numbers)):
        images = drawn[part]
        memory = xp.full((len(images), table.numbers), np.nan, np.float32)
        for value, array in program.constants.items():
            start = table.places[value][0]
            memory[:, start : start + array.shape[1]] = array[part]
        _launch(images, table, memory, known, cuda.contiguous(uniforms[:, part]), colours)
    return drawn.astype(x.dtype)


def _parts(N, together):
    return [slice(first, min(first + together, N)) for first in range(0, N, together)]


def _launch(images, table, memory, known, uniforms, colours):
    (N, H, W), together = images.shape, IMAGES[len(images) >= MANY]
    *_, (_, logits, *_, levels) = [line[:5] for line in table.lines]
    lines = np.cumsum([len(part) for part in table.parts])
    sizes = np.array([N, H, W, known, levels, table.numbers, logits, *table.places[0], *lines], np.int32)
    program.launch(
        "sample", (-(-N // together),), (THREADS,), images, cuda.table(table.lines), cuda.table(table.taps), table.weights,
        memory, uniforms, colours, *sizes, shared=8 * together * levels, defines={"real": "float", "IMAGES": together},
    )  # fmt: skip


class _Table:
    """A program as lines of integers; addresses count the numbers that are remembered of one image."""

    def __init__(self, program, H, W):
        self.channels, self.numbers, self.places = program.channels(), 0, {}
        self.parts = program.rows, program.pixels, program.head
        of_rows = {value for _, value, *_ in program.rows}
        elsewhere = {i[2] for i in sum(self.parts, []) if i[0] == "affine" and any(tap != (0, 0) for tap in i[3])}
        for value, C in self.channels.items():
            steps = (W * C, C) if value in elsewhere else (0, C) if value in of_rows else (0, 0)
            self.places[value] = self.numbers, *steps  # of the first number; steps to the next row and the next column
            self.numbers += math.prod((H, W, C) if value in elsewhere else (W, C) if value in of_rows else (C,))
        self.taps, self.lines, arrays = [], [], [cuda.zeros(0, np.float32)]
        for instruction in sum(self.parts, []):
            self.lines.append(self._line(instruction, arrays))
        self.weights = cuda.array_module().concatenate(arrays)
        self.taps, self.lines = tuple(self.taps), tuple(self.lines)

    def _line(self, instruction, arrays):
        name, y, x, *more = instruction
        line = CODES[name], *self.places[y], self.channels[y], *self.places[x], self.channels[x]
        if name != "affine":
            return *line, *(self.places[more[0]] if more else (0, 0, 0)), 0
        taps, *numbers = more
        for array in numbers:
            line += (sum(a.size for a in arrays),)
            arrays.append(array.astype(np.float32, copy=False).reshape(-1))
        line += len(self.taps), len(taps)
        self.taps += taps
        return line
