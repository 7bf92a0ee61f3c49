"""Whole studies on a few pixels: what is tried, what is recorded, what is never done twice."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attnsearch.blocks.build.network import build_network
from attnsearch.blocks.measure.cost import count_params
from attnsearch.runs.exports.weights import read_weights
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.patience import LedgerError
from attnsearch.runs.ledger.requests import Ending, Request
from attnsearch.runs.readers.source import DataError
from attnsearch.search.cli import call
from attnsearch.search.exit import DONE
from attnsearch.search.study import session as engine
from attnsearch.search.study.session import SessionResult, StudyError, run_study
from attnsearch.search.workers.cluster import Cluster, ClusterError
from attnsearch.search.workers.job import Outcome, Report
from attnsearch.spaces import Space, load_space

SEARCH = """
name: tiny
task: classification
data: {source: tiny.npz, image_size: 8}
network: {backbone: resnet20, width: 0.25}
insert:
  - at: layer3
    block: {choice: [none, se, gc], prior: gc}
  - at: layer2
    block: {choice: [none, eca]}
train: {epochs: 3, batch_size: 16, lr: {float: [0.02, 0.2], log: true, prior: 0.05}}
search: {sampler: tpe, scheduler: {asha: {grace: 1, reduction: 2}}, trials: 5}
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "attnsearch.db") as opened:
        yield opened  # type: ignore[misc]


def one_at_a_time(path: Path, *overrides: str) -> Space:
    """The space; the tests' Ray has room for one trial at a time, so that it can be repeated."""
    return load_space(path, overrides)


def trajectory(result: SessionResult) -> list[tuple[Any, ...]]:
    return [
        (row.number, row.role, row.values, row.state, len(row.epochs), row.metrics["val_loss"])
        for row in result.trials
    ]


