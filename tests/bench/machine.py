"""The machine: its processors and its card, and what is installed on it."""

import os
import platform
import re
import shutil
import subprocess
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

# Processors


def available():
    """The processors that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]


def least_busy(n, seconds=0.2):
    """The n of the available processors of which a loop that spins gets the largest part of the time; `seconds` for all."""
    processors = available()
    if n >= len(processors) or not hasattr(os, "sched_setaffinity"):
        return processors[:n]
    got = {}
    for processor in processors:
        os.sched_setaffinity(0, [processor])
        time.sleep(0)  # the move is made when this process is next given a processor
        start, used = time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds / len(processors):
            pass
        got[processor] = (time.process_time() - used) / (time.perf_counter() - start)
    os.sched_setaffinity(0, processors)
    return sorted(sorted(processors, key=got.get)[-n:])


def at_work(processors):
    """The seconds for which these processors were at work, for whomever, since they began; None where nobody says."""
    try:
        counted = dict(re.findall(r"^cpu(\d+) (.*)$", Path("/proc/stat").read_text(), re.MULTILINE))
        times = [[int(number) for number in counted[str(processor)].split()] for processor in processors]
    except (OSError, KeyError):
        return None
    ticks = sum(sum(each[:8]) - each[3] - each[4] for each in times)  # of user, nice, system, idle, waiting, ..., stolen
    return ticks / os.sysconf("SC_CLK_TCK")


def used_by(process):
    """The seconds of processor time that a process has used; None where nobody says."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def thread_settings(threads):
    """What must be in the environment before a library is imported: how many threads there are, for all of them."""
    names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"
    xla = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'} intra_op_parallelism_threads={threads}"
    return {**dict.fromkeys(names, str(threads)), "XLA_FLAGS": xla}


def processor():
    if Path("/proc/cpuinfo").exists():
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return names[0] if names else platform.machine()
    return platform.processor() or platform.machine()


# The card


def card():
    """{what: value} of the GPU that CuPy uses, and of the software between it and us."""
    import cupy

    runtime, device = cupy.cuda.runtime, cupy.cuda.Device()
    properties = runtime.getDeviceProperties(device.id)
    capability = device.compute_capability
    return {
        "card": properties["name"].decode(),
        "compute capability": f"{capability[:-1]}.{capability[-1]}",
        "memory, GiB": round(properties["totalGlobalMem"] / 2**30, 1),
        "multiprocessors": properties["multiProcessorCount"],
        "driver": driver(),
        "CUDA of the driver": cuda_version(runtime.driverGetVersion()),
        "CUDA of CuPy": cuda_version(runtime.runtimeGetVersion()),
        "CuPy": cupy.__version__,
        "CUDA of PyTorch": torch_cuda(),
    }


def driver():
    """The release of the driver, such as 550.54.15, or None where nobody says."""
    if not shutil.which("nvidia-smi"):
        return None
    told = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True)
    return told.stdout.split("\n")[0].strip() or None


def cuda_version(number):
    """12040 -> 12.4"""
    return f"{number // 1000}.{number % 1000 // 10}"


# Libraries


def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def torch_has(device):
    """Whether PyTorch is installed, and can use the device."""
    if not find_spec("torch"):
        return False
    if device == "cpu":
        return True  # without an import, which takes seconds
    import torch

    return torch.cuda.is_available()


def torch_cuda():
    if not find_spec("torch"):
        return None
    import torch

    return torch.version.cuda


def compiler():
    """The C++ compiler that torch.compile would call, or None."""
    return shutil.which(os.environ.get("CXX", "g++"))
