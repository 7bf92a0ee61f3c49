"""What becomes of the reaches into Ray's private parts where a Ray has others."""

import pytest


def test_a_ray_with_other_inner_parts_costs_time_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray._private import parameter, worker
    from ray.air._internal import usage
    from ray.tune.execution import class_cache

    from attnsearch.search.workers import ray_private

    def other() -> None:
        """Takes none of the options."""

    monkeypatch.setattr(parameter, "RayParams", other)
    monkeypatch.delattr(worker, "_global_node")
    monkeypatch.delattr(usage, "tag_callbacks")
    monkeypatch.delattr(class_cache, "DEFAULT_ENV_VARS")
    with ray_private.few_processes(), ray_private.lean_tune():
        assert parameter.RayParams is other
        assert not hasattr(usage, "tag_callbacks")
        assert not hasattr(class_cache, "DEFAULT_ENV_VARS")
        assert not class_cache.ENV_VARS_TO_PROPAGATE
    assert class_cache.ENV_VARS_TO_PROPAGATE
    assert ray_private.ray_processes() == []
    ray_private.kill_worker(object())
