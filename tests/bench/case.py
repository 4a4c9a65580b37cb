"""What is compared: cases, who competes in them and under which conditions, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from statistics import median

from .machine import compiler, torch_has

DEVICES = {"tinygen": {"cpu": "cpu", "gpu": "gpu"}, "torch": {"cpu": "cpu", "gpu": "cuda"}}  # what each calls them


@dataclass(frozen=True)
class Conditions:
    """The same for all contenders of a run."""

    device: str = "cpu"  # or "gpu"
    threads: int = 1
    quick: bool = False  # small arrays, a burst of one call: only to see that all runs
    busy: bool = False  # by the processor's time, because other programs are running too


@dataclass(frozen=True)
class Contender:
    """Who competes: a library on a device, and for PyTorch in which layout, with which Adam, eager or compiled."""

    library: str  # "tinygen", "torch" or "jax"
    device: str = "cpu"  # by the library's own name for it
    channels_last: bool = False
    fused: bool = False  # Adam in one kernel
    compiled: bool = False

    @property
    def name(self):
        if self.library != "torch":
            return {"tinygen": OURS, "jax": "jax.jit"}[self.library]
        said = ["torch.compile" if self.compiled else "eager"]
        return ", ".join(said + ["channels last"] * self.channels_last + ["fused Adam"] * self.fused)


OURS = "tinygen"


@dataclass(frozen=True)
class Case:
    """One row of the table. Each library has a function Contender -> (run, check), which makes everything ready.

    run() does the work once. check() returns {name: array}: what all libraries must agree on, in our layout. `bars` are bounds
    on PyTorch's time over ours: the one that must be met, and the moonshot. What a run cannot do without are `products`, its
    multiply-adds, where they take the time, or `bytes`, read and written, where the memory does. PyTorch's time counts `reruns`
    times.
    """

    name: str
    libraries: dict[str, Callable]
    bars: tuple[float, float] | None = None
    products: float | None = None
    bytes: float | None = None
    images: bool = False  # so both layouts compete
    step: bool = False  # so fused Adam and torch.compile compete, and memory has a bar
    updates: bool = False  # nothing but Adam: so only fused Adam competes
    random: bool = False  # each draws numbers of its own: so only their distribution can agree
    reruns: int = 1

    @property
    def group(self):
        return "steps" if self.step or self.reruns > 1 else "kernels"

    @property
    def tolerance(self):
        return 1e-2 if self.step or self.random else 1e-4

    @property
    def work(self):
        """(how much, of what): operations or bytes of a run, or None where neither is known."""
        return (2 * self.products, "FLOP/s") if self.products else (self.bytes, "B/s") if self.bytes else None

    def contenders(self, conditions):
        """Ours, and everybody else who is installed for the device."""
        quick, device = conditions.quick, conditions.device
        found = [Contender("tinygen", DEVICES["tinygen"][device])]
        if "torch" in self.libraries and torch_has(device):
            layouts = [False, True] if self.images else [False]
            adams = [False, True] if self.step or self.updates else [False]
            there = DEVICES["torch"][device]
            found += [Contender("torch", there, layout, fused) for layout in layouts for fused in adams]
            if self.step and compiler() and not quick:
                found.append(Contender("torch", there, self.images, fused=True, compiled=True))
        if "jax" in self.libraries and find_spec("jax") and device == "cpu" and not quick:
            found.append(Contender("jax"))
        return found


@dataclass
class Result:
    """What came of a case: of each contender by name, the seconds of a run in each round, and its peak memory in bytes.

    `others`: the part of the processors' time that other programs had meanwhile, or None where nobody says.
    """

    case: Case
    rounds: dict = field(default_factory=dict)
    memory: dict = field(default_factory=dict)
    complaints: list = field(default_factory=list)
    others: float | None = None

    def seconds(self, name):
        return median(self.rounds[name])

    @property
    def best(self):
        """The name of PyTorch's fastest eager contender, or None: bars are about it."""
        eager = [name for name in self.rounds if name.startswith("eager")]
        return min(eager, key=lambda name: self.ratio(name)[0], default=None)

    def ratio(self, name):
        """Their time over ours, and the least and the greatest over the rounds."""
        each = quotients(self.rounds[name], self.rounds[OURS])
        return median(each), min(each), max(each)

    def memory_ratio(self):
        ours, theirs = self.memory.get(OURS), self.memory.get(self.best)
        return ours / theirs if ours and theirs and min(ours, theirs) > 0 else None

    def as_json(self):
        case = {name: value for name, value in vars(self.case).items() if name != "libraries"}
        told = {name: getattr(self, name) for name in ("rounds", "memory", "others", "complaints")}
        return {**case, "seconds": {name: self.seconds(name) for name in self.rounds}, **told}


def quotients(a, b):
    return [x / y for x, y in zip(a, b)]
