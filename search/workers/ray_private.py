"""Every reach into Ray's private parts.

Each saves time or memory that Ray has no option to save. Where a Ray has other inner parts than
the one that this was written for, the reach changes nothing, and only the saving is lost.
"""

import contextlib
import functools
import importlib
import inspect
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

_CONTROLLER = "ray.tune.execution.tune_controller"
_NODE_SECONDS = 5.0  # longer than any start; after it Ray waits in its own way, and says so
_ANOTHER_COMES_SECONDS = 0.5  # a trial for a worker that is free; Tune asks for one every 0.1
ENDED_KEPT = 8  # of Tune's ended trials, for a late word about one


@contextlib.contextmanager
def few_processes() -> Iterator[None]:
    """Leave out of a local Ray what it has no use for here: log monitor, autoscaler, dashboard.

    Each takes half a second of a core to start and 50 MB, and `ray.init` has no options for it.
    Of a dashboard that is not wanted it starts the part that collects usage statistics, which are
    off, and waits until that has loaded; and it imports what its agent would need for one.

    It asks once a second whether its node has started, which is asked for more often here.
    """
    module, name = "ray._private.parameter", "RayParams"
    unneeded = {"no_monitor": True, "include_log_monitor": False}
    parameters = _inner_part(module, name)
    with contextlib.suppress(TypeError, ValueError):
        if set(unneeded) <= set(inspect.signature(parameters).parameters):
            parameters = functools.partial(parameters, **unneeded)
    with (
        _replaced(module, **{name: parameters}),
        _replaced(
            "ray._private.services",
            start_api_server=lambda *args, **options: ("", None),
            get_node=_found_soon(_inner_part("ray._private.services", "get_node")),
        ),
        _replaced(
            "ray._private.utils",
            get_dashboard_dependency_error=lambda: ImportError("there is no dashboard"),
        ),
    ):
        yield


def _found_soon(get_node: Any) -> Callable[[str, str], Any]:
    """Return Ray's `get_node` so that it is called once there is that node, or after a while."""

    def found(gcs_address: str, node_id: str) -> Any:
        until = time.monotonic() + _NODE_SECONDS
        with contextlib.suppress(Exception):  # then it is left to Ray
            state = _inner_part("ray._private.state", "GlobalState")()
            state._initialize_global_state(
                _inner_part("ray._private.services", "_get_gcs_client_options")(gcs_address)
            )
            while time.monotonic() < until:
                if any(node["NodeID"] == node_id for node in state.node_table()):
                    break
                time.sleep(0.02)
        return get_node(gcs_address, node_id)

    return found


@contextlib.contextmanager
def lean_tune(
    can_be_reused: Callable[[Any], bool],
    idle_seconds: float = math.inf,
    takes_over: Callable[[Any], None] = lambda trial: None,
) -> Iterator[None]:
    """Have Tune keep its workers, and forget ended trials.

    * With environment variables of its own for its actors, Ray starts each in a new process, by
      way of a further one, though those that it holds ready have imported torch already: ten
      seconds of two cores for two workers. On one machine the workers inherit the variables in
      question; on a cluster they have its own.
    * For its usage statistics, which are off, Tune names the callbacks. To do so it imports
      MLflow, for a second or two in which the workers wait.
    * It keeps each worker for the next trial, and takes its refusal for an error of that trial.
      Here it is told of whose trial no worker goes on.
    * It ends all workers but one where none of them has a trial for a moment, as between two
      acts. It also gives a trial whose worker is starting the one that is free first, and ends
      the other. So trials that are shorter than a start went to one worker, one after the other.
    * It keeps every trial to the end, for a result that nobody reads.

    Args:
        can_be_reused: Whether the worker of a trial may take the next one.
        idle_seconds: How long workers without a trial are all kept.
        takes_over: Hears of each trial that is given a worker which had another before.
    """
    controller = _inner_part(_CONTROLLER, "TuneController")
    keeps = getattr(controller, "_maybe_cache_trial_actor", None)

    def keep(self: Any, trial: Any) -> bool:
        return can_be_reused(trial) and bool(keeps(self, trial))  # type: ignore[misc]

    takes = getattr(controller, "_maybe_reuse_cached_actor", None)

    def take(self: Any, trial: Any) -> bool:
        with contextlib.suppress(AttributeError):
            starting = trial in self._trial_to_actor and trial not in self._resetting_trials
            if starting and time.monotonic() - self._actor_cache.since < _ANOTHER_COMES_SECONDS:
                return False
        taken = bool(takes(self, trial))  # type: ignore[misc]
        if taken:
            takes_over(trial)
        return taken

    step_end = getattr(controller, "on_step_end", None)

    def forget(self: Any) -> None:
        step_end(self)  # type: ignore[misc]
        with contextlib.suppress(AttributeError):
            _forget_ended(self)

    with (
        _replaced(_CONTROLLER, _ObjectCache=_keeping_all(idle_seconds)),
        _part_replaced(controller, "_maybe_cache_trial_actor", keep),
        _part_replaced(controller, "_maybe_reuse_cached_actor", take),
        _part_replaced(controller, "on_step_end", forget),
        _replaced(
            "ray.tune.execution.class_cache", DEFAULT_ENV_VARS={}, ENV_VARS_TO_PROPAGATE=set()
        ),
        _replaced("ray.air._internal.usage", tag_callbacks=lambda callbacks: False),
    ):
        yield


