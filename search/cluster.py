"""Ray for one study: started on this machine, or the cluster that RAY_ADDRESS names.

A local Ray lives in a folder of its own, which is removed with it. Its processes die with this
one, also when this one is killed: Linux tells them (PR_SET_PDEATHSIG). That signal follows the
*thread* that started them, so `cluster` must be entered from a thread that outlives the study; a
helper thread would take Ray down when it ends.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnsearch.blocks.errors import AttnsearchError

# Read by Ray when it is imported or started. Loggers, usage reports and uv's hook cost time or
# send data; a trial without its metric is a failed trial here and not the end of the search; what
# Ray prints when a worker dies stands in the records, in words for users.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed|killed due to memory pressure",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
}
FOLDER_PREFIX = "attnsearch-"
LOCK = "in-use"


class ClusterError(AttnsearchError):
    """Ray could not be started, or does not have the resources a trial asks for."""

    exit_status = 1


@dataclass(frozen=True)
class Cluster:
    """A running Ray.

    Attributes:
        folder: A folder for what Tune writes, removed at the end.
        local: Whether it was started here, for this study alone.
    """

    folder: Path
    local: bool
    _warming: list[Any] = field(default_factory=list, repr=False)

    @property
    def nodes(self) -> int:
        """How many machines there are."""
        import ray

        return sum(node["Alive"] for node in ray.nodes())

    def warm_up(self, workers: int, cpus: float) -> None:
        """Has so many worker processes import what training needs, while the driver loads data.

        Ray keeps them, and the trials' actors start in them.
        """
        import ray

        warm = ray.remote(num_cpus=cpus, max_retries=0)(_import_training)
        self._warming.extend(warm.remote() for _ in range(workers))

    def workers(self, cpus: float, gpus: float) -> int:
        """How many trials that need `cpus` and `gpus` each fit side by side.

        Raises:
            ClusterError: If not even one fits on any machine.
        """
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fit = sum(_fit(node, cpus, gpus) for node in nodes)
        if not fit:
            most = ", ".join(
                f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes
            )
            raise ClusterError(
                f"resources: a trial asks for cpus: {cpus:g} and gpus: {gpus:g}, but there is only "
                f"{most}; lower resources.cpus or resources.gpus"
            )
        return fit


@contextlib.contextmanager
def cluster(settings: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Ray, running for as long as the context is open.

    A Ray that the process has connected to before is used and left running.

    Args:
        settings: Environment variables on top of `SETTINGS`, for this context.

    Raises:
        ClusterError: If Ray cannot be started or reached.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment({**SETTINGS, **(settings or {})}))
        import ray

        stack.enter_context(_quiet())
        folder = stack.enter_context(temporary_folder())
        local = False
        if not ray.is_initialized():
            local = not os.environ.get("RAY_ADDRESS")
            stack.callback(ray.shutdown)
            _start(folder, local)
        yield Cluster(folder, local)


def _start(folder: Path, local: bool) -> None:
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if local:
        options |= {"address": "local", "include_dashboard": False, "_temp_dir": str(folder)}
    try:
        ray.init(**options)
    except (OSError, RuntimeError, ValueError, TimeoutError) as error:
        where = "here" if local else f"at RAY_ADDRESS={os.environ['RAY_ADDRESS']}"
        done = "started" if local else "reached"
        raise ClusterError(f"Ray cannot be {done} {where}: {error}") from error


def _import_training() -> None:
    """Runs in a worker: the slow imports."""
    import attnsearch.search.trainable  # noqa: F401


def _fit(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many trials fit on one machine: GPUs are shared within a card, never across cards."""
    by_cpu = int(node.get("CPU", 0) / cpus + 1e-9) if cpus else 10**6
    if not gpus:
        return by_cpu
    cards = int(node.get("GPU", 0))
    by_gpu = cards * int(1 / gpus + 1e-9) if gpus <= 1 else int(cards / gpus + 1e-9)
    return min(by_cpu, by_gpu)


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray's and Tune's loggers say nothing: what matters is recorded or raised."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is removed at the end; those that killed processes left behind are removed now.

    A folder is in use for as long as somebody holds the lock on its file, which the system
    releases however the process ends.
    """
    _remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    handle = os.open(folder / "locking", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        (folder / "locking").rename(folder / LOCK)  # appears to others only once it is locked
        yield folder
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned() -> None:
    for lock in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError):
            handle = os.open(lock, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
            finally:
                os.close(handle)
