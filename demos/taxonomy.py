# %% [markdown]
"""The families as a tree, through time, and by what they can do: which one should I choose? (about 3 seconds)

What a family can say about p(x) is the type that a method of its model returns: log p(x) itself, a bound on it, an energy; or
there is no such method. So the tree below is not drawn by hand. It is read off the models in tinygen/models, and so is what
else decides between them: how long a sample takes, whether an example has a code, what training is like. How near samples come
to the data no type can say; where `python -m demos compare` has measured it, that is a question too.

    python -m demos taxonomy --answers likelihood=exact,speed=one

answers questions and names the families that are left; without --answers the questions are asked. Run this file so, or cell by
cell as a notebook.
"""

# %%
import importlib
import inspect
import pkgutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demos.options import options, plain_errors
from demos.training import finish
from tinygen import Generator, models, plot, train
from tinygen.autograd import tree
from tinygen.density import Bounded, Energy, Exact, LowerBound, Sampler, Tractable, Unnormalised
from tinygen.models import ddpm

chosen = options(
    "taxonomy",
    "Draw the tree and the timeline of the families, and say which of them fit your answers to a few questions.",
    data=("none",),
    devices=("cpu",),
    answers={"metavar": "QUESTION=ANSWER,...", "help": "in place of being asked; the list of questions is printed"},
    compared={
        "type": Path,
        "default": Path("runs", "compare"),
        "metavar": "DIR",
        "help": "what `compare` has measured, where it has run (default: %(default)s)",
    },
)

# %% [markdown]
# ## The families
#
# A family is a file in tinygen/models with a train_step, and its class that can be sampled from. (The classifiers of bayes.py
# are fitted by counting, without a network.) Small models, untrained, are enough to see what each does, here with vectors of
# 144 numbers or images of 12 x 12.

# %%
SMALL = {
    "VAE": {"shape": (144,), "latent": 2, "hidden": (8,)},
    "GAN": {"shape": (144,), "latent": 2, "hidden": (8,)},
    "Flow": {"dimensions": 144, "hidden": (8,)},
    "PixelCNN": {"shape": (12, 12, 1), "levels": 2, "channels": 4, "blocks": 2, "first_kernel": 3},
    "EBM": {"shape": (144,), "hidden": (8,)},
    "DDPM": {"D": 144, "schedule": ddpm.cosine(1000), "width": 8, "depth": 1, "predicts": "v"},
}


def families():
    """Pairs of a module of tinygen/models and its class, by the name of the class."""
    found = {}
    for _, name, _ in pkgutil.iter_modules(models.__path__):
        file = importlib.import_module(f"{models.__name__}.{name}")
        here = [each for _, each in inspect.getmembers(file, inspect.isclass) if each.__module__ == file.__name__]
        found |= {each.__name__: (file, each) for each in here if issubclass(each, Sampler) and hasattr(file, "train_step")}
    return found


def small(name, kind):
    """In double precision: in single, a kernel draws a PixelCNN's pixels, and what it calls cannot be counted from outside."""
    make = getattr(kind, "mlp", None) or kind.plain
    return tree.map(lambda array: array.astype(np.float64), make(Generator(chosen.seed), **SMALL[name]))


# %% [markdown]
# ## What the code says of them
#
# The kind of density is the type of what the model returns. The other facts are seen from outside, too: how often the busiest
# layer of a network is called for one sample, which is how often sampling has to wait for the network; how many numbers the
# code of an example has; and what the training step asks for.

# %%
DENSITY = {Tractable: "log_prob", Bounded: "bound", Unnormalised: "energy"}


@dataclass(frozen=True)
class Facts:
    density: type | None  # Exact, LowerBound, Energy or None
    calls: int  # of the network in a row, for a sample
    numbers: int  # of an example
    code: int | None  # numbers of the code of an example, if it has one
    labels: bool  # whether a class can be asked for
    completes: bool  # whether the rest of an example can be drawn, given its beginning
    opponent: bool  # whether a second network is trained against the first
    chains: bool  # whether training has to draw samples
    score: bool  # whether the network says the way to the data: the slope of log p of noisy examples
    distance: float | None  # of samples from the data, as `compare` has measured it, if it has


def facts(name, file, model):
    rng = Generator(chosen.seed)
    x = model.sample(rng, 2)
    asked = inspect.signature(file.train_step).parameters
    return Facts(
        density=density_type(model, x, rng),
        calls=min(calls(getattr(model, name)) for name in dir(model) if name in ("sample", "sample_ddim")),
        numbers=x[0].size,
        code=code(model, x),
        labels="labels" in inspect.signature(model.sample).parameters,
        completes=hasattr(model, "complete"),
        opponent=sum(name.endswith("optimiser") for name in asked) > 1,
        chains="kernel" in asked,
        score=hasattr(model, "denoise"),
        distance=distance(name),
    )


