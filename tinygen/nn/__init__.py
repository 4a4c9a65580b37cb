"""Layers: frozen trees of arrays made by `Layer.init(rng, ...)` and called as pure functions, y = layer(x).

A layer has no mode. What differs between training and evaluation is in the call: Dropout takes an rng or None, and BatchNorm's
running statistics are an argument (see `norm.py`).
"""

from . import init
from .attention import SelfAttention, sinusoids
from .compose import Sequential, mlp
from .conv import Conv2d, ConvTranspose2d
from .dropout import Dropout
from .linear import Embedding, Linear
from .masked import MaskedConv2d, live_taps
from .norm import BatchNorm, GroupNorm, LayerNorm, Statistics
from .reshape import Flatten, Unflatten

__all__ = [
    "BatchNorm", "Conv2d", "ConvTranspose2d", "Dropout", "Embedding", "Flatten", "GroupNorm", "LayerNorm", "Linear",
    "MaskedConv2d", "SelfAttention", "Sequential", "Statistics", "Unflatten", "init", "live_taps", "mlp", "sinusoids",
]  # fmt: skip
