r"""Drawing in raster order on the CPU: one compiled loop over pixels and instructions, on values that stay in the cache.

A pixel costs little arithmetic, and a call from Python for each of its instructions would take most of the time. Here they are
rows of a table of numbers, and an inner loop looks at the first of them to see what to do. Values lie as

    [row][column][image][channel]

so an affine instruction at a pixel, for many images, is a product of matrices whose left one starts at another place for each
tap: the tile of a convolution (tiles.py), with images in place of pixels.

                    a plane, with a frame of zeros        a row            a place
    a value is      if other pixels read it               if `rows` made   otherwise: the next pixel
                                                          it               writes over it

A few images at a time go all the way, so that their planes fit into the cache; and such groups are divided among threads.
Float32.
"""

import math

import numpy as np

from ..direct import pack_weights
from ..jit import inline, jit, part
from ..threads import in_parts, number
from ..tiles import WIDE, pixel_code, pixel_sums, tile_for
from ..vector_math import exp, largest, sigmoid_pair, tanh

f = np.float32
TOGETHER, LEAST = 32, 8  # images, at most, and a tile of them: fewer only where threads would have nothing to do
AFFINE, RELU, GATE, ADD = range(4)
CODES = {"affine": AFFINE, "relu": RELU, "gate": GATE, "add": ADD}


