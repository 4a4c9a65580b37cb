"""Networks written down as programs: that what is read off is what they compute, and that nothing is misread."""

import numpy as np
import pytest

from tinygen import Generator, kernels, ops
from tinygen.nn import Conv2d, MaskedConv2d, raster

SPEC = kernels.tiers("raster")["spec"]


def parts(rng=None):
    rng = rng or Generator(0)
    first, second = MaskedConv2d.init(rng, 1, 4, 3, "A"), MaskedConv2d.init(rng, 4, 4, (1, 3), "B")
    return first, second, Conv2d.init(rng, 4, 4, 1), Conv2d.init(rng, 4, 2, 1)


def read(pixels, head, n=2, rows=lambda x, convolve: ()):
    return raster.program(rows, pixels, head, np.zeros((n, 1, 1, 1), np.float32))


def test_instructions_are_those_of_the_network_in_their_order():
    first, second, link, last = parts()
    label = np.arange(8, dtype=np.float32).reshape(2, 1, 1, 4)
    program = read(
        lambda x, told, convolve: convolve(second, ops.relu(convolve(first, x))) + told[0] + label,
        lambda h: last(ops.relu(h)),
        rows=lambda x, convolve: (link(convolve(first, x)),),
    )
    assert [line[:3] for line in program.rows] == [("affine", 1, 0), ("affine", 2, 1)]
    assert [line[0] for line in program.pixels] == ["affine", "relu", "affine", "add", "add"]
    assert [line[0] for line in program.head] == ["relu", "affine"]
    assert program.rows[0][3] == ((-1, -1), (-1, 0), (-1, 1), (0, -1)) and program.pixels[2][3] == ((0, -1), (0, 0))
    np.testing.assert_array_equal(program.rows[0][4], [first.weight[tap] for tap in first.taps])
    np.testing.assert_array_equal(program.rows[1][5], link.bias)
    ((number, constant),) = program.constants.items()
    np.testing.assert_array_equal(constant, label.reshape(2, 4))
    assert program.pixels[4][3] == number and program.head[1][2] == program.head[0][1]


def test_a_relu_in_the_pass_of_a_convolution_is_an_instruction_of_its_own():
    first, second, link, last = parts()
    fused = read(
        lambda x, told, convolve: link(convolve(second, convolve(first, x), before=ops.relu), before=ops.relu),
        lambda h: last(h, before=ops.relu),
    )
    apart = read(
        lambda x, told, convolve: link(ops.relu(convolve(second, ops.relu(convolve(first, x))))), lambda h: last(ops.relu(h))
    )
    for ours, theirs in ((fused.pixels, apart.pixels), (fused.head, apart.head)):
        assert [line[:4] for line in ours] == [line[:4] for line in theirs] and [line[0] for line in ours][-2:] == [
            "relu",
            "affine",
        ]


@pytest.mark.parametrize(
    "pixels",
    [
        lambda first, link, x, convolve: ops.softplus(convolve(first, x)),
        lambda first, link, x, convolve: convolve(first, x) * 2,
        lambda first, link, x, convolve: convolve(first, x) + 1.0,
        lambda first, link, x, convolve: convolve(first, x) + np.ones(4, np.float32),  # not one for each image
        lambda first, link, x, convolve: first(x),  # it reads other pixels, and nobody was told
    ],
)
def test_what_the_kernel_does_not_know_is_not_written_down(pixels):
    first, _, link, last = parts()
    assert read(lambda x, told, convolve: pixels(first, link, x, convolve), last) is None
