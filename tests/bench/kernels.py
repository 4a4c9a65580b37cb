"""Single operations: in tinygen's words and, beside them, in PyTorch's. What makes a case of them is in operations.py."""

from dataclasses import replace

import numpy as np

from tinygen import ops
from tinygen.nn.masked import live_taps
from tinygen.ops.convolution import conv2d, conv_transpose2d
from tinygen.ops.masked_convolution import masked_conv2d

from .operations import adam, copy, normals, operation

IMAGE, WEIGHT = (0, 3, 1, 2), (3, 2, 0, 1)  # PyTorch's axes in terms of ours: (N, C, H, W), and (O, C, kh, kw)
WEIGHT_TRANSPOSED = (2, 3, 0, 1)  # (C, O, kh, kw)

ON_A_GPU = 16  # times as many images or numbers: a processor's would not keep it busy


def roofs(conditions):
    """What says how fast the device is: products, numbers that are moved, and on a processor what PyTorch is fastest at."""
    if conditions.quick:
        return [product(64), copy(1000)]
    if conditions.device == "gpu":
        return [product(8192), copy(2**27)]
    return [product(2048), copy(2**24), convolution(32, 14, 128, 128, forward_only=True, bars=(0.95, 1.6))]


def cases(conditions):
    if conditions.device == "cpu":
        return _cases(conditions, lambda n: 2 if conditions.quick else n)
    larger = _cases(conditions, lambda n: 2 if conditions.quick else ON_A_GPU * n)
    return [replace(case, bars=None) for case in larger]  # bars are those of processors


