"""Which networks are confirmed, what each is compared with, and on which seeds."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from attnsearch.blocks import build_network
from attnsearch.blocks.build.network import Images
from attnsearch.blocks.measure import cost
from attnsearch.runs.statistics.plan import AGAINST_BASELINE, AGAINST_CONTROLS, Plan
from attnsearch.search.plans.arms import PlanError, plan_folds, run_config, values_of
from attnsearch.search.plans.confirm import confirm_plan, needs_tuning
from attnsearch.search.plans.controls import (
    TOLERANCE,
    baseline_config,
    capacity_control,
    tuning_space,
)
from attnsearch.search.plans.seeds import RANGES, fresh_seeds
from attnsearch.search.plans.text import plan_runs, plan_text
from attnsearch.spaces import Space, SpaceError, canonical_text, dump, load_space

IMAGES = Images(1, (16, 16), 10)
FILE = """\
name: small
task: classification
data: {source: null, image_size: 16, channels: 1, classes: 10}
network: {backbone: resnet18, stem: small, width: 0.125}
insert:
  - at: layer4
    block: {choice: [none, gc, nonlocal, ecrm]}
  - at: layer3.*.conv2
    block: {choice: [none, psa]}
blocks:
  gc: {ratio: {choice: [0.25, 0.0625]}}
  psa: {groups: [1, 1, 1, 1]}
train: {epochs: 4, lr: {float: [0.01, 0.1], log: true}, aux_weight: {ecrm: {float: [0.1, 1]}}}
search: {trials: 7}
forbid:
  - {layer4.block: none, train.lr: 0.1}
  - {layer4.block: gc, train.lr: 0.01}
confirm: {top: 2, seeds: 3, epochs: 6}
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Space:
    file = tmp_path_factory.mktemp("space") / "space.yaml"
    file.write_text(FILE)
    return load_space(file)


def config(space: Space, **values: Any) -> dict[str, Any]:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return space.resolve(space.ask(lambda d: named.get(d.name, d.default())))


def controlled(space: Space, *controls: str) -> Space:
    """The space with these controls alone."""
    confirm = {**space.document["confirm"], "controls": [*controls]}
    return replace(space, document={**space.document, "confirm": confirm})


@dataclass(frozen=True)
class Trial:
    number: int
    config: dict[str, Any]


def trials(*configs: dict[str, Any]) -> list[Trial]:
    return [Trial(number, one) for number, one in enumerate(configs)]


def size(config: dict[str, Any], kind: str = "params") -> int:
    network = build_network(config, IMAGES.channels, IMAGES.classes, IMAGES.size)
    if kind == "params":
        return cost.count_params(network)
    return cost.count_macs(network, (IMAGES.channels, *IMAGES.size))


def test_the_best_different_networks_and_their_controls(space: Space) -> None:
    psa = config(space, layer3__conv2__block="psa", train__lr=0.05)
    gc = config(space, layer4__block="gc", train__lr=0.02)
    ranked = trials(
        config(space), psa, config(space, layer3__conv2__block="psa", train__lr=0.03), gc,
        config(space, layer4__block="nonlocal"),
    )  # fmt: skip
    tuned = config(space, train__lr=0.09)
    messages: list[str] = []
    plan = confirm_plan(space, ranked, IMAGES, tuned=tuned, messages=messages)
    labels = ["psa@layer3.conv2", "gc@layer4"]
    assert [(arm.label, arm.kind, arm.of) for arm in plan.arms] == [
        (labels[0], "candidate", None),
        (labels[1], "candidate", None),
        ("baseline", "baseline", labels[0]),
        ("baseline of gc@layer4", "baseline", labels[1]),
        ("capacity of psa@layer3.conv2", "capacity", labels[0]),
        ("capacity of gc@layer4", "capacity", labels[1]),
        ("tuned baseline", "tuned_baseline", None),
    ]
    assert messages == [
        "the baseline (trial 0) ranks first after exploring; it is no candidate: candidates are "
        "compared with it"
    ]
    # Each candidate is compared with the baseline under its own settings.
    rates = {arm.label: arm.config["train"]["lr"] for arm in plan.arms}
    assert rates["psa@layer3.conv2"] == rates["baseline"] == 0.05
    assert rates["gc@layer4"] == rates["baseline of gc@layer4"] == 0.02
    assert rates["tuned baseline"] == 0.09
    families = {
        name: [(c.plus, c.minus) for c in plan.contrasts if c.family == name]
        for name in (AGAINST_BASELINE, AGAINST_CONTROLS)
    }
    assert families[AGAINST_BASELINE] == [
        ((labels[0],), ("baseline",)),
        ((labels[1],), ("baseline of gc@layer4",)),
    ]
    assert families[AGAINST_CONTROLS] == [
        ((labels[0],), ("capacity of psa@layer3.conv2",)),
        ((labels[1],), ("capacity of gc@layer4",)),
        ((labels[0],), ("tuned baseline",)),
        ((labels[1],), ("tuned baseline",)),
    ]
    assert {arm.config["train"]["epochs"] for arm in plan.arms} == {6}
    assert (plan.metric, plan.direction, plan.part) == ("accuracy", "max", "test")
    assert plan.seeds == (1_100_000_000, 1_100_000_001, 1_100_000_002)
    assert Plan.from_document(plan.to_document()).hash == plan.hash
    text = plan_text(plan, reused={"baseline": 2}, run_seconds=60, workers=2)
    assert "7 arms, 3 seeds, 6 epochs" in text
    assert "19 runs to train, 2 reused; about 10 min 0 s" in text
    assert "candidates against baseline (2)" in text


