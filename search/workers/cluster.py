"""Ray for one study: started on this machine, or the cluster that an address names.

A local Ray lives in a folder of its own, which is removed with it. Its processes die with this
one, also when this one is killed: Linux tells them (PR_SET_PDEATHSIG), and `caretaker` ends those
that it does not. That signal follows the
*thread* that started them, so `cluster` must be entered from a thread that outlives the study; a
helper thread would take Ray down when it ends.
"""

import atexit
import contextlib
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.blocks.garbage import no_garbage
from attnsearch.runs.addresses import answers
from attnsearch.runs.machine import available_cpus, environment, gpu_count
from attnsearch.search.workers.folder import temporary_folder
from attnsearch.search.workers.ray_private import (
    alike_paths,
    few_processes,
    ray_processes,
    ray_services,
    restore_excepthook,
)
from attnsearch.spaces.keys import cards_of

# Read by Ray when it is imported or started. Loggers, usage reports and uv's hook cost time or
# send data; a trial without its metric is a failed trial here and not the end of the search; what
# Ray prints when a worker dies stands in the records, in words for users. Tune would also ask a
# head that is gone for its resources, until Ray ends this process.
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
    "TUNE_STATE_REFRESH_PERIOD": "1e9",
}
ROUNDING = 1e-9  # lost in dividing by shares: ten trials of 0.1 fit
JOIN_SECONDS = 120.0  # in which the first machine with a CPU joins a cluster
AUTO = "auto"  # of `resources.gpus`, where they are measured
LEAST_SHARE = 1 / 16  # of a card, that a measurement may give a trial


class ClusterError(AttnsearchError):
    """Ray could not be started, or does not have the resources a trial asks for."""

    exit_status = 1


@dataclass(frozen=True)
class Need:
    """What each trial takes.

    Attributes:
        cpus: CPUs, also of the machine that has its GPU.
        gpus: GPUs; below 1, a share of one card.
        ranks: Processes that train it together: one for each of several cards.
        address: Of the Ray that is joined; empty where one is started here.
    """

    cpus: float = 1
    gpus: float = 0
    ranks: int = 1
    address: str = field(default="", compare=False)

    @classmethod
    def of(cls, resources: Mapping[str, Any]) -> "Need":
        """Return what a document says; of `auto` the least that a trial may get.

        So Ray has room for as many as may come. A cluster's cards are seen once it is joined.
        """
        gpus = resources["gpus"]
        address = resources.get("address") or os.environ.get("RAY_ADDRESS", "")
        if gpus == AUTO:
            gpus = 0 if address or not gpu_count() else LEAST_SHARE
        return cls(float(resources["cpus"]), float(gpus), cards_of(gpus), address)

    @property
    def threads(self) -> int:
        """Threads that each process of a trial computes with."""
        return max(1, int(self.cpus / self.ranks))


def fit(need: Need, cpus: float, gpus: float) -> int:
    """Count the trials that one machine runs side by side.

    A trial never has parts of two cards. So trials that take 0.3 of a card are three to a card,
    six to two cards, and not the 6.67 that would fill them; and trials that take two cards are
    one on a machine with three.

    Args:
        need: What each trial takes.
        cpus: CPUs that may be used, a container's quota counted, see `runs.machine`.
        gpus: Cards that may be used; they count only where a trial takes some.

    Returns:
        How many; 0 where not even one fits, which a study refuses with a `ClusterError`.
    """
    by_cpu = int(cpus / need.cpus + ROUNDING)
    if not need.gpus:
        return by_cpu
    trials_a_card = int(1 / need.gpus + ROUNDING) if need.gpus <= 1 else 1 / need.gpus
    return min(by_cpu, int(gpus * trials_a_card + ROUNDING))


