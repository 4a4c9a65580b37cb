"""What holds of every kernel on the CPU: any layout of arguments, any number of threads, and nothing infinite is hidden.

A new kernel needs a line in CASES: "kernel.function": draw, n -> its arguments, of a size that n says.
"""

import inspect

import numpy as np
import pytest

from tinygen import kernels
from tinygen.kernels import threads

SIZES = 1, 17  # with the second, float32 goes through tiles
LIVE = (0, 0), (0, 1), (1, 0)
STRIDE, PADDING, KERNEL, SIZE = (2, 1), (1, 1), (3, 2), (5, 4)
BY_RESULT, BY_INPUT = ("relu", "leaky_relu", "tanh", "sigmoid"), ("softplus", "silu", "gelu")
MAY_SPREAD = "conv2d", "masked_conv2d", "attention"  # zeros around an image, and weights of 0, times NaN are NaN


class Draw:
    """draw(*shape) is a normal array of that shape."""

    def __init__(self, dtype):
        self.rng, self.dtype = np.random.default_rng(0), dtype

    def __call__(self, *shape):
        return self.rng.normal(size=shape).astype(self.dtype)

    def positive(self, *shape):
        return (self.rng.random(shape) + 0.1).astype(self.dtype)

    def choices(self, n, *shape):
        return self.rng.integers(0, n, shape)


def attention(draw, n):
    return draw(2, 2, n, n), draw(2, 2, n + 1, n), draw(2, 2, n + 1, n + 2)


def attention_backward(draw, n):
    q, k, v = attention(draw, n)
    return q, k, v, *kernels.attention.spec.forward(q, k, v, True, None), draw(2, 2, n, n + 2), draw(2, 2, n), True, None


def convolution(draw, n):
    """x, w, g, bias, x again, and what is the same for all."""
    rows = kernels.conv2d.spec.output_size(SIZE, KERNEL, STRIDE, PADDING)
    return draw(2, *SIZE, n), draw(*KERNEL, n, n + 1), draw(2, *rows, n + 1), draw(n + 1)


def order_of_three(draw, n):
    return draw(n, n + 1), draw(n, n + 1), draw(n, n + 1)


def normalisation(draw, n, activation, groups):
    """Of groups of n channels; of one, whole positions."""
    return draw(2, 1 if groups == 1 else 3, groups * n), draw(2, groups * n), groups, 1e-3, activation


def normalisation_backward(draw, n, *rest):
    x, *others = normalisation(draw, n, *rest)
    return draw(*x.shape), x, *others


def select(make, *places, rest=()):
    """Some of the arrays that `make` makes."""
    return lambda draw, n: (*(make(draw, n)[i] for i in places), *rest)


