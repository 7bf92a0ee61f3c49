"""What becomes of the reaches into Ray's private parts where a Ray has others."""

import inspect
import math
import time
from types import SimpleNamespace

import pytest


def test_a_ray_with_other_inner_parts_costs_time_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray._private import parameter, services, state, worker
    from ray.air._internal import usage
    from ray.tune.execution import class_cache, tune_controller
    from ray.tune.execution.tune_controller import TuneController

    from attnsearch.search.workers import ray_private

    steps: list[object] = []

    def other() -> None:
        """Takes none of the options."""

    monkeypatch.setattr(parameter, "RayParams", other)
    monkeypatch.delattr(worker, "_global_node")
    monkeypatch.delattr(state, "GlobalState")
    monkeypatch.delattr(services, "_get_gcs_client_options")
    monkeypatch.setattr(services, "get_node", lambda address, node: (address, node))
    monkeypatch.delattr(usage, "tag_callbacks")
    monkeypatch.delattr(class_cache, "DEFAULT_ENV_VARS")
    monkeypatch.delattr(TuneController, "_maybe_cache_trial_actor")
    monkeypatch.delattr(TuneController, "_maybe_reuse_cached_actor")
    monkeypatch.delattr(tune_controller, "_ObjectCache")
    monkeypatch.setattr(TuneController, "on_step_end", lambda self: steps.append(self))
    with ray_private.few_processes(), ray_private.lean_tune(lambda trial: True):
        assert parameter.RayParams is other
        assert not hasattr(usage, "tag_callbacks")
        assert not hasattr(class_cache, "DEFAULT_ENV_VARS")
        assert not class_cache.ENV_VARS_TO_PROPAGATE
        assert services.get_node("address", "node") == ("address", "node")
        TuneController.on_step_end(object())  # type: ignore[arg-type]
        assert len(steps) == 1
    assert class_cache.ENV_VARS_TO_PROPAGATE
    assert ray_private.ray_processes() == []
    assert ray_private.ray_services() == {}
    ray_private.kill_worker(object())


def test_a_worker_is_kept_only_where_it_may_be() -> None:
    from ray.tune.execution.tune_controller import TuneController

    from attnsearch.search.workers import ray_private

    before = TuneController._maybe_cache_trial_actor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TuneController, "_maybe_cache_trial_actor", lambda self, trial: True)
        with ray_private.lean_tune(lambda trial: trial == "clean"):
            keeps = [TuneController._maybe_cache_trial_actor(None, t) for t in ("clean", "used")]  # type: ignore[arg-type]
    assert keeps == [True, False]
    assert TuneController._maybe_cache_trial_actor is before


def test_workers_without_a_trial_are_all_kept_for_a_while() -> None:
    """As between two acts; Tune ended all but one, and started as many again."""
    from ray.tune.execution import tune_controller

    from attnsearch.search.workers import ray_private

    for idle_seconds, left in ((math.inf, 3), (0.0, 1)):
        with ray_private.lean_tune(lambda trial: True, idle_seconds):
            cache = tune_controller._ObjectCache(may_keep_one=True)
        assert list(cache.flush_cached_objects()) == []
        assert [cache.cache_object("cpu", worker) for worker in "abc"] == [True] * 3
        assert len(list(cache.flush_cached_objects())) == 3 - left
        assert cache.num_cached_objects == left
        assert cache.total_max_objects == 0
        assert len(list(cache.flush_cached_objects(force_all=True))) == left


def test_a_worker_that_is_starting_is_waited_for_unless_nobody_takes_the_free_one() -> None:
    """Trials shorter than a start went to one worker, one after the other."""
    from ray.tune.execution.tune_controller import TuneController

    from attnsearch.search.workers import ray_private

    cache = SimpleNamespace(since=time.monotonic())
    controller = SimpleNamespace(
        _trial_to_actor={"starting": "worker", "resetting": "worker"},
        _resetting_trials={"resetting"},
        _actor_cache=cache,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TuneController, "_maybe_reuse_cached_actor", lambda self, trial: True)
        with ray_private.lean_tune(lambda trial: True):
            take = TuneController._maybe_reuse_cached_actor
            taken = {name: take(controller, name) for name in ("starting", "resetting", "new")}  # type: ignore[arg-type]
            cache.since -= 1
            assert take(controller, "starting")  # type: ignore[arg-type]
    assert taken == {"starting": False, "resetting": True, "new": True}


class Ended:
    """Stands for one of Tune's trials."""

    def __init__(self, ended: bool = True) -> None:
        self.ended = ended

    def is_finished(self) -> bool:
        return self.ended


def test_tune_forgets_all_but_the_last_trials_that_ended() -> None:
    from ray.tune.execution.tune_controller import TuneController

    from attnsearch.search.workers import ray_private

    first, running, failed, *rest = (Ended(number != 1) for number in range(20))
    trials = [first, running, failed, *rest]
    kept = rest[-ray_private.ENDED_KEPT :]
    controller = SimpleNamespace(
        _trials=trials,
        _stopped_trials={first, *rest},
        _failed_trials={failed},
        _live_trials={running, failed},
        _trials_to_cache=set(trials),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TuneController, "on_step_end", lambda self: None)
        with ray_private.lean_tune(lambda trial: True):
            TuneController.on_step_end(controller)  # type: ignore[arg-type]
    assert trials == [running, *kept]
    assert controller._stopped_trials == set(kept)
    assert controller._failed_trials == set()
    assert controller._live_trials == {running}
    assert controller._trials_to_cache == {running, *kept}
    assert ray_private.ENDED_KEPT < 17


def test_tune_keeps_its_trials_where_it_was_when_this_was_written() -> None:
    """Else they would be kept to the end, which costs memory and is not noticed."""
    from ray.tune.execution.tune_controller import TuneController

    source = inspect.getsource(TuneController.__init__)
    for group in ("_trials", "_stopped_trials", "_failed_trials", "_live_trials"):
        assert f"self.{group}:" in source


def test_a_trial_finds_the_worker_that_is_starting_for_it_where_this_expects_it() -> None:
    from ray.tune.execution.tune_controller import TuneController

    source = inspect.getsource(TuneController)
    for part in ("_trial_to_actor", "_resetting_trials", "_actor_cache = _ObjectCache("):
        assert f"self.{part}" in source
