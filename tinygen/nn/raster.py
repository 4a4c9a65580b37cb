"""A network of masked convolutions written down as a program for kernels/raster, which draws images pixel by pixel.

Nobody has to say twice what the network is: it is run once, on images of a single pixel, and every primitive that computes
is written down. A layer that remembers the pixels before, a masked convolution, is known by its weights.
"""

import numpy as np

from .. import kernels
from ..autograd.core import observe
from ..autograd.reverse import vjp
from ..backend import array_module
from ..ops.convolution import affine_conv2d
from ..ops.elementwise import relu


def program(rows, pixels, head, x):
    """The program of head(pixels(x, rows(x))), None where it has a primitive that the kernel does not know.

    rows(x, convolve) -> told, pixels(x, told, convolve) -> h, head(h) -> logits, in which convolve(layer, x) applies a masked
    convolution; x (N, 1, 1, 1) is float32.
    """
    writer = _Writer(x)
    try:
        with observe(writer.write):
            vjp(writer.running(rows, pixels, head), x)
    except _Unknown:
        return None
    return kernels.raster.Program(*writer.parts, writer.constants)


class _Unknown(Exception):
    """A primitive that has no instruction."""


class _Writer:
    def __init__(self, image):
        self.image, self.layers = image, {}
        self.values, self.kept = {}, []  # numbers by the identity of arrays, which are kept so that it stays theirs
        self.parts, self.constants = ([], [], []), {}
        self._name(image)

    def running(self, rows, pixels, head):
        def run(x):
            self.part = self.parts[0]
            told = rows(x, self._convolve)
            self.part = self.parts[1]
            h = pixels(x, told, self._convolve)
            self.part = self.parts[2]
            return head(h)

        return run

    def _convolve(self, layer, x, before=None):
        self.layers[id(layer.weight)] = layer
        return layer(x, before)

    def _name(self, array):
        self.kept.append(array)
        return self.values.setdefault(id(array), len(self.values))

    def _value(self, x):
        """The number of a value; an array that the network did not make from the image is the same at every pixel."""
        if id(x) not in self.values:
            if getattr(x, "shape", ())[:-1] != self.image.shape[:-1]:
                raise _Unknown
            self.constants[self._name(x)] = x.reshape(len(x), -1).astype(np.float32, copy=False)
        return self.values[id(x)]

    def write(self, primitive, args, y):
        """What `observe` calls for each primitive that computes."""
        name = primitive.__name__
        if not any(id(a) in self.values for a in args):
            return  # it made a constant
        if name in ("conv2d_of_relu", "masked_conv2d_of_relu"):
            x, w, b = args
            before = array_module(x).maximum(x, 0)  # an instruction of its own
            self.write(relu, (x,), before)
            self.write(affine_conv2d, (before, w, b), y)
        elif name in ("affine_conv2d", "affine_masked_conv2d"):
            x, w, b = args
            layer = self.layers.get(id(w))
            places = layer.taps if layer else ((0, 0),)
            if (layer is None and w.shape[:2] != (1, 1)) or not places:
                raise _Unknown
            middle = w.shape[0] // 2, w.shape[1] // 2
            taps = tuple((a - middle[0], b - middle[1]) for a, b in places)
            matrices = array_module(w).stack([w[tap] for tap in places])
            self.part.append(("affine", self._name(y), self._value(x), taps, matrices, b.copy()))
        elif name in ("relu", "gate", "add"):
            operands = [self._value(a) for a in args]
            if y.shape[:-1] != self.image.shape[:-1]:
                raise _Unknown
            self.part.append((name, self._name(y), *operands))
        else:
            raise _Unknown
