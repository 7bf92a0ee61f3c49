"""What is read again later, and determines a result, is what its key says."""

import importlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from attnsearch.blocks.build.network import build_network
from attnsearch.runs.exports.export import export_study
from attnsearch.runs.exports.weights import ExportError
from attnsearch.runs.ledger.key import InputsChanged
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.patience import LedgerError
from attnsearch.search.study.ablation import ablate
from attnsearch.search.study.session import SessionResult, run_study
from attnsearch.search.workers.worker import make_training
from attnsearch.spaces import load_space

SPACE = """
name: tiny
task: classification
data: {{source: {data}, image_size: 8}}
network: {{backbone: resnet20, width: 0.25, weights: {weights}}}
insert:
  - at: layer3
    block: {block}
train: {{epochs: 1, batch_size: 16, lr: 0.05}}
search: {{sampler: random, scheduler: none, trials: 2}}
"""
GATE = """
import torch
from {helper} import FACTOR

class Gate(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x * FACTOR
"""


class Project:
    """A folder with a user's block in two modules, a weights file, data and a ledger."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.others = itertools.count()
        self.ledger = folder / "attnsearch.db"
        self.block, self.helper = folder / f"gates{number}.py", folder / f"factors{number}.py"
        self.weights = folder / "start.safetensors"
        self.data = folder / "tiny.npz"
        self.block.write_text(GATE.format(helper=self.helper.stem))
        self.helper.write_text("FACTOR = 1.0\n")
        self.write_weights()
        self.choices = f"{{choice: [none, '{self.block.stem}:Gate']}}"

    def write_weights(self) -> None:
        config = {"network": {"backbone": "resnet20", "width": 0.25}, "insert": []}
        network = build_network(config, in_channels=1, classes=2, image_size=8)
        state = network.state_dict()
        state["conv1.weight"] += next(self.others)
        save_file(state, self.weights)

    def space(self, **changes: str) -> Any:
        values = {
            "data": "tiny.npz",
            "weights": self.weights.name,
            "block": self.choices,
        } | changes
        path = self.folder / "tiny.yaml"
        path.write_text(SPACE.format(**values))
        return load_space(path)

    def run(self, **changes: str) -> SessionResult:
        with Ledger(self.ledger) as ledger:
            return run_study(self.space(**changes), ledger=ledger)  # type: ignore[arg-type]

    def states(self, study: int) -> list[tuple[str, str]]:
        with Ledger(self.ledger) as ledger:
            return [(row.key, str(row.state)) for row in ledger.trials(study)]  # type: ignore[misc]


@pytest.fixture
def project(
    tmp_path: Path, write_space: Callable[..., Path], request: Any, in_process: Any
) -> Iterator[Project]:
    write_space()
    before = set(sys.modules), list(sys.path)
    in_process.make = train
    importlib.invalidate_caches()
    yield Project(tmp_path, abs(hash(request.node.name)))
    sys.path[:] = before[1]
    for name in set(sys.modules) - before[0]:
        if name.startswith(("gates", "factors")):
            del sys.modules[name]


def train(*arguments: Any) -> Any:
    """Makes a real training, but for the time that measuring costs takes."""
    training = make_training(*arguments)
    training.costs = lambda: {"params": 1.0, "macs": 1.0}  # type: ignore[method-assign]
    return training


class Stopped(BaseException):
    """Ends the driver, whose process is the worker's here."""


def interrupt_at(job: int, in_process: Any) -> None:
    """Has the training of a job, counted from 1, end as by a killed process."""
    made = []

    def make(*arguments: Any) -> Any:
        made.append(1)
        if len(made) == job:
            raise Stopped
        return train(*arguments)

    in_process.make = make


