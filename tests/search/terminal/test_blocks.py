"""`blocks`, `backbone_sites`, and what is read from the ledger: `list`, `show`, `export`."""

import json
import re
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from attnsearch.blocks.build.catalog import block_names, can_replace, find_block, hyperparameters
from attnsearch.blocks.build.sites import backbone_sites, match
from attnsearch.blocks.hosts.backbones import BACKBONES
from attnsearch.runs import trials_frame
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.requests import Ending, Place, Request
from attnsearch.search.cli import call
from attnsearch.search.exit import DONE, WRONG_INPUT
from attnsearch.search.terminal import show as studies
from attnsearch.spaces import load_space

OBJECTIVES = {"val_accuracy": "max"}


def test_blocks_lists_every_block_with_what_it_can_replace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["blocks"]) == DONE
    told = capsys.readouterr().out
    for name in block_names():
        replaces = "any" if can_replace(find_block(name)) else "same shape"
        assert re.search(rf"^{name} +{replaces} ", told, re.MULTILINE)
    assert "arxiv.org/abs/2105.14447" in told  # PSA's paper
    assert "attnsearch sites resnet18" in told


@pytest.mark.parametrize("name", block_names())
def test_the_yaml_that_blocks_prints_is_a_sound_space(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["blocks", name]) == DONE
    told = capsys.readouterr().out
    snippet = told.split("In a space file:\n")[1].split("\n\n")[0]
    head = (
        "name: x\ntask: classification\ndata: {source: digits}\n"
        "network: {backbone: resnet18, stem: small}\n"
    )
    file = tmp_path / "x.yaml"
    file.write_text(head + "\n".join(line[2:] for line in snippet.splitlines()) + "\n")
    space = load_space(file)
    assert any(name in group.options for group in space.groups)
    for key, parameter in hyperparameters(find_block(name)).items():
        assert re.search(rf"^  {key} ", told, re.MULTILINE), f"{key} is not explained"
        if parameter.default is not None:
            written = yaml.safe_load(snippet)["blocks"][name][key]
            default = parameter.default
            assert written == (list(default) if isinstance(default, tuple) else default)


def test_a_users_block_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_gate.py").write_text(
        "from torch import nn\n\nclass Gate(nn.Module):\n"
        '    """Gates the map.\n\n    Args:\n        channels: Channels.\n'
        '        slope: How steep it is.\n    """\n\n'
        "    def __init__(self, channels, slope, depth=2):\n        super().__init__()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert call(["blocks", "my_gate:Gate"]) == DONE
    told = capsys.readouterr().out
    assert "How steep it is." in told
    assert "(required)" in told
    assert '"my_gate:Gate"' in told


