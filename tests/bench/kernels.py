"""Single operations: in tinygen's words and, beside them, in PyTorch's.

Arrays are drawn in our layout from one seed, and handed to PyTorch in its own. What is differentiated is differentiated as a
user would: by `vjp`, and by torch.autograd.
"""

import numpy as np

from tinygen import Generator, ops, vjp
from tinygen.nn.masked import live_taps
from tinygen.ops.convolution import conv2d, conv_transpose2d
from tinygen.ops.masked_convolution import masked_conv2d
from tinygen.optim import Adam

from .contest import Case

IMAGE, WEIGHT = (0, 3, 1, 2), (3, 2, 0, 1)  # PyTorch's axes in terms of ours: (N, C, H, W), and (O, C, kh, kw)
WEIGHT_TRANSPOSED = (2, 3, 0, 1)  # (C, O, kh, kw)


def roofs(quick=False):
    """What libraries are fastest at: how fast this machine is. All are cases of the table."""
    return [product(64)] if quick else [product(2048), convolution(32, 14, 128, 128, forward_only=True, bars=(0.95, 1.6))]


def cases(quick=False):
    few = (lambda n: 2) if quick else (lambda n: n)
    yield roofs(quick)[0]
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
        yield attention(few(N), heads, T // 32 if quick else T, D, bars=(1.3, 2.2))
    for f, moonshot in ("exp", 3.9), ("tanh", 6.6), ("sigmoid", 1.55), ("silu", 1.55):
        yield elementwise(f, few(1_000_000), bars=(1.0, moonshot))
    yield elementwise("silu", few(100_000), gradient=True, bars=(1.0, 1.55))
    yield softmax(few(4096), 256)
    yield cross_entropy(few(4096), 256, bars=(1.0, 1.5))
    yield bits_cross_entropy(few(1_000_000), bars=(1.0, 1.5))
    yield group_norm(few(32), 28, 64, bars=(1.0, 1.5))
    yield adam([(64, 64)] * 3, bars=(1.3, 2.5))
    yield adam([(784, 400), (400,), (400, 40), (40,), (20, 400), (400,), (400, 784), (784,)], bars=(1.3, 2.5))
    yield adam([(1000, 1000)], bars=(1.3, 2.5))


# Products and convolutions


def product(n, rows=None):
    return _operation(
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
    return _operation(
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
    return _operation(
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
    return _operation(
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
    return _operation(
        f"causal attention, {heads} heads, T = {T}, D = {D}, and gradients",
        arrays=lambda normal: {name: normal(shape) for name in "qkv"},
        ours=lambda q, k, v: ops.attention(q, k, v, causal=True),
        theirs=lambda F, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        wrt=("q", "k", "v"),
        products=7 * N * heads * T * (T + 1) / 2 * D,  # two products forward and five backward, and half of each
        bars=bars,
    )


# Passes over numbers


def elementwise(f, n, gradient=False, bars=None):
    """f is the function's name in both libraries."""
    return _operation(
        f"{f}, {n:,} numbers{', and gradient' if gradient else ''}",
        arrays=lambda normal: {"x": normal((n,))},
        ours=lambda x: getattr(ops, f)(x),
        theirs=lambda F, x: F.silu(x) if f == "silu" else getattr(x, f)(),
        wrt=("x",) if gradient else (),
        bars=bars,
    )


def softmax(rows, classes, bars=None):
    return _operation(
        f"softmax of {classes}, {rows:,} rows, and gradient",
        arrays=lambda normal: {"x": normal((rows, classes))},
        ours=lambda x: ops.softmax(x),
        theirs=lambda F, x: F.softmax(x, dim=-1),
        wrt=("x",),
        bars=bars,
    )


def cross_entropy(rows, classes, bars=None):
    return _operation(
        f"softmax cross-entropy of {classes}, {rows:,} rows, and gradient",
        arrays=lambda normal: {"x": normal((rows, classes)), "k": np.arange(rows) % classes},
        ours=lambda x, k: -ops.categorical_log_prob(k, x),
        theirs=lambda F, x, k: F.cross_entropy(x, k, reduction="none"),
        wrt=("x",),
        bars=bars,
    )


def bits_cross_entropy(n, bars=None):
    return _operation(
        f"sigmoid cross-entropy, {n:,} numbers, and gradient",
        arrays=lambda normal: {"x": normal((n,)), "bits": (normal((n,)) > 0).astype(np.float32)},
        ours=lambda x, bits: -ops.bernoulli_log_prob(bits, x),
        theirs=lambda F, x, bits: F.binary_cross_entropy_with_logits(x, bits, reduction="none"),
        wrt=("x",),
        bars=bars,
    )


def group_norm(N, size, C, groups=8, bars=None):
    def ours(x, affine):
        y = ops.group_norm(ops.reshape(x, shape=(N, size * size, C)), affine, groups=groups)
        return ops.reshape(y, shape=x.shape)

    return _operation(
        f"group norm, {size}x{size}x{C}, {groups} groups, and gradients",
        arrays=lambda normal: {"x": normal((N, size, size, C)), "affine": normal((2, C))},
        ours=ours,
        theirs=lambda F, x, affine: F.group_norm(x, groups, *affine),
        axes={"x": IMAGE, "y": IMAGE},
        wrt=("x", "affine"),
        bars=bars,
    )


def _operation(name, arrays, ours, theirs, axes=None, wrt=(), products=None, bars=None):
    """A case of y = ours(**arrays) and, for a cotangent of y, the gradients of the arrays that `wrt` names.

    `theirs` is given torch.nn.functional and tensors; `axes` says how PyTorch orders the axes of an array, if not as we do.
    """
    axes = axes or {}

    def tinygen(_):
        rng = Generator(0)
        given = arrays(rng.normal)
        g = rng.normal(ours(**given).shape)

        def run():
            if not wrt:
                return [ours(**given)]
            y, pullback = vjp(lambda *chosen: ours(**{**given, **dict(zip(wrt, chosen))}), *(given[name] for name in wrt))
            return [y, *pullback(g)]

        return run, lambda: dict(zip(("y", *wrt), run()))

    def torch(contender):
        import torch

        def in_their_layout(name, x):
            x = torch.from_numpy(x)
            if name in axes:
                layout = torch.channels_last if contender.channels_last else torch.contiguous_format
                x = x.permute(axes[name]).contiguous(memory_format=layout)
            return x

        def run():
            with torch.set_grad_enabled(bool(wrt)):
                y = theirs(torch.nn.functional, **given)
            return [y, *(torch.autograd.grad(y, [given[name] for name in wrt], g) if wrt else ())]

        def check():
            return {name: in_our_layout(name, x.detach().numpy()) for name, x in zip(("y", *wrt), run())}

        rng = Generator(0)
        given = {name: in_their_layout(name, x).requires_grad_(name in wrt) for name, x in arrays(rng.normal).items()}
        y = theirs(torch.nn.functional, **given).detach().numpy()
        g = in_their_layout("y", rng.normal(in_our_layout("y", y).shape))
        return run, check

    def in_our_layout(name, x):
        return x.transpose(np.argsort(axes[name])) if name in axes else x

    return Case(name, {"tinygen": tinygen, "torch": torch}, bars, products, images=bool(axes))


def adam(shapes, bars=None):
    def tinygen(_):
        rng, optimiser = Generator(0), Adam(0.1)
        start = params = [rng.normal(shape) for shape in shapes]
        gradients = [[rng.normal(shape) for shape in shapes] for _ in range(3)]
        state = optimiser.init(params)

        def run(gradients=gradients[0]):
            nonlocal params, state
            params, state = optimiser.update(gradients, state, params)

        def check():
            for g in gradients:  # three, as where the first step leads is a matter of signs alone
                run(g)
            return {f"move of {i}": p - s for i, (p, s) in enumerate(zip(params, start))}

        return run, check

    def torch(contender):
        import torch

        rng = Generator(0)
        start = [torch.from_numpy(rng.normal(shape)) for shape in shapes]
        params = [p.clone().requires_grad_() for p in start]
        gradients = [[torch.from_numpy(rng.normal(shape)) for shape in shapes] for _ in range(3)]
        optimiser = torch.optim.Adam(params, lr=0.1, fused=contender.fused)

        def run(gradients=gradients[0]):
            for p, g in zip(params, gradients):
                p.grad = g
            optimiser.step()

        def check():
            for g in gradients:
                run(g)
            return {f"move of {i}": (p.detach() - s).numpy() for i, (p, s) in enumerate(zip(params, start))}

        return run, check

    numbers = sum(int(np.prod(shape)) for shape in shapes)
    name = f"Adam, {numbers:,} numbers in {len(shapes)} array{'s' if len(shapes) > 1 else ''}"
    return Case(name, {"tinygen": tinygen, "torch": torch}, bars, updates=True)
