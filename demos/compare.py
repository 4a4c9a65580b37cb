# %% [markdown]
"""Six families learn the same digits under the same budget, and every claim is measured (5 minutes; --data mnist 40 minutes)

Every text on generative models has a table: a GAN is sharp and forgets modes, a VAE is blurry, a flow is exact and slow, and
diffusion does everything well but takes its time. Here is that table with its cells measured, and beside them what texts say.

All families see the same images, and have about as many parameters and seconds of training; demos/families.py says how each is
built. Each runs with several seeds, since what one seed shows may be luck. And the same judges look at all of them, at images
of whole grey levels, as a file would hold them.

Run this file with `python -m demos compare`. Runs that have ended are kept, of the one that is interrupted all complete steps
are, and `--resume` goes on from there. With `--seeds 3` it adds the runs of other seeds.
"""

# %%
import gc
import shutil
import sys
import time
import tracemalloc
from contextlib import ExitStack
from itertools import product

import numpy as np

from demos import claims, families, report
from demos.options import at_least_one, options, plain_errors, positive
from demos.training import finish, make_room
from tinygen import Generator, data, flat, kernels, metrics, plot, train
from tinygen.autograd import tree
from tinygen.density import Bounded, Tractable, Unnormalised
from tinygen.files import write_whole
from tinygen.train.loop import CHECKPOINT, LOG, alone_in

SEEDS = {"digits": 3, "mnist": 1}
BUDGET = {"digits": 20, "mnist": 300}
chosen = options(
    "compare",
    "Train six families on the same images under the same budget, and measure what texts claim about them, for report.md and "
    "report.html. It takes four to six minutes, and forty with --data mnist; with other seeds and budgets, some more than 6 "
    "times N times SECONDS. With --device gpu, training is there, for as many steps as without, and measuring still on the "
    "CPU, by one thread unless --threads says otherwise.",
    resumes_from="runs",
    seeds={
        "type": at_least_one,
        "metavar": "N",
        "help": "runs of a family, from --seed on (default: 3; mnist: 1; quick: 2)",
    },
    budget={
        "type": positive,
        "metavar": "SECONDS",
        "help": "of training for each run, on the machine on which steps were counted (default: 20; mnist: 300; quick: 0.3)",
    },
)
if not chosen.threads:
    kernels.threads.use(1)  # time is the processors' time, and would count what a thread waits for small loops
seeds = range(chosen.seed, chosen.seed + (chosen.seeds or (2 if chosen.quick else SEEDS[chosen.data])))
budget = chosen.budget or (0.3 if chosen.quick else BUDGET[chosen.data])
n = 100 if chosen.quick else {"digits": 500, "mnist": 1000}[chosen.data]  # images of each kind that are judged
SHOWN = 40

# %% [markdown]
# ## The judges
#
# Samples are compared with images that no family was trained on, through the eyes of a classifier: distances are between its
# features. Such figures mean something only side by side, so training images are judged like samples, too: no model should do
# better. How far an image is from the data, and whether it is a copy, is asked of the pixels.

# %%
with plain_errors():
    images = data.load(chosen.data)
    if not chosen.resume:
        make_room(chosen.out, begun="runs")
    chosen.out.mkdir(parents=True, exist_ok=True)
    held = ExitStack()
    held.enter_context(alone_in(chosen.out))  # until the end: two in one folder would rename and overwrite each other's files
    folder = chosen.out / "runs"
    folder.mkdir(exist_ok=True)
    judge = metrics.classifier(images, steps=100 if chosen.quick else None)


def grey(g):
    """Grey levels as numbers from 0 to 1."""
    return data.prepare_once("grey", g, images.levels)


held_out = np.concatenate([images.test.images, images.validation.images])[:n]
likely = images.test.images[: 20 if chosen.quick else 300]
features, training, unseen = judge.features(grey(held_out)), grey(images.train.images), grey(held_out)


def judged(g):
    """What the judges say of images of grey levels (n, H, W, 1)."""
    x = grey(g)
    found, probabilities = judge.features(x), judge.probabilities(x)
    precision, recall = metrics.precision_recall(features, found)
    density, coverage = metrics.density_coverage(features, found)
    shares = np.bincount(probabilities.argmax(axis=1), minlength=families.CLASSES) / len(x)
    return {
        "frechet": metrics.frechet_distance(features, found),
        "kernel": metrics.kernel_distance(features, found).value,
        "precision": float(precision),
        "recall": float(recall),
        "density": float(density),
        "coverage": float(coverage),
        "classes": int((shares >= 0.25 / families.CLASSES).sum()),
        "score": metrics.inception_style_score(probabilities),
        "sure": judge.recognised(x),
        "copying": metrics.copying(training, unseen, x),
    }


