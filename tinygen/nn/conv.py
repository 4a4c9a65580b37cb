r"""Convolutional layers for images (N, H, W, C), with weights (kh, kw, C_in, C_out) and square kernels.

The sizes, for kernel k, stride s and padding p, by which the two undo each other:

    Conv2d             H' = (H + 2p - k) // s + 1                     k = 3, p = 1: s = 1 keeps H, s = 2 halves it
    ConvTranspose2d    H' = (H - 1) s - 2p + k + output_padding       k = 4, p = 1, s = 2 doubles H

Fans count the terms of a sum, away from the borders. An output of a convolution adds k^2 C_in of them, but only one in s^2
of the outputs reaches a given input by a given tap, so the gradient of an input adds k^2 C_out / s^2. For the transposed
convolution it is the other way round.
"""

from ..autograd.tree import Array, module
from ..ops.convolution import affine_conv2d, conv2d, conv2d_of_relu, conv_transpose2d
from ..ops.elementwise import relu
from .doors import require_at_least_one, require_image
from .init import glorot_uniform, zeros


@module
class Conv2d:
    r"""y[n, i, j] = bias + \sum_{a, b} x[n, i s + a - p, j s + b - p] W[a, b], with zeros outside the image.

    x (N, H, W, C_in) -> y (N, H', W', C_out); the bias is (C_out,) or None.
    """

    weight: Array
    bias: Array
    stride: int
    padding: int

    @classmethod
    def init(cls, rng, c_in, c_out, kernel=3, stride=1, padding=None, bias=True, initialiser=glorot_uniform):
        """Weights by the initialiser, biases 0. The padding is (kernel - 1) // 2 unless told: H' = ceil(H / s) if k is odd.

        ValueError for a size below 1.
        """
        require_at_least_one("Conv2d", c_in=c_in, c_out=c_out, kernel=kernel, stride=stride)
        padding = (kernel - 1) // 2 if padding is None else padding
        weight = initialiser(rng, (kernel, kernel, c_in, c_out), kernel**2 * c_in, kernel**2 * c_out / stride**2)
        return cls(weight, zeros(rng, (c_out,)) if bias else None, stride, padding)

    def __call__(self, x, before=None):
        """The convolution of before(x), at the cost of that of x for ops.relu. ValueError unless x is (N, H, W, C_in)."""
        require_image("Conv2d", x, self.weight.shape[2])
        if before is relu and self.bias is not None:
            return conv2d_of_relu(x, self.weight, self.bias, stride=self.stride, padding=self.padding)
        x = x if before is None else before(x)
        if self.bias is None:
            return conv2d(x, self.weight, stride=self.stride, padding=self.padding)
        return affine_conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding)


@module
class ConvTranspose2d:
    """The transpose of a strided convolution: each input pixel paints a kernel, s pixels further on for each; overlaps add up.

    x (N, H, W, C_in) -> y (N, H', W', C_out); the bias is (C_out,) or None. A kernel that is a multiple of the stride covers
    every output equally often; others leave a checkerboard (Odena et al. 2016).
    """

    weight: Array
    bias: Array
    stride: int
    padding: int
    output_padding: int

    @classmethod
    def init(cls, rng, c_in, c_out, kernel=4, stride=2, padding=1, output_padding=0, bias=True, initialiser=glorot_uniform):
        """Weights by the initialiser, biases 0; as they stand, the defaults double height and width. ValueError as above."""
        require_at_least_one("ConvTranspose2d", c_in=c_in, c_out=c_out, kernel=kernel, stride=stride)
        weight = initialiser(rng, (kernel, kernel, c_in, c_out), kernel**2 * c_in / stride**2, kernel**2 * c_out)
        return cls(weight, zeros(rng, (c_out,)) if bias else None, stride, padding, output_padding)

    def __call__(self, x):
        """ValueError unless x is (N, H, W, C_in)."""
        require_image("ConvTranspose2d", x, self.weight.shape[2])
        y = conv_transpose2d(x, self.weight, stride=self.stride, padding=self.padding, output_padding=self.output_padding)
        return y if self.bias is None else y + self.bias
