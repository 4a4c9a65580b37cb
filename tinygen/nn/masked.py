r"""Masked convolutions: layers whose output at a pixel sees only pixels that come before it, row by row from the top left.

Kernels have odd sizes, and images keep theirs. A mask says which taps are live; for a 5 x 5 kernel,

        A              B          vertical A     vertical B      A or B of a 1 x 5 kernel: a horizontal stack
    # # # # #      # # # # #      # # # # #      # # # # #
    # # # # #      # # # # #      # # # # #      # # # # #
    # # . . .      # # # . .      . . . . .      # # # # #          # # . . .      # # # . .
    . . . . .      . . . . .      . . . . .      . . . . .
    . . . . .      . . . . .      . . . . .      . . . . .

A layer of kind A excludes the pixel itself (the vertical one, its whole row). Applied to the image it must come first, once:
what it puts out at a pixel knows nothing of that pixel, so layers of kind B, which include it, may follow in any number.
Source: van den Oord et al. 2016, *Pixel recurrent neural networks*, section 3.4, and *Conditional image generation with
PixelCNN decoders*, section 2.2. There the vertical stack is one row ahead, and shifted down where the horizontal one reads it;
here its first layer ends a row above instead.
"""

from functools import lru_cache

from ..autograd.tree import Array, module
from ..ops.elementwise import relu
from ..ops.masked_convolution import affine_masked_conv2d, masked_conv2d_of_relu
from .doors import require_image
from .init import glorot_uniform, zeros

MASKS = ("A", "B", "vertical A", "vertical B")


@lru_cache(None)
def live_taps(mask, kernel):
    """The live taps (a, b) of a mask for a kernel (kh, kw), in the order in which pixels come.

    ValueError for an unknown mask and for an even size, which has no middle.
    """
    kh, kw = kernel
    if mask not in MASKS:
        raise ValueError(f"live_taps: the masks are {', '.join(map(repr, MASKS))}; got {mask!r}")
    if kh < 1 or kw < 1 or kh % 2 == 0 or kw % 2 == 0:
        raise ValueError(f"live_taps: a {kh} x {kw} kernel has no tap in its middle; give odd sizes")
    middle_row, middle = kh // 2 * kw, kh // 2 * kw + kw // 2  # taps counted row by row
    live = {"A": middle, "B": middle + 1, "vertical A": middle_row, "vertical B": middle_row + kw}[mask]
    return tuple(divmod(t, kw) for t in range(live))  # [masked_convolutions.masks]


@module
class MaskedConv2d:
    r"""y[n, i, j] = bias + \sum_{(a, b) in taps} x[n, i + a - kh // 2, j + b - kw // 2] W[a, b], zeros outside the image.

    x (N, H, W, C_in) -> y (N, H, W, C_out); the bias is (C_out,). Dead weights are 0, are never read, and get no gradient.
    """

    weight: Array
    bias: Array
    mask: str

    @classmethod
    def init(cls, rng, c_in, c_out, kernel, mask, initialiser=glorot_uniform):
        """Live weights by the initialiser, whose fans count live taps only; biases 0. kernel: odd, or a pair (kh, kw)."""
        kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        taps = live_taps(mask, kernel)
        weight = zeros(rng, (*kernel, c_in, c_out))
        live = initialiser(rng, (len(taps), c_in, c_out), max(1, len(taps) * c_in), max(1, len(taps) * c_out))
        for (a, b), matrix in zip(taps, live):
            weight[a, b] = matrix
        return cls(weight, zeros(rng, (c_out,)), mask)

    @property
    def kernel(self):
        return self.weight.shape[:2]

    @property
    def taps(self):
        return live_taps(self.mask, self.kernel)

    def __call__(self, x, before=None):
        """The convolution of before(x), at the cost of that of x for ops.relu. ValueError unless x is (N, H, W, C_in)."""
        require_image("MaskedConv2d", x, self.weight.shape[2])
        padding = tuple(k // 2 for k in self.kernel)
        if before is relu:
            return masked_conv2d_of_relu(x, self.weight, self.bias, taps=self.taps, padding=padding)
        return self._convolve(x if before is None else before(x), padding)

    def on_window(self, x):
        """The same without padding, (N, H, W, C_in) -> (N, H - kh + 1, W - kw + 1, C_out): x holds what lies around, too."""
        return self._convolve(x, 0)

    def _convolve(self, x, padding):
        # [masked_convolutions.dead_taps]
        return affine_masked_conv2d(x, self.weight, self.bias, taps=self.taps, padding=padding)