def test_a_study_in_two_sessions_is_the_study_in_one(
    write_space: Callable[..., Path],
    ledger: Ledger,
    tmp_path: Path,
    recorder: Any,
    ray_cluster: Cluster,
    mlflow_store: str,
    in_process: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_space(SEARCH)
    first = run_study(one_at_a_time(path, "search.trials=2"), ledger=ledger)
    assert (first.state, len(first.trials)) == ("finished", 2)
    second = run_study(one_at_a_time(path), ledger=ledger, progress=recorder)
    assert (second.study.id, second.state, len(second.trials)) == (first.study.id, "finished", 5)
    assert [info.number for (info,) in recorder.of("trial_started")] == [2, 3, 4]
    assert recorder.of("study_started")[0][0].done == 2
    assert all(row.attempt == 1 for row in second.trials)

    # In one go, and on Ray, it is the same to the last bit.
    monkeypatch.undo()
    with Ledger(tmp_path / "other.db") as other:
        straight = run_study(one_at_a_time(path), ledger=other)  # type: ignore[arg-type]
    assert trajectory(straight) == trajectory(second)

    # The plain network is trial 0 and gets its full schedule.
    plain, prior, *_ = second.trials
    assert (plain.role, plain.name, plain.state) == ("plain", "000 plain", "finished")
    assert {value for name, value in plain.values.items() if "block" in name} == {"none"}
    assert prior.role == "trial"
    assert (prior.values["layer3.block"], prior.values["train.lr"]) == ("gc", 0.05)

    # What counts is recorded: epochs, scores of the last one, costs, the importances.
    for row in second.trials:
        assert [epoch["epoch"] for epoch in row.epochs] == list(range(1, len(row.epochs) + 1))
        assert row.costs["params"] > 0 and row.costs["macs"] > 0
        if row.state == "finished":
            assert row.metrics["val_accuracy"] == row.epochs[-1]["val_accuracy"]
            assert row.costs["latency_ms"] > 0
    finished = [row for row in second.trials if row.state == "finished"]
    best = max(finished, key=lambda row: (row.metrics["val_accuracy"], -row.number))
    assert second.best == best.number
    assert second.front == [best.number]
    assert second.study.importances == second.importances
    assert set(second.importances["val_accuracy"]) <= {*plain.values, "layer3.gc.ratio"}

    # The weights of the best are kept, no more than three, and are those of their configs.
    assert best.weights_path is not None
    kept = [row for row in second.trials if row.weights_path]
    assert len(kept) <= 3 + 3  # each session drops what it surpassed itself
    state, interface = read_weights(Path(best.weights_path))
    build_network(best.config, 1, 2, 8).load_state_dict(state)
    assert len(interface.class_names) == 2


def test_a_finished_study_is_not_touched_again(
    write_space: Callable[..., Path],
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    in_process: Any,
) -> None:
    space = load_space(write_space())
    done = run_study(space, ledger=ledger)
    assert done.state == "finished"
    trained, cluster = len(in_process.jobs), engine.running_cluster
    monkeypatch.setattr(engine, "running_cluster", lambda *_: pytest.fail("Ray is not needed"))
    again = run_study(space, ledger=ledger)
    assert [row.ended for row in again.trials] == [row.ended for row in done.trials]

    # One config of it alone, as an export leaves it, is taken over.
    single = load_space(space.path, ["name=best", "insert.0.block=se"])
    assert single.decisions == ()
    one = run_study(single, ledger=ledger)
    assert (one.state, len(one.trials), one.best) == ("finished", 1, 0)

    # So is every trial of another study that needs the same runs, each in its own place.
    monkeypatch.setattr(engine, "running_cluster", cluster)
    taken = run_study(load_space(space.path, ["name=other"]), ledger=ledger)
    assert [row.id for row in taken.trials] == [row.id for row in done.trials]
    assert all(str(row.reused_from).startswith("tiny") for row in taken.trials)

    assert len(in_process.jobs) == trained

    # Unless they are asked for anew.
    fresh = run_study(single, ledger=ledger, fresh=True)
    assert fresh.study.number == 2
    assert fresh.trials[0].id != one.trials[0].id
    assert fresh.trials[0].key == one.trials[0].key
    assert fresh.trials[0].metrics["val_loss"] == one.trials[0].metrics["val_loss"]


def test_limits_duplicates_and_an_exhausted_space(
    write_space: Callable[..., Path], ledger: Ledger, recorder: Any, in_process: Any
) -> None:
    path = write_space(
        """
name: small
task: classification
data: {source: tiny.npz, image_size: 8}
network: {backbone: resnet20, width: 0.25}
insert:
  - at: layer3
    block: {choice: [none, se, eca, simam]}
  - at: layer2
    block: {choice: [none, simam]}
train: {epochs: 1, batch_size: 16, lr: 0.05}
search: {sampler: random, scheduler: none, trials: 30}
forbid:
  - {layer3.block: simam, layer2.block: simam}
"""
    )
    plain = load_space(path)
    network = build_network(plain.resolve(plain.baseline()), 1, 2, 8)
    space = load_space(path, [f"limits.params={count_params(network) + 3}"])
    result = run_study(space, ledger=ledger, progress=recorder)

    assert result.state == "finished"
    assert "exhausted: all 7 different configs" in " ".join(result.notes)
    tried = {(row.values["layer3.block"], row.values["layer2.block"]) for row in result.trials}
    assert len(tried) == len(result.trials) == 7
    assert ("simam", "simam") not in tried
    for row in result.trials:
        if row.values["layer3.block"] == "se":
            assert row.state == "infeasible"
            assert row.violations["limits.params"] > 0
            assert row.epochs == ()
            assert "is above limits.params" in str(row.error)
        else:
            assert row.state == "finished"
    noted = [note for row in result.trials for note in row.proposal.get("before", ())]
    assert any("same" in note for note in noted)
    assert any("forbidden" in note for note in noted)


@pytest.mark.slow  # a whole study
def test_several_objectives_give_a_front(
    write_space: Callable[..., Path], ledger: Ledger, in_process: Any
) -> None:
    path = write_space(SEARCH)
    space = load_space(
        path,
        ["search.objectives={val_accuracy: max, params: min}", "search.sampler=nsga2"],
    )
    result = run_study(space, ledger=ledger)
    assert result.state == "finished"
    finished = {row.number: row for row in result.trials if row.state == "finished"}
    scores = {
        n: (-row.costs["params"], row.metrics["val_accuracy"]) for n, row in finished.items()
    }
    front = [
        n
        for n, mine in scores.items()
        if not any(
            all(a >= b for a, b in zip(theirs, mine, strict=True)) and theirs != mine
            for theirs in scores.values()
        )
    ]
    assert result.front == front
    assert all(finished[n].weights_path for n in front)
    assert set(result.importances) == {"params", "val_accuracy"}


def test_without_none_the_plain_network_runs_beside_the_search(
    write_space: Callable[..., Path], ledger: Ledger, in_process: Any
) -> None:
    path = write_space()
    text = path.read_text().replace("[none, se, gc]", "[se, gc]").replace("trials: 3", "trials: 2")
    path.write_text(text)
    result = run_study(load_space(path), ledger=ledger)
    roles = {row.role: row for row in result.trials}
    assert len([row for row in result.trials if row.arm is None]) == 2
    assert roles["baseline"].config["insert"] == []
    assert roles["baseline"].state == "finished"
    assert result.best in (0, 1)


def test_a_study_that_another_process_has_for_itself_is_left_to_it(
    write_space: Callable[..., Path], ledger: Ledger, tmp_path: Path, in_process: Any
) -> None:
    space = load_space(write_space())
    with Ledger(tmp_path / "attnsearch.db") as holder:
        study = run_study(space, ledger=ledger).study
        holder.open_study("tiny", "", space.document, study.fingerprint, {})
        with pytest.raises(LedgerError, match="is being run by process"):
            run_study(space, ledger=ledger)


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("resources.cpus=4000", ClusterError, r"cpus: 4000.*but"),
        ("resources.gpus=8", ClusterError, r"gpus: 8.*but"),
        ("data.source=null", StudyError, "not run"),
        ("data.source=missing.npz", DataError, "missing.npz"),
    ],
)
def test_what_cannot_be_run_is_said_and_leaves_nothing_running(
    write_space: Callable[..., Path],
    ledger: Ledger,
    override: str,
    error: type[Exception],
    words: str,
) -> None:
    overrides = [override, "data.channels=1", "data.classes=2"]
    space = load_space(write_space(), overrides if "null" in override else overrides[:1])
    with pytest.raises(error, match=words):
        run_study(space, ledger=ledger)
    assert {study.state for study in ledger.studies()} <= {"interrupted"}