def density_type(model, x, rng):
    """The type of what the model says about log p(x), None if nothing."""
    methods = [name for protocol, name in DENSITY.items() if isinstance(model, protocol)]
    if not methods:
        return None
    (method,) = (getattr(model, name) for name in methods)
    return type(method(x, rng) if "rng" in inspect.signature(method).parameters else method(x))


def calls(sample):
    """How often the busiest layer is called while one example is drawn."""
    counted = Counter()

    def count(frame, event, _):
        if event == "call" and frame.f_code.co_name == "__call__" and frame.f_globals["__name__"].startswith("tinygen.nn."):
            counted[id(frame.f_locals["self"])] += 1

    sys.setprofile(count)
    try:
        sample(Generator(chosen.seed), 1)
    finally:
        sys.setprofile(None)
    return max(counted.values())


def code(model, x):
    if hasattr(model, "encode"):
        return model.encode(x).mean[0].size
    if hasattr(model, "to_latent"):
        z = model.to_latent(x)
        return (z[0] if isinstance(z, tuple) else z)[0].size
    return None


def distance(name):
    """The mean Frechet distance of a family's runs in the comparison, infinite if one has diverged; None without runs.

    Those of a quick comparison, which judges a hundred images, mean nothing and do not count.
    """
    files = (chosen.compared / "runs").glob("*.safetensors")  # flow-0.safetensors, of seed 0
    runs = [train.checkpoint_info(path)["extra"] for path in files if path.stem.lower().startswith(f"{name.lower()}-")]
    distances = [run["measured"].get("frechet", np.inf) for run in runs if run["settings"]["judged images"] > 100]
    return float(np.mean(distances)) if distances else None


with plain_errors(), np.errstate(over="ignore"):
    files = families()
    if missing := set(files) - set(SMALL):
        raise RuntimeError(f"taxonomy: {', '.join(sorted(missing))}: give a small model of each in SMALL")
    known = {name: facts(name, file, small(name, kind)) for name, (file, kind) in files.items()}
compared = all(f.distance is not None for f in known.values())

head = f"{'family':10}{'log p(x)':12}{'calls':>6}{'code':>13}   labels   completes   training"
print(head + ("       distance" if compared else ""))
for name, f in known.items():
    density, size = f.density.__name__ if f.density else "none", f"{f.code} of {f.numbers}" if f.code else "none"
    training = "a game" if f.opponent else "draws samples" if f.chains else "one loss"
    rest = f"{'yes' if f.labels else 'no':9}{'yes' if f.completes else 'no':12}{training:15}"
    rest += f"{f.distance:.1f}" if compared else ""
    print(f"{name:10}{density:12}{f.calls:6}{size:>13}   {rest}".rstrip())

# %% [markdown]
# ## The tree
#
# The branches are the types. Diffusion hangs in two places. As a model with hidden variables x_1 .. x_T it is a deep VAE whose
# encoder only adds noise, and it is trained on a bound: that is its type. But what its network says, eps_hat, is the slope of
# log p of noisy examples, -sqrt(1 - abar_t) grad log p(x_t) (`python -m tinygen.derivations sde`). A slope of log p needs no Z:
# so it is also a model that is not normalised, without an energy, at each level of noise. (And the way of DDIM is a
# deterministic map from noise to data and back, so for very many steps it is a flow as well.)

# %%
BRANCHES = {
    Exact: ("explicit", "tractable", "log_prob: Exact"),
    LowerBound: ("explicit", "approximate", "bound: LowerBound"),
    Energy: ("explicit", "not normalised", "energy: Energy"),
    None: ("implicit", "samples only", "no method says anything of p(x)"),
}
branches = {}
for density, (side, branch, method) in BRANCHES.items():
    of_this_kind = sorted((name for name, f in known.items() if f.density is density), key=lambda name: known[name].score)
    leaves = {f"{name}\n{files[name][0].__name__.replace('.', '/')}.py": {} for name in of_this_kind}
    branches.setdefault(f"{side}\np(x) is {'a formula' if side == 'explicit' else 'known by samples'}", {})[
        f"{branch}\n{method}"
    ] = leaves
by_score = [name for name, f in known.items() if f.score and f.density is not Energy]
links = [(name, BRANCHES[Energy][1], "its network\nis a score") for name in by_score]
file = chosen.out.joinpath
plot.tree({"p(x)\na model of data": branches}, file("tree.png"), links)