def test_how_a_study_is_done_and_where_its_data_lies_change_no_plan(space: Space) -> None:
    here = controlled(space, "baseline")
    one = config(here, layer4__block="gc")
    moved = {**one, "data": {**one["data"], "source": "/elsewhere"}, "resources": {"cpus": 9}}
    first, second = (confirm_plan(here, trials(c), IMAGES).hash for c in (one, moved))
    assert first == second
    longer = replace(here, document={**here.document, "confirm": {**here.document["confirm"]}})
    longer.document["confirm"]["epochs"] = 7
    assert confirm_plan(longer, trials(one), IMAGES).hash != first


def test_networks_that_read_alike_are_told_apart_and_equal_settings_share_a_baseline(
    space: Space,
) -> None:
    one = config(space, layer4__block="gc", layer4__gc__ratio=0.0625)
    two = config(space, layer4__block="gc", layer4__gc__ratio=0.25)
    plan = confirm_plan(space, trials(one, two), IMAGES)
    labels = [arm.label for arm in plan.arms]
    assert labels[:3] == ["gc@layer4 (ratio=0.0625)", "gc@layer4 (ratio=0.25)", "baseline"]
    assert [label for label in labels if label.startswith("baseline")] == ["baseline"]
    # With 16 times fewer hidden channels the block adds less than 1 %.
    small = plan.arm("capacity of gc@layer4 (ratio=0.0625)")
    assert small.equals == "baseline"
    assert small.notes[0] == "= baseline"
    assert small.notes[1].startswith("params -0.")
    # Nothing came of tuning: the tuned baseline is the baseline, keeps its row and says why.
    tuned = plan.arm("tuned baseline")
    assert tuned.equals == "baseline"
    assert tuned.notes == ("= baseline", "no trial of its tuning finished")
    assert plan_runs(plan) == 3 * sum(arm.equals is None for arm in plan.arms)
    assert "= baseline, whose runs these are" in plan_text(plan)


def test_nothing_to_confirm_is_said(space: Space) -> None:
    with pytest.raises(PlanError, match="only the baseline finished"):
        confirm_plan(space, trials(config(space)), IMAGES)
    with pytest.raises(PlanError, match="no trial finished its full schedule"):
        confirm_plan(space, [], IMAGES)
    messages: list[str] = []
    alone = trials(config(space, layer4__block="gc"))
    confirm_plan(controlled(space, "baseline"), alone, IMAGES, messages=messages)
    assert messages == [
        "confirm.top is 2, and 1 different networks with a block finished their full schedule"
    ]


@pytest.mark.parametrize(
    ("match", "values"),
    [
        ("params", {"layer4__block": "nonlocal"}),
        ("macs", {"layer3__conv2__block": "psa", "layer4__block": "ecrm"}),
    ],
)
def test_a_control_is_as_large_as_its_candidate(
    space: Space, match: str, values: dict[str, Any], tmp_path: Path
) -> None:
    candidate = config(space, **values)
    control = capacity_control(candidate, IMAGES, match)
    target = size(candidate, match)
    residual = size(control.config, match) / target - 1
    assert abs(residual) <= TOLERANCE
    name = {"params": "params", "macs": "MACs"}[match]
    assert f"{name} {100 * residual:+.2f} %" in control.notes
    if abs(size(baseline_config(candidate), match) / target - 1) <= TOLERANCE:
        assert control.config == baseline_config(candidate)
    assert not any(e["block"] != "bottleneck1x1" for e in control.config["insert"])
    assert control.config["train"]["lr"] == candidate["train"]["lr"]
    # It is a space file like any other.
    file = tmp_path / "control.yaml"
    file.write_text(dump({**control.config, "confirm": None, "published": None}))
    assert canonical_text(load_space(file).resolve()) == canonical_text(control.config)