CASES = {
    **{f"activations.{name}": lambda draw, n: (draw(n, n + 1),) for name in ("sigmoid", "softplus", "silu", "gelu")},
    **{
        f"activations.{name}_gradient": lambda draw, n: (draw(n, n + 1), draw(n, n + 1))
        for name in ("relu", "tanh", "sigmoid", "softplus", "silu", "gelu")
    },
    "activations.leaky_relu": lambda draw, n: (draw(n, n + 1), 0.2),
    "activations.leaky_relu_gradient": lambda draw, n: (draw(n, n + 1), draw(n, n + 1), 0.2),
    "adam.update": lambda draw, n: (*order_of_three(draw, n), draw.positive(n, n + 1), 3, 0.01, 0.9, 0.999, 1e-8, 0.1),
    "attention.forward": lambda draw, n: (*attention(draw, n), True, None),
    "attention.forward, masked": lambda draw, n: (*attention(draw, n), False, draw.rng.random((2, n + 1)) < 0.7),
    "attention.backward": attention_backward,
    "bernoulli.log_prob": lambda draw, n: (draw.positive(n, 3), draw(2, n, 3)),
    "bernoulli.residual": lambda draw, n: (draw.positive(n, 3), draw(2, n, 3)),
    **{f"bias.forward, {f}": lambda draw, n, f=f: (draw(n + 1, n), f) for f in BY_RESULT + BY_INPUT},
    **{f"bias.backward, {f}": lambda draw, n, f=f: (draw(n, n), draw(n, n), f) for f in BY_RESULT},
    **{f"bias.backward, {f}": lambda draw, n, f=f: (draw(n, n), draw(n + 1, n), f) for f in BY_INPUT},
    "categorical.log_prob": lambda draw, n: (draw.choices(n + 1, 2, n), draw(2, n, n + 1)),
    "categorical.log_prob_gradient": lambda draw, n: (draw(2, n), draw.choices(n + 1, 2, n), draw(2, n, n + 1)),
    "conv2d.forward": lambda draw, n: (*convolution(draw, n)[:2], STRIDE, PADDING, draw(n + 1)),
    "conv2d.input_gradient": select(convolution, 2, 1, rest=(SIZE, STRIDE, PADDING)),
    "conv2d.weight_gradient": select(convolution, 0, 2, rest=(KERNEL, STRIDE, PADDING)),
    "coupling.forward": lambda draw, n: (draw(3, n), draw(3, 2 * n), draw(n)),
    "coupling.backward": lambda draw, n: (draw(2, 3, n), draw(3, n), draw(3, 2 * n), draw(n)),
    "erf.forward": lambda draw, n: (draw(n, n + 1),),
    "gate.forward": lambda draw, n: (draw(3, 2 * n),),
    "gate.backward": lambda draw, n: (draw(3, n), draw(3, 2 * n)),
    **{
        f"group_norm.{name}, {f}, {groups}": lambda draw, n, make=make, f=f, groups=groups: make(draw, n, f, groups)
        for name, make in (("forward", normalisation), ("backward", normalisation_backward))
        for f in (None, "relu", "silu")
        for groups in (1, 2)
    },
    "masked_conv2d.forward": lambda draw, n: (draw(2, 4, 5, n), draw(3, 3, n, n + 1), LIVE, (1, 1), draw(n + 1)),
    "masked_conv2d.input_gradient": lambda draw, n: (draw(2, 4, 5, n + 1), draw(3, 3, n, n + 1), LIVE, (4, 5), (1, 1)),
    "masked_conv2d.weight_gradient": lambda draw, n: (draw(2, 4, 5, n), draw(2, 4, 5, n + 1), LIVE, (3, 3), (1, 1)),
    "matmul.product": lambda draw, n: (draw(2, n, n + 1), draw(n + 1, n + 2)),
    "reparameterisation.forward": order_of_three,
    "reparameterisation.backward": lambda draw, n: (draw(2, n, n + 1), *order_of_three(draw, n)),
    "softmax.softmax": lambda draw, n: (draw(2, n, n + 1),),
    "softmax.softmax_gradient": lambda draw, n: (draw(2, n, n + 1), draw.positive(2, n, n + 1)),
    "softmax.log_softmax": lambda draw, n: (draw(2, n, n + 1),),
    "softmax.log_softmax_gradient": lambda draw, n: (draw(2, n, n + 1), -draw.positive(2, n, n + 1)),
}
NOT_DEFINED = {  # (case, argument, value): the mean of squares is not negative, log-probabilities not positive
    ("adam.update", 3, -np.inf),
    ("softmax.log_softmax_gradient", 1, np.inf),
    # queries with scores of -inf alone, and row statistics of -inf, are as if nothing were seen
    ("attention.forward", 0, np.inf),
    ("attention.backward", 4, -np.inf),
}
OWN_TESTS = "random", "raster"  # which fill an array that they are given, and draw
every_case = pytest.mark.parametrize("name", CASES)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def run(name, arguments, tier=None):
    """The results as a tuple; by the definition, if tier is "spec"."""
    kernel, function = name.partition(",")[0].split(".")
    module = getattr(kernels, kernel)
    y = getattr(module.spec if tier else module, function)(*arguments)
    return y if isinstance(y, tuple) else (y,)


def each_array(f, arguments):
    return tuple(f(a) if isinstance(a, np.ndarray) else a for a in arguments)