def _cases(conditions, few):
    """`few` says how many of n there are."""
    yield from roofs(conditions)[:2]
    for size, channels in (28, 32), (28, 64), (14, 64), (14, 128), (7, 128):
        yield convolution(few(32), size, channels, channels, forward_only=True, bars=(0.95, 1.6))
        yield convolution(few(32), size, channels, channels, bars=(0.9, 1.35))
    yield convolution(few(32), 28, 32, 64, stride=2, bars=(0.9, 1.25))
    yield convolution(few(32), 14, 64, 128, kernel=4, stride=2, bars=(0.9, 1.25))
    yield convolution(few(32), 28, 64, 64, kernel=1, bars=(0.9, 1.25))
    yield convolution(few(32), 14, 128, 128, kernel=1, bars=(0.9, 1.25))
    yield transposed(few(64), 7, 128, 64, bars=(0.9, 1.25))
    yield transposed(few(64), 14, 64, 32, bars=(0.9, 1.25))
    yield convolution(few(32), 28, 1, 32, first=True, bars=(2, 4))
    yield convolution(few(32), 28, 32, 1, bars=(2, 4))
    for kernel, bars in (3, (1.4, 1.8)), (5, (1.5, 1.85)), (7, (1.5, 1.85)):
        yield masked(few(32), 28, 64, kernel, bars=bars)
    for N, heads, T, D in (16, 4, 256, 32), (8, 8, 512, 64), (4, 4, 1024, 32):
        yield attention(few(N), heads, T // 32 if conditions.quick else T, D, bars=(1.3, 2.2))
    for f, moonshot in ("exp", 3.9), ("tanh", 6.6), ("sigmoid", 1.55), ("silu", 1.55):
        yield elementwise(f, few(1_000_000), bars=(1.0, moonshot))
    yield elementwise("silu", few(100_000), gradient=True, bars=(1.0, 1.55))
    for f in "gelu", "softplus":
        yield elementwise(f, few(1_000_000), gradient=True)
    yield softmax(few(4096), 256)
    yield cross_entropy(few(4096), 256, bars=(1.0, 1.5))
    yield bits_cross_entropy(few(1_000_000), bars=(1.0, 1.5))
    yield group_norm(few(32), 28, 64, bars=(1.0, 1.5))
    yield group_norm(few(32), 28, 64, activation="silu")
    yield layer_norm(few(4096), 256)
    yield linear(few(128), 784, 400, "relu")
    yield reparameterisation(few(4096), 64)
    yield coupling(few(4096), 64)
    yield normals(few(1_000_000))
    yield adam([(64, 64)] * 3, bars=(1.3, 2.5))
    yield adam([(784, 400), (400,), (400, 40), (40,), (20, 400), (400,), (400, 784), (784,)], bars=(1.3, 2.5))
    yield adam([(1000, 1000)], bars=(1.3, 2.5))


# Products and convolutions


def product(n, rows=None):
    return operation(
        f"product of {rows or n} x {n} and {n} x {n} matrices" if rows else f"product of {n} x {n} matrices",
        arrays=lambda normal: {"a": normal((rows or n, n)), "b": normal((n, n))},
        ours=lambda a, b: ops.matmul(a, b),
        theirs=lambda F, a, b: a @ b,
        products=(rows or n) * n**2,
    )


def convolution(N, size, C, O, kernel=3, stride=1, forward_only=False, first=False, bars=None):
    padding = (kernel - 1) // 2
    rows = (size + 2 * padding - kernel) // stride + 1
    wrt = () if forward_only else ("w",) if first else ("x", "w")  # nobody asks for the gradient of the data
    products = N * rows**2 * kernel**2 * C * O
    return operation(
        f"conv {kernel}x{kernel} stride {stride}, {size}x{size}x{C} -> {O}, {'forward' if forward_only else 'and gradients'}",
        arrays=lambda normal: {"x": normal((N, size, size, C)), "w": normal((kernel, kernel, C, O))},
        ours=lambda x, w: conv2d(x, w, stride=stride, padding=padding),
        theirs=lambda F, x, w: F.conv2d(x, w, stride=stride, padding=padding),
        axes={"x": IMAGE, "w": WEIGHT, "y": IMAGE},
        wrt=wrt,
        products=products * (1 + len(wrt)),
        bars=bars,
    )


def transposed(N, size, C, O, bars=None):
    return operation(
        f"conv transposed 4x4 stride 2, {size}x{size}x{C} -> {O}, and gradients",
        arrays=lambda normal: {"x": normal((N, size, size, C)), "w": normal((4, 4, C, O))},
        ours=lambda x, w: conv_transpose2d(x, w, stride=2, padding=1),
        theirs=lambda F, x, w: F.conv_transpose2d(x, w, stride=2, padding=1),
        axes={"x": IMAGE, "w": WEIGHT_TRANSPOSED, "y": IMAGE},
        wrt=("x", "w"),
        products=3 * N * size**2 * 16 * C * O,
        bars=bars,
    )


def masked(N, size, C, kernel, bars=None):
    """PyTorch has no masked convolution: one multiplies the weights by the mask."""
    taps = live_taps("B", (kernel, kernel))
    mask = np.zeros((kernel, kernel), np.float32)
    mask[tuple(np.transpose(taps))] = 1
    return operation(
        f"masked conv {kernel}x{kernel}, {size}x{size}x{C} -> {C}, and gradients",
        arrays=lambda normal: {"x": normal((N, size, size, C)), "w": normal((kernel, kernel, C, C)), "mask": mask},
        ours=lambda x, w, mask: masked_conv2d(x, w, taps=taps, padding=kernel // 2),
        theirs=lambda F, x, w, mask: F.conv2d(x, w * mask, padding=kernel // 2),
        axes={"x": IMAGE, "w": WEIGHT, "y": IMAGE},
        wrt=("x", "w"),
        products=3 * N * size**2 * len(taps) * C * C,
        bars=bars,
    )


def attention(N, heads, T, D, bars=None):
    shape = (N, heads, T, D)
    return operation(
        f"causal attention, {heads} heads, T = {T}, D = {D}, and gradients",
        arrays=lambda normal: {name: normal(shape) for name in "qkv"},
        ours=lambda q, k, v: ops.attention(q, k, v, causal=True),
        theirs=lambda F, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        wrt=("q", "k", "v"),
        products=7 * N * heads * T * (T + 1) / 2 * D,  # two products forward and five backward, and half of each
        bars=bars,
    )


# Passes over numbers, of 4 bytes each


def elementwise(f, n, gradient=False, bars=None):
    """f is the function's name in both libraries."""
    return operation(
        f"{f}, {n:,} numbers{', and gradient' if gradient else ''}",
        arrays=lambda normal: {"x": normal((n,))},
        ours=lambda x: getattr(ops, f)(x),
        theirs=lambda F, x: getattr(x, f)() if hasattr(x, f) else getattr(F, f)(x),
        wrt=("x",) if gradient else (),
        bytes=4 * n * (5 if gradient else 2),  # x -> y, and x, g -> the gradient
        bars=bars,
    )


def softmax(rows, classes, bars=None):
    return operation(
        f"softmax of {classes}, {rows:,} rows, and gradient",
        arrays=lambda normal: {"x": normal((rows, classes))},
        ours=lambda x: ops.softmax(x),
        theirs=lambda F, x: F.softmax(x, dim=-1),
        wrt=("x",),
        bytes=4 * rows * classes * 5,  # x -> y, and y, g -> the gradient
        bars=bars,
    )


def cross_entropy(rows, classes, bars=None):
    return operation(
        f"softmax cross-entropy of {classes}, {rows:,} rows, and gradient",
        arrays=lambda normal: {"x": normal((rows, classes)), "k": np.arange(rows) % classes},
        ours=lambda x, k: -ops.categorical_log_prob(k, x),
        theirs=lambda F, x, k: F.cross_entropy(x, k, reduction="none"),
        wrt=("x",),
        bytes=4 * rows * classes * 3,  # x -> y, which is short, and x -> the gradient
        bars=bars,
    )


def bits_cross_entropy(n, bars=None):
    return operation(
        f"sigmoid cross-entropy, {n:,} numbers, and gradient",
        arrays=lambda normal: {"x": normal((n,)), "bits": (normal((n,)) > 0).astype(np.float32)},
        ours=lambda x, bits: -ops.bernoulli_log_prob(bits, x),
        theirs=lambda F, x, bits: F.binary_cross_entropy_with_logits(x, bits, reduction="none"),
        wrt=("x",),
        bytes=4 * n * 7,  # x, bits -> y, and x, bits, g -> the gradient
        bars=bars,
    )


def group_norm(N, size, C, groups=8, activation=None, bars=None):
    def ours(x, affine):
        f = activation and getattr(ops, activation)
        y = ops.group_norm(ops.reshape(x, shape=(N, size * size, C)), affine, groups=groups, activation=f)
        return ops.reshape(y, shape=x.shape)

    def theirs(F, x, affine):
        y = F.group_norm(x, groups, *affine)
        return getattr(F, activation)(y) if activation else y

    return operation(
        f"group norm{f' with {activation}' if activation else ''}, {size}x{size}x{C}, {groups} groups, and gradients",
        arrays=lambda normal: {"x": normal((N, size, size, C)), "affine": normal((2, C))},
        ours=ours,
        theirs=theirs,
        axes={"x": IMAGE, "y": IMAGE},
        wrt=("x", "affine"),
        bytes=4 * N * size**2 * C * 5,  # x -> y, and x, g -> the gradient
        bars=bars,
    )


def layer_norm(rows, width):
    return operation(
        f"layer norm of {width}, {rows:,} rows, and gradients",
        arrays=lambda normal: {"x": normal((rows, width)), "affine": normal((2, width))},
        ours=lambda x, affine: ops.layer_norm(x, affine),
        theirs=lambda F, x, affine: F.layer_norm(x, (width,), *affine),
        wrt=("x", "affine"),
        bytes=4 * rows * width * 5,  # x -> y, and x, g -> the gradient
    )


# What models fuse


def linear(rows, inputs, outputs, activation):
    return operation(
        f"linear {inputs} -> {outputs} with {activation}, {rows} rows, and gradients",
        arrays=lambda normal: {"x": normal((rows, inputs)), "w": normal((inputs, outputs)), "b": normal((outputs,))},
        ours=lambda x, w, b: ops.affine(x, w, b, getattr(ops, activation)),
        theirs=lambda F, x, w, b: getattr(F, activation)(F.linear(x, w, b)),
        axes={"w": (1, 0)},
        wrt=("x", "w", "b"),
        products=3 * rows * inputs * outputs,
    )


def reparameterisation(rows, latent):
    """A sample of N(mean, exp(log_var)) and its divergence from N(0, 1), of what an encoder says."""

    def theirs(F, parameters, eps):
        mean, log_var = parameters.chunk(2, 1)
        return mean + (0.5 * log_var).exp() * eps, 0.5 * (mean**2 + log_var.exp() - 1 - log_var)

    return operation(
        f"reparameterisation and KL, {latent} dimensions, {rows:,} rows, and gradients",
        arrays=lambda normal: {"parameters": normal((rows, 2 * latent)), "eps": normal((rows, latent))},
        ours=lambda parameters, eps: ops.reparameterise(*ops.split(parameters, 2), eps),
        theirs=theirs,
        wrt=("parameters",),
        gives=("z", "KL"),
        bytes=4 * rows * latent * 12,  # m, l, eps -> z, KL, and m, l, eps, two g -> two gradients
    )


def coupling(rows, C):
    """The affine map of a coupling layer: what the network says is (a, t)."""

    def theirs(F, x, parameters, scale):
        a, t = parameters.chunk(2, 1)
        s = scale * a.tanh()
        return x * s.exp() + t, s

    return operation(
        f"affine coupling, {C} dimensions, {rows:,} rows, and gradients",
        arrays=lambda normal: {"x": normal((rows, C)), "parameters": normal((rows, 2 * C)), "scale": normal((C,))},
        ours=lambda x, parameters, scale: ops.affine_coupling(x, parameters, scale),
        theirs=theirs,
        wrt=("x", "parameters", "scale"),
        gives=("z", "s"),
        bytes=4 * rows * C * 13,  # x, a, t -> z, s, and x, a, t, two g -> three gradients
    )