def test_a_smaller_candidate_narrows_the_control(space: Space) -> None:
    candidate = config(space)
    candidate["insert"].append(
        {"at": "layer4.*.conv2", "block": "conv1x1", "params": {"conv1x1": {}}}
    )
    control = capacity_control(candidate, IMAGES)
    assert size(baseline_config(candidate)) > 1.3 * size(candidate)
    assert abs(size(control.config) / size(candidate) - 1) <= TOLERANCE
    assert control.config["insert"] == []
    width = control.config["network"]["width"]
    assert max(width if isinstance(width, list) else [width]) <= 0.125


def test_where_widths_are_held_fast_bottlenecks_fill_up(space: Space) -> None:
    narrow = config(space)
    # A network of 2, 4 and 8 channels jumps by more than 1 %.
    narrow["network"] |= {"backbone": "resnet20", "width": 0.125}
    narrow["insert"] = [{"at": "layer3", "block": "nonlocal", "params": {}}]
    control = capacity_control(narrow, IMAGES)
    assert [entry["block"] for entry in control.config["insert"]] == ["bottleneck1x1"]
    assert control.config["insert"][0]["at"] == "layer3"
    assert control.config["network"] == narrow["network"]
    assert abs(size(control.config) / size(narrow) - 1) <= TOLERANCE
    assert control.notes[0].startswith("1x1 bottlenecks with hidden channels: ")


def test_the_baseline_is_tuned_over_training_settings_alone(space: Space) -> None:
    assert needs_tuning(space)
    best = config(space, layer4__block="ecrm", train__lr=0.05)
    tuning = tuning_space(space, baseline_config(best))
    assert tuning is not None
    assert [decision.name for decision in tuning.decisions] == ["train.lr"]
    assert tuning.document["search"] == space.document["search"]
    resolved = tuning.resolve({"train.lr": 0.07})
    assert (resolved["insert"], resolved["train"]["lr"]) == ([], 0.07)
    assert resolved["train"]["aux_weight"] == {}
    assert resolved["train"]["seed"] == RANGES["tuning"]
    # A rule on the baseline still holds, one on a block cannot.
    assert tuning.forbidden({"train.lr": 0.1}) is not None
    assert tuning.forbidden({"train.lr": 0.01}) is None
    # An arm of an ablation keeps its blocks, and the weights of their losses are settings too.
    arm = tuning_space(space, best)
    assert arm is not None
    names = [decision.name for decision in arm.decisions]
    assert names == ["train.lr", "train.aux_weight.ecrm"]
    assert canonical_text(arm.resolve(values_of(arm, best))) == canonical_text(best)
    fixed = replace(space, settings=(), decisions=())
    assert tuning_space(fixed, baseline_config(best)) is None


def test_config_files_are_confirmed_without_exploring(space: Space, tmp_path: Path) -> None:
    files = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    configs = [
        config(space, layer4__block="gc", train__lr=0.02),
        config(space, layer4__block="nonlocal", train__lr=0.03),
    ]
    for file, one in zip(files, configs, strict=True):
        file.write_text(dump({**one, "name": file.stem, "confirm": None}))
    text = FILE.replace("{top: 2, seeds: 3, epochs: 6}", "{configs: [one.yaml, two.yaml]}")
    (tmp_path / "space.yaml").write_text(text)
    plan = confirm_plan(controlled(load_space(tmp_path / "space.yaml"), "baseline"), [], IMAGES)
    assert [arm.label for arm in plan.arms][:2] == ["gc@layer4", "nonlocal@layer4"]
    assert canonical_text(plan.arms[1].config) == canonical_text(configs[1])
    assert plan.arms[1].config["name"] == "small"
    files[0].write_text(FILE)
    with pytest.raises(PlanError, match=r"one\.yaml has choices \(layer4\.block"):
        confirm_plan(load_space(tmp_path / "space.yaml"), [], IMAGES)
    (tmp_path / "space.yaml").write_text(text.replace("two", "tow"))
    with pytest.raises(SpaceError, match=r"space\.yaml:\d+:\d+.*tow\.yaml"):
        load_space(tmp_path / "space.yaml")