def test_a_plain_network_has_nothing_to_confirm(
    write_space: Callable[..., Path], ledger: Ledger, in_process: Any
) -> None:
    path = write_space()
    path.write_text(path.read_text() + "confirm: {top: 1, seeds: 3}\n")
    space = load_space(path, ["insert.0.block=none"])
    result = run_study(space, ledger=ledger)
    assert result.state == "failed" and "nothing to confirm" in result.message
    explored = run_study(space, ledger=ledger, until="explore")
    assert (explored.state, explored.notes) == ("finished", [])
    with pytest.raises(StudyError, match="until: 'tomorrow' is unknown"):
        run_study(space, ledger=ledger, until="tomorrow")


def test_a_run_that_another_driver_trains_is_waited_for(
    write_space: Callable[..., Path], ledger: Ledger, tmp_path: Path, in_process: Any
) -> None:
    """Two studies need the same run at the same time: one trains it, the other takes it over."""
    space = load_space(write_space())
    with Ledger(tmp_path / "model.db") as model:
        runs = {row.key: row for row in run_study(space, ledger=model).trials}  # type: ignore[arg-type]
    trained = len(in_process.jobs)
    with Ledger(tmp_path / "attnsearch.db") as other:
        row = next(iter(runs.values()))
        claim = other.claim(Request(row.key, config=row.config, seed=row.seed, epochs=2))

        def finish() -> None:
            other.finish(claim.run_id, Ending("finished", metrics=row.metrics, costs=row.costs))

        timer = threading.Timer(2, finish)
        timer.start()
        result = run_study(space, ledger=ledger)
        timer.join()
    assert result.state == "finished"
    assert len(in_process.jobs) - trained == len(runs) - 1
    assert {row.key for row in result.trials} == set(runs)


def test_a_trial_whose_worker_was_lost_is_begun_anew(
    write_space: Callable[..., Path],
    ledger: Ledger,
    in_process: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = in_process._train
    losses = {1: 2, 2: 9}  # of the second job all but its third attempt, of the third each

    def unreliable(worker: Any, source: Any, job: Any) -> Outcome:
        numbers = list(dict.fromkeys(earlier.id for earlier in in_process.jobs))
        position = numbers.index(job.id)
        if losses.get(position, 0):
            losses[position] -= 1
            return Outcome("lost", {}, Report(), "its machine went away")
        outcome: Outcome = train(worker, source, job)
        return outcome

    monkeypatch.setattr(in_process, "_train", unreliable)
    result = run_study(load_space(write_space()), ledger=ledger)
    assert result.state == "finished"
    assert [row.state for row in result.trials] == ["finished", "finished", "failed"]
    assert [row.attempt for row in result.trials] == [1, 3, 3]
    assert result.trials[2].error == "its machine went away"


def test_a_stop_before_the_first_trial_leaves_nothing_running(
    write_space: Callable[..., Path],
    ledger: Ledger,
    in_process: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = load_space(write_space(), ["insert.0.block=none"])

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "running_cluster", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(space, ledger=ledger)
    (study,) = ledger.studies()
    assert study.state == "interrupted"
    assert Counter(run.state for run in ledger.trials(study.id)) == {"interrupted": 1}


def test_auto_gpus_without_any_trains_on_cpus_and_the_study_tells_it(
    write_space: Callable[..., Path],
    ledger: Ledger,
    in_process: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    overrides = ["resources.gpus=auto", "train.epochs=1", "search.trials=1"]
    result = run_study(load_space(write_space(), overrides), ledger=ledger)
    assert result.state == "finished"
    assert result.study.document["resources"]["gpus"] == 0
    assert result.study.packing is not None
    monkeypatch.setenv("ATTNSEARCH_LEDGER", str(ledger.database.path))
    assert call(["show", "tiny"]) == DONE
    assert "auto: no GPU here, so trials train on CPUs" in capsys.readouterr().out
    again = run_study(load_space(write_space(), overrides), ledger=ledger)
    assert again.study.id == result.study.id
    assert len(in_process.jobs) == 1