# %% [markdown]
# ## Through time
#
# Each model names its sources, and TIMELINE in its file names what came with them (tests/models/test_timelines.py holds them to
# the papers of the header). Years are those of the papers that are cited, which were often to be read a year before.

# %%
timeline = {
    name: [(int(source[-4:]), event, source[:-5]) for event, source in module.TIMELINE.items()]
    for name, (module, _) in files.items()
}
plot.timeline(dict(sorted(timeline.items(), key=lambda item: min(item[1]))), file("timeline.png"))

# %% [markdown]
# ## Which one should I choose?
#
# A question has answers, an answer is a condition on the facts, and what is left is what meets all of them.

# %%
ANY = ("no matter", lambda f: True)
QUESTIONS = {
    "likelihood": ("How probable is an example: must the model say?", {
        "exact": ("yes, exactly", lambda f: f.density is Exact),
        "bound": ("a lower bound will do", lambda f: f.density in (Exact, LowerBound)),
        "ratio": ("only which of two is more probable", lambda f: f.density in (Exact, Energy)),
        "any": ANY,
    }),
    "speed": ("How often may a sample wait for the network?", {
        "one": ("once", lambda f: f.calls == 1),
        "tens": ("some dozens of times", lambda f: f.calls <= 100),
        "any": ANY,
    }),
    "code": ("Do you need a code of each example?", {
        "short": ("yes, shorter than the example", lambda f: f.code is not None and f.code < f.numbers),
        "lossless": ("yes, from which the example comes back", lambda f: f.code == f.numbers),
        "any": ANY,
    }),
    "labels": ("Will you ask for samples of one class?", {"yes": ("yes", lambda f: f.labels), "any": ANY}),
    "rest": ("Will you give the beginning, and ask for the rest?", {"yes": ("yes", lambda f: f.completes), "any": ANY}),
    "training": ("Must training be the descent of one loss?", {
        "plain": ("yes: no opponent, and no chains", lambda f: not (f.opponent or f.chains)),
        "any": ANY,
    }),
}  # fmt: skip
if compared:
    nearest = min(f.distance for f in known.values())
    near = ("yes: at most twice as far as those of the best", lambda f: f.distance <= 2 * nearest)
    QUESTIONS["quality"] = ("Must samples be near the data?", {"near": near, "any": ANY})
else:
    print("\n`python -m demos compare` measures how near samples come to the data; after it, quality can be asked for, too")


def ask():
    """The answers, from the keyboard."""
    answers = {}
    for question, (text, choices) in QUESTIONS.items():
        print(f"\n{text}")
        for choice, (meaning, _) in choices.items():
            print(f"  {choice:9} {meaning}")
        while answers.setdefault(question, input(f"{question}: ").strip() or "any") not in choices:
            print(f"one of: {', '.join(choices)}")
            del answers[question]
    return answers


def parse(text):
    """The answers, from the command line."""
    answers = dict.fromkeys(QUESTIONS, "any")
    for part in text.split(","):
        question, _, answer = part.strip().partition("=")
        if question not in QUESTIONS or answer not in QUESTIONS[question][1]:
            answerable = "; ".join(f"{q}={'|'.join(choices)}" for q, (_, choices) in QUESTIONS.items())
            raise ValueError(f"--answers: {part!r} is no answer; there are {answerable}")
        answers[question] = answer
    return answers


def fitting(answers):
    return [name for name, f in known.items() if all(QUESTIONS[q][1][answer][1](f) for q, answer in answers.items())]


with plain_errors():
    if chosen.answers:
        answers = parse(chosen.answers)
    else:
        answers = ask() if sys.stdin.isatty() and not chosen.quick and "ipykernel" not in sys.modules else {}

print()
if not answers:
    for question, (text, choices) in QUESTIONS.items():
        print(text)
        for choice, (meaning, _) in list(choices.items())[:-1]:  # the last is ANY
            print(f"  {f'{question}={choice}':20} {meaning + ':':49}{', '.join(fitting({question: choice}))}")
    print("give --answers QUESTION=ANSWER,... to combine them; what is not answered does not matter")
else:
    left = fitting(answers)
    for name in known:
        broken = [f"{q}={answer}" for q, answer in answers.items() if name not in fitting({q: answer})]
        print(f"  {name:10} {'does not fit ' + ', '.join(broken) if broken else 'fits'}")
    print(f"choose: {', '.join(left) if left else 'nothing fits all of it'}")
    for question in () if left else answers:
        if others := fitting(answers | {question: "any"}):
            print(f"  without {question}={answers[question]}: {', '.join(others)}")
finish(chosen, "pictures")
