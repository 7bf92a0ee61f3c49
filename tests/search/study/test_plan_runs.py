"""The runs of a plan where a process trains several seeds of an arm."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attnsearch.runs.ledger import Ledger, Role, TrialRow
from attnsearch.search.study import session as engine
from attnsearch.search.study.arithmetic import Settling
from attnsearch.search.study.session import SessionResult, run_study
from attnsearch.search.workers.cluster import Cluster
from attnsearch.search.workers.ray_private import kill_worker
from attnsearch.search.workers.searcher import Watch
from attnsearch.spaces import load_space
from tests.search.workers.test_keeper import without_times

PLANS = "confirm={seeds: 3, epochs: 2, controls: [baseline]}"
OVERRIDES = [PLANS, "search.trials=2", "train.epochs=1", "resources.workers=1"]


@pytest.fixture
def replicas(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has a study find that so many seeds of an arm in one process win."""

    def win(count: int) -> None:
        class Won(Settling):
            def __call__(self, *studies: Any) -> dict[str, Any]:
                records = super().__call__(*studies)
                self.replicas = count
                return records

        monkeypatch.setattr(engine, "Settling", Won)

    return win


@pytest.fixture
def bundles(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many jobs each process was given."""
    given: list[int] = []
    take = Watch.next_job

    def noted(self: Watch) -> Any:
        job = take(self)
        given.extend([] if job is None or job.evaluations else [len(job.members)])
        return job

    monkeypatch.setattr(Watch, "next_job", noted)
    return given


def kept(row: TrialRow) -> tuple[Any, ...]:
    epochs = [without_times(metrics) for metrics in row.epochs]
    times = ("latency", "seconds")
    costs = {name: cost for name, cost in row.costs.items() if not name.startswith(times)}
    return (
        row.role,
        row.arm,
        row.number,
        row.name,
        row.key,
        row.state,
        [{k: v for k, v in said.items() if k != "images_per_s"} for said in epochs],
        costs,
    )


def arms(result: SessionResult) -> list[tuple[Any, ...]]:
    rows = [row for row in result.trials if row.role == Role.CONFIRM]
    return sorted(map(kept, rows), key=lambda fields: fields[1:3])


@pytest.fixture
def one_kill(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kills a process of several seeds after its first report; how many it had."""
    killed: list[int] = []
    hear = Watch.__call__

    def heard(self: Watch, trial_id: str, result: dict[str, Any]) -> bool:
        stops = hear(self, trial_id, result)
        for trial in self._trials:
            members = trial.config["job"].members
            if trial.trial_id == trial_id and len(members) > 1 and not killed:
                killed.append(len(members))
                kill_worker(trial)
        return stops

    monkeypatch.setattr(Watch, "__call__", heard)
    return killed


@pytest.mark.slow  # three studies on a real Ray
@pytest.mark.usefixtures("mlflow_store")
def test_an_arms_seeds_in_one_process_leave_the_rows_of_runs_that_are_alone(
    write_space: Callable[..., Path],
    tmp_path: Path,
    ray_cluster: Cluster,
    replicas: Callable[[int], None],
    bundles: list[int],
    request: pytest.FixtureRequest,
) -> None:
    results = []
    for count, kills in ((1, False), (3, False), (3, True)):
        replicas(count)
        killed = request.getfixturevalue("one_kill") if kills else []
        with Ledger(tmp_path / f"ledger-{len(results)}.db") as ledger:
            results.append(run_study(load_space(write_space(), OVERRIDES), ledger=ledger))
            assert results[-1].state == "finished"
    assert killed == [3]
    assert bundles[:12] == [1] * (2 + 6) + [1, 1] + [3, 3]
    assert sorted(bundles[12:]) == [1] * (2 + 3) + [3, 3]  # the three go on alone
    alone, together, after_a_kill = map(arms, results)
    assert len(alone) == 6
    assert together == alone
    assert after_a_kill == alone
    assert results[0].verdicts == results[1].verdicts == results[2].verdicts
