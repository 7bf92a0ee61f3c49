import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from attnsearch.blocks import build_network
from attnsearch.blocks.build.network import Images
from attnsearch.blocks.measure.cost import count_macs, count_params
from attnsearch.search.check import forecast as forecast_module
from attnsearch.search.check.check import forecast_json, forecast_text
from attnsearch.search.check.forecast import CheckError, foresee
from attnsearch.search.check.survey import examples, fits
from attnsearch.search.cli import call
from attnsearch.search.exit import DONE, FAILED, WRONG_INPUT
from attnsearch.search.outlook.estimate import budget_share, seconds_per_epoch
from attnsearch.search.workers.cluster import Cluster, Need
from attnsearch.spaces import Space, load_space

ROOT = Path(__file__).parents[3]
SMALL = """\
name: small
task: classification
data: {source: null, image_size: 16, channels: 1, classes: 10}
network: {backbone: resnet18, stem: small, width: 0.25}
insert:
  - at: layer4
    block: {choice: [none, ecrm, gc]}
  - at: layer[3-4].*.conv2
    name: mid
    block: {choice: [none, psa, scconv]}
    decide: stage
blocks:
  ecrm: {bank_size: {int: [10, 40], step: 10}, hidden: {choice: [16, 64]}}
  gc: {ratio: {choice: [0.0625, 0.25]}}
  psa: {groups: {choice: [[1, 4, 8, 16], [1, 1, 1, 1], [2, 2, 2, 2]]}}
train: {epochs: 9, lr: {float: [0.01, 0.1], log: true}}
search: {trials: 12}
"""
FIXED = SMALL[: SMALL.index("insert:")]
IMAGES = Images(1, (16, 16), 10)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_module, "seconds_per_epoch", lambda *_: 2.0)


def space(folder: Path, text: str = SMALL) -> Space:
    file = folder / "space.yaml"
    file.write_text(text)
    return load_space(file)


def test_shipped_space_is_planned_whole(
    quick: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)  # the packaged file of this name is taken
    assert call(["check", "spaces/resnet.yaml", "--set", "search.scheduler=asha"]) == DONE
    told = capsys.readouterr().out
    for words in (
        "study resnet-digits, classification",
        "10 classes",
        "layer4.ecrm.bank_size",
        "layer4.block is ecrm",
        "smallest",
        "largest",
        "layer2.1.conv2",
        "Runs to come: 16 trials of up to 6 epochs",
        "estimated time: 2.0 s for an epoch",
        "with early stopping about",
        "16 trials for 192 networks: were they drawn at random",
        "trial 0 is the baseline",
        "confirm: 7 arms, 21 runs",
        "ablation loco: 4 arms, 12 runs",
        "all acts together: at most",
        "power: with 3 seeds you would see a difference of",
        "Next:  attnsearch run spaces/resnet.yaml",
    ):
        assert words in told
    assert list(tmp_path.iterdir()) == []


