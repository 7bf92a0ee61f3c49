"""`attnsearch run`: exit status and summary of a session, with a stand-in for the engine."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.requests import Ending, Place, Request
from attnsearch.search.cli import call
from attnsearch.search.exit import DONE, FAILED, INTERRUPTED, WRONG_INPUT
from attnsearch.search.study import ablation, session as engine
from attnsearch.search.study.events import Progress, StudyEnd, StudyInfo
from attnsearch.search.study.session import SessionResult
from attnsearch.spaces import Space, load_space

TINY = """\
name: tiny
task: classification
data: {source: digits, image_size: 16}
network: {backbone: resnet20, width: 0.25}
insert:
  - at: layer3
    block: {choice: [none, se, gc]}
blocks: {gc: {ratio: 0.5}, se: {reduction: 4}}
train: {epochs: 2, lr: {float: [0.05, 0.2]}}
search: {trials: 4}
confirm: {top: 1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("ATTNSEARCH_LEDGER", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replaces the engine by one that records two trials; its last call's options."""
    calls: list[dict[str, Any]] = []

    def run_study(
        space: Space, *, fresh: bool, progress: Progress, until: str | None
    ) -> SessionResult:
        calls[-1:] = [{**calls[-1], "space": space, "fresh": fresh, "until": until}]
        plan = calls[-1]
        if "raises" in plan:
            raise plan["raises"]
        state = plan.get("state", "finished")
        with closing(Ledger()) as ledger:
            row = ledger.open_study(space.name, space.text, space.document, "print", {})
            for number, block in enumerate(plan.get("blocks", ("none", "gc"))):
                config = space.resolve({"layer3.block": block, "train.lr": 0.1})
                claim = ledger.claim(Request(str(number), config=config, seed=0, epochs=2))
                values = {"layer3.block": block, "train.lr": 0.1}
                ledger.attach(row.id, claim.run_id, Place(number=number, values=values))
                if state == "failed":
                    ledger.finish(claim.run_id, Ending("failed", error="out of memory"))
                else:
                    scores = {"val_accuracy": 0.5 + number / 10}
                    ledger.finish(claim.run_id, Ending("finished", metrics=scores))
            ledger.set_study_state(row.id, state)
            info = StudyInfo(
                name=row.name,
                number=row.number,
                trials=4,
                done=0,
                epochs=2,
                objectives=row.objectives,
                workers=1,
                sampler="tpe",
                scheduler="asha",
                ledger=str(ledger),
                tracking_uri="sqlite:///mlflow.db",
            )
            progress.study_started(info)
            progress.study_ended(StudyEnd(state, 2, 1, "That was it.", 3))
            return SessionResult(
                study=ledger.study(row.id),
                state=state,
                trials=ledger.trials(row.id),
                best=1,
                front=[1],
                importances={},
                notes=["confirm: is left out for now"],
                message="That was it.",
                seconds=3,
            )

    monkeypatch.setattr(engine, "run_study", run_study)
    calls.append({})
    return calls


def test_a_finished_study_is_summed_up(
    folder: Path, fake: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", "tiny.yaml", "--set", "search.trials=2"]) == DONE
    told = capsys.readouterr()
    assert "study tiny: 4 trials" in told.err  # progress and result are kept apart
    assert "study tiny: 4 trials" not in told.out
    assert "Study tiny/1: finished; 2 trials: 2 finished" in told.out
    best, second = (line for line in told.out.splitlines() if "0.6000" in line or "0.5000" in line)
    assert best.split()[:3] == ["1", "001", "0.6000"] and best.endswith("gc@layer3")
    assert second.endswith("baseline")
    for words in (
        "Best: trial 001, gc@layer3",
        "layer3.block  gc",
        "* confirm: is left out for now",
        "attnsearch.db",
        "attnsearch show tiny",
        "attnsearch export tiny --to best",
        "attnsearch ui",
    ):
        assert words in told.out
    assert "Continue:" not in told.out
    assert fake[-1]["space"].document["search"]["trials"] == 2
    assert fake[-1]["fresh"] is False


def test_one_winner_alone_is_called_so(
    folder: Path,
    fake: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_study = engine.run_study

    def confirmed(*args: Any, **options: Any) -> Any:
        return replace(run_study(*args, **options), winner="psa@layer2")

    monkeypatch.setattr(engine, "run_study", confirmed)
    assert call(["run", "tiny.yaml"]) == DONE
    told = " ".join(capsys.readouterr().out.split())
    assert "Winner of confirm, by its seeds' validation mean: psa@layer2" in told
    assert "Best:" not in told
    assert "best score on its one seed was 001, gc@layer3; confirm decides" in told


def test_until_names_the_last_act(
    folder: Path, fake: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", "tiny.yaml", "--until", "confirm"]) == DONE
    assert fake[-1]["until"] == "confirm"
    assert call(["run", "tiny.yaml", "--until", "tomorrow"]) == WRONG_INPUT
    assert "'explore', 'confirm', 'ablate'" in capsys.readouterr().err


def test_ablate_passes_on_what_was_asked_for(
    folder: Path,
    fake: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[dict[str, Any]] = []

    def ablate(config: str, *, progress: Progress, **options: Any) -> SessionResult:
        asked.append({"config": config, **options})
        fake[-1]["state"] = "interrupted"
        return engine.run_study(
            load_space(folder / "tiny.yaml"), fresh=False, progress=progress, until=None
        )

    monkeypatch.setattr(ablation, "ablate", ablate)
    words = ["ablate", "tiny", "--plans", "loco, ofat", "--seeds", "4", "--set", "alpha=0.1"]
    assert call(words) == INTERRUPTED
    assert asked == [
        {
            "config": "tiny",
            "plans": ["loco", "ofat"],
            "seeds": 4,
            "retune": None,
            "overrides": ("alpha=0.1",),
            "fresh": False,
        }
    ]
    again = "attnsearch ablate tiny --plans loco,ofat --seeds 4 --set alpha=0.1\n"
    assert f"Continue: {again}" in capsys.readouterr().out


def test_an_interrupted_study_says_how_to_go_on(
    folder: Path, fake: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    fake[-1]["state"] = "interrupted"
    (folder / "my space.yaml").write_text(TINY)
    words = ["run", "my space.yaml", "--fresh", "--set", "train.lr={choice: [0.1, 0.2]}"]
    assert call(words) == INTERRUPTED
    told = capsys.readouterr().out
    # Without --fresh, which would begin again.
    assert (
        "Continue: attnsearch run 'my space.yaml' --set 'train.lr={choice: [0.1, 0.2]}'\n" in told
    )
    assert fake[-1]["fresh"] is True


def test_a_study_without_any_result_has_failed(
    folder: Path, fake: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    fake[-1]["state"] = "failed"
    assert call(["run", "tiny.yaml"]) == FAILED
    told = capsys.readouterr().out
    assert "2 trials: 2 failed" in told
    assert "Trial 000: out of memory" in told
    assert "attnsearch export" not in told


def test_errors_of_the_engine_are_lines_with_their_status(
    folder: Path, fake: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    class Lost(AttnsearchError):
        exit_status = 1

    for error, status in (
        (Lost("Ray is gone"), FAILED),
        (AttnsearchError("no data"), WRONG_INPUT),
        (KeyboardInterrupt(), INTERRUPTED),
    ):
        fake[-1]["raises"] = error
        assert call(["run", "tiny.yaml"]) == status
        told = capsys.readouterr()
        assert told.out == ""
        (line,) = told.err.split("\n")[-2:-1]
        assert told.err.strip() == line  # but for the line that ends the terminal's ^C
        assert line.startswith("attnsearch: ")


def test_a_wrong_file_starts_nothing(folder: Path, fake: list[dict[str, Any]]) -> None:
    (folder / "tiny.yaml").write_text(TINY.replace("layer3", "layer7"))
    assert call(["run", "tiny.yaml"]) == WRONG_INPUT
    assert "space" not in fake[-1]


def test_a_network_without_data_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = "data: {source: null, image_size: 16, channels: 1, classes: 10}"
    (folder / "tiny.yaml").write_text(TINY.replace("data: {source: digits, image_size: 16}", data))
    assert call(["run", "tiny.yaml"]) == WRONG_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "data.source" in line


@pytest.mark.slow
def test_run_stop_continue_show_export(folder: Path) -> None:
    """The whole path with the real engine: stopped by Ctrl-C, continued, exported, reused."""
    script = "from attnsearch.search.cli import main; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def attnsearch(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script, *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    with (folder / "log").open("w") as log:
        first = subprocess.Popen(
            [sys.executable, "-c", script, "run", "tiny.yaml"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        deadline = time.monotonic() + 240
        while "(1 of 4)" not in (folder / "log").read_text() and time.monotonic() < deadline:
            time.sleep(0.2)
        os.killpg(first.pid, signal.SIGINT)
        assert first.wait(timeout=60) == INTERRUPTED, (folder / "log").read_text()
    assert "Continue: attnsearch run tiny.yaml" in (folder / "log").read_text()

    done = attnsearch("run", "tiny.yaml")
    assert done.returncode == DONE, done.stderr
    assert "continues" in done.stderr
    shown = json.loads(attnsearch("show", "tiny", "--json").stdout)
    assert shown["study"]["state"] == "finished"
    assert len(shown["trials"]) == 4
    assert {trial["state"] for trial in shown["trials"]} <= {"finished", "stopped"}

    assert attnsearch("export", "tiny", "--to", "best").returncode == DONE
    again = attnsearch("run", "best/config.yaml")
    assert again.returncode == DONE, again.stderr
    assert "taken over from an earlier run" in again.stderr