@pytest.mark.parametrize("backbone", BACKBONES)
def test_sites_prints_every_site_with_its_shape(
    backbone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # A size and a width that the network can have.
    kind = BACKBONES[backbone].network.rpartition(":")[2]
    size, width = {"SCNet": (100, 0.5), "AxialUNet": (64, 2), "MedT": (256, 2)}.get(
        kind, (48, 0.5)
    )
    words = ["sites", backbone, "--width", str(width), "--image-size", str(size)]
    assert call(words) == DONE
    told = capsys.readouterr().out
    for site in backbone_sites(backbone, width=width, image_size=size):
        shape = f"{site.channels} x {site.size[0]} x {site.size[1]}"
        assert re.search(rf"^{re.escape(site.name)} +{shape} ", told, re.MULTILINE)


def test_sites_explains_patterns_that_match(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["sites", "resnet20"]) == DONE
    told = capsys.readouterr().out
    assert "image size 32" in told
    patterns = told.split("Patterns, as `at:` takes them:\n")[1].split("\n\n")[0].splitlines()
    places = backbone_sites("resnet20", image_size=32)
    assert len(patterns) >= 5
    for line in patterns:
        counted = re.search(r"\((\d+) sites?\)$", line)
        assert counted is not None
        assert len(match(line.split()[0], places)) == int(counted[1])


def config(block: str, width: float = 0.25) -> dict[str, Any]:
    entry = {"at": "layer4", "name": "layer4", "block": block, "params": {}}
    return {
        "name": "digits",
        "task": "classification",
        "data": {"source": "digits", "image_size": 16},
        "network": {"backbone": "resnet18", "stem": "small", "width": width, "weights": None},
        "insert": [entry],
        "train": {"epochs": 3, "lr": 0.1},
        "search": {"trials": 8, "objectives": OBJECTIVES},
    }


def record(
    ledger: Ledger,
    study_id: int,
    number: int,
    state: str,
    *,
    block: str = "none",
    scores: Mapping[str, float] | None = None,
    **rest: Any,
) -> None:
    claim = ledger.claim(
        Request(
            f"key-{study_id}-{number}", config=config(block), seed=0, epochs=3, study_id=study_id
        )
    )
    values = {"layer4.block": block, "train.lr": 0.1}
    ledger.attach(study_id, claim.run_id, Place(number=number, values=values))
    for epoch in range(1, 4 if state == "finished" else 2):
        ledger.record_epoch(claim.run_id, epoch, {"train_loss": 1 / epoch, **(scores or {})})
    costs = {"params": 700_000 + number, "macs": 9_000_000}
    ledger.finish(claim.run_id, Ending(state, metrics=dict(scores or {}), costs=costs, **rest))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger with one study: 2 finished, 1 stopped, 1 failed, 1 infeasible of 8 trials."""
    monkeypatch.chdir(tmp_path)
    for name in ("ATTNSEARCH_LEDGER", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    with closing(Ledger()) as ledger:
        row = ledger.open_study("digits", "name: digits\n", config("none"), "print", {})
        record(ledger, row.id, 0, "finished", scores={"val_accuracy": 0.75})
        record(ledger, row.id, 1, "finished", block="gc", scores={"val_accuracy": 0.875})
        record(ledger, row.id, 2, "stopped", block="se", scores={"val_accuracy": 0.25})
        record(ledger, row.id, 3, "failed", block="ecrm", error="out of memory\nat layer4")
        over = {"limits.params": 0.125, "limits.macs": -0.5}
        record(ledger, row.id, 4, "infeasible", block="psa", violations=over)
        ledger.set_study_state(row.id, "interrupted")
    monkeypatch.setattr(studies, "mirror_lag", lambda *_: None)  # seconds, for a new store
    return tmp_path


def test_list(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["list"]) == DONE
    told = capsys.readouterr().out
    assert re.search(
        r"^digits/1 +interrupted +explore +5/8 +val_accuracy 0.8750 +001 gc@layer4 ",
        told,
        re.MULTILINE,
    )


def test_show_ranks_the_finished_and_says_why_others_ended(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["show", "digits"]) == DONE
    told = capsys.readouterr().out
    states = "5 trials: 2 finished, 1 stopped, 1 failed, 1 infeasible"
    assert states in " ".join(told.split())
    assert "(of 8 wanted)" in told
    first, second = re.findall(r"^ *(\d+) +(\d{3}) +(0\.\d{4}) +700 k", told, re.MULTILINE)
    assert first == ("1", "001", "0.8750")
    assert second == ("2", "000", "0.7500")
    assert re.search(r"002 +stopped +1/3 +0.2500 +se@layer4$", told, re.MULTILINE)
    assert re.search(r"003 +failed .* ecrm@layer4 - out of memory$", told, re.MULTILINE)
    assert re.search(
        r"004 +infeasible .* psa@layer4 - over limits.params by 12.5%$", told, re.MULTILINE
    )
    assert "attnsearch export digits --to DIR" in told


def test_show_json_has_everything(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(Ledger()) as ledger:
        row = ledger.find_study("digits")
        nan = {"val_accuracy": 0.5, "val_auroc": float("nan")}
        record(ledger, row.id, 5, "finished", block="eca", scores=nan)
    assert call(["show", "digits/1", "--json"]) == DONE
    told = json.loads(
        capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON")
    )
    assert told["best"] == 1
    assert told["leaderboard"] == [1, 0, 5]
    assert [trial["state"] for trial in told["trials"][:2]] == ["finished", "finished"]
    assert told["trials"][1]["values"] == {"layer4.block": "gc", "train.lr": 0.1}
    assert told["trials"][5]["metrics"] == {"val_accuracy": 0.5, "val_auroc": None}
    assert len(told["trials"][1]["epochs"]) == 3


def test_show_one_trial(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["show", "digits", "1"]) == DONE
    told = capsys.readouterr().out
    assert "digits/1, trial 001 gc@layer4: finished, 3 epochs of 3" in told
    assert re.search(r"layer4.block +gc$", told, re.MULTILINE)
    assert re.search(r"^ +3 +0.3333", told, re.MULTILINE)
    assert call(["show", "digits", "3"]) == DONE
    assert "Why: out of memory\nat layer4" in capsys.readouterr().out
    assert call(["show", "digits", "9"]) == WRONG_INPUT
    assert "has no trial 9; it has: 0, 1, 2, 3, 4" in capsys.readouterr().err


def test_the_baseline_is_called_so_wherever_it_is_shown(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(Ledger()) as ledger:
        row = ledger.open_study("low", "name: low\n", config("none"), "print", {})
        record(ledger, row.id, 0, "finished", scores={"val_accuracy": 0.5})
        (plain,) = ledger.trials(row.id)
        assert plain.name == "000 plain"  # what is stored stays
        assert repr(plain) == "<TrialRow 000 baseline: finished>"
        assert trials_frame(ledger, "low")["name"].tolist() == ["000 baseline"]
    for words in (["list"], ["show", "low"], ["show", "low", "0"]):
        assert call(words) == DONE
        told = capsys.readouterr().out
        assert "baseline" in told and "plain" not in told


def test_show_marks_the_pareto_front(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trial 1 costs more and scores more than trial 0; trial 2 costs more and scores less."""
    document = config("none")
    document["search"] = {"trials": 3, "objectives": {"val_accuracy": "max", "params": "min"}}
    with closing(Ledger()) as ledger:
        row = ledger.open_study("both", "name: both\n", document, "print", {})
        record(ledger, row.id, 0, "finished", scores={"val_accuracy": 0.75})
        record(ledger, row.id, 1, "finished", block="gc", scores={"val_accuracy": 0.875})
        record(ledger, row.id, 2, "finished", block="se", scores={"val_accuracy": 0.5})
        ledger.set_study_state(row.id, "finished")
    assert call(["show", "both"]) == DONE
    told = capsys.readouterr().out
    ranks = re.findall(r"^ *(\d\*?) +\d{3} +0\.", told, re.MULTILINE)
    assert ranks == ["1*", "2*", "3"]
    assert "* on the Pareto front" in told


def test_unknown_study_is_answered_with_the_known_ones(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["show", "digit"], ["export", "digit", "--to", "x"]):
        assert call(words) == WRONG_INPUT
        assert "digits/1" in capsys.readouterr().err


def test_export_without_kept_weights_says_so(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["export", "digits", "--to", "best"]) == WRONG_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "weights of trial 1" in line
    assert not (study / "best").exists()


def test_show_lets_mlflow_catch_up(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(study)
    assert call(["show", "digits"]) == DONE
    assert "MLflow at" not in capsys.readouterr().out
    with closing(Ledger()) as ledger:
        row = ledger.find_study("digits")
        assert all(trial.mlflow_run_id for trial in ledger.trials(row.id))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert call(["show", "digits"]) == DONE
    told = " ".join(capsys.readouterr().out.split())
    assert "MLflow at http://127.0.0.1:9 does not show 5 of 5 runs" in told
    assert "nothing is lost" in told


def test_sites_takes_height_and_width(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["sites", "resnet20", "--image-size", "12x20"]) == DONE
    told = capsys.readouterr().out
    assert "image size 12x20" in told
    for site in backbone_sites("resnet20", image_size=(12, 20)):
        assert " x ".join(map(str, site.out_size)) in told
    assert "3 x 5" in told
    for size, word in (("12x", "96x160"), ("0x9", "height x width"), ("9x8x7", "9x8x7")):
        assert call(["sites", "resnet20", "--image-size", size]) == WRONG_INPUT
        assert word in capsys.readouterr().err
