"""How a module of PyTorch competes: with our weights, in either memory layout, and for the check with our random numbers.

Images are (N, C, H, W). PyTorch's modules for layers keep their weights in other orders of the axes than ours.
"""

from functools import partial

import torch
from torch import nn


def set_up(threads):
    """As fast as it can be at the numbers that it is asked for: its convolutions on a GPU would keep 10 bits of 23 (TF32)."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True  # take the fastest algorithm for each shape


def ready(net, weights, x, rng, contender, learning_rate):
    """(run, check) for a twin that has our weights, on our batch. `rng` is for the check, so that both draw the same."""
    net.take_over(weights, contender)
    x = net.as_theirs(x)
    if contender.compiled:
        for name in net.parts:
            setattr(net, name, torch.compile(getattr(net, name)))

    def adam(parameters):
        return torch.optim.Adam(parameters, learning_rate, fused=contender.fused)

    def check():
        net.begin(lambda parameters: Nowhere())
        losses = net.step(x, OurNumbers(rng, net))
        net.begin(adam)
        gradients = {name: net.in_our_layout(name, p.grad) for name, p in net.named_parameters()}
        return {**{name: loss.detach().cpu().numpy() for name, loss in losses.items()}, **gradients}

    net.begin(adam)
    theirs = TheirNumbers(contender.device)
    return lambda: net.step(x, theirs), check


def logits(net, weights, x, contender):
    """(run, check) for one pass of a PixelCNN over images, given in our layout."""
    net.take_over(weights, contender)
    x = net.as_theirs(x)
    run = torch.inference_mode()(lambda: net(x))
    return run, lambda: {"logits": run().permute(0, 2, 3, 1).cpu().numpy()}


class Twin(nn.Module):
    """A network and its loss: `noise` draws what is random. Of the rest, the `parts` are what torch.compile may have."""

    parts = ("loss",)

    def begin(self, optimiser):
        self.optimiser = optimiser([p for p in self.parameters() if p.requires_grad])

    def step(self, x, random):
        self.optimiser.zero_grad()
        loss = self.loss(x, *self.noise(x, random))
        loss.backward()
        self.optimiser.step()
        return {"loss": loss}

    def noise(self, x, random):
        return ()

    # Between our layout and theirs

    def take_over(self, weights, contender):
        parameters = dict(self.named_parameters())
        if parameters.keys() != weights.keys():
            raise ValueError(f"only one of the two has {sorted(parameters.keys() ^ weights.keys())}")
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(torch.from_numpy(weights[name]).permute(self._axes(name)))
        layout = torch.channels_last if contender.channels_last else torch.contiguous_format
        self.to(contender.device, memory_format=layout)
        self.device = contender.device
        for module in self.modules():
            module.layout = layout

    def as_theirs(self, x):
        x = torch.from_numpy(x).to(self.device)
        return x.permute(0, 3, 1, 2).contiguous(memory_format=self.layout) if x.ndim == 4 else x

    def in_our_layout(self, name, gradient):
        if gradient is None:
            return torch.zeros_like(self.get_parameter(name)).cpu().numpy()
        axes = self._axes(name)
        return gradient.permute([axes.index(i) for i in range(len(axes))]).cpu().numpy()

    def _axes(self, name):
        """PyTorch's axes of a parameter in terms of ours."""
        layer, _, own_name = name.rpartition(".")
        axes = {nn.Linear: (1, 0), nn.Conv2d: (3, 2, 0, 1), nn.ConvTranspose2d: (2, 3, 0, 1)}
        kind = next((kind for kind in axes if isinstance(self.get_submodule(layer), kind)), None)
        return axes[kind] if kind and own_name == "weight" else tuple(range(self.get_parameter(name).ndim))


class Nowhere:
    """An optimiser that makes no step, so that the gradients can be looked at."""

    def zero_grad(self):
        pass

    step = zero_grad


class TheirNumbers:
    """What PyTorch draws."""

    def __init__(self, device):
        self.normal, self.uniform = partial(torch.randn, device=device), partial(torch.rand, device=device)


class OurNumbers:
    """What tinygen draws, where PyTorch wants it and in its layout."""

    def __init__(self, rng, net):
        self.rng, self.net = rng, net

    def normal(self, shape):
        n, *c, h, w = shape if len(shape) == 4 else (*shape, 1, 1)
        return self.net.as_theirs(self.rng.normal((n, h, w, *c))).reshape(shape)

    def uniform(self, shape, dtype=torch.float32):
        return torch.as_tensor(self.rng.uniform(shape, str(dtype).removeprefix("torch.")), device=self.net.device)
