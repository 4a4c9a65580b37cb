"""python -m demos: list the demos.  python -m demos NAME [--help] ...: run one."""

import ast
import runpy
import sys
from pathlib import Path

HELPERS = {"__init__", "__main__", "claims", "divergences", "families", "options", "report"}


def demos():
    """The first line of each demo's docstring, by name: what it shows, and how long it takes."""
    files = [path for path in sorted(Path(__file__).parent.glob("*.py")) if path.stem not in HELPERS]
    return {path.stem: ast.get_docstring(ast.parse(path.read_text())).splitlines()[0] for path in files}


def main(arguments):
    known = demos()
    if not arguments or arguments[0] in ("-h", "--help"):
        print("python -m demos NAME [--help] [--quick] ...\n")
        width = max(map(len, known))
        for name, line in known.items():
            print(f"  {name:{width}}  {line}")
        return 0
    name, *rest = arguments
    if name not in known:
        print(f"demos: there is no demo called {name!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    sys.argv = [f"python -m demos {name}", *rest]
    runpy.run_module(f"demos.{name}", run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
