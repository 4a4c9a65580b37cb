"""How the tests run a demo: as a user does, in a process of its own, from the root of a checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def demo(*arguments):
    """The finished process of `python -m demos ...`, in which a warning is an error."""
    command = [sys.executable, "-W", "error", "-m", "demos", *map(str, arguments)]
    own_cache = {**os.environ, "XDG_CACHE_HOME": str(ROOT / ".pytest_cache" / "demos")}  # and not the user's
    return subprocess.run(command, cwd=ROOT, env=own_cache, capture_output=True, text=True, timeout=300)


def check_a_quick_run(folder, name, *arguments, steps, pictures, said):
    """Run a demo for a few steps: it says what it should, leaves those pictures, and a resumed run gives the same answer."""
    command = [name, "--quick", "--steps", steps, *arguments]
    first = demo(*command, "--out", folder)
    assert first.returncode == 0, first.stderr
    for words in said:
        assert words in first.stdout
    assert {path.name for path in [*folder.glob("*.png"), *folder.glob("*.gif")]} == set(pictures)
    assert all((folder / picture).stat().st_size > 1000 for picture in pictures)
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == steps

    again = demo(*command, "--resume", folder)  # a finished run: nothing to train, the same answer
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    return records


def check_refusal(complaint, *arguments):
    """A wrong option is answered by one sentence and exit code 2."""
    result = demo(*arguments)
    assert result.returncode == 2
    assert complaint in result.stderr and "Traceback" not in result.stderr
