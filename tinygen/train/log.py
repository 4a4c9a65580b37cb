"""What a run says while it goes on: a log, one line of JSON {"step": n, "time": seconds, metric: value, ...} at a time, and a
progress bar."""

import json
import math
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from ..files import write_whole

SECONDS_BETWEEN_LINES = 10  # of progress, where there is no terminal to draw a bar on


def read_log(path):
    """The lines of a log as dicts. A torn last line is left out; ValueError for any other that is not JSON with a step."""
    lines, records = Path(path).read_text(encoding="utf-8").split("\n"), []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_record(line))
        except ValueError:
            if number < len(lines):  # what follows the last newline is empty, or torn
                raise ValueError(f"read_log: line {number} of {path} is not a record: {line[:60]!r}; remove it") from None
    return records


def _record(line):
    record = json.loads(line)
    if not (isinstance(record, dict) and "step" in record):
        raise ValueError
    return record


def start_log(path, records):
    """log(n, metrics, more), which adds a line to a file that begins with these records; or does nothing if path is None.

    Times go on from the last record's. A value of `more` (a dict or None) that is not finite is written as null.
    """
    if path is None:
        return lambda n, metrics, more: None
    write_whole(path, "".join(map(_line, records)).encode())
    start = time.monotonic() - (records[-1]["time"] if records else 0)

    def log(n, metrics, more):
        more = {name: value if math.isfinite(value) else None for name, value in as_numbers(more or {}).items()}
        with open(path, "a", encoding="utf-8") as file:
            file.write(_line({"step": n, "time": round(time.monotonic() - start, 3), **metrics, **more}))

    return log


def as_numbers(metrics):
    """The metrics, Python or NumPy scalars or 0-d arrays, as floats."""
    require_numbers(metrics)
    return {name: float(value) for name, value in metrics.items()}


def require_numbers(metrics):
    """ValueError for a metric that is no number, or has a name that the log needs."""
    for name, value in metrics.items():
        if getattr(value, "shape", ()) != ():
            raise ValueError(f"fit: the metric {name!r} has shape {tuple(value.shape)}; reduce it, with .mean() say")
        if name in ("step", "time"):
            raise ValueError(f"fit: the log has a column {name!r} of its own; give that metric another name")


def say(sentence):
    """A line about the run, beside the progress. True, that it was said."""
    print(f"fit: {sentence}", file=sys.stderr, flush=True)
    return True


@contextmanager
def progress_display(first, steps, wanted):
    """Yield show(n, metrics): a bar on a terminal; elsewhere a line now and then, and one at the end."""
    if not wanted:
        yield lambda n, metrics: None
    elif sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(initial=first, total=steps, unit="step", dynamic_ncols=True) as bar:

            def draw(n, metrics):
                bar.set_postfix_str(_brief(metrics), refresh=False)
                bar.update()

            yield draw
    else:
        yield _teller(first, steps)


def _teller(first, steps):
    start = told = time.monotonic()

    def tell(n, metrics):
        nonlocal told
        now = time.monotonic()
        if n == steps or now - told >= SECONDS_BETWEEN_LINES:
            told = now
            rate = (n - first) / max(now - start, 1e-9)
            print(f"step {n}/{steps}, {rate:.3g} steps/s, {_brief(metrics)}", file=sys.stderr, flush=True)

    return tell


def _brief(metrics):
    return "; ".join(f"{name} {value:.4g}" for name, value in metrics.items())  # a name may have a comma


def _line(record):
    return json.dumps(record, allow_nan=False) + "\n"