def _keeping_all(idle_seconds: float) -> Any:
    """Return Tune's store of workers without a trial as one that keeps them all for a while."""
    cache: Any = _inner_part(_CONTROLLER, "_ObjectCache") or object

    class All(cache):  # type: ignore[misc]
        since = 0.0  # when the last of them had a trial

        def cache_object(self, key: Any, worker: Any) -> bool:
            self.since = time.monotonic()
            one_more = self.num_cached_objects + 1
            self.increase_max(key, one_more)
            try:
                return bool(super().cache_object(key, worker))
            finally:
                self.decrease_max(key, one_more)

        def flush_cached_objects(self, force_all: bool = False) -> Iterator[Any]:
            if force_all or time.monotonic() - self.since > idle_seconds:
                most = max(0, self.num_cached_objects - (not force_all))
                yield from itertools.islice(super().flush_cached_objects(force_all), most)

    return All


def _forget_ended(controller: Any) -> None:
    """Take all but the last trials that have ended out of wherever Tune keeps them."""
    trials = controller._trials
    over = {trial for trial in trials if trial.is_finished()}
    over -= set([trial for trial in trials if trial in over][-ENDED_KEPT:])
    if over:
        groups = (
            controller._stopped_trials,
            controller._failed_trials,
            controller._live_trials,
            controller._trials_to_cache,
        )
        for group in groups:
            group -= over
        trials[:] = [trial for trial in trials if trial not in over]


def alike_paths() -> Any:
    """Return a job config with which workers do not get the current folder first in `sys.path`.

    Ray puts it there, and a file `random.py` in it stands for Python's own. `Worker` takes the
    driver's path instead.
    """
    import ray

    config = ray.job_config.JobConfig()
    config._py_driver_sys_path = _Closed()
    return config


class _Closed(list[str]):
    def extend(self, items: Any) -> None:
        """Take nothing."""


def ray_processes() -> list[psutil.Process]:
    """Return the processes that `ray.init` started and their descendants, to be killed at once.

    By default Ray asks each to end and waits a second; they do not hear it. So it is told not to
    ask. Without the inner parts that list them there are none here, and Ray ends them itself.
    """
    processes = []
    with contextlib.suppress(AttributeError):
        node = _inner_part("ray._private.worker", "_global_node")
        if node is None:
            return []
        for infos in node.all_processes.values():
            for info in infos:
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(info.process.pid)
                    processes += [process, *process.children(recursive=True)]
        kill = node.kill_all_processes
        node.kill_all_processes = lambda **options: kill(**{**options, "allow_graceful": False})
    return processes


def ray_services() -> dict[str, psutil.Process]:
    """Return the processes of a Ray that was started here without which it is none, by name."""
    services = {}
    with contextlib.suppress(AttributeError):
        node = _inner_part("ray._private.worker", "_global_node")
        for name in ("gcs_server", "raylet"):
            for info in node.all_processes.get(name, ()):
                with contextlib.suppress(psutil.Error):
                    services[name] = psutil.Process(info.process.pid)
    return services


def restore_excepthook() -> None:
    """Take out Ray's hook for uncaught errors, which has its services note each.

    Where those are dead it waits a minute for them.
    """
    before = _inner_part("ray._private.worker", "normal_excepthook")
    if before is not None:
        sys.excepthook = before


def machine_of(worker: str) -> str | None:
    """Return where the Ray of the machine takes connections that a worker runs or ran on.

    Args:
        worker: The hexadecimal number of its actor.
    """
    import ray

    with contextlib.suppress(AttributeError, KeyError, TypeError, ray.exceptions.RayError):
        state = _inner_part("ray._private.state", "actors")(worker)
        for node in ray.nodes():
            if node["NodeID"] == state["Address"]["NodeID"]:
                return f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
    return None


def kill_worker(trial: Any) -> None:
    """End the worker process of one of Tune's trials at once, not after its epoch."""
    import ray

    with contextlib.suppress(AttributeError):
        actor = trial.temporary_state.ray_actor
        if actor is not None:
            ray.kill(actor)


def _inner_part(module: str, name: str) -> Any:
    """Return a private part of Ray; None where this Ray has none of that name."""
    with contextlib.suppress(ImportError):
        return getattr(importlib.import_module(module), name, None)
    return None


@contextlib.contextmanager
def _replaced(module: str, **parts: Any) -> Iterator[None]:
    """Replace private parts of a module of Ray; those that this Ray lacks are not made up."""
    with contextlib.ExitStack() as stack:
        for name, part in parts.items():
            if _inner_part(module, name) is not None:
                stack.enter_context(_part_replaced(importlib.import_module(module), name, part))
        yield


@contextlib.contextmanager
def _part_replaced(owner: Any, name: str, part: Any) -> Iterator[None]:
    before = getattr(owner, name, None)
    if before is not None:
        setattr(owner, name, part)
    try:
        yield
    finally:
        if before is not None:
            setattr(owner, name, before)
