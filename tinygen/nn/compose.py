"""Layers one after another.

Most layers are functions of x alone. Some need more, and say so in an attribute `needs`: Dropout needs an `rng`, BatchNorm its
`statistics`. Sequential needs what its layers need, and hands each of them its own. What is needed must be given: a network
with dropout that was called without an rng would otherwise quietly train without dropout. (A block of your own joins in by
having `needs` too, and, if it contains a BatchNorm, `initial_statistics` and `on_batch`.)
"""

from ..autograd.core import Primitive
from ..autograd.tree import module
from ..ops.elementwise import relu
from .conv import Conv2d
from .init import glorot_uniform
from .linear import Linear
from .masked import MaskedConv2d
from .norm import GroupNorm


@module
class Sequential:
    """y = f_n(... f_2(f_1(x))), for layers that are modules or plain functions such as ops.relu.

    net[i] is a layer and net[i:j] a Sequential. If some layer needs an rng, net(x, rng=rng). If some need statistics,

        y, statistics = net.on_batch(x, statistics)     training, from statistics = net.initial_statistics() on
        y = net(x, statistics=statistics)               evaluation

    where statistics is a tuple with an entry for each layer: None for those that need none. TypeError for a layer that cannot
    be called, and where something that is needed is missing.
    """

    layers: tuple

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))
        for i, layer in enumerate(self.layers):
            if isinstance(layer, type) or not callable(layer):
                name = layer.__name__ if isinstance(layer, type) else repr(layer)
                raise TypeError(f"Sequential: layer {i} is {name}; give a function or a layer made by its init(rng, ...)")

    @property
    def needs(self):
        return tuple(sorted({name for layer in self.layers for name in _needs(layer)}))

    def initial_statistics(self):
        """The statistics to start from, an entry for each layer."""
        return tuple(layer.initial_statistics() if "statistics" in _needs(layer) else None for layer in self.layers)

    def __call__(self, x, **given):
        """ValueError unless there is an entry of the statistics for each layer."""
        self._require(given)
        layers = iter(enumerate(self.layers))
        for i, layer in layers:
            following = self.layers[i + 1] if i + 1 < len(self.layers) else None
            if type(layer) in (Linear, GroupNorm) and type(following) is Primitive:
                x = layer(x, following)  # a layer and what follows it in as few passes as can be
                next(layers)
            elif layer is relu and type(following) in (Conv2d, MaskedConv2d):
                x = following(x, before=relu)
                next(layers)
            else:
                x = layer(x, **_share(given, layer, i))
        return x

    def on_batch(self, x, statistics, momentum=0.9, **given):
        """(y, statistics'): each layer that needs statistics normalises by this batch; see `BatchNorm.on_batch`."""
        given["statistics"] = statistics
        self._require(given)
        moved = list(statistics)
        for i, layer in enumerate(self.layers):
            own = _share(given, layer, i)
            if "statistics" in own:
                x, moved[i] = layer.on_batch(x, momentum=momentum, **own)
            else:
                x = layer(x, **own)
        return x, tuple(moved)

    def _require(self, given):
        for i, layer in enumerate(self.layers):
            missing = [name for name in _needs(layer) if name not in given]
            if missing:
                raise TypeError(
                    f"Sequential: layer {i}, {type(layer).__name__}, needs {missing[0]}; pass {missing[0]}=... (rng=None for "
                    "no dropout; for BatchNorm see `Sequential`)"
                )
        if "statistics" in given and len(given["statistics"]) != len(self.layers):
            raise ValueError(
                f"Sequential: {len(given['statistics'])} entries of statistics for {len(self.layers)} layers; start from "
                "initial_statistics()"
            )

    def __getitem__(self, i):
        return Sequential(self.layers[i]) if isinstance(i, slice) else self.layers[i]

    def __len__(self):
        return len(self.layers)


def mlp(rng, sizes, activation, initialiser=glorot_uniform, last=None):
    """A multilayer perceptron: Linear layers from size to size with the activation between them, none after the last.

    sizes (d_in, ..., d_out), two or more; `last` is the initialiser of the last layer, where it is to be another one.
    ValueError for fewer sizes.
    """
    if len(sizes) < 2:
        raise ValueError(f"mlp: sizes {tuple(sizes)} must name the input and the output at least, (d_in, ..., d_out)")
    *hidden, (d_in, d_out) = zip(sizes, sizes[1:])
    layers = [f for a, b in hidden for f in (Linear.init(rng, a, b, initialiser=initialiser), activation)]
    return Sequential([*layers, Linear.init(rng, d_in, d_out, initialiser=last or initialiser)])


def _needs(layer):
    return getattr(layer, "needs", ())


def _share(given, layer, i):
    """What a layer needs of what was given; of the statistics, its own entry."""
    return {name: given[name][i] if name == "statistics" else given[name] for name in _needs(layer)}
