"""What each ablation plan varies, what it leaves out and says, and what it compares."""

from pathlib import Path
from typing import Any

import pytest

from attnsearch.runs.statistics.plan import Plan
from attnsearch.search.outlook.acts import outlook
from attnsearch.search.plans.ablations import MOST_ARMS, ablation_plan, ablation_settings
from attnsearch.search.plans.arms import PlanError
from attnsearch.spaces import Space, dump, load_space

FILE = """\
name: small
task: classification
data: {source: null, image_size: 16, channels: 1, classes: 10}
network: {backbone: resnet18, stem: small, width: 0.25}
insert:
  - at: layer[1-4]
    block: {choice: [none, ecrm, gc]}
    decide: stage
  - at: layer[2-3].*.conv2
    block: {choice: [none, psa, scconv]}
    decide: stage
blocks:
  gc: {ratio: {choice: [0.25, 0.125]}}
  ecrm: {bank_size: {int: [10, 90]}}
  psa: {groups: {choice: [[1, 1, 1, 1], [1, 2, 4, 8], [1, 4, 8, 16]]}}
train: {epochs: 4, lr: {float: [0.01, 0.16], log: true}, schedule: {choice: [cosine, step]}}
forbid:
  - {layer3.block: gc, layer3.conv2.block: psa}
confirm: {seeds: 4, epochs: 6}
ablation: {plans: [loco, pairwise], seeds: 3, part: test}
alpha: 0.1
margin: 0.02
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Space:
    file = tmp_path_factory.mktemp("space") / "space.yaml"
    file.write_text(FILE)
    return load_space(file)


@pytest.fixture(scope="module")
def winner(space: Space) -> dict[str, Any]:
    chosen = {"layer4.block": "gc", "layer3.conv2.block": "psa", "train.lr": 0.04}
    return space.resolve(space.ask(lambda d: chosen.get(d.name, d.default())))


def plan(
    name: str, winner: dict[str, Any], space: Space, told: list[str] | None = None
) -> tuple[Plan, dict[str, list[str]]]:
    """The plan, and by family the names of its differences."""
    made = ablation_plan(
        name, winner, space=space, settings=ablation_settings(space), messages=told
    )
    families: dict[str, list[str]] = {}
    for contrast in made.contrasts:
        families.setdefault(contrast.family, []).append(contrast.name)
    assert [arm.kind for arm in made.arms].count("reference") == 1
    return made, families


def inserted(plan: Plan, label: str) -> dict[str, str]:
    entries = plan.arm(label).config["insert"]
    return {entry["at"]: entry["block"] for entry in entries if entry["block"] != "none"}


FULL = "gc@layer4 psa@layer3.conv2"


def test_loco_takes_out_each_insertion(space: Space, winner: dict[str, Any]) -> None:
    made, families = plan("loco", winner, space)
    assert [arm.label for arm in made.arms] == [
        FULL, "without gc@layer4", "without psa@layer3.conv2",
    ]  # fmt: skip
    assert inserted(made, "without gc@layer4") == {"layer3.*.conv2": "psa"}
    assert families == {
        "loco": [f"without gc@layer4 - {FULL}", f"without psa@layer3.conv2 - {FULL}"]
    }
    assert made.contrasts[0].plus == ("without gc@layer4",)
    assert made.contrasts[0].minus == (FULL,)
    # Settings are the reference's, and the file's statistics hold.
    assert {arm.config["train"]["lr"] for arm in made.arms} == {0.04}
    assert (made.epochs, made.part, made.alpha, made.margin) == (6, "test", 0.1, 0.02)
    assert made.seeds == (1_200_000_000, 1_200_000_001, 1_200_000_002)
    assert not (made.retuned or made.reuses_confirm)


def test_positions_move_each_block_and_keep_the_row_where_it_stands(
    space: Space, winner: dict[str, Any]
) -> None:
    told: list[str] = []
    made, families = plan("positions", winner, space, told)
    assert [arm.label for arm in made.arms[1:]] == [
        "gc@layer4 at layer1",
        "gc@layer4 at layer2",
        "gc@layer4 at layer4",
        "psa@layer3.conv2 at layer2.conv2",
        "psa@layer3.conv2 at layer3.conv2",
    ]
    assert inserted(made, "gc@layer4 at layer2") == {"layer2": "gc", "layer3.*.conv2": "psa"}
    assert made.arm("gc@layer4 at layer4").equals == FULL
    assert "gc@layer4 at layer2" in families["positions"][1]
    assert len(families["positions"]) == 3  # none for arms that are the reference
    assert len(told) == 1
    assert "gc@layer4 at layer3 is left out: forbid" in told[0]


def test_blocks_try_what_else_the_place_may_have(space: Space, winner: dict[str, Any]) -> None:
    made, _ = plan("blocks", winner, space)
    assert inserted(made, "ecrm@layer4 for gc") == {"layer4": "ecrm", "layer3.*.conv2": "psa"}
    assert inserted(made, "scconv@layer3.conv2 for psa")["layer3.*.conv2"] == "scconv"
    assert made.arm("ecrm@layer4 for gc").config["train"]["aux_weight"] == {"ecrm": 0.4}
    assert [arm.label for arm in made.arms if arm.equals] == [
        "gc@layer4 for gc", "psa@layer3.conv2 for psa",
    ]  # fmt: skip


def test_ofat_goes_through_each_range(space: Space, winner: dict[str, Any]) -> None:
    told: list[str] = []
    made, _ = plan("ofat", winner, space, told)
    assert [arm.label for arm in made.arms[1:]] == [
        "layer4.gc.ratio = 0.125",
        "layer3.conv2.psa.groups = [1,2,4,8]",
        "layer3.conv2.psa.groups = [1,4,8,16]",
        "train.lr = 0.01",
        "train.lr = 0.02",
        "train.lr = 0.08",
        "train.lr = 0.16",
        "train.schedule = step",
    ]
    step = made.arm("train.schedule = step")
    assert step.config["train"]["step_epochs"] == 2
    assert step.changed == {"train.schedule": "step"}
    assert told == []
    bank = space.resolve(
        space.ask(lambda d: {"layer1.block": "ecrm"}.get(d.name, d.default()))
        | {"layer1.ecrm.bank_size": 20}
    )
    values = [
        arm.changed["layer1.ecrm.bank_size"]
        for arm in plan("ofat", bank, space)[0].arms
        if "layer1.ecrm.bank_size" in arm.changed
    ]
    assert values == [10, 30, 50, 70, 90]


def test_interactions_have_a_family_of_their_own(space: Space, winner: dict[str, Any]) -> None:
    for name in ("pairwise", "factorial"):
        made, families = plan(name, winner, space)
        assert [arm.label for arm in made.arms] == [
            "nothing", "gc@layer4", "psa@layer3.conv2", FULL,
        ]  # fmt: skip
        assert inserted(made, "nothing") == {}
        assert families == {
            name: ["gc@layer4 - nothing", "psa@layer3.conv2 - nothing", f"{FULL} - nothing"],
            f"{name}: interactions": ["gc@layer4 x psa@layer3.conv2"],
        }
        interaction = made.contrasts[-1]
        assert interaction.plus == (FULL, "nothing")
        assert interaction.minus == ("gc@layer4", "psa@layer3.conv2")


def test_a_config_alone_is_varied_by_what_is_known_of_it(
    winner: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    exported = {key: value for key, value in winner.items() if key not in ("confirm", "ablation")}
    file.write_text(dump(exported))
    alone = load_space(file)
    config = alone.resolve()
    told: list[str] = []
    positions, _ = plan("positions", config, alone, told)
    assert "gc@layer4 at layer1" in [arm.label for arm in positions.arms]
    assert "psa@layer3.conv2 at layer4.conv2" in [arm.label for arm in positions.arms]
    ofat, _ = plan("ofat", config, alone, told)
    changed = {key: value for arm in ofat.arms for key, value in arm.changed.items()}
    assert {"layer4.gc.ratio", "train.lr"} <= changed.keys()
    assert ofat.arm("layer4.gc.ratio = 0.5").config["insert"] != config["insert"]
    assert any("psa.kernels = [3, 5, 7, 9] has no range" in line for line in told)
    blocks, _ = plan("blocks", config, alone, told)
    replaced = {arm.changed["block"] for arm in blocks.arms if "for psa" in arm.label}
    assert "conv1x1" in replaced
    assert "se" not in replaced  # takes no stride, so it replaces no convolution elsewhere
    assert "se@layer4 for gc" in [arm.label for arm in blocks.arms]
    settings = ablation_settings(alone, seeds=2)
    assert (len(settings["seeds"]), settings["part"], settings["epochs"]) == (2, "val", 4)


def test_what_cannot_be_planned_is_said(space: Space, winner: dict[str, Any]) -> None:
    plain = space.resolve(space.baseline())
    with pytest.raises(PlanError, match="it is the baseline"):
        plan("loco", plain, space)
    one = space.resolve(space.ask(lambda d: {"layer4.block": "gc"}.get(d.name, d.default())))
    with pytest.raises(PlanError, match=r"needs two insertions.*gc@layer4 alone"):
        plan("pairwise", one, space)
    with pytest.raises(PlanError, match="no ablation plan"):
        plan("lofo", one, space)
    many = {**one, "insert": [{"at": f"layer{n}.{k}.residual", "block": "se", "params": {}}
                              for n in (1, 2, 3, 4) for k in (0, 1)]}  # fmt: skip
    with pytest.raises(PlanError, match=rf"has 256 arms, and a plan can have {MOST_ARMS}; take"):
        plan("factorial", many, space)
    assert len(plan("pairwise", many, space)[0].arms) == 1 + 8 + 28


def test_reuse_takes_the_seeds_of_confirm(winner: dict[str, Any], tmp_path: Path) -> None:
    for given, count in (("seeds: 3, ", 3), ("", 4)):  # as many as confirm where none are given
        file = tmp_path / "space.yaml"
        file.write_text(FILE.replace("seeds: 3, part: test", f"{given}reuse: confirm"))
        made, _ = plan("loco", winner, load_space(file))
        assert made.seeds == tuple(range(1_100_000_000, 1_100_000_000 + count))
        assert made.reuses_confirm


def test_check_foresees_the_acts(space: Space) -> None:
    found = outlook(space, 2.0, 2)
    acts = {act.act: (act.arms, act.runs, act.seconds) for act in found.acts}
    assert acts["tuning the baseline"] == (0, 16, 8 * 4 * 2.0)
    assert acts["confirm"] == (4, 16, 8 * 6 * 2.0)
    arms, runs, _ = acts["ablation loco"]
    assert runs == 3 * arms
    # A block at every place, as far as the rule lets: five or six of them, and nothing.
    assert acts["ablation pairwise"][0] in (1 + 5 + 10, 1 + 6 + 15)
    assert found.notes == ()
    assert "with 4 seeds" in found.power[0]
