"""tinygen's models as one would write them in PyTorch: the same networks, the same names of parameters, the same losses.

Where images become vectors, the numbers keep our order, (H, W, C): a view in channels last, and otherwise a copy of a small
array.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from tinygen.models.ddpm import cosine
from tinygen.nn.masked import live_taps

from .pytorch import Twin

# Layers


class Shift(nn.Module):
    """x + a constant of the data, (H, W, C) or (D,)."""

    def __init__(self, shape):
        super().__init__()
        self.amount = nn.Parameter(torch.zeros(shape), requires_grad=False)

    def forward(self, x):
        return x + (self.amount.permute(2, 0, 1) if x.ndim == 4 else self.amount)


class ToVector(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


class ToImage(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.view(-1, *self.shape).permute(0, 3, 1, 2).contiguous(memory_format=self.layout)


class Norm(nn.Module):
    def __init__(self, channels, groups=8):
        super().__init__()
        self.groups = groups
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return F.group_norm(x, self.groups, self.scale, self.shift)


class MaskedConv(nn.Conv2d):
    """PyTorch has no masked convolution: one multiplies the weights by the mask."""

    def __init__(self, c_in, c_out, kernel, kind):
        super().__init__(c_in, c_out, kernel, padding=kernel // 2)
        mask = torch.zeros(kernel, kernel)
        mask[tuple(torch.tensor(live_taps(kind, (kernel, kernel))).T)] = 1
        self.register_buffer("mask", mask)

    def forward(self, x):
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class Function(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


# Models


class VAE(Twin):
    def __init__(self, encoder, decoder, latent, gaussian=False):
        super().__init__()
        self.encoder, self.decoder, self.latent = nn.Sequential(*encoder), nn.Sequential(*decoder), latent
        self.log_var = nn.Parameter(torch.zeros(())) if gaussian else None

    def noise(self, x, random):
        return (random.normal((len(x), self.latent)),)

    def loss(self, x, eps):
        mean, log_var = self.encoder(x).chunk(2, 1)
        y = self.decoder(mean + torch.exp(0.5 * log_var) * eps)
        if self.log_var is None:
            surprise = F.binary_cross_entropy_with_logits(y, x, reduction="sum")
        else:
            surprise = 0.5 * (self.log_var + (x - y) ** 2 * torch.exp(-self.log_var) + math.log(2 * math.pi)).sum()
        divergence = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum()
        return (surprise + divergence) / len(x)


def dense_vae(pixels, hidden, latent, gaussian=False):
    encoder = Shift(pixels), nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent)
    return VAE(encoder, (nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, pixels)), latent, gaussian)


def convolutional_vae(latent=20):
    down = nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()
    up = nn.ReLU(), nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1)
    encoder = Shift((28, 28, 1)), *down, ToVector(), nn.Linear(7 * 7 * 64, 2 * latent)
    return VAE(encoder, (nn.Linear(latent, 7 * 7 * 64), ToImage(7, 7, 64), *up, Shift((28, 28, 1))), latent)


class Coupling(nn.Module):
    def __init__(self, D, width, parity):
        super().__init__()
        half, self.parity = D // 2, parity
        layers = nn.Linear(half, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, D)
        self.network, self.law = nn.Sequential(nn.Identity(), *layers), nn.Module()
        self.law.scale = nn.Parameter(torch.ones(half))

    def forward(self, x):
        kept, moved = x.chunk(2, 1)[:: -1 if self.parity else 1]
        s, t = self.network(kept).chunk(2, 1)
        s = self.law.scale * torch.tanh(s)
        moved = moved * torch.exp(s) + t
        return torch.cat((moved, kept) if self.parity else (kept, moved), 1), s.sum(1)


class Flow(Twin):
    def __init__(self, D, width, couplings=8):
        super().__init__()
        self.chain = nn.ModuleList([*(Coupling(D, width, i % 2) for i in range(couplings)), nn.Module()])
        self.chain[-1].log_scale = nn.Parameter(torch.zeros(D))

    def loss(self, x):
        *couplings, scaling = self.chain
        total = scaling.log_scale.sum()
        for coupling in couplings:
            x, log_det = coupling(x)
            total = total + log_det
        z = x * torch.exp(scaling.log_scale)
        return (0.5 * (z * z + math.log(2 * math.pi)).sum(1) - total).mean()


class PixelCNN(Twin):
    def __init__(self, blocks, levels):
        super().__init__()
        self.levels, self.network = levels, nn.Module()
        self.network.first = MaskedConv(1, 64, 7, "A")
        self.network.blocks = nn.ModuleList(_pixelcnn_block() for _ in range(blocks))
        outputs = 1 if levels == 2 else levels
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(64, 64, 1), nn.ReLU(), nn.Conv2d(64, outputs, 1))

    def forward(self, x):
        h = self.network.first(x * (2 / (self.levels - 1)) - 1)
        for block in self.network.blocks:
            h = h + block.widen(F.relu(block.masked(F.relu(block.narrow(F.relu(h))))))
        return self.head(h)

    def loss(self, x):
        return F.binary_cross_entropy_with_logits(self(x), x, reduction="sum") / len(x)


def _pixelcnn_block():
    layers = {"narrow": nn.Conv2d(64, 32, 1), "masked": MaskedConv(32, 32, 3, "B"), "widen": nn.Conv2d(32, 64, 1)}
    return nn.ModuleDict(layers)


class DCGAN(Twin):
    parts = "samples", "discriminator_loss", "generator_loss"

    def __init__(self):
        super().__init__()
        up = Norm(128), nn.ReLU(), nn.ConvTranspose2d(128, 64, 4, 2, 1), Norm(64), nn.ReLU(), nn.ConvTranspose2d(64, 1, 4, 2, 1)
        down = nn.Conv2d(1, 64, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(64, 128, 4, 2, 1), nn.LeakyReLU(0.2)
        self.generator = nn.Sequential(nn.Linear(64, 7 * 7 * 128), ToImage(7, 7, 128), *up, nn.Sigmoid())
        centred = Function(lambda x: 2 * x - 1)
        self.discriminator = nn.Sequential(centred, *down, ToVector(), nn.Linear(7 * 7 * 128, 1), nn.Flatten(0))

    def begin(self, optimiser):
        self.optimisers = optimiser(self.generator.parameters()), optimiser(self.discriminator.parameters())

    def step(self, x, random):
        of_generator, of_discriminator = self.optimisers
        with torch.no_grad():
            fake = self.samples(random.normal((len(x), 64)))
        of_discriminator.zero_grad()
        discriminator_loss = self.discriminator_loss(x, fake)
        discriminator_loss.backward()
        of_discriminator.step()
        of_generator.zero_grad()
        self.discriminator.requires_grad_(False)
        generator_loss = self.generator_loss(random.normal((len(x), 64)))
        generator_loss.backward()
        of_generator.step()
        self.discriminator.requires_grad_(True)
        return {"discriminator_loss": discriminator_loss, "generator_loss": generator_loss}

    def samples(self, z):
        return self.generator(z)

    def discriminator_loss(self, real, fake):
        on_real, on_fake = self.discriminator(torch.cat((real, fake))).chunk(2)
        return F.softplus(-on_real).mean() + F.softplus(on_fake).mean()

    def generator_loss(self, z):
        return F.softplus(-self.discriminator(self.samples(z))).mean()


class EBM(Twin):
    """Contrastive divergence: chains start at the data and make a few moves, and the loss is between the two."""

    parts = ("energy",)
    length = 0.01  # of a move

    def __init__(self, pixels, width, moves):
        super().__init__()
        layers = nn.Linear(pixels, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        self.network, self.moves = nn.Sequential(nn.Flatten(), *layers), moves
        self.mean = nn.Parameter(torch.zeros(pixels), requires_grad=False)
        self.std = nn.Parameter(torch.ones(pixels), requires_grad=False)

    def energy(self, x):
        u = (x - self.mean) / self.std
        return self.network(u)[:, 0] + 0.5 * (u * u).sum(1)

    def noise(self, x, random):
        for _ in range(self.moves):
            yield random.normal(x.shape)
            random.uniform((len(x),))  # by which others than Langevin would accept or reject

    def loss(self, x, *noise):
        self.network.requires_grad_(False)
        chains = x
        for eps in noise:
            chains = chains.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.energy(chains).sum(), chains)
            chains = chains - self.length * slope + math.sqrt(2 * self.length) * eps
        self.network.requires_grad_(True)
        return self.energy(x).mean() - self.energy(chains.detach()).mean()


class ResidualBlock(nn.Module):
    def __init__(self, c_in, c_out, width):
        super().__init__()
        self.norms = nn.ModuleList([Norm(c_in), Norm(c_out)])
        self.convolutions = nn.ModuleList([nn.Conv2d(c_in, c_out, 3, padding=1), nn.Conv2d(c_out, c_out, 3, padding=1)])
        self.condition = nn.Linear(width, c_out)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x, e):
        h = self.convolutions[0](F.silu(self.norms[0](x))) + self.condition(e)[:, :, None, None]
        h = self.convolutions[1](F.silu(self.norms[1](h)))
        return h + (x if self.shortcut is None else self.shortcut(x))


class AttentionBlock(nn.Module):
    def __init__(self, channels, heads=4):
        super().__init__()
        self.norm, self.attention, self.heads = Norm(channels), nn.Module(), heads
        self.attention.project = nn.Linear(channels, 3 * channels)
        self.attention.combine = nn.Linear(channels, channels)

    def forward(self, x, e):
        n, c, h, w = x.shape
        projected = self.attention.project(self.norm(x).flatten(2).transpose(1, 2))
        q, k, v = (part.view(n, h * w, self.heads, -1).transpose(1, 2) for part in projected.chunk(3, 2))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        return x + self.attention.combine(y).transpose(1, 2).view(n, c, h, w)


class UNet(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.condition = nn.ModuleDict({"first": nn.Linear(width, width), "second": nn.Linear(width, width)})
        self.first, self.last, self.norm = nn.Conv2d(1, 32, 3, padding=1), nn.ConvTranspose2d(32, 1, 3, padding=1), Norm(32)
        large = ResidualBlock(32, 32, width), nn.Conv2d(32, 32, 3, 2, 1)
        self.down = nn.ModuleList([nn.ModuleList(large), nn.ModuleList([ResidualBlock(32, 64, width)])])
        middle = ResidualBlock(64, 64, width), AttentionBlock(64), ResidualBlock(64, 64, width)
        self.middle = nn.ModuleList(middle)
        small = ResidualBlock(128, 64, width), nn.Conv2d(64, 32, 3, padding=1)
        self.up = nn.ModuleList([nn.ModuleList(small), nn.ModuleList([ResidualBlock(64, 32, width)])])

    def forward(self, x, t):
        angles = t[:, None] * torch.exp(-math.log(10_000) * torch.arange(64, dtype=torch.float64, device=t.device) / 63)
        waves = torch.cat([angles.sin(), angles.cos()], 1).float()
        e = F.silu(self.condition["second"](F.silu(self.condition["first"](waves))))
        (large, halve), (small,) = self.down
        a = large(self.first(x), e)
        h = b = small(halve(a), e)
        for block in self.middle:
            h = block(h, e)
        (small, doubled), (large,) = self.up
        h = doubled(F.interpolate(small(torch.cat([h, b], 1), e), scale_factor=2.0))
        h = large(torch.cat([h, a], 1), e)
        return self.last(F.silu(self.norm(h)))


class DDPM(Twin):
    def __init__(self):
        super().__init__()
        self.network = UNet()
        self.register_buffer("abar", torch.tensor(cosine().abar, dtype=torch.float32))

    def noise(self, x, random):
        N, T = len(x), len(self.abar) - 1
        strata = torch.arange(N, device=x.device) / N
        t = 1 + torch.floor(T * ((random.uniform((), dtype=torch.float64) + strata) % 1)).long()
        random.uniform((N,))  # which labels are hidden
        return t, random.normal(x.shape)

    def loss(self, x, t, eps):
        abar = self.abar[t][:, None, None, None]
        return F.mse_loss(self.network(abar.sqrt() * x + (1 - abar).sqrt() * eps, t), eps)
