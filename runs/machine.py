"""This machine: its CPUs and GPUs, versions, code and command, enough to run a study again."""

import contextlib
import ctypes
import functools
import gc
import json
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil

from attnsearch.runs.addresses import without_secrets

PACKAGES = (
    "attnsearch",
    "cmaes",
    "mlflow",
    "numpy",
    "optuna",
    "pandas",
    "pillow",
    "pydantic",
    "ray",
    "safetensors",
    "scikit-learn",
    "scipy",
    "statsmodels",
    "sqlalchemy",
    "torch",
)
"""The packages that a result can depend on."""

ROOT = Path("/sys/fs/cgroup")


def provenance() -> dict[str, Any]:
    """Describe this process, its machine and the code it runs.

    Returns:
        A plain dict: ``time``, ``command``, ``folder``, ``host``, ``platform``, ``python``,
        ``packages`` (name -> version), ``code`` and ``project`` (the git commit of attnsearch's
        own checkout and of the current folder, with ``dirty`` where files differ from it; None
        outside of a checkout), ``cpu``, ``cores``, ``memory_mb`` and ``gpus``.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *map(without_secrets, sys.argv[1:])],
        "folder": str(Path.cwd()),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "code": git_commit(Path(__file__).resolve().parents[1]),
        "project": git_commit(Path.cwd()),
        "cpu": cpu_name(),
        "cores": available_cpus(),
        "memory_mb": psutil.virtual_memory().total // 2**20,
        "gpus": list(gpu_names()),
    }


def package_versions() -> dict[str, str]:
    """Look up the installed versions of `PACKAGES`; a missing one is left out."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def install_command(extra: str = "") -> str:
    """Return the command that installs attnsearch as it is here: from an index, a checkout, a URL.

    Args:
        extra: An extra of it, such as `onnx`.
    """
    name = f"attnsearch[{extra}]" if extra else "attnsearch"
    try:
        # PEP 610: only what was installed from elsewhere than an index has it.
        origin = json.loads(distribution("attnsearch").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        origin = {}
    url, option = without_secrets(origin.get("url", "")), ""
    if "dir_info" in origin:
        option = "-e " if origin["dir_info"].get("editable") else ""
        name = unquote(urlsplit(url).path) + name.removeprefix("attnsearch")
    elif url:
        kind = origin.get("vcs_info", {}).get("vcs")
        name += f" @ {kind}+{url}" if kind else f" @ {url}"
    return f"pip install {option}{shlex.quote(name)}"


def git_commit(folder: Path) -> dict[str, Any] | None:
    """Tell the commit that a folder is checked out at, and whether its files differ from it."""
    commit = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    if not commit:
        return None
    # --no-optional-locks: a look must not stand in the way of the user's own git commands.
    status = _output(
        "git", "--no-optional-locks", "-C", str(folder), "status", "--porcelain", "-uno"
    )
    return {"commit": commit, "dirty": bool(status)}


@functools.cache
def cpu_name() -> str:
    """Name the processor."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model\t")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_cpus() -> int:
    """Count the CPUs that this process may use: those it is bound to, within its group's quota.

    The quota is that of the control group (v2, else v1) that a container or batch system sets.
    """
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    for limit, period in (
        ("/sys/fs/cgroup/cpu.max", None),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ):
        with contextlib.suppress(OSError, ValueError):
            words = Path(limit).read_text(encoding="utf-8").split()
            words += Path(period).read_text(encoding="utf-8").split() if period else []
            if float(words[0]) > 0:
                cpus = min(cpus, max(1, int(float(words[0]) / float(words[1]))))
    return cpus


def memory_kills() -> int:
    """Count the processes that the system has killed since memory ran out.

    Those of our control group (v2, else v1), or of the machine where that does not tell.
    """
    for file in (*_of_group("memory.events", "memory.oom_control"), Path("/proc/vmstat")):
        with contextlib.suppress(OSError, ValueError):
            counts = dict(line.split() for line in file.read_text(encoding="utf-8").splitlines())
            if "oom_kill" in counts:
                return int(counts["oom_kill"])
    return 0


@contextlib.contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for as long as the context is open."""
    before = {name: os.environ[name] for name in settings if name in os.environ}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            os.environ.pop(name, None)
        os.environ.update(before)


def give_back_memory(*, circles: bool = False) -> None:
    """Give the system back what this process has freed; does nothing but under glibc.

    glibc keeps what a thread frees for that thread's next use, tens of megabytes after a table of
    a long study.

    Args:
        circles: Free objects that refer to each other first: Python's collector comes by seldom.
    """
    if circles:
        gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def memory_limit() -> int:
    """Return how much memory this process and those beside it have, in bytes."""
    limits = [psutil.virtual_memory().total]
    for file in _of_group("memory.max", "memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(file.read_text(encoding="utf-8")))
    return min(limits)


def free_memory() -> int:
    """Return how much memory can still be taken, in bytes; what holds files alone counts as free.

    Of the machine, and within the limit of our control group (v2, else v1).
    """
    free = psutil.virtual_memory().available
    used = _of_group("memory.current", "memory.usage_in_bytes")
    stats = _of_group("memory.stat", "memory.stat")
    limits = _of_group("memory.max", "memory.limit_in_bytes")
    for limit, usage, stat in zip(limits, used, stats, strict=True):
        with contextlib.suppress(OSError, ValueError):
            most, taken = (int(file.read_text(encoding="utf-8")) for file in (limit, usage))
            counts = dict(line.split() for line in stat.read_text(encoding="utf-8").splitlines())
            files = sum(
                int(counts.get(f"total_{kind}", counts.get(kind, 0)))
                for kind in ("active_file", "inactive_file")
            )
            free = min(free, max(0, most - taken + files))
    return free


def _of_group(second: str, first: str) -> list[Path]:
    """Return where our control group may tell something, by its name in version 2 and in 1."""
    files = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kinds, group = line.split(":", 2)
            if kinds == "":
                files += [ROOT / group[1:] / second, ROOT / second]
            elif "memory" in kinds.split(","):
                files += [ROOT / "memory" / group[1:] / first, ROOT / "memory" / first]
    return files


class Load:
    """What this process takes of its machine, from one question to the next.

    Names begin with ``system/``, which MLflow shows on a page of its own. Asking takes a fraction
    of a millisecond, and nothing runs in between.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._times()

    def __call__(self) -> dict[str, float]:
        """Return processors in use (1 is one core), and memory held now, in MiB and percent."""
        before, self._before = self._before, self._times()
        wall, busy = (now - then for now, then in zip(self._before, before, strict=True))
        machine = psutil.virtual_memory()
        told = {
            "worker_cpus": busy / wall if wall > 0 else 0.0,
            "worker_memory_mb": self._process.memory_info().rss / 2**20,
            "machine_memory_percent": float(machine.percent),
        }
        return {f"system/{name}": value for name, value in told.items()}

    def _times(self) -> tuple[float, float]:
        """Return seconds that passed, and seconds of processors that this process took."""
        spent = self._process.cpu_times()
        return time.monotonic(), spent.user + spent.system


def gpu_count() -> int:
    """Count the GPUs that this process may use: ``CUDA_VISIBLE_DEVICES``, else all there are."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len(gpu_names())


@functools.cache
def gpu_names() -> tuple[str, ...]:
    """Name the NVIDIA GPUs.

    Asked of the driver's own tool: asking torch would open a context in this process, which
    takes some hundred MB of every card for as long as it lives.
    """
    names = _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    return tuple(line.strip() for line in names.splitlines() if line.strip())


def card_memory_mb() -> tuple[float, float]:
    """Return what is used of the first card that this process may use, and its size, in MiB.

    Asked of the driver's own tool too: so it counts what every process holds there, contexts
    included.

    Raises:
        OSError: It does not tell.
    """
    which = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    query = ("--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits")
    told = _output("nvidia-smi", "-i", which, *query)
    try:
        used, total = (float(number) for number in told.split(","))
    except ValueError as error:
        raise OSError("nvidia-smi does not tell how full the card is") from error
    return used, total


def _output(program: str, *arguments: str) -> str:
    """Run a program for its output; empty if it is missing, fails, or takes over 10 seconds."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