@dataclass(frozen=True)
class Cluster:
    """A running Ray.

    Attributes:
        folder: A folder for what Tune writes, removed at the end.
        workers: How many trials run side by side.
        bundle: What each of their processes asks Ray for.
        joined: Whether it was not started here.
        most: How many trials there are at most, however many machines join.
        ranks: How many processes a trial has.
        cards: Of a joined one, the names of its machines' cards, once these were asked.
        services: The processes of a Ray that was started here, by name.
    """

    folder: Path
    workers: int
    bundle: Mapping[str, float]
    joined: bool = False
    most: int = 1
    ranks: int = 1
    cards: tuple[str, ...] = ()
    services: Mapping[str, psutil.Process] = field(default_factory=dict)

    @property
    def need(self) -> Need:
        """What a trial asks Ray for."""
        cpus, gpus = (self.ranks * self.bundle[name] for name in ("CPU", "GPU"))
        return Need(cpus, gpus, self.ranks)

    def check(self) -> None:
        """Look after Ray's own processes: without them it ends this one, a while later.

        Raises:
            ClusterError: One is gone.
        """
        for name, process in self.services.items():
            if not _runs(process):
                raise ClusterError(
                    f"{name}, a process of Ray, is gone: something on this machine ended it, "
                    f"perhaps the system as memory ran out\nWhat has finished is recorded; the "
                    f"same command goes on from there"
                )


@contextlib.contextmanager
def running_cluster(
    need: Need,
    most: int,
    meanwhile: Callable[[], None] = lambda: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Cluster]:
    """Run Ray for as long as the context is open.

    A Ray that the process has connected to before is used and left running.

    Args:
        need: What each trial takes.
        most: How many trials there are at most.
        meanwhile: Called once Ray is imported and before it is started; may begin, in threads,
            what can be done while this one waits for Ray's processes.
        stop: Whether the user wants an end.

    Raises:
        ClusterError: If Ray cannot be started or reached, or not even one trial fits.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(environment(SETTINGS))
        if "://" in need.address:
            raise ClusterError(
                f"{need.address} (resources.address, or RAY_ADDRESS) is an address for clients of "
                f"Ray, with which Ray would run the driver elsewhere; run attnsearch on a machine "
                f"of the cluster, with the address auto. A machine that is to train nothing joins "
                f"by `ray start --address=HEAD:6379 --num-cpus=0`"
            )
        folder = stack.enter_context(temporary_folder())
        import ray

        stack.enter_context(_quiet())
        meanwhile()
        if ray.is_initialized():
            yield _joined(folder, need, most)
        elif need.address:
            stack.callback(_shut_down)
            _init(f"reached at {need.address}", address=need.address)
            _wait_for_cpus(stop)
            yield _joined(folder, need, most)
        else:
            # One of this Ray's CPUs for each process. It starts its processes when trials ask for
            # them: of those that it holds ready it often makes no use, and starts as many again,
            # whose imports take the cores from the first.
            workers = min(trials_here(need), most)
            lean = {
                "OMP_NUM_THREADS": str(need.threads),
                "RAY_prestart_worker_first_driver": "0",
            }
            stack.enter_context(environment(lean))
            stack.callback(_shut_down)
            _init(
                "started here",
                address="local",
                num_cpus=workers * need.ranks,
                num_gpus=gpu_count() if need.gpus else 0,
                include_dashboard=False,
                _temp_dir=str(folder),
            )
            bundle = {"CPU": 1, "GPU": need.gpus / need.ranks}
            yield Cluster(folder, workers, bundle, ranks=need.ranks, services=ray_services())


def _runs(process: psutil.Process) -> bool:
    """Return whether a process lives; a child that was killed is a zombie for a while."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def trials_here(need: Need) -> int:
    """Count the trials that this machine runs side by side, as a study and `check` do.

    Args:
        need: What each trial takes.

    Raises:
        ClusterError: Not even one fits.
    """
    cpus, cards = available_cpus(), gpu_count() if need.gpus else 0
    trials = fit(need, cpus, cards)
    if not trials:
        raise _too_little(need, f"this machine has {cpus} CPUs and {cards} GPUs")
    return trials