# %% [markdown]
# ## One run
#
# The budget is in seconds, but what ends a run is a number of steps: as many as took these seconds on one core of the machine
# on which they were counted. A clock would end it a little sooner or later each time, and no table could be repeated. Another
# machine reports other seconds and, but for rounding, the same table. Seconds here are those of the processor, but on a GPU
# those of the clock.


# %%
def run(make, seed, place):
    """Train one family with one seed, in a folder that is its own, and measure it: (what was measured, some samples)."""
    family, rng = make(images, budget, seed), Generator(seed)
    state, step, batches = family.training(rng)
    new, measured = family.trained(state), {"memory": memory_of(step, state, batches), "steps": family.steps}
    state, measured["training seconds"] = trained(step, state, batches, family.steps, seed, place)
    pairs = zip(tree.flatten(new)[0], tree.flatten(family.trained(state))[0])
    measured["parameters"] = sum(int((before != after).sum()) for before, after in pairs)

    model, rng = family.best(state), Generator(seed).at(family.steps)  # random numbers that training did not use
    labels = np.arange(n) % families.CLASSES
    family.sample(model, Generator(seed), labels[:1])  # compiles what has to be compiled
    samples, seconds = timed(family.sample, model, rng, labels)
    measured |= {"ms": 1000 * seconds / n, "ms alone": 1000 * timed(family.sample, model, rng, labels[:1])[1]}
    measured |= {"evaluations": family.evaluations, "in a row": family.in_a_row, **judged(samples)}
    if family.labelled:
        measured["obeys"] = judge.accuracy(grey(samples), labels)
    kinds = {"exact": Tractable, "bound": Bounded, "unnormalised": Unnormalised}
    measured["likelihood"] = next((kind for kind, protocol in kinds.items() if isinstance(model, protocol)), "none")
    if family.bits:
        bits = family.bits(model, likely, rng)
        measured |= {"bits": bits.summary().mean, "relation": bits.relation}
    if family.decode:
        measured |= interpolation(family, model, rng)
    return measured, samples[:SHOWN]