def sample(x, program, known, uniforms, colours):
    N, H, W = x.shape
    if not N:
        return x.copy()
    drawn, colours = np.array(x.transpose(1, 2, 0), np.int64), np.array(colours, f)
    groups = max(-(-N // TOGETHER), min(number(), N // LEAST))
    ends = [N * g // groups for g in range(groups + 1)]
    tables = {size: _Table(program, size, H, W) for size in {end - start for start, end in zip(ends, ends[1:])}}

    def some(first, last):
        for start, end in zip(ends[first:last], ends[first + 1 : last + 1]):
            table, part = tables[end - start], drawn[:, :, start:end].copy()
            memory = table.memory({value: array[start:end] for value, array in program.constants.items()})
            _sample(
                part, table.rows, table.pixels, table.head, *table.places[0], memory, table.weights, table.biases,
                table.offsets, known, np.array(uniforms[:, start:end], np.float64), colours, tile_for(end - start),
            )  # fmt: skip
            drawn[:, :, start:end] = part

    in_parts(some, groups, _products(program) * x.size)
    return np.array(drawn.transpose(2, 0, 1), x.dtype, order="C")


def _products(program):
    """How many multiplications a pixel takes."""
    instructions = program.rows + program.pixels + program.head
    return sum(instruction[4].size for instruction in instructions if instruction[0] == "affine")


class _Table:
    """A program as tables of integers, for a number of images; addresses count the numbers of one flat array."""

    def __init__(self, program, N, H, W):
        self.channels, self.size, self.numbers = program.channels(), (N, H, W), 0
        self.places, self.planes = {}, []  # places: {value: (the number of its first, steps to the next row and column)}
        weights, biases, offsets = [], [], []
        for value, (top, side) in _reach(program).items():
            self._plane(value, top, side)
        for _, value, *_ in program.rows:
            if value not in self.places:
                self._place(value, W)
        for value in self.channels:
            if value not in self.places:
                self._place(value, 1)
        for name in ("rows", "pixels", "head"):
            table = [self._line(instruction, weights, biases, offsets) for instruction in getattr(program, name)]
            setattr(self, name, np.array(table, np.int64).reshape(len(table), 16))
        self.weights, self.biases = (np.concatenate(arrays, axis=None) for arrays in (weights, biases))
        self.offsets = np.array(offsets, np.int64)

    def memory(self, constants):
        """The values at the beginning."""
        N, H, W = self.size
        memory = np.full(self.numbers, np.nan, f)
        for start, shape, top, side in self.planes:
            plane = memory[start : start + math.prod(shape)].reshape(shape)
            plane[:] = 0
            plane[top : top + H, side : side + W] = np.nan
        for value, array in constants.items():
            start = self.places[value][0]
            memory[start : start + array.size] = array.reshape(-1)
        return memory

    def _plane(self, value, top, side):
        N, H, W = self.size
        shape = H + 2 * top, W + 2 * side, N, self.channels[value]
        column = N * shape[3]
        row = shape[1] * column
        self.planes.append((self.numbers, shape, top, side))
        self.places[value] = self.numbers + top * row + side * column, row, column
        self.numbers += shape[0] * row

    def _place(self, value, columns):
        size = self.size[0] * self.channels[value]
        self.places[value] = self.numbers, 0, size if columns > 1 else 0
        self.numbers += columns * size

    def _line(self, instruction, weights, biases, offsets):
        name, y, x, *more = instruction
        line = [CODES[name], *self.places[y], self.channels[y], *self.places[x], self.channels[x]]
        if name != "affine":
            other = self.places[more[0]] if more else (0, 0, 0)
            return [*line, *other, 0, 0, 0, 0]
        taps, w, b = more
        packed = pack_weights(np.asarray(w, f))
        width = packed.shape[3]
        found = [sum(array.size for array in arrays) for arrays in (weights, biases)]
        line += [*found, len(offsets), len(taps), len(packed), width, pixel_code(tile_for(self.size[0]), width)]
        weights.append(packed)
        biases.append(pack_weights(np.asarray(b, f).reshape(1, 1, -1)))
        _, row, column = self.places[x]
        offsets += [a * row + b * column for a, b in taps]
        return line


def _reach(program):
    """{value: how far others look at it, in rows and columns}, for the values that are read at other pixels; and the image."""
    reach = {0: (0, 0)}
    for name, _, x, *more in program.rows + program.pixels + program.head:
        if name == "affine" and any(tap != (0, 0) for tap in more[0]):
            top, side = (max(abs(tap[k]) for tap in more[0]) for k in (0, 1))
            reach[x] = tuple(map(max, reach.get(x, (0, 0)), (top, side)))
    return reach


@jit
def _sample(
    x, rows, pixels, head, image, image_row, image_column, memory, weights, biases, offsets, known, uniforms, colours, tile
):  # fmt: skip
    H, W, N = x.shape
    aside = np.empty(tile * WIDE, f)
    logits = head[len(head) - 1, 1]
    levels = head[len(head) - 1, 4]
    e = np.empty(levels, f)
    for i in range(H):
        for k in range(len(rows)):
            for j in range(W):
                _run(rows[k], i, j, N, memory, weights, biases, offsets, tile, aside)
        for j in range(W):
            for k in range(len(pixels)):
                _run(pixels[k], i, j, N, memory, weights, biases, offsets, tile, aside)
            if i * W + j >= known:
                for k in range(len(head)):
                    _run(head[k], i, j, N, memory, weights, biases, offsets, tile, aside)
                for n in range(N):
                    u = uniforms[i * W + j - known, n]
                    l = memory[logits + n * levels : logits + (n + 1) * levels]
                    if levels == 1:
                        p, _ = sigmoid_pair(l[0])
                        x[i, j, n] = 1 if u < p else 0
                    else:
                        x[i, j, n] = _choice(l, e, u)
            here = image + i * image_row + j * image_column
            for n in range(N):
                memory[here + n] = colours[x[i, j, n]]


@part
def _run(line, i, j, N, memory, weights, biases, offsets, tile, aside):
    code, O, C = line[0], line[4], line[8]
    y = line[1] + i * line[2] + j * line[3]
    x = line[5] + i * line[6] + j * line[7]
    if code == AFFINE:
        w, b, first, T, blocks, width, tile_code = line[9], line[10], line[11], line[12], line[13], line[14], line[15]
        taps = offsets[first : first + T].ctypes.data
        for k in range(blocks):
            here = min(width, O - k * width)
            at_w, at_b = weights[w + k * T * C * width :].ctypes.data, biases[b + k * width :].ctypes.data
            n = 0
            while True:
                source = memory[x + n * C :].ctypes.data
                if here == width:
                    target = memory[y + n * O + k * width :].ctypes.data
                    pixel_sums(tile_code, tile, source, taps, T, C, C, at_w, at_b, target, O)
                else:
                    pixel_sums(tile_code, tile, source, taps, T, C, C, at_w, at_b, aside.ctypes.data, width)
                    for p in range(tile):
                        for o in range(here):
                            memory[y + (n + p) * O + k * width + o] = aside[p * width + o]
                if n + tile >= N:
                    break
                n = min(n + tile, N - tile)  # the last tile may overlap the one before
        return
    result, given = memory[y : y + N * O], memory[x : x + N * C]
    if code == RELU:
        for c in range(N * C):
            result[c] = max(given[c], f(0))
    elif code == ADD:
        z = line[9] + i * line[10] + j * line[11]
        other = memory[z : z + N * C]
        for c in range(N * C):
            result[c] = given[c] + other[c]
    else:
        for n in range(N):
            for c in range(O):
                s, _ = sigmoid_pair(given[n * C + O + c])
                result[n * O + c] = tanh(given[n * C + c]) * s


@inline
def _choice(l, e, u):
    most = largest(l)
    for k in range(l.size):
        e[k] = exp(l[k] - most)
    total = 0.0
    for k in range(l.size):
        total += e[k]
    so_far, k = np.float64(e[0]), 0
    while k < l.size - 1 and u * total >= so_far:
        k += 1
        so_far += e[k]
    return k
