"""Every reach into Ray's private parts.

Each saves time that Ray has no option to save. Where a Ray has other inner parts than the one that
this was written for, the reach changes nothing, and only the time is lost.
"""

import contextlib
import functools
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import psutil


@contextlib.contextmanager
def few_processes() -> Iterator[None]:
    """Leave out of a local Ray what it has no use for here: log monitor and autoscaler.

    Each takes half a second of a core to start and 50 MB, and `ray.init` has no options for it.
    """
    module, name = "ray._private.parameter", "RayParams"
    unneeded = {"no_monitor": True, "include_log_monitor": False}
    parameters = _inner_part(module, name)
    with contextlib.suppress(TypeError, ValueError):
        if set(unneeded) <= set(inspect.signature(parameters).parameters):
            parameters = functools.partial(parameters, **unneeded)
    with _replaced(module, **{name: parameters}):
        yield


@contextlib.contextmanager
def lean_tune() -> Iterator[None]:
    """Have Tune start its workers from the processes that Ray holds ready, and count no callbacks.

    * With environment variables of its own for its actors, Ray starts each in a new process, by
      way of a further one, though those that it holds ready have imported torch already: ten
      seconds of two cores for two workers. On one machine the workers inherit the variables in
      question; on a cluster they have its own.
    * For its usage statistics, which are off, Tune names the callbacks. To do so it imports
      MLflow, for a second or two in which the workers wait.
    """
    with (
        _replaced(
            "ray.tune.execution.class_cache", DEFAULT_ENV_VARS={}, ENV_VARS_TO_PROPAGATE=set()
        ),
        _replaced("ray.air._internal.usage", tag_callbacks=lambda callbacks: False),
    ):
        yield


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
    before = {name: _inner_part(module, name) for name in parts}
    present = {name: value for name, value in before.items() if value is not None}
    for name in present:
        setattr(importlib.import_module(module), name, parts[name])
    try:
        yield
    finally:
        for name, value in present.items():
            setattr(importlib.import_module(module), name, value)
