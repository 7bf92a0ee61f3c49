"""What becomes of the reaches into Ray's private parts where a Ray has others."""

import pytest


def test_a_ray_with_other_inner_parts_costs_time_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray._private import parameter, worker
    from ray.air._internal import usage
    from ray.tune.execution import class_cache
    from ray.tune.execution.tune_controller import TuneController

    from attnsearch.search.workers import ray_private

    def other() -> None:
        """Takes none of the options."""

    monkeypatch.setattr(parameter, "RayParams", other)
    monkeypatch.delattr(worker, "_global_node")
    monkeypatch.delattr(usage, "tag_callbacks")
    monkeypatch.delattr(class_cache, "DEFAULT_ENV_VARS")
    monkeypatch.delattr(TuneController, "_maybe_cache_trial_actor")
    with ray_private.few_processes(), ray_private.lean_tune(lambda trial: True):
        assert parameter.RayParams is other
        assert not hasattr(usage, "tag_callbacks")
        assert not hasattr(class_cache, "DEFAULT_ENV_VARS")
        assert not class_cache.ENV_VARS_TO_PROPAGATE
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
