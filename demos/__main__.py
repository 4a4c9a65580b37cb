"""python -m demos: list the demos.  python -m demos NAME [--help] ...: run one."""

import ast
import runpy
import shutil
import sys
import textwrap
from pathlib import Path

HELPERS = {"__init__", "__main__", "claims", "divergences", "families", "options", "report", "training"}


def demos():
    """The first line of each demo's docstring, by name: what it shows, and how long it takes."""
    files = [path for path in sorted(Path(__file__).parent.glob("*.py")) if path.stem not in HELPERS]
    return {path.stem: ast.get_docstring(ast.parse(path.read_text())).splitlines()[0] for path in files}


def main(arguments):
    known = demos()
    if not arguments or arguments[0] in ("-h", "--help"):
        print("python -m demos NAME [--help] [--quick] ...\n")
        width = max(map(len, known))
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
        for name, line in known.items():
            print(textwrap.fill(line, columns, initial_indent=f"  {name:{width}}  ", subsequent_indent=(width + 4) * " "))
        return 0
    name, *rest = arguments
    if name not in known:
        print(f"demos: there is no demo called {name!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    sys.argv = [f"python -m demos {name}", *rest]
    try:
        runpy.run_module(f"demos.{name}", run_name="__main__")
    except KeyboardInterrupt:
        again = " ".join(arguments) + ("" if "--resume" in rest else " --resume")
        print(f"\nstopped; if it was training, python -m demos {again} goes on after the last complete step", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