def test_all_errors_of_a_file_come_at_once_with_their_places(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(
        "name: x\ntask: classificaton\ndata: {source: digits}\n"
        "network: {backbone: resnet18}\n"
        "insert:\n  - at: layer9\n    block: se\n  - at: layer4\n    block: pza\n"
    )
    assert call(["check", str(file)]) == WRONG_INPUT
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert [line.split(": ")[0] for line in lines[:-1]] == [
        f"{file}:2:7",
        f"{file}:6:9",
        f"{file}:9:12",
    ]
    assert lines[-1] == "attnsearch: 3 problems; nothing was started"


def test_set_overrides_and_its_mistakes_are_named(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(SMALL)
    words = ["check", str(file), "--json", "--set", "search.trials=3", "--set", "train.epochs=5"]
    assert call(words) == DONE
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert (runs["trials"], runs["epochs"]) == (3, 5)
    assert call(["check", str(file), "--set", "train.epoks=5"]) == WRONG_INPUT
    told = capsys.readouterr().err
    assert "--set train.epoks=5" in told and "epochs" in told


def test_extremes_are_those_of_all_networks(tmp_path: Path) -> None:
    """Against building every network of the space."""
    whole = space(tmp_path, SMALL.replace("{float: [0.01, 0.1], log: true}", "0.1"))
    found = {example.which: example for example in examples(whole, IMAGES)}
    counts = [_added(whole.resolve(values)) for values in whole.grid()]
    assert len(counts) > 200
    base = _params(whole.resolve(whole.baseline()))
    assert found["smallest"].params == base + min(counts)
    assert found["largest"].params == base + max(counts)


_KNOWN: dict[str, int] = {}


def _added(config: dict[str, Any]) -> int:
    """Parameters over the plain network's, entry by entry."""
    total = 0
    for entry in config["insert"]:
        text = json.dumps(entry, sort_keys=True)
        if text not in _KNOWN:
            alone = {**config, "insert": [entry]}
            plain = {**config, "insert": []}
            _KNOWN[text] = _params(alone) - _params(plain)
        total += _KNOWN[text]
    return total


def _params(config: dict[str, Any]) -> int:
    return count_params(build_network(config, 1, 10, 16))


def test_examples_are_the_networks_that_are_built(tmp_path: Path) -> None:
    whole = space(tmp_path)
    for example in examples(whole, IMAGES):
        network = build_network(whole.resolve(example.values), 1, 10, 16)
        assert example.params == count_params(network)
        assert example.macs == count_macs(network, (1, 16, 16))


def test_the_largest_network_is_one_that_the_rules_allow(tmp_path: Path) -> None:
    text = SMALL + "forbid:\n  - {layer4.block: ecrm, mid.layer4.block: psa}\n"
    whole = space(tmp_path, text)
    images = IMAGES
    largest = next(item for item in examples(whole, images) if item.which == "largest")
    before = next(item for item in examples(space(tmp_path), images) if item.which == "largest")
    assert whole.forbidden(largest.values) is None
    assert whole.forbidden(before.values) is not None
    assert largest.params is not None and before.params is not None
    assert largest.params < before.params


def test_a_network_over_a_limit_is_marked(tmp_path: Path, quick: None) -> None:
    plan = foresee(space(tmp_path, SMALL + "limits: {params: 800000}\n"))
    marked = {example.which: example.outside for example in plan.examples}
    assert marked["smallest"] is None
    assert marked["largest"] == "over limits.params: 800000"
    assert "over limits.params" in forecast_text(plan, "x.yaml")


def test_every_block_is_tried_at_every_site(tmp_path: Path) -> None:
    """PSA's 16 groups do not divide a quarter of 64 channels / 4; SCConv needs a 4x4 map."""
    text = SMALL.replace("layer[3-4].*.conv2", "layer[1-4].*.conv2")
    found = {(fit.site, fit.block): fit for fit in fits(space(tmp_path, text), IMAGES)}
    assert {site for site, _ in found} == {
        "layer4",
        *(f"layer{stage}.{block}.conv2" for stage in range(1, 5) for block in range(2)),
    }
    assert found["layer4", "ecrm"].tried == found["layer4", "ecrm"].fitting == 8
    cannot = found["layer4.0.conv2", "scconv"]
    assert (cannot.fitting, cannot.tried) == (0, 1)
    assert "2x2 map" in str(cannot.reason)
    some = found["layer1.0.conv2", "psa"]
    assert (some.fitting, some.tried) == (2, 3)
    assert found["layer3.1.conv2", "scconv"].reason is None


def test_what_cannot_stand_is_told_with_its_reason(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    space(tmp_path)
    assert call(["check", str(tmp_path / "space.yaml")]) == DONE
    told = capsys.readouterr().out
    assert "layer4.0.conv2" in told and "cannot" in told
    (_, listed) = told.split("Cannot be built, and is not proposed:\n")
    assert "scconv at mid.layer4: block scconv cannot stand at layer4.0.conv2" in " ".join(
        listed.split()
    )


def test_a_space_without_decisions_is_one_run(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "name: one\ntask: classification\ndata: {source: digits, image_size: 16}\n"
    text += "network: {backbone: resnet20, width: 0.5}\ntrain: {epochs: 2}\n"
    plan = foresee(space(tmp_path, text))
    assert plan.runs.trials == 1
    assert not plan.runs.baseline
    told = forecast_text(plan, "one.yaml")
    assert "one network, and `run` trains it once" in told
    assert "Runs to come: 1 trial of up to 2 epochs" in told


def test_an_exhausted_space_has_fewer_trials_than_wanted(tmp_path: Path, quick: None) -> None:
    text = SMALL.replace("{float: [0.01, 0.1], log: true}", "0.1").replace(
        "trials: 12", "trials: 1000000"
    )
    whole = space(tmp_path, text)
    assert foresee(whole).runs.trials == sum(1 for _ in whole.grid())


def test_the_baseline_runs_beside_a_space_without_it(tmp_path: Path, quick: None) -> None:
    plan = foresee(space(tmp_path, SMALL.replace("[none, ecrm, gc]", "[ecrm, gc]")))
    assert plan.runs.baseline
    assert "and the baseline beside them" in forecast_text(plan, "x.yaml")


def test_without_data_there_is_a_plan_but_no_time(tmp_path: Path) -> None:
    plan = foresee(space(tmp_path))
    assert plan.data is None
    assert plan.images == IMAGES
    assert plan.runs.most_seconds is None
    told = forecast_text(plan, "x.yaml")
    assert "data.source is null" in told
    assert "estimated" not in told


def test_broken_data_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scans" / "ill").mkdir(parents=True)
    space(tmp_path, SMALL.replace("source: null", "source: scans"))
    assert call(["check", str(tmp_path / "space.yaml")]) == WRONG_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "no images" in line


def test_data_is_summed_up_by_class(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.repeat(np.arange(3), 20)[:, None]
    images = np.random.default_rng(0).integers(0, 255, (60, 16, 16), dtype=np.uint8)
    arrays: dict[str, Any] = {
        f"{part}_{kind}": value
        for part in ("train", "val", "test")
        for kind, value in (("images", images), ("labels", labels))
    }
    np.savez(tmp_path / "scans.npz", **arrays)
    text = SMALL.replace("source: null", "source: scans.npz").replace("classes: 10", "classes: 3")
    space(tmp_path, text)
    assert call(["check", str(tmp_path / "space.yaml"), "--json"]) == DONE
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["images"] == {"train": 60, "val": 60, "test": 60}
    assert len(data["classes"]) == 3
    assert data["image_size"] == [16, 16]
    assert data["kept"].startswith("memory: ") and "MB of images need up to" in data["kept"]
    path = str(tmp_path / "space.yaml")
    assert call(["check", path, "--set", "data.keep=mapped"]) == DONE
    assert "* kept: mapped, by data.keep: mapped; " in capsys.readouterr().out


def test_time_is_measured_and_multiplied_out(tmp_path: Path) -> None:
    config = space(tmp_path).resolve(space(tmp_path).defaults())
    few = seconds_per_epoch(config, IMAGES, 64, 0)
    many = seconds_per_epoch(config, IMAGES, 6400, 0)
    assert 0 < few < 20
    assert many > 10 * few  # 100 times the steps, on a machine that does other things too


@pytest.mark.parametrize(
    ("scheduler", "epochs", "share"),
    [
        ("none", 9, 1.0),
        ("median", 9, 0.66),  # as recorded
        ({"patient": None}, 9, 0.83),
        # Rungs at 1, 3 and 9: 1 + 2 / 3 + 6 / 9 epochs; by default from a third of the schedule.
        ({"asha": {"grace": 1}}, 9, (1 + 2 / 3 + 6 / 9) / 9),
        ("asha", 9, (3 + 6 / 3) / 9),
        ({"asha": {"grace": 2, "reduction": 2}}, 6, (2 + 2 / 2 + 2 / 4) / 6),
        ({"asha": {"grace": 20}}, 6, 1.0),
    ],
)
def test_what_early_stopping_spends(scheduler: Any, epochs: int, share: float) -> None:
    assert budget_share(scheduler, epochs) == pytest.approx(share)


@pytest.fixture
def quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives this process a container's CPU quota, in the words of `cpu.max`, and 8 cores."""
    limits = {"/sys/fs/cgroup/cpu.max": "max 100000"}
    read = Path.read_text

    def read_text(file: Path, *words: Any, **options: Any) -> str:
        if str(file).startswith("/sys/fs/cgroup/"):
            if str(file) not in limits:
                raise FileNotFoundError(file)
            return limits[str(file)]
        return read(file, *words, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return lambda text: limits.update({"/sys/fs/cgroup/cpu.max": text})


@pytest.mark.parametrize(
    ("limit", "resources", "count"),
    [
        ("max 100000", "{}", 8),
        ("350000 100000", "{}", 3),
        ("350000 100000", "{workers: 2}", 2),
        ("350000 100000", "{cpus: 2}", 1),
        ("max 100000", "{cpus: 3}", 2),
    ],
)
def test_a_containers_quota_decides_how_many_trials_fit(
    limit: str,
    resources: str,
    count: int,
    quota: Callable[[str], None],
    quick: None,
    tmp_path: Path,
) -> None:
    quota(limit)
    assert foresee(space(tmp_path, f"{SMALL}resources: {resources}\n")).runs.workers == count


@pytest.mark.parametrize(
    ("resources", "workers", "said", "gpus"),
    [
        ("{address: 'head:6379'}", 12, None, None),
        ("{address: 'head:6379', workers: 5}", 5, None, None),
        ("{address: 'head:6379', gpus: 1}", 4, None, None),
        ("{address: 'head:6379', gpus: auto}", 4, None, "auto: `run` measures"),
        ("{address: 'head:6379', cpus: 9}", 0, "the machines of this Ray have", None),
    ],
)
def test_check_asks_the_cluster_and_not_a_driver_without_cards(
    resources: str,
    workers: int,
    said: str | None,
    gpus: str | None,
    quota: Callable[[str], None],
    quick: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = [
        {"Alive": True, "Resources": {}},
        {"Alive": True, "Resources": {"CPU": 4.0}},
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 4.0}},
        {"Alive": False, "Resources": {"CPU": 640.0, "GPU": 8.0}},
    ]

    @contextlib.contextmanager
    def joined(need: Need, most: int, **options: Any) -> Iterator[Cluster]:
        assert need.address == "head:6379"
        yield Cluster(tmp_path, 1, {}, joined=True)

    monkeypatch.setattr("ray.nodes", lambda: nodes)
    monkeypatch.setattr(forecast_module, "running_cluster", joined)
    foreseen = foresee(space(tmp_path, f"{SMALL}resources: {resources}\n"))
    assert foreseen.runs.workers == workers
    assert (foreseen.refusal is None) == (said is None) and (said or "") in str(foreseen.refusal)
    assert (gpus or "") in str(foreseen.gpus) and (foreseen.gpus is None) == (gpus is None)
    text = forecast_text(foreseen, "space.yaml")
    assert "the cluster at head:6379: machines 3, CPUs 12, GPUs 4" in text
    assert ("`run` refuses in this cluster" in text) == (said is not None)
    assert json.loads(forecast_json(foreseen))["cluster"] == foreseen.cluster


@pytest.mark.parametrize(
    ("cards", "words"), [("", "no GPU on this machine"), ("0", "`run` measures how many trials")]
)
def test_what_auto_does_about_gpus_is_said(
    cards: str,
    words: str,
    quota: Callable[[str], None],
    quick: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards)
    foreseen = foresee(space(tmp_path, f"{SMALL}resources: {{gpus: auto}}\n"))
    assert foreseen.runs.workers == (1 if cards else 8)
    assert words in str(foreseen.gpus)
    assert "resources.gpus: auto:" in forecast_text(foreseen, "space.yaml")
    assert words in json.loads(forecast_json(foreseen))["gpus"]
    assert foresee(space(tmp_path, SMALL)).gpus is None


def test_how_many_cards_train_a_network_is_said(
    quota: Callable[[str], None], quick: None, tmp_path: Path
) -> None:
    foreseen = foresee(space(tmp_path, f"{SMALL}resources: {{gpus: 3}}\n"))
    words = "over 3 cards of a machine, with 22 of the 64 images of a batch on each"
    assert words in str(foreseen.gpus)
    assert words in " ".join(forecast_text(foreseen, "space.yaml").split())
    assert words in json.loads(forecast_json(foreseen))["gpus"]
    assert foreseen.runs.workers == 0
    assert "gpus: 3, but this machine has" in str(foreseen.refusal)


def test_where_run_refuses_check_says_so_in_its_words(
    quota: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quota("200000 100000")
    file = str(tmp_path / "space.yaml")
    text = SMALL.replace("source: null, image_size: 16, channels: 1", "source: digits")
    for resources in ("{cpus: 3}", "{gpus: 0.5}"):
        space(tmp_path, f"{text}resources: {resources}\n")
        assert call(["run", file]) == FAILED
        refusal = capsys.readouterr().err.splitlines()[-1].removeprefix("attnsearch: ")
        assert "this machine has 2 CPUs and 0 GPUs" in refusal
        assert call(["check", file]) == DONE
        told = " ".join(capsys.readouterr().out.split())
        assert f"`run` refuses on this machine: {refusal}" in told
        assert "at a time" not in told and "estimated time" not in told
        assert call(["check", file, "--json"]) == DONE
        plan = json.loads(capsys.readouterr().out)
        assert plan["runs"]["workers"] == 0
        assert refusal in plan["warnings"]


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("val", "search.objectives={val_auroc: max}", "search.objectives.val_auroc asks"),
        ("test", "confirm={top: 1, seeds: 2}", "primary_metric asks for test_auroc"),
        ("val", "search.objectives={val_auroc: max, params: min}", "its images are of one class"),
    ],
)
def test_a_metric_that_the_data_cannot_give_is_told_by_check_and_by_run(
    part: str,
    change: str,
    told: str,
    write_space: Callable[..., Path],
    in_process: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_space()
    arrays = dict(np.load(tmp_path / "tiny.npz"))
    arrays[f"{part}_labels"][:] = 1
    np.savez(tmp_path / "tiny.npz", **arrays)
    words = [str(file), "--set", change, "--set", "primary_metric=auroc"]
    for command in ("check", "run"):
        assert call([command, *words]) == WRONG_INPUT
        assert told in capsys.readouterr().err
    assert in_process.jobs == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("forbid=[{layer4.block: [none, ecrm, gc]}]", "no network is left to train"),
        (
            "forbid=[{layer4.block: none}, {layer4.block: [ecrm, gc]}]",
            "no network is left to train",
        ),
        ("limits={params: 1000}", "over limits.params: 1000, so there is none to train"),
        ("network.weights=wide.safetensors", "is 64x1x3x3 in the file and 16x1x3x3"),
    ],
)
def test_a_file_that_leaves_nothing_to_train_is_not_called_sound(
    change: str, told: str, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "wide" in change:
        wide = build_network(space(tmp_path, FIXED.replace("0.25", "1")).resolve(), 1, 10, 16)
        save_file(wide.state_dict(), tmp_path / "wide.safetensors")
    file = tmp_path / "space.yaml"
    file.write_text(SMALL)
    with pytest.raises(CheckError, match=re.escape(told)):
        foresee(load_space(file, [change]))


def test_rules_on_training_alone_may_leave_nothing(quick: None, tmp_path: Path) -> None:
    searched = FIXED + "train: {optimizer: {choice: [sgd, adamw]}}\n"
    one = "{train.optimizer: adamw}"
    with pytest.raises(CheckError, match="no network is left to train"):
        foresee(space(tmp_path, searched + f"forbid: [{{train.optimizer: sgd}}, {one}]\n"))
    assert foresee(space(tmp_path, searched + f"forbid: [{one}]\n")).runs.trials == 1