def test_files_of_one_network_with_other_settings_are_all_confirmed(
    space: Space, tmp_path: Path
) -> None:
    """A person named both, so both are compared; one was dropped as if trials had found it."""
    rates = {"one": 0.02, "two": 0.03, "same": 0.03}
    for name, rate in rates.items():
        one = config(space, layer4__block="gc", train__lr=rate)
        seeded = {**one, "train": {**one["train"], "seed": len(name)}}
        (tmp_path / f"{name}.yaml").write_text(dump({**seeded, "name": name, "confirm": None}))
    text = FILE.replace(
        "{top: 2, seeds: 3, epochs: 6}", "{configs: [one.yaml, two.yaml, same.yaml]}"
    )
    (tmp_path / "space.yaml").write_text(text)
    messages: list[str] = []
    wanted = controlled(load_space(tmp_path / "space.yaml"), "baseline")
    plan = confirm_plan(wanted, [], IMAGES, messages=messages)
    candidates = [arm for arm in plan.arms if arm.kind == "candidate"]
    assert [arm.label for arm in candidates] == ["gc@layer4 (lr=0.02)", "gc@layer4 (lr=0.03)"]
    assert [arm.config["train"]["lr"] for arm in candidates] == [0.02, 0.03]
    assert messages == [
        "confirm.configs names 3 files, of which 2 have a block and train differently"
    ]


def test_seeds_of_acts_never_meet_and_only_ever_grow() -> None:
    for exploring in (0, 7, 99_999, 100_000, 2**31 - 1, *(start + 1 for start in RANGES.values())):
        drawn = {purpose: fresh_seeds(exploring, purpose, 999) for purpose in RANGES}
        every = [exploring, *(seed for seeds in drawn.values() for seed in seeds)]
        assert len(every) == len(set(every)) == 1 + 3 * 999
        assert max(every[1:]) < 2**31
        assert fresh_seeds(exploring, "confirm", 3) == drawn["confirm"][:3]
    assert set(fresh_seeds(0, "confirm", 999)).isdisjoint(fresh_seeds(1, "confirm", 999))
    with pytest.raises(PlanError, match="1000 seeds are more than the 999"):
        fresh_seeds(0, "confirm", 1000)


def test_how_exploring_keeps_away_from_folds(space: Space) -> None:
    def folds(**data: Any) -> tuple[tuple[int | None, ...], str]:
        return plan_folds({"data": {"folds": None, "fold": None, "development": None, **data}})

    assert folds() == ((None,), "none")
    assert folds(folds=3) == ((0, 1, 2), "not nested")
    assert folds(folds=3, development=0.2) == ((0, 1, 2), "development")
    assert folds(folds=3, fold=1) == ((1,), "nested")
    alone = trials(config(space, layer4__block="gc"))
    arm = confirm_plan(controlled(space, "baseline"), alone, IMAGES).arms[0]
    run = run_config(space, arm, 17, 2)
    assert (run["train"]["seed"], run["data"]["fold"], run["train"]["epochs"]) == (17, 2, 6)
    assert run["resources"] == space.document["resources"]
    assert arm.config["data"]["fold"] is None


def test_seeds_between_two_numbers_plan_analyses(space: Space) -> None:
    document = {**space.document, "confirm": {**space.document["confirm"], "top": 1}}
    document["confirm"] |= {"seeds": {"min": 5, "max": 8}, "controls": ["baseline"]}
    both = [
        confirm_plan(
            replace(space, document={**document, "confirm": {**document["confirm"], **seeds}}),
            trials(config(space, layer4__block="gc")),
            IMAGES,
        )
        for seeds in ({}, {"seeds": 8})
    ]
    stopping, fixed = both
    assert stopping.seeds == fixed.seeds and len(fixed.seeds) == 8 and fixed.interim is None
    assert stopping.interim is not None and stopping.interim.sizes == (5, 8)
    assert stopping.hash != fixed.hash and "interim" not in fixed.to_document()
    text = " ".join(plan_text(stopping, run_seconds=60, workers=2).split())
    for words in (
        "confirm: 2 arms, 5 to 8 seeds",
        "analysed at 5 and 8 seeds, after each of which the arms stop whose comparisons are",
        "candidate 5-8",
        "at least 10 runs, at most 16; at most about 8 min 0 s, 2 at a time",
    ):
        assert words in text, words