def _joined(folder: Path, need: Need, most: int) -> Cluster:
    """Return what a Ray that was not started here offers."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(fit(need, node.get("CPU", 0), node.get("GPU", 0)) for node in nodes)
    if not room:
        offers = [f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes]
        raise _too_little(need, f"the machines of this Ray have {'; '.join(offers)}")
    bundle = {"CPU": need.cpus / need.ranks, "GPU": need.gpus / need.ranks}
    return Cluster(folder, min(room, most), bundle, joined=True, most=most, ranks=need.ranks)


def _wait_for_cpus(stop: Callable[[], bool]) -> None:
    """Wait for the first machine that trains: batch systems start the driver beside them."""
    import ray

    until = time.monotonic() + JOIN_SECONDS
    while time.monotonic() < until and not stop():
        if any(node["Resources"].get("CPU") for node in ray.nodes() if node["Alive"]):
            return
        time.sleep(0.5)


def has_cards(running: Cluster | None) -> bool:
    """Return whether trials find a card: on this machine, or in the Ray that was joined."""
    if running is None or not running.joined:
        return gpu_count() > 0
    import ray

    return any(node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"])


def trials_a_card(running: Cluster, need: Need) -> int:
    """Count the trials that the CPUs beside a card feed, on the machine that has most of them."""
    import ray

    machines = [(float(available_cpus()), float(gpu_count()))]
    if running.joined:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        machines = [(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes]
    return max(int(cpus / need.cpus / cards + ROUNDING) for cpus, cards in machines if cards)


def with_need(running: Cluster, need: Need, most: int) -> Cluster:
    """Return a running Ray with room for trials that take something else than was thought."""
    if running.joined:
        return replace(_joined(running.folder, need, most), cards=running.cards)
    workers = min(trials_here(need), most)
    return replace(running, workers=workers, bundle={"CPU": 1, "GPU": need.gpus / need.ranks})


def _too_little(need: Need, have: str) -> ClusterError:
    return ClusterError(
        f"resources: a trial asks for cpus: {need.cpus:g} and gpus: {need.gpus:g}, but {have}; "
        f"lower resources.cpus or resources.gpus"
    )


def _init(done: str, **options: Any) -> None:
    """Start or join Ray, whose processes then leave SIGTERM and SIGHUP to this one.

    Batch systems, `timeout` and closing terminals send these to all processes at once. With its
    services gone, Ray ends the driver a minute later, whatever that is doing.
    """
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        with few_processes():
            quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
            ray.init(job_config=alike_paths(), **quiet, **options)
    except (OSError, RuntimeError, ValueError, TimeoutError) as error:
        hint = ""
        if options["address"] != "local" and "RAY_AUTH_MODE" not in os.environ:
            hint = (
                "\nA Ray that `ray start` started asks for a token by default: set "
                "RAY_AUTH_MODE=token here too, with its token in ~/.ray/auth_token"
            )
        raise ClusterError(f"Ray cannot be {done}: {error}{hint}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has put its own in place
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _shut_down() -> None:
    """Leave Ray, and end what was started here of it, at once.

    A collection of garbage in another thread meanwhile may free a reference to what Ray has just
    closed, and then Ray ends the process. So the garbage is collected before, and none after.
    """
    import ray

    family = ray_processes()
    head = ray.get_runtime_context().gcs_address if ray.is_initialized() else ""
    if not all(map(_runs, ray_services().values())) or not (head and answers(head)):
        # With its services gone, Ray waits for them for most of a minute.
        restore_excepthook()
        atexit.unregister(ray.shutdown)
        leaving = threading.Thread(target=ray.shutdown, daemon=True)
        leaving.start()
        leaving.join(timeout=3)
        _kill(family)
        return
    with no_garbage():
        gc.collect()
        ray.shutdown()
    # They see it themselves, but Ray's agents a second later, and a worker that computes never.
    _kill(family)


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    # Not until a process 1 has buried them, which in a container takes its time.
    until = time.monotonic() + 5
    while any(map(_runs, processes)) and time.monotonic() < until:
        time.sleep(0.01)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Ray's and Tune's loggers: what matters is recorded or raised."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