def test_no_kernel_is_missing_here():
    folders = {name: getattr(kernels, name) for name in kernels.__all__ if hasattr(getattr(kernels, name), "spec")}
    public = {
        f"{name}.{function}"
        for name, module in folders.items()
        for function, value in vars(module).items()
        if name not in OWN_TESTS and inspect.isfunction(value) and hasattr(value, "__wrapped__")
    }
    assert public == {name.partition(",")[0] for name in CASES} and len(folders) > len(OWN_TESTS)


def unaligned(a):
    copy = np.frombuffer(bytearray(a.nbytes + 1), a.dtype, a.size, offset=1).reshape(a.shape)
    copy[...] = a
    return copy


LAYOUTS = {
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "sliced": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: np.ascontiguousarray(np.flip(a))[(slice(None, None, -1),) * a.ndim],
    "read-only": lambda a: np.broadcast_to(a, (2, *a.shape))[1],
    "not aligned": unaligned,
    "the other order of bytes": lambda a: a.astype(a.dtype.newbyteorder()),
}


@every_case
@every_dtype
@pytest.mark.parametrize("n", SIZES)
def test_arrays_of_any_layout_are_taken_and_left_as_they_are(name, dtype, n):
    arguments = CASES[name](Draw(dtype), n)
    expected = run(name, arguments)
    for layout, lay in LAYOUTS.items():
        laid_out = each_array(lay, arguments)
        for a, b in zip(run(name, laid_out), expected, strict=True):
            assert a.shape == b.shape and a.dtype.newbyteorder("=") == b.dtype, layout
            np.testing.assert_allclose(a, b, rtol=100 * np.finfo(dtype).eps, atol=100 * np.finfo(dtype).eps, err_msg=layout)
        for a, b in zip(laid_out, arguments):
            if isinstance(a, np.ndarray):
                np.testing.assert_array_equal(a, b, err_msg=layout)


@every_case
@every_dtype
def test_the_number_of_threads_changes_no_bit(name, dtype, monkeypatch):
    """Though all that can be divided is, into parts of odd lengths."""
    monkeypatch.setattr(threads, "ENOUGH", 1)
    arguments, found = CASES[name](Draw(dtype), 43), set()
    for size in (1, 2, 3, 7):
        monkeypatch.setattr(threads, "_pool", threads._Pool(size))
        found.add(b"".join(a.tobytes() for a in run(name, arguments)))
    assert len(found) == 1


@every_case
@every_dtype
@pytest.mark.parametrize("n", [3, 33])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_as_in_the_definition(name, dtype, n, value):
    """One number of an argument; where it may spread, it is at least not hidden."""
    arguments = CASES[name](Draw(dtype), n)
    for i, a in enumerate(arguments):
        if not isinstance(a, np.ndarray) or a.dtype.kind != "f" or (name, i, value) in NOT_DEFINED:
            continue
        spoilt = a.copy()
        spoilt.flat[a.size // 2] = value
        given = (*arguments[:i], spoilt, *arguments[i + 1 :])
        with np.errstate(all="ignore"):
            seen, right = run(name, given), run(name, each_array(widen, given), "spec")
        for s, r in zip(seen, right, strict=True):
            if name.partition(".")[0] in MAY_SPREAD:
                assert not np.isfinite(s[~np.isfinite(r)]).any(), i
            else:
                np.testing.assert_array_equal(np.where(np.isfinite(s), 0, s), np.where(np.isfinite(r), 0, r), err_msg=str(i))


@every_dtype
@pytest.mark.parametrize("M, K, N", [(20, 30, 40), (300, 60, 2500), (2500, 60, 300)])
def test_a_product_is_written_where_it_is_told_to(dtype, M, K, N):
    """Also between other numbers, by tiles and by BLAS, in one piece and in several."""
    draw = Draw(dtype)
    a, b, around = draw(M, K), draw(K, N), np.full((M, 2 * N), 7, dtype)
    out = around[:, ::2]
    assert kernels.matmul.product(a, b, out) is out
    np.testing.assert_allclose(out, a.astype(np.float64) @ b, rtol=1e-4, atol=1e-4)
    assert (around[:, 1::2] == 7).all()


def widen(a):
    return a.astype(np.float64) if a.dtype.kind == "f" else a