def trained(step, state, batches, steps, seed, place):
    """(the state after so many steps, the seconds they took), going on from the checkpoint in that folder, if there is one."""
    begun = (place / CHECKPOINT).exists()
    earlier = train.read_log(place / LOG)[-1:] if begun and (place / LOG).exists() else []
    clock = time.process_time if chosen.device == "cpu" else time.perf_counter
    start = clock() - sum(line["seconds"] for line in earlier)
    state, batches = train.move(state, chosen.device), train.Moving(batches, chosen.device)
    state = train.fit(
        step, state, batches, steps, seed=seed, out=place, resume=begun, log_every=max(1, steps // 100),
        on_log=lambda n, state, metrics: {"seconds": clock() - start}, capture=chosen.graph,
    )  # fmt: skip
    return train.move(state, "cpu"), train.read_log(place / LOG)[-1]["seconds"]


def memory_of(step, state, batches):
    """Megabytes of what training carries from step to step, and of the most that one step holds beside it at a time."""
    step = getattr(step, "in_place", step)  # as train.fit has it
    for _ in range(3):  # in which it is compiled, recorded, and compared with what was recorded (autograd/replay.py)
        after, _ = step(flat.copy(state), batches.at(0), Generator(0))
    gc.collect()
    tracemalloc.start()
    step(after, batches.at(0), Generator(0))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (most + sum(leaf.nbytes for leaf in tree.flatten(state)[0])) / 1e6


def timed(f, *arguments):
    """(f(*arguments), the seconds it took)."""
    start = time.process_time()
    return f(*arguments), time.process_time() - start


def interpolation(family, model, rng):
    """How far images half way between two latents are from the nearest training image, in units of how far held-out images are.

    The latents are those of held-out images or, where nothing encodes, of samples. Half way is on the arc between them: latents
    are all of much the same length, and the middle of a straight line is nearer to 0. Beside it, the mean of the two images.
    """
    if family.encode:
        a, b = held_out[:50], held_out[50:100]
        from_a, from_b = family.encode(model, a), family.encode(model, b)
    else:
        from_a, from_b = rng.normal((50, family.latent)), rng.normal((50, family.latent))
        a, b = family.decode(model, from_a), family.decode(model, from_b)
    length_a, length_b, length = (np.linalg.norm(z, axis=1, keepdims=True) for z in (from_a, from_b, from_a + from_b))
    middle = family.decode(model, (from_a + from_b) * ((length_a + length_b) / (2 * length)))
    unit = metrics.distance_to_nearest(training, unseen)
    return {
        "midpoints": metrics.distance_to_nearest(training, grey(middle)) / unit,
        "mean images": metrics.distance_to_nearest(training, (grey(a) + grey(b)) / 2) / unit,
    }


# %% [markdown]
# ## All runs
#
# Seed after seed, all families with each. A run is kept in a file as soon as it ends. One whose numbers are no longer finite
# has diverged: that is a result, and is kept, too. Any other error is reported in the family's row, and the others go on.


# %%
def kept(path, settings):
    """(what was measured, samples) of an earlier run. ValueError if it was one with other settings."""
    about = train.checkpoint_info(path)["extra"]
    if about["settings"] != settings:
        raise ValueError(f"--resume: {path} is of a run with {about['settings']}, not {settings}; give these, or another --out")
    template = {"samples": np.zeros((SHOWN, *held_out.shape[1:]), np.uint8)}
    return about["measured"], train.load_checkpoint(path, template)[0]["samples"]


def run_or_kept(name, make, seed):
    path = folder / f"{name}-{seed}.safetensors"
    steps = make(images, budget, seed).steps
    settings = {"data": chosen.data, "steps": steps, "judged images": n, "device": chosen.device}
    place = folder / f"{name}-{seed}, {steps} steps on {chosen.data}"  # of the training, while it goes on
    if path.exists():
        with plain_errors():
            return kept(path, settings)
    try:
        measured, samples = run(make, seed, place)
    except train.NonFiniteError as error:
        measured, samples = {"diverged": str(error).splitlines()[0]}, np.zeros((SHOWN, *held_out.shape[1:]), np.uint8)
    except Exception:
        shutil.rmtree(place, ignore_errors=True)  # when the error is mended, these steps may have been wrong
        raise
    train.save_checkpoint(path, {"samples": samples}, 0, seed, {"settings": settings, "measured": measured})
    shutil.rmtree(place)
    return measured, samples


runs, drawn, failures = {name: [] for name in families.FAMILIES}, {}, {}
planned = [*product(seeds, families.FAMILIES.items())]
try:
    for number, (seed, (name, make)) in enumerate(planned, start=1):
        if name not in failures:
            print(f"{name}, seed {seed}: run {number} of {len(planned)}", file=sys.stderr, flush=True)
            try:
                measured, samples = run_or_kept(name, make, seed)
            except Exception as error:
                failures[name] = f"{type(error).__name__}: {error}".splitlines()[0]
                print(f"{name}, seed {seed}, failed: {failures[name]}", file=sys.stderr)
                continue
            runs[name].append(measured)
            if "diverged" in measured:
                print(f"{name}, seed {seed}, diverged: {measured['diverged']}", flush=True)
            else:
                drawn.setdefault(name, samples)
                print(f"{name}, seed {seed}: Frechet distance {measured['frechet']:.2f}", flush=True)
except KeyboardInterrupt:
    print(f"stopped; python -m demos compare --resume {chosen.out} and the same options go on from here", file=sys.stderr)
    sys.exit(130)

# %% [markdown]
# ## The table
#
# What texts claim, and the rule by which a figure bears a claim out, are in demos/claims.py.

# %%
real = judged(images.train.images[:n]) | {"obeys": judge.accuracy(grey(images.test.images), images.test.labels)}
results = claims.Results(runs, failures, real, held_out[0].size)
claimed = claims.table(results, claims.CLAIMED, claims.CLAIMS)
verdicts = [(name, *pair) for name in runs for pair in zip(claims.CLAIMED, claimed.rows[name]) if pair[1].agrees is not None]
wrong = [(name, title, cell) for name, title, cell in verdicts if not cell.agrees]
for name in runs:
    print(f"{name:9}", "; ".join(f"{title} {cell.text}" for title, cell in zip(claims.CLAIMED, claimed.rows[name])))

# %% [markdown]
# ## The report
#
# First the samples, then a figure in which a line falls where a family pays for what it does well elsewhere, then the table.

# %%
figures = chosen.out / "figures"
pictures = {name: figures / f"{name.replace(' ', '_')}.png" for name in (*drawn, "training images")}
for name, path in pictures.items():
    plot.image_grid(grey(drawn.get(name, images.train.images[:SHOWN])), path, columns=10)
AXES = {  # the figure, the better end, and whether the scale is logarithmic
    "bits/dim": (lambda name: results.mean(name, "bits"), "low", False),
    "Frechet\ndistance": (lambda name: results.mean(name, "frechet"), "low", True),
    "precision\n(quality)": (lambda name: results.mean(name, "precision"), "high", False),
    "recall\n(diversity)": (lambda name: results.mean(name, "recall"), "high", False),
    "spread over\nseeds, %": (lambda name: 100 * results.spread(name), "low", False),
    "ms for\na sample": (lambda name: results.mean(name, "ms"), "low", True),
    "evaluations": (lambda name: results.mean(name, "evaluations"), "low", True),
    "memory,\nMB": (lambda name: results.mean(name, "memory"), "low", True),
}
heights = {title: [figure(name) for name in runs] for title, (figure, _, _) in AXES.items()}
axes = [(title, *AXES[title][1:]) for title in heights if np.isfinite(heights[title]).any()]
if axes:
    plot.parallel(np.transpose([heights[title] for title, *_ in axes]), figures / "trade-offs.svg", list(runs), axes)


# %%
def described(columns):
    return [f"- `{title}`: {column.about}." for title, column in columns.items()]


size = " x ".join(map(str, held_out.shape[1:3]))
blocks = [
    "# Six families of generative models, one data set, one budget",
    "Every text on generative models has a table of trade-offs. Here its cells are measured. All families have about as many "
    f"parameters, and are trained with each seed ({', '.join(map(str, seeds))}) for as many steps as take about "
    f"{budget:g} seconds, on {len(training):,} images of {size} pixels and {images.levels} grey levels. {n} samples of each "
    f"are compared with as many images that nobody was trained on, and bits/dim are of {len(likely)} of these: "
    f"{np.log2(images.levels):.2f} for a uniform guess. Figures are means and standard deviations over the seeds, and under "
    "each stands what texts claim.",
    f"Of {len(verdicts)} claims, {len(verdicts) - len(wrong)} agree with what was measured and {len(wrong)} do not. This is "
    "said of small models, small images and a small budget: what fails here may hold elsewhere.",
    *(["This was a quick run, to see that everything works: its figures say nothing about the families."] * chosen.quick),
    "## Samples",
    "Of the first seed, and not chosen. PixelCNN and DDPM, which alone were told the labels, were asked for the digits from 0 "
    "to 9. The VAE's are means, without the noise of its pixels.",
    report.Pictures(pictures),
    "## Trade-offs",
    *([report.Pictures({"Each scale has its better end on top": figures / "trade-offs.svg"}, least=640)] if axes else []),
    "## Claimed and measured",
    claimed,
    *(f"- {name} failed: {why}" for name, why in failures.items()),
    *described(claims.CLAIMED),
    "## Where the claims fail",
]
if results.has("flow", "ms"):
    blocks.append(
        f"Flows are called slow to sample from. This one samples in one pass: {claims.passes(results, 'flow')} evaluation of "
        f"its network for a sample, in {results.mean('flow', 'ms'):.2g} ms."
    )
for name, title, cell in wrong:
    why = claims.REASONS.get((name, title), "")
    blocks.append(f"- {name}, {title}: claimed, {cell.claim}; measured, {cell.text}. {why}".strip())
blocks += [
    "## The budget, and other figures",
    claims.table(results, claims.BESIDE),
    *described(claims.BESIDE),
    "## How to repeat it",
    f"`python -m demos compare --data {chosen.data} --budget {budget:g} --seed {chosen.seed} --seeds {len(seeds)}`",
    "gives the same tables on one machine, but for seconds and memory. How each family is built and trained, and what it says "
    "of grey levels, is in `demos/families.py`; when a claim is right, in `demos/claims.py`; what the metrics are, in "
    "`tinygen/metrics/`.",
]
write_whole(chosen.out / "report.md", report.markdown(blocks, chosen.out).encode())
write_whole(chosen.out / "report.html", report.html(blocks).encode())
print(f"{len(wrong)} of {len(verdicts)} claims fail")
finish(chosen, "report.html, report.md, and what every run measured")
