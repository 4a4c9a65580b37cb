"""What setup.cfg promises is what the tree holds."""

from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOP_LEVEL = {
    "tinygen", "kernels", "demos", "tests", "setup.cfg", "README.md", "LICENSE", "pyproject.toml", ".gitignore", ".ci",
}  # fmt: skip


def config():
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def packages_in_the_tree():
    for path in [*(ROOT / "tinygen").rglob("__init__.py"), *(ROOT / "kernels").rglob("__init__.py")]:
        name = ".".join(path.parent.relative_to(ROOT).parts)
        yield f"tinygen.{name}" if name.startswith("kernels") else name


def test_every_package_is_listed():
    listed = config()["options"]["packages"].split()
    assert listed == sorted(listed)
    assert set(listed) == set(packages_in_the_tree())


def test_every_data_file_is_packaged():
    patterns = [p.strip() for p in config()["options.package_data"]["*"].split(",")]
    for top in ("tinygen", "kernels"):
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc", ".nbi", ".nbc"):
                assert any(path.match(pattern) for pattern in patterns), f"{path.relative_to(ROOT)} would not be installed"


def test_the_top_level_is_what_was_decided():
    hidden_or_made = {".git", ".pytest_cache", ".ruff_cache", ".hypothesis", "tinygen.egg-info", "build", "dist", "runs"}
    found = {p.name for p in ROOT.iterdir() if not p.name.startswith(".venv") and p.name != "__pycache__"} - hidden_or_made
    assert found == TOP_LEVEL


def test_run_time_dependencies_are_the_ones_decided():
    names = {line.split()[0] for line in config()["options"]["install_requires"].strip().splitlines()}
    assert names == {"numpy", "numba", "matplotlib", "tqdm", "safetensors", "pooch", "threadpoolctl"}
