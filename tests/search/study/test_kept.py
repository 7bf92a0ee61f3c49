"""A study goes on wherever its images lie, and tells where that is."""

from pathlib import Path

import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.search.cli import call
from tests.runs.batches.test_feed import folder

SPACE = """\
name: kept
task: classification
data: {source: set, image_size: 8}
network: {backbone: resnet20, width: 0.25}
train: {epochs: 1, batch_size: 8, speed: plain}
search: {trials: 1, objectives: {val_accuracy: max}}
resources: {workers: 1}
"""


@pytest.mark.slow  # two trainings through Ray
def test_a_run_is_the_same_wherever_its_images_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path / "cache"))
    folder(tmp_path)
    (tmp_path / "space.yaml").write_text(SPACE)
    for keep, *more in (("files",), ("mapped", "--fresh"), ("memory",), (None,)):
        asked = ["--set", f"data.keep={keep}"] if keep else []
        assert call(["run", "space.yaml", *asked, *more]) == 0
        told = "".join(capsys.readouterr())
        assert (f"images kept: {keep}, by data.keep: {keep}; " in told) == (keep is not None)
        assert ("trial 000 finished" in told) == (keep in ("files", "mapped"))
        assert call(["show", "kept"]) == 0
        assert ("Images kept: " in capsys.readouterr().out) == (keep is not None)
    with Ledger(create=False) as ledger:
        runs = [trial for study in ledger.studies() for trial in ledger.trials(study.id)]
    assert len(runs) == 2
    for of in (lambda run: run.key, lambda run: run.metrics["val_loss"]):
        assert of(runs[0]) == of(runs[1])
