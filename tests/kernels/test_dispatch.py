"""The choice of an implementation by the type of the arrays, on a toy kernel and without a GPU."""

import subprocess
import sys

import numpy as np
import pytest

from tinygen import kernels


class FakeCuPyArray:
    """Looks like one of CuPy's to whoever asks for the module of its type."""


FakeCuPyArray.__module__ = "cupy"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a definition and a CPU version of the kernel toy.double."""
    folder = tmp_path / "toy"
    folder.mkdir()
    double = 'def double(x, times=2):\n    """times x"""\n    return {!r}, times\n'
    (folder / "__init__.py").write_text(
        "from tinygen.kernels.dispatch import by_array_type\nfrom . import spec\ndouble = by_array_type(spec.double)\n"
    )
    (folder / "spec.py").write_text(double.format("spec"))
    (folder / "cpu.py").write_text(double.format("cpu"))
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
        del sys.modules[name]


def test_numpy_arrays_go_to_the_cpu(folder):
    import toy

    assert toy.double(np.ones(2)) == ("cpu", 2)
    assert toy.double(x=np.ones(2), times=3) == ("cpu", 3)
    assert toy.double.__doc__ == "times x"


def test_cupy_arrays_go_to_the_gpu_once_there_is_a_gpu_file(folder):
    import toy

    with pytest.raises(NotImplementedError, match="toy has no GPU kernel yet; move the arrays to the CPU"):
        toy.double(FakeCuPyArray())
    (folder / "gpu.py").write_text((folder / "cpu.py").read_text().replace("cpu", "gpu"))
    assert toy.double(FakeCuPyArray()) == ("gpu", 2)
    assert toy.double(np.ones(2)) == ("cpu", 2)


def test_arrays_of_two_devices_are_refused(folder):
    import toy

    with pytest.raises(TypeError, match="toy.double: some arrays are on the CPU and some on the GPU"):
        toy.double(np.ones(2), FakeCuPyArray())


def test_what_is_no_array_is_refused(folder):
    import toy

    with pytest.raises(TypeError, match=r"toy.double: expected NumPy or CuPy arrays, got \(list, int\)"):
        toy.double([1.0, 2.0], 3)


def test_conv2d_runs_from_the_package():
    x, w = np.ones((1, 3, 3, 2)), np.ones((2, 2, 2, 1))
    assert kernels.conv2d.forward(x, w, (1, 1), (0, 0))[0, :, :, 0].tolist() == [[8, 8], [8, 8]]


def test_every_machine_has_the_definition_and_the_cpu():
    assert list(kernels.tiers("conv2d"))[:2] == ["spec", "cpu"]


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_bare_name_kernels_is_refused():
    run = run_python("import kernels")
    assert run.returncode != 0
    assert "ImportError" in run.stderr and "from tinygen import kernels" in run.stderr


def test_importing_kernels_imports_no_compiler():
    run = run_python("import sys; from tinygen import kernels; print({'numba', 'cupy'} & set(sys.modules))")
    assert run.stdout.strip() == "set()", run.stderr