CHANGES: dict[str, Callable[[Project], None]] = {
    "block": lambda project: project.block.write_text(project.block.read_text() + "\n# other\n"),
    "helper": lambda project: project.helper.write_text("FACTOR = 2.0\n"),
    "weights": lambda project: project.write_weights(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_an_interrupted_run_keeps_its_key_and_the_changed_one_gets_its_own(
    project: Project, in_process: Any, what: str
) -> None:
    interrupt_at(2, in_process)
    with pytest.raises(Stopped):
        project.run()
    in_process.make = train
    (_, done), (old_key, old_state) = project.states(1)
    assert (done, old_state) == ("finished", "interrupted")
    files = project.block, project.helper, project.weights
    before = [file.read_bytes() for file in files]

    CHANGES[what](project)
    changed = project.run()
    assert changed.study.label == "tiny/2" and changed.state == "finished"
    assert (old_key, "interrupted") == project.states(1)[1]
    if what == "weights":
        assert old_key not in {row.key for row in changed.trials}
    (note,) = [note for note in changed.notes if "begins anew" in note]
    named = "network.weights" if what == "weights" else f"the source of {project.block.stem}"
    assert "beside tiny/1" in note and named in note

    # With what was there restored, the first study goes on and has its own results.
    for file, content in zip(files, before, strict=True):
        file.write_bytes(content)
    restored = project.run()
    assert restored.study.label == "tiny/1" and restored.state == "finished"
    assert not [note for note in restored.notes if "begins anew" in note]
    own = {row.key for row in restored.trials if ":Gate" in str(row.values) or what == "weights"}
    theirs = {row.key for row in changed.trials}
    assert own and not own & theirs


@pytest.mark.parametrize("what", CHANGES)
def test_what_changes_while_a_study_runs_is_not_trained_under_the_old_key(
    project: Project, in_process: Any, what: str
) -> None:
    """Changed between the claim and the worker's start: nothing is stored, the study ends."""

    def make(job: Any, *rest: Any) -> Any:
        if any(":Gate" in entry["block"] for entry in job.config["insert"]):
            CHANGES[what](project)
        return train(job, *rest)

    in_process.make = make
    with pytest.raises(InputsChanged, match="changed since this session began"):
        project.run()
    states = [state for _, state in project.states(1)]
    assert states[-1] == "interrupted" and set(states[:-1]) <= {"finished"}


def test_weights_of_the_same_size_and_time_are_others(project: Project, in_process: Any) -> None:
    project.run(block="se")
    stamp = project.weights.stat()
    project.write_weights()
    os.utime(project.weights, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert project.run(block="se").study.label == "tiny/2"


def test_the_study_goes_on_where_only_places_changed(project: Project, in_process: Any) -> None:
    first = project.run()
    project.weights = project.weights.rename(project.folder / "moved.safetensors")
    project.data.rename(project.folder / "moved.npz")
    again = project.run(data="moved.npz")
    assert again.study.label == first.study.label
    assert len(in_process.jobs) == 2


def test_changed_data_and_settings_are_named(project: Project, in_process: Any) -> None:
    project.run(block="se")
    arrays = dict(np.load(project.data))
    arrays["train_images"][0] += 1
    np.savez(project.data, **arrays)
    (note,) = project.run(block="se").notes
    assert f"the data of {project.data} (changed: train/000000)" in note
    (note,) = project.run(block="gc").notes
    assert "beside tiny/2" in note and "insert" in note and '"se"' in note


def test_a_study_in_another_ledger_is_pointed_at(
    project: Project, in_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.run(block="se")
    other = project.folder / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    first, project.ledger = project.ledger, other / "attnsearch.db"
    (note,) = project.run(block="se").notes
    assert f"an earlier one lies in {first}: tiny/1" in note and "ATTNSEARCH_LEDGER" in note
    assert project.run(block="se").notes == []


def test_other_versions_of_what_computes_are_told(
    project: Project, in_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnsearch.runs import machine

    versions = machine.package_versions()
    monkeypatch.setattr(machine, "package_versions", lambda: {**versions, "torch": "1.0"})
    project.run(block="se")
    monkeypatch.undo()
    (note,) = project.run(block="se").notes
    assert "torch 1.0 (now" in note and "--fresh" in note


def test_a_worker_with_other_packages_trains_nothing(
    project: Project, in_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnsearch.search.workers import worker

    monkeypatch.setattr(worker, "package_inputs", lambda: {"torch": "1.0", "numpy": "1.0"})
    with pytest.raises(InputsChanged, match="torch"):
        project.run(block="se")
    assert [state for _, state in project.states(1)] == ["interrupted"]


def test_an_ablation_around_a_study_needs_its_sources(project: Project, in_process: Any) -> None:
    project.run()
    CHANGES["block"](project)
    with Ledger(project.ledger) as ledger:
        with pytest.raises(LedgerError, match="another source"):
            ablate("tiny", ledger=ledger)  # type: ignore[arg-type]
        assert [row.label for row in ledger.studies()] == ["tiny/1"]


def test_an_export_holds_the_source_that_was_trained(project: Project, in_process: Any) -> None:
    project.run(block=f"'{project.block.stem}:Gate'")
    with Ledger(project.ledger) as ledger:
        to = export_study(ledger, "tiny", project.folder / "best")  # type: ignore[arg-type]
        assert (to / project.helper.name).read_bytes() == project.helper.read_bytes()
        CHANGES["helper"](project)
        with pytest.raises(ExportError, match=r"the source of .*:Gate is another one than"):
            export_study(ledger, "tiny", project.folder / "other")  # type: ignore[arg-type]
    assert not (project.folder / "other").exists()
