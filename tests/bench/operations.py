"""How a single operation becomes a case: drawn from one seed, done here and there, and compared.

Arrays are drawn in our layout, and handed to PyTorch in its own. What is differentiated is differentiated as a user would: by
`vjp`, and by torch.autograd. Of random numbers the distribution is
compared.
"""

import numpy as np

from tinygen import Generator, flat, vjp
from tinygen.backend import array_module, to_device
from tinygen.optim import Adam

from .case import Case


def operation(name, arrays, ours, theirs, axes=None, wrt=(), gives=("y",), products=None, bytes=None, bars=None):
    """A case of y = ours(**arrays) and, for a cotangent of y, the gradients of the arrays that `wrt` names.

    `theirs` is given torch.nn.functional and tensors; `axes` says how PyTorch orders the axes of an array, if not as we do.
    Of several results, a tuple, `gives` has the names.
    """
    axes = axes or {}

    def results(y):
        return y if len(gives) > 1 else (y,)

    def tinygen(contender):
        rng = Generator(0)
        given = {name: to_device(x, contender.device) for name, x in arrays(rng.normal).items()}
        g = tuple(to_device(rng.normal(y.shape), contender.device) for y in results(ours(**given)))

        def run():
            if not wrt:
                return results(ours(**given))
            chosen = [given[name] for name in wrt]
            y, pullback = vjp(lambda *chosen: results(ours(**{**given, **dict(zip(wrt, chosen))})), *chosen)
            return *y, *pullback(g)

        return run, lambda: {name: to_device(x, "cpu") for name, x in zip((*gives, *wrt), run())}

    def torch(contender):
        import torch

        def in_their_layout(name, x):
            x = torch.from_numpy(x).to(contender.device)
            if name in axes:
                layout = torch.channels_last if contender.channels_last else torch.contiguous_format
                x = x.permute(axes[name]).contiguous(memory_format=layout)
            return x

        def run():
            with torch.set_grad_enabled(bool(wrt)):
                y = results(theirs(torch.nn.functional, **given))
            return *y, *(torch.autograd.grad(y, [given[name] for name in wrt], g) if wrt else ())

        def check():
            return {name: in_our_layout(name, x.detach().cpu().numpy()) for name, x in zip((*gives, *wrt), run())}

        rng = Generator(0)
        given = {name: in_their_layout(name, x).requires_grad_(name in wrt) for name, x in arrays(rng.normal).items()}
        y = [y.detach().cpu().numpy() for y in results(theirs(torch.nn.functional, **given))]
        g = [in_their_layout(name, rng.normal(in_our_layout(name, y).shape)) for name, y in zip(gives, y)]
        return run, check

    def in_our_layout(name, x):
        return x.transpose(np.argsort(axes[name])) if name in axes else x

    images = any(len(order) == 4 for order in axes.values())
    return Case(name, {"tinygen": tinygen, "torch": torch}, bars, products, bytes, images=images)


def copy(n):
    def tinygen(contender):
        x = to_device(Generator(0).normal((n,)), contender.device)
        y = array_module(x).empty_like(x)

        def run():
            y[:] = x

        def check():
            run()
            return {"y": to_device(y, "cpu")}

        return run, check

    def torch(contender):
        import torch

        x = torch.from_numpy(Generator(0).normal((n,))).to(contender.device)
        y = torch.empty_like(x)
        return lambda: y.copy_(x), lambda: {"y": y.copy_(x).cpu().numpy()}

    return Case(f"copy of {n:,} numbers", {"tinygen": tinygen, "torch": torch}, bytes=2 * 4 * n)


def normals(n):
    """No two libraries draw the same numbers, so their distribution is what must be the same."""

    def quantiles(x):
        return {"quantiles": np.quantile(x, np.linspace(0.001, 0.999, 999))}

    def tinygen(contender):
        rng = Generator(0, contender.device)
        return lambda: rng.normal((n,)), lambda: quantiles(to_device(rng.normal((1_000_000,)), "cpu"))

    def torch(contender):
        import torch

        torch.manual_seed(0)
        there = contender.device
        return lambda: torch.randn(n, device=there), lambda: quantiles(torch.randn(1_000_000, device=there).cpu().numpy())

    return Case(f"{n:,} random normals", {"tinygen": tinygen, "torch": torch}, bytes=4 * n, random=True)


def adam(shapes, bars=None):
    def drawn(put):
        """The parameters, and three times gradients: where the first step leads is a matter of their signs alone."""
        rng = Generator(0)
        start, *gradients = [[put(rng.normal(shape)) for shape in shapes] for _ in range(4)]
        return start, gradients

    def tinygen(contender):
        start, gradients = drawn(lambda x: to_device(x, contender.device))
        params, optimiser = flat.copy(start), Adam(0.1)
        state, update = optimiser.init(params), optimiser.update_in_place if contender.device == "cpu" else optimiser.update

        def run(gradients=gradients[0]):
            nonlocal params, state
            params, state = update(gradients, state, params)

        def check():
            for g in gradients:
                run(g)
            return {f"move of {i}": to_device(p - s, "cpu") for i, (p, s) in enumerate(zip(params, start))}

        return run, check

    def torch(contender):
        import torch

        start, gradients = drawn(lambda x: torch.from_numpy(x).to(contender.device))
        params = [p.clone().requires_grad_() for p in start]
        optimiser = torch.optim.Adam(params, lr=0.1, fused=contender.fused)

        def run(gradients=gradients[0]):
            for p, g in zip(params, gradients):
                p.grad = g
            optimiser.step()

        def check():
            for g in gradients:
                run(g)
            return {f"move of {i}": (p.detach() - s).cpu().numpy() for i, (p, s) in enumerate(zip(params, start))}

        return run, check

    numbers = sum(int(np.prod(shape)) for shape in shapes)
    name = f"Adam, {numbers:,} numbers in {len(shapes)} array{'s' if len(shapes) > 1 else ''}"
    bytes = 4 * numbers * 7  # p, g, m, v -> p, m, v
    return Case(name, {"tinygen": tinygen, "torch": torch}, bars, bytes=bytes, updates=True)
