"""A worker saves its training as often as that costs little, and goes on from what was saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnsearch.runs.data import DataSet
from attnsearch.runs.ledger import State
from attnsearch.runs.training import Training, sound
from attnsearch.search.workers import keeper as module
from attnsearch.search.workers.job import Job, Report
from attnsearch.search.workers.keeper import LONGEST_SECONDS, SHARE, Keeper, Paused
from attnsearch.search.workers.worker import PAUSE, Worker
from tests.runs.training.test_train import digest, make_config, make_data, scores, trained


@pytest.fixture
def data() -> DataSet:
    return make_data()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every epoch is saved, whatever that costs."""
    monkeypatch.setattr(module, "SHARE", 1e9)


def job(folder: Path, **train: Any) -> Job:
    return Job(7, make_config(("layer2", "ecrm"), **train), checkpoints=str(folder / "kept"))


def worker(
    job: Job, data: DataSet, folder: Path, built: list[Training] | None = None
) -> Callable[[], Report]:
    made = Worker.__new__(Worker)

    def make(job: Job, data: DataSet, device: str, threads: int) -> Training:
        training = Training(job.config, data, device, 1)
        if built is not None:
            built.append(training)
        return training

    made.setup({"job": job}, datasets={"data": data}, make=make, faults=folder)
    return lambda: made.step()["report"]


def to_its_end(step: Callable[[], Report]) -> Report:
    while (report := step()).state is None:
        pass
    return report


@pytest.mark.slow  # processes that train and are killed
@pytest.mark.usefixtures("eager")
def test_a_worker_that_was_killed_is_followed_by_one_that_goes_on(
    data: DataSet, tmp_path: Path
) -> None:
    first = worker(job(tmp_path), data, tmp_path)
    lost = [first(), first()]
    built: list[Training] = []
    step = worker(job(tmp_path), data, tmp_path, built)
    again = step()
    assert again.epoch == 2, "the last epoch over again, since nobody may have heard of it"
    assert without_times(again.metrics) == without_times(lost[1].metrics)
    last = to_its_end(step)
    whole = trained(job(tmp_path).config, data, threads=1)
    while not whole.done:
        whole.run_epoch()
    assert (last.state, last.epoch) == (State.FINISHED, 3)
    assert digest(built[0]) == digest(whole)
    assert scores(built[0]) == scores(whole)


def without_times(metrics: dict[str, float]) -> dict[str, float]:
    """What a training says of itself, and not of its machine."""
    return {
        name: value
        for name, value in metrics.items()
        if not name.endswith("_s") and not name.startswith("system/")
    }


@pytest.mark.usefixtures("eager")
def test_one_that_does_not_fit_is_passed_over(data: DataSet, tmp_path: Path) -> None:
    other = worker(Job(7, make_config(), checkpoints=str(tmp_path / "kept")), data, tmp_path)
    other()
    step = worker(job(tmp_path), data, tmp_path)
    assert step().epoch == 1
    assert to_its_end(step).state == State.FINISHED


def test_a_training_is_paused_within_an_epoch_and_goes_on(data: DataSet, tmp_path: Path) -> None:
    step = worker(job(tmp_path), data, tmp_path)
    (tmp_path / PAUSE).touch()
    report = step()
    assert report.state == State.INTERRUPTED
    assert next(sound(tmp_path / "kept")).state()["pass"]["batches"] == 1
    (tmp_path / PAUSE).unlink()
    built: list[Training] = []
    to_its_end(worker(job(tmp_path), data, tmp_path, built))
    whole = trained(job(tmp_path).config, data, threads=1)
    while not whole.done:
        whole.run_epoch()
    assert digest(built[0]) == digest(whole)


def test_saving_takes_its_share_of_the_time_and_no_more(data: DataSet, tmp_path: Path) -> None:
    now = [0.0]
    training = trained(make_config(epochs=100, batch_size=48), data, threads=1)
    keeper = Keeper(job(tmp_path), True, None, lambda: now[0])
    spent = 0.0
    for _ in range(60):
        now[0] += 1.0
        training.run_epoch()
        write = module.Checkpoint.write

        def slow(self: Any, folder: Path, write: Any = write) -> None:
            now[0] += 0.1  # seconds
            write(self, folder)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module.Checkpoint, "write", slow)
            spent += keeper.after_epoch(training)["checkpoint_s"]
    assert 0 < spent <= SHARE * now[0] + 0.1, "the first one's cost is guessed"
    assert spent == pytest.approx(0.1 * round(spent / 0.1))


def test_long_epochs_are_saved_within(data: DataSet, tmp_path: Path) -> None:
    now = [0.0]
    training = trained(make_config(epochs=1, batch_size=4), data, threads=1)
    keeper = Keeper(job(tmp_path), True, None, lambda: now[0])
    saved: list[float] = []

    def between() -> None:
        now[0] += 60.0
        keeper.between(training)
        if keeper.seconds == 0 and list((tmp_path / "kept").glob("*.checkpoint")):
            saved.append(now[0])

    training.between = between
    training.run_epoch()
    names = sorted(path.name[:16] for path in (tmp_path / "kept").iterdir())
    assert names == ["000000-000000008", "000000-000000012"]
    assert saved[0] <= LONGEST_SECONDS


def test_a_training_goes_on_where_checkpoints_cannot_be_written(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARE", 1e9)
    (tmp_path / "kept").write_text("a file where the folder should be")
    step = worker(job(tmp_path), data, tmp_path)
    assert "FileExistsError" in str(step().trouble)
    assert to_its_end(step).state == State.FINISHED


@pytest.mark.usefixtures("eager")
def test_on_another_machine_checkpoints_travel(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = tmp_path / "missing"
    report = worker(job(tmp_path), data, far)()
    assert report.checkpoint.epoch == 1
    assert not (tmp_path / "kept").exists()
    monkeypatch.setattr(module.ray, "get", lambda reference: reference)
    carried = Job(7, job(tmp_path).config, checkpoints="x", checkpoint=report.checkpoint)
    again = worker(carried, data, far)
    assert [again().epoch, again().epoch] == [1, 2]


def test_pausing_says_so(data: DataSet, tmp_path: Path) -> None:
    (tmp_path / PAUSE).touch()
    keeper = Keeper(Job(1, {}), True, tmp_path / PAUSE)
    with pytest.raises(Paused):
        keeper.between(trained(make_config(), data, threads=1))
