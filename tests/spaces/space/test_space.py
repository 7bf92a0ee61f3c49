"""What a space decides, how its decisions are called, and what they resolve to."""

import itertools
import math
import pickle

import pytest

from attnsearch.spaces import DecisionError, SpaceError, load_space

HEAD = """\
name: test
task: classification
data: {source: digits, image_size: 16}
network: {backbone: resnet18, stem: small, width: 0.5}
"""
RESNET = (
    HEAD
    + """\
insert:
  - at: layer4
    block: {choice: [none, ecrm, gc]}
  - at: layer[2-3].*.conv2
    block: {choice: [none, psa, scconv]}
    decide: stage
blocks:
  ecrm: {bank_size: {int: [10, 40], step: 10}}
  psa: {kernels: {choice: [[3, 5, 7, 9], [3, 3, 5, 5]]}}
  gc: {ratio: {choice: [0.0625, 0.125, 0.25]}, pooling: avg}
train: {lr: {float: [0.02, 0.4], log: true}, aux_weight: {ecrm: 0.4}}
"""
)


def names(space):
    return [decision.name for decision in space.decisions]


def choose_block(space, name):
    return next(d for d in space.decisions if d.name == name)


class TestNames:
    """Decision names, as the design gives them."""

    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            ("at: 'layer[2-3].*.conv2'", ["layer2-3.conv2"]),
            ("at: 'layer[2-3].*.conv2', decide: stage", ["layer2.conv2", "layer3.conv2"]),
            (
                "at: 'layer[2-3].*.conv2', decide: each",
                ["layer2.0.conv2", "layer2.1.conv2", "layer3.0.conv2", "layer3.1.conv2"],
            ),
            ("at: 'layer[2-3].*.conv2', name: mid", ["mid"]),
            ("at: 'layer[2-3].*.conv2', name: mid, decide: stage", ["mid.layer2", "mid.layer3"]),
            (
                "at: 'layer2.*.conv2', name: mid, decide: each",
                ["mid.layer2.0.conv2", "mid.layer2.1.conv2"],
            ),
            ("at: 'layer[1,3].last.residual'", ["layer1_3.last.residual"]),
            ("at: 'layer[1,3].last.residual', decide: stage", [
                "layer1.last.residual", "layer3.last.residual"]),
            ("at: 'layer*.first', decide: each", [f"layer{n}.0" for n in (1, 2, 3, 4)]),
            ("at: 'layer*.*'", ["layer"]),
            ("at: stem, decide: stage", ["stem"]),
            ("at: stem, name: low, decide: stage", ["low.stem"]),
            ("at: '*.*'", ["all"]),
        ],
    )  # fmt: skip
    def test_groups(self, entry, expected, load):
        block = "gc" if "conv2" not in entry else "scconv"
        space = load(HEAD + f"insert: [{{{entry}, block: {{choice: [none, {block}]}}}}]")
        assert names(space) == [f"{name}.block" for name in expected]

    def test_hyperparameters_are_decided_once_a_group(self, load):
        space = load(RESNET)
        assert names(space) == [
            "layer4.block",
            "layer4.ecrm.bank_size",
            "layer4.gc.ratio",
            "layer2.conv2.block",
            "layer2.conv2.psa.kernels",
            "layer3.conv2.block",
            "layer3.conv2.psa.kernels",
            "train.lr",
        ]

    def test_decisions_stand_in_the_order_of_the_file_after_their_parents(self, load):
        train = "train: {momentum: {choice: [0.8, 0.9]}, aux_weight: {ecrm: {float: [0.1, 1]}}, "
        train += "optimizer: {choice: [sgd, adamw]}}\n"
        rest = "insert: [{at: layer4, block: {choice: [none, ecrm]}}]\n"
        assert names(load(train + rest + HEAD)) == [
            "train.optimizer",
            "train.momentum",
            "layer4.block",
            "train.aux_weight.ecrm",
        ]

    def test_other_decisions_are_dotted_keys(self, load):
        text = HEAD.replace("image_size: 16", "image_size: 16, augment: {crop: {int: [0, 2]}}")
        text = text.replace("small", "{choice: [small, imagenet]}").replace(
            "0.5", "{float: [0.5, 1]}"
        )
        assert names(load(text)) == ["data.augment.crop", "network.stem", "network.width"]


class TestConditions:
    """Only active decisions are asked for."""

    def ask(self, space, **wanted):
        asked = []

        def choose(decision):
            asked.append(decision.name)
            return wanted.get(decision.name, decision.default())

        values = space.ask(choose)
        assert list(values) == asked
        return values

    def test_no_hyperparameter_of_a_block_that_is_not_there(self, load):
        space = load(RESNET)
        assert list(self.ask(space)) == [
            "layer4.block",
            "layer2.conv2.block",
            "layer3.conv2.block",
            "train.lr",
        ]
        values = self.ask(space, **{"layer4.block": "ecrm", "layer3.conv2.block": "psa"})
        assert list(values) == [
            "layer4.block",
            "layer4.ecrm.bank_size",
            "layer2.conv2.block",
            "layer3.conv2.block",
            "layer3.conv2.psa.kernels",
            "train.lr",
        ]

    def test_momentum_only_with_sgd_and_steps_only_with_their_schedule(self, load):
        space = load(
            HEAD + "train: {optimizer: {choice: [sgd, adamw]}, momentum: {float: [0.5, 0.9]},"
            " schedule: {choice: [cosine, step, onecycle]}, step_epochs: {int: [2, 4]},"
            " warmup_epochs: {int: [1, 2]}}"
        )
        every = {"train.optimizer", "train.momentum", "train.schedule", "train.step_epochs"}
        every |= {"train.warmup_epochs"}
        assert set(self.ask(space, **{"train.schedule": "step"})) == every
        adam = self.ask(space, **{"train.optimizer": "adamw", "train.schedule": "onecycle"})
        assert set(adam) == {"train.optimizer", "train.schedule"}
        train = space.resolve(adam)["train"]
        assert (train["momentum"], train["warmup_epochs"], train["step_epochs"]) == (0.9, 0, None)

    def test_a_side_output_has_a_weight_where_any_entry_brings_it(self, load):
        space = load(
            HEAD + "insert:\n  - {at: layer4, block: {choice: [none, ecrm]}}\n"
            "  - {at: layer3, block: {choice: [ecrm, gc]}}\n"
            "train: {aux_weight: {ecrm: {choice: [0.1, 1.0]}}}"
        )
        weight = choose_block(space, "train.aux_weight.ecrm")
        for upper, lower in itertools.product(["none", "ecrm"], ["ecrm", "gc"]):
            values = {"layer4.block": upper, "layer3.block": lower}
            assert weight.active(values) == ("ecrm" in (upper, lower))
        config = space.resolve({"layer4.block": "none", "layer3.block": "gc"})
        assert config["train"]["aux_weight"] == {}

    def test_a_setting_that_nothing_makes_active_is_no_decision(self, load):
        space = load(HEAD + "train: {optimizer: adamw, momentum: {float: [0.5, 0.9]}}")
        assert not space.decisions
        assert any("train.momentum: has no effect" in text for text in space.warnings)


VALUES = {
    "layer4.block": "ecrm",
    "layer4.ecrm.bank_size": 30,
    "layer2.conv2.block": "none",
    "layer3.conv2.block": "psa",
    "layer3.conv2.psa.kernels": [3, 3, 5, 5],
    "train.lr": 0.1,
}


class TestResolve:
    """From decision values to a config."""

    def test_one_entry_a_group_with_all_hyperparameters(self, load):
        config = load(RESNET).resolve(VALUES)
        assert config["insert"] == [
            {
                "at": "layer4",
                "name": "layer4",
                "block": "ecrm",
                "params": {
                    "ecrm": {
                        "bank_size": 30,
                        "hidden": None,
                        "key": None,
                        "prototypes": 1,
                        "compat": None,
                    }
                },
            },
            {"at": "layer2.*.conv2", "name": "layer2.conv2", "block": "none", "params": {}},
            {
                "at": "layer3.*.conv2",
                "name": "layer3.conv2",
                "block": "psa",
                "params": {"psa": {"kernels": [3, 3, 5, 5], "groups": [1, 4, 8, 16]}},
            },
        ]
        assert config["train"]["lr"] == 0.1
        assert config["train"]["aux_weight"] == {"ecrm": 0.4}

    def test_the_sections_of_a_config(self, load):
        config = load(RESNET).resolve(VALUES)
        assert list(config) == [
            "name", "task", "data", "network", "insert", "train", "search", "forbid", "limits",
            "confirm", "ablation", "resources", "checkpoint", "primary_metric", "alpha",
            "smallest_effect", "margin",
        ]  # fmt: skip
        assert config["network"] == {
            "backbone": "resnet18",
            "stem": "small",
            "width": 0.5,
            "weights": None,
            "learn_gates": False,
            "joint_patches": False,
            "decoder": None,
            "aux_heads": [],
        }

    def test_defaults_that_depend_on_other_choices(self, load):
        space = load(
            HEAD + "train: {epochs: 9, optimizer: {choice: [sgd, adamw]}, schedule: step}"
        )
        sgd = space.resolve({"train.optimizer": "sgd"})["train"]
        adamw = space.resolve({"train.optimizer": "adamw"})["train"]
        assert (sgd["lr"], adamw["lr"], sgd["step_epochs"]) == (0.1, 0.001, 3)
        assert "timeout" not in space.document["resources"]
        timed = load(HEAD + "resources: {timeout: 90}")
        assert timed.resolve({})["resources"]["timeout"] == 90
        assert "keep" not in space.document["data"]
        text = HEAD.replace(", stem: small", "")
        assert load(text).document["network"]["stem"] == "imagenet"
        assert load(text.replace("18", "20")).document["network"]["stem"] == "small"

    def test_configs_share_nothing_that_can_be_changed(self, load):
        space = load(RESNET)
        first = space.resolve(VALUES)
        first["insert"][2]["params"]["psa"]["kernels"].append(11)
        first["train"]["aux_weight"]["ecrm"] = 9
        first["data"]["augment"]["flip"] = True
        second = space.resolve(VALUES)
        assert second["insert"][2]["params"]["psa"]["kernels"] == [3, 3, 5, 5]
        assert second["train"]["aux_weight"] == {"ecrm": 0.4}
        assert second["data"]["augment"] == {}

    def test_values_of_inactive_decisions_are_ignored(self, load):
        space = load(RESNET)
        extra = {**VALUES, "layer4.gc.ratio": "anything"}
        assert space.resolve(extra) == space.resolve(VALUES)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"layer4.blok": "gc"}, r"no decision is called 'layer4.blok'; did you mean 'layer4"),
            ({"train.lr": 0.5}, r"train.lr: 0.5 lies outside \[0.02, 0.4\]"),
            ({"train.lr": "fast"}, r"train.lr: 'fast' is not a number"),
            ({"train.lr": True}, r"train.lr: true is not a number"),
            ({"train.lr": math.nan}, r"train.lr: nan lies outside"),
            ({"layer4.block": "se"}, r"layer4.block: 'se' is not one of none, ecrm, gc"),
            ({"layer4.ecrm.bank_size": 15}, r"15 is not 10 plus a multiple of 10"),
            ({"layer4.ecrm.bank_size": 20.5}, r"20.5 is not a whole number"),
            ({"layer4.ecrm.bank_size": math.nan}, r"nan is not a whole number"),
            ({"layer4.ecrm.bank_size": 50}, r"50 lies outside \[10, 40\]"),
            ({"layer3.conv2.psa.kernels": [3]}, r"\[3\] is not one of \[3,5,7,9\], \[3,3,5,5\]"),
        ],
    )
    def test_wrong_values_are_named(self, change, message, load):
        with pytest.raises(DecisionError, match=message):
            load(RESNET).resolve({**VALUES, **change})

    def test_missing_values_are_named_all_at_once(self, load):
        with pytest.raises(DecisionError, match=r"for the decision layer2.conv2.block; no value"):
            load(RESNET).resolve({"layer4.block": "none"})

    def test_a_file_without_decisions_is_one_config(self, load):
        space = load(HEAD)
        assert space.decisions == ()
        assert space.resolve() == space.resolve({})
        assert space.architecture_count() == 1
        assert list(space.grid()) == [{}]
        assert space.baseline() == {}


class TestStarts:
    """Priors, defaults, and the plain network."""

    def test_priors_are_only_those_declared(self, load):
        text = RESNET.replace("[none, ecrm, gc]", "[none, ecrm, gc], prior: gc")
        text = text.replace("log: true", "log: true, prior: 0.1")
        space = load(text)
        assert load(RESNET).prior() is None
        assert space.prior() == {"layer4.block": "gc", "train.lr": 0.1}
        assert space.defaults() == {
            "layer4.block": "gc",
            "layer4.gc.ratio": 0.0625,
            "layer2.conv2.block": "none",
            "layer3.conv2.block": "none",
            "train.lr": 0.1,
        }

    def test_null_can_be_a_prior(self, load):
        space = load(HEAD + "train: {class_weights: {choice: [balanced, null], prior: null}}")
        assert space.prior() == {"train.class_weights": None}

    def test_plain_inserts_nothing(self, load):
        space = load(RESNET)
        plain = space.baseline()
        assert {entry["block"] for entry in space.resolve(plain)["insert"]} == {"none"}
        assert plain["train.lr"] == pytest.approx(math.sqrt(0.02 * 0.4), rel=1e-3)

    def test_there_is_no_plain_network_where_an_entry_must_have_a_block(self, load):
        text = HEAD + "insert: [{at: layer4, block: {choice: [gc, se]}}]"
        assert load(text).baseline() is None
        text = HEAD + "insert: [{at: layer4, block: {choice: [gc, none]}}]\n"
        assert load(text).baseline() == {"layer4.block": "none"}
        assert load(text + "forbid: [{layer4.block: none}]").baseline() is None

    @pytest.mark.parametrize(
        ("spec", "default"),
        [
            ("{int: [10, 50], step: 10}", 30),
            ("{int: [1, 64], log: true}", 8),
            ("{choice: [4, 2]}", 4),
            ("{int: [1, 9], prior: 2}", 2),
        ],
    )
    def test_defaults(self, spec, default, load):
        (decision,) = load(HEAD + f"train: {{batch_size: {spec}}}").decisions
        assert decision.default() == default
        assert type(decision.default()) is int


class TestForbidden:
    """Combinations that are never tried."""

    def test_all_conditions_of_a_rule_must_hold(self, load):
        space = load(RESNET + "forbid: [{layer4.block: ecrm, layer3.conv2.block: [psa, scconv]}]")
        for combination in space_values(space, "layer4.block", "layer3.conv2.block"):
            upper, lower = combination["layer4.block"], combination["layer3.conv2.block"]
            said = space.forbidden(space.ask(lambda d, c=combination: c.get(d.name, d.default())))
            assert bool(said) == (upper == "ecrm" and lower != "none")
            if said:
                assert "layer3.conv2.block" in said
                assert "space.yaml:16" in said

    def test_a_list_can_be_one_value_or_several(self, load):
        rule = "forbid: [{layer2.conv2.block: psa, layer2.conv2.psa.kernels: %s}]"
        one = load(RESNET + rule % "[3, 5, 7, 9]")
        values = one.ask(lambda d: "psa" if d.name == "layer2.conv2.block" else d.default())
        assert one.forbidden(values)
        assert not one.forbidden({**values, "layer2.conv2.psa.kernels": [3, 3, 5, 5]})
        both = load(RESNET + rule % "[[3, 5, 7, 9], [3, 3, 5, 5]]")
        assert both.forbidden({**values, "layer2.conv2.psa.kernels": [3, 3, 5, 5]})

    def test_a_rule_on_an_inactive_decision_does_not_hold(self, load):
        space = load(RESNET + "forbid: [{layer4.ecrm.bank_size: 20}]")
        assert not space.forbidden(space.baseline())

    def test_a_rule_outlives_fixing_what_it_names(self, load):
        text = RESNET + "forbid: [{layer4.block: ecrm, layer3.conv2.block: psa}]"
        space = load(text, "insert.0.block=gc")
        psa = space.ask(lambda d: "psa" if d.name == "layer3.conv2.block" else d.default())
        assert not space.forbidden(psa)
        space = load(text, "insert.0.block=ecrm")
        psa = space.ask(lambda d: "psa" if d.name == "layer3.conv2.block" else d.default())
        assert space.forbidden(psa)

    def test_no_convolution_is_replaced_twice(self, load):
        space = load(
            HEAD + "insert:\n  - {at: layer3.0.conv2, block: {choice: [none, psa]}}\n"
            "  - {at: 'layer3.*.conv2', name: all3, block: {choice: [none, scconv]}}"
        )
        both = {"layer3.0.conv2.block": "psa", "all3.block": "scconv"}
        assert "layer3.0.conv2 would be replaced twice" in space.forbidden(both)
        assert not space.forbidden({**both, "all3.block": "none"})
        assert space.architecture_count() == 3

    def test_several_additions_at_one_site_are_allowed(self, load):
        space = load(
            HEAD + "insert:\n  - {at: layer4, name: a, block: se}\n"
            "  - {at: layer4, name: b, block: gc}"
        )
        assert not space.forbidden({})


def space_values(space, *wanted):
    decisions = [d for d in space.decisions if d.name in wanted]
    for values in itertools.product(*(d.choices for d in decisions)):
        yield dict(zip(wanted, values, strict=True))


class TestFit:
    """What can stand nowhere is an error (see test_mistakes); the rest is listed."""

    def test_a_combination_that_cannot_be_built_is_infeasible(self, load):
        space = load(
            HEAD + "insert: [{at: layer2.1.conv2, block: psa}]\n"
            "blocks: {psa: {kernels: {choice: [[3, 5, 7, 9], [3, 5]]},"
            " groups: {choice: [[1, 4, 8, 16], [1, 4]]}}}"
        )
        listed = {str(item).split(": block")[0] for item in space.infeasible}
        assert listed == {
            "psa at layer2.1.conv2, layer2.1.conv2.psa.kernels = [3,5,7,9], "
            "layer2.1.conv2.psa.groups = [1,4]",
            "psa at layer2.1.conv2, layer2.1.conv2.psa.kernels = [3,5], "
            "layer2.1.conv2.psa.groups = [1,4,8,16]",
        }
        for values in space.grid():
            kernels, groups = values.values()
            assert len(kernels) == len(groups)
        wrong = {
            "layer2.1.conv2.psa.kernels": [3, 5],
            "layer2.1.conv2.psa.groups": [1, 4, 8, 16],
        }
        assert "layer2.1.conv2" in space.forbidden(wrong)
        assert space.architecture_count() == 2

    def test_a_block_that_stands_only_in_some_groups_is_infeasible_in_the_others(self, load):
        space = load(
            HEAD + "insert: [{at: 'layer2.*.conv1', decide: each, block: {choice: [none, se]}}]"
        )
        (item,) = space.infeasible
        assert (item.group, item.block, dict(item.values)) == ("layer2.0.conv1", "se", {})
        assert space.forbidden({"layer2.0.conv1.block": "se", "layer2.1.conv1.block": "none"})
        assert not space.forbidden({"layer2.0.conv1.block": "none", "layer2.1.conv1.block": "se"})
        assert space.architecture_count() == 2

    def test_widths_are_tried_too(self, load):
        text = HEAD.replace("0.5", "{choice: [0.5, 0.25]}")
        space = load(text + "insert: [{at: layer2.1.conv2, block: {choice: [none, psa]}}]")
        (item,) = space.infeasible
        assert dict(item.host) == {"network.width": 0.25}
        assert space.forbidden({"network.width": 0.25, "layer2.1.conv2.block": "psa"})
        assert not space.forbidden({"network.width": 0.5, "layer2.1.conv2.block": "psa"})
        assert space.architecture_count() == 3

    def test_a_choice_between_whole_sets_of_hyperparameters(self, load):
        space = load(
            HEAD + "insert: [{at: layer2.1.conv2, block: {choice: [none, psa]}}]\n"
            "blocks: {psa: {choice: [{kernels: [3, 5], groups: [1, 4]},"
            " {kernels: [3, 5, 7, 9]}], prior: {kernels: [3, 5, 7, 9]}}}"
        )
        assert names(space) == ["layer2.1.conv2.block", "layer2.1.conv2.psa.params"]
        assert not space.infeasible
        decision = space.decisions[1]
        assert decision.default() == {"kernels": [3, 5, 7, 9]}
        assert decision.decode(decision.encode(decision.choices[0])) == decision.choices[0]
        values = {"layer2.1.conv2.block": "psa", decision.name: decision.choices[0]}
        assert space.resolve(values)["insert"][0]["params"] == {
            "psa": {"kernels": [3, 5], "groups": [1, 4]}
        }

    def test_an_entry_overrides_the_hyperparameters_of_a_block(self, load):
        space = load(
            HEAD + "insert:\n  - {at: layer4, block: gc, params: {gc: {ratio: 0.5}}}\n"
            "  - {at: layer3, block: gc}\n"
            "blocks: {gc: {ratio: {choice: [0.25, 0.125]}, pooling: avg}}"
        )
        assert names(space) == ["layer3.gc.ratio"]
        first, second = space.resolve(space.defaults())["insert"]
        assert first["params"]["gc"] == {"ratio": 0.5, "pooling": "avg", "fusion": ["add"]}
        assert second["params"]["gc"]["ratio"] == 0.25

    def test_what_a_block_warns_of_is_a_warning_of_the_space(self, load):
        space = load(HEAD + "insert: [{at: layer1, block: gc, params: {gc: {ratio: 0.04}}}]")
        assert any("gc at layer1" in text and "ratio=0.04" in text for text in space.warnings)


class TestCount:
    """Number of networks and the grid."""

    def test_counts_agree_with_going_through_the_grid(self, load):
        text = RESNET.replace("{float: [0.02, 0.4], log: true}", "0.1")
        rule = "forbid: [{layer4.block: ecrm, layer3.conv2.block: psa}]"
        for extra, expected in (("", (1 + 4 + 3) * 16), (rule, 8 * 16 - 4 * 2 * 4)):
            space = load(text + extra)
            assert space.architecture_count() == len(list(space.grid())) == expected

    def test_training_settings_make_no_other_network(self, load):
        space = load(RESNET)
        assert space.architecture_count() == 8 * 16

    def test_a_rule_on_training_takes_no_network_away(self, load):
        text = HEAD + "insert: [{at: layer4, block: {choice: [none, gc]}}]\n"
        text += "train: {optimizer: {choice: [sgd, adamw]}}\n"
        space = load(text + "forbid: [{layer4.block: gc, train.optimizer: sgd}]")
        assert space.architecture_count() == 2
        assert len(list(space.grid())) == 3

    def test_huge_spaces_are_counted_at_once(self, load):
        text = HEAD.replace("resnet18, stem: small", "resnet110").replace("0.5", "1.0")
        text += "insert: [{at: 'layer*.*.residual', decide: each, block: {choice: [none, gc]}}]\n"
        text += "blocks: {gc: {ratio: {choice: [0.25, 0.5]}}}\n"
        space = load(text)
        assert space.architecture_count() == 3**54
        assert len(list(itertools.islice(space.grid(), 5))) == 5

    def test_a_huge_range_is_counted_without_being_listed(self, load):
        text = HEAD + "insert: [{at: layer4, block: ecrm}]\n"
        space = load(text + "blocks: {ecrm: {bank_size: {int: [1, 1000000]}}}")
        assert space.architecture_count() == 1_000_000

    def test_a_grid_needs_steps(self, load):
        with pytest.raises(SpaceError, match=r"space.yaml:\d+:\d+: train.lr: .*step:"):
            load(RESNET, "search.sampler=grid")
        space = load(RESNET.replace("[0.02, 0.4], log: true", "[0.1, 0.4], step: 0.1"))
        rates = {values["train.lr"] for values in space.grid()}
        assert rates == {0.1, 0.2, 0.3, 0.4}


class TestDecision:
    """One decision by itself."""

    def test_lists_have_a_label_and_come_back_from_it(self, load):
        kernels = choose_block(load(RESNET), "layer3.conv2.psa.kernels")
        assert kernels.label([3, 3, 5, 5]) == "[3,3,5,5]"
        assert kernels.encode([3, 3, 5, 5]) == "[3,3,5,5]"
        assert kernels.decode("[3,3,5,5]") == [3, 3, 5, 5]
        assert kernels.check((3, 3, 5, 5)) == [3, 3, 5, 5]

    def test_words_and_numbers_are_stored_as_they_are(self, load):
        space = load(RESNET)
        for decision in space.decisions:
            if decision.kind == "choice" and decision.count:
                for choice in decision.choices:
                    assert decision.decode(decision.encode(choice)) == choice
        assert choose_block(space, "layer4.block").encode("gc") == "gc"

    def test_numbers_at_the_edge_are_kept_in_range(self, load):
        rate = choose_block(load(RESNET), "train.lr")
        assert rate.check(0.4 + 1e-12) == 0.4
        assert rate.check(0.02) == 0.02

    def test_large_whole_numbers_stay_exact(self, load):
        space = load(HEAD + "train: {batch_size: {choice: [9007199254740993, 4]}}")
        assert space.decisions[0].check(9007199254740993) == 9007199254740993
        space = load(HEAD + "train: {batch_size: {int: [1, 9007199254740993]}}")
        assert space.decisions[0].check(9007199254740991) == 9007199254740991

    def test_steps_have_no_noise(self, load):
        space = load(HEAD + "train: {momentum: {float: [0.1, 0.7], step: 0.1}}")
        values = list(space.decisions[0].values())
        assert values == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
        assert space.decisions[0].check(0.1 + 0.2) == 0.3


USER = '''
from torch import nn


class Gate(nn.Module):
    """Multiplies by a number."""

    def __init__(self, channels: int, strength: float = 1.0, extra=None, *, mode="a"):
        super().__init__()
        if strength > 2:
            raise ValueError(f"strength {strength} is above 2")
        self.strength = strength

    def forward(self, x):
        return x * self.strength


class Needs(Gate):
    def __init__(self, channels: int, strength: float):
        super().__init__(channels, strength)
'''


class TestOwnBlocks:
    """A user's `module:Class` beside the space file."""

    @pytest.fixture
    def module(self, tmp_path, request):
        name = f"own_blocks_{abs(hash(request.node.nodeid))}"
        (tmp_path / f"{name}.py").write_text(USER)
        return name

    def test_it_is_found_beside_the_file_and_named_by_its_class(self, module, load):
        space = load(
            HEAD + f"insert: [{{at: layer4, block: {{choice: [none, '{module}:Gate']}}}}]\n"
            f"blocks: {{'{module}:Gate': {{strength: {{float: [0.5, 1]}}}}}}"
        )
        assert names(space) == ["layer4.block", "layer4.Gate.strength"]
        block = space.decisions[0]
        assert block.choices == ("none", f"{module}:Gate")
        assert block.label(f"{module}:Gate") == "Gate"
        assert block.check("Gate") == f"{module}:Gate"
        values = {"layer4.block": f"{module}:Gate", "layer4.Gate.strength": 0.75}
        assert space.resolve(values)["insert"][0] == {
            "at": "layer4",
            "name": "layer4",
            "block": f"{module}:Gate",
            "params": {f"{module}:Gate": {"strength": 0.75, "extra": None, "mode": "a"}},
        }

    def test_what_its_constructor_raises_is_said_in_its_place(self, module, load):
        with pytest.raises(SpaceError, match=r"6:.*strength.*ValueError: strength 3.0 is above 2"):
            load(
                HEAD + f"insert: [{{at: layer4, block: '{module}:Gate'}}]\n"
                f"blocks: {{'{module}:Gate': {{strength: 3}}}}"
            )

    def test_a_hyperparameter_without_default_must_be_given(self, module, load):
        text = HEAD + f"insert: [{{at: layer4, block: '{module}:Needs'}}]\n"
        with pytest.raises(SpaceError, match=r"5:30: .*needs a value for strength"):
            load(text)
        assert not load(text + f"blocks: {{'{module}:Needs': {{strength: 1}}}}").decisions

    def test_two_classes_of_one_name_cannot_be_told_apart(self, module, load, tmp_path):
        (tmp_path / f"{module}_2.py").write_text(USER)
        with pytest.raises(SpaceError, match=r"are both called Gate.*rename one"):
            load(
                HEAD + f"insert: [{{at: layer4, block: {{choice: ['{module}:Gate', "
                f"'{module}_2:Gate']}}}}]"
            )


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file(load):
    text = RESNET.replace("digits", "digitz").replace("layer4", "layer5")
    text = text.replace("gc:", "gcc:").replace("log: true", "log: maybe")
    with pytest.raises(SpaceError) as caught:
        load(text + "checkpoint: first")
    assert [problem.line for problem in caught.value.problems] == [3, 6, 14, 15, 16]
    assert str(caught.value).count("\n") == 4


@pytest.mark.parametrize(
    "network",
    ["{backbone: resnet19, width: 0.5}", "3", "{width: 0.5}", "{backbone: resnet18, width: 0}"],
)
def test_a_wrong_host_brings_no_further_complaints(network, load):
    lines = RESNET.splitlines()
    lines[3] = f"network: {network}"
    with pytest.raises(SpaceError) as caught:
        load("\n".join(lines) + "\nforbid: [{layer4.block: gc}]")
    assert [problem.line for problem in caught.value.problems] == [4]


def test_every_missing_key_is_named(load):
    with pytest.raises(SpaceError) as caught:
        load("train: {epochs: 0}\ninsert: [{block: gc}, {at: layer4}]\nnetwork: {}\n")
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [
        (1, "data"),
        (1, "name"),
        (1, "task"),
        (1, "train.epochs"),
        (2, "insert.0.at"),
        (2, "insert.1.block"),
        (3, "network.backbone"),
    ]


def test_a_wrong_entry_leaves_the_others_to_be_checked(load):
    text = (
        HEAD + "insert:\n  - {block: gc}\n  - {at: stem, block: gcc}\n  - {at: layer9, block: se}"
    )
    with pytest.raises(SpaceError) as caught:
        load(text)
    assert [problem.line for problem in caught.value.problems] == [6, 7, 8]


def test_a_space_and_its_errors_travel_between_processes(load):
    space = load(RESNET)
    copy = pickle.loads(pickle.dumps(space))
    assert copy.resolve(copy.defaults()) == space.resolve(space.defaults())
    with pytest.raises(SpaceError) as caught:
        load("")
    error = pickle.loads(pickle.dumps(caught.value))
    assert str(error) == str(caught.value)
    assert error.problems == caught.value.problems


def test_paths_are_made_absolute_from_the_folder_of_the_file(load, tmp_path):
    (tmp_path / "w.pth").touch()
    (tmp_path / "g.csv").touch()
    text = HEAD.replace("digits", "sets/a.npz").replace("0.5", "0.5, weights: w.pth")
    space = load(text.replace("16", "16, groups: g.csv"))
    assert space.document["data"]["source"] == str(tmp_path / "sets" / "a.npz")
    assert space.document["data"]["groups"] == {"csv": str(tmp_path / "g.csv")}
    assert space.document["network"]["weights"] == str(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "written", ["'^(p[0-9]+)_'", "{pattern: '^(p[0-9]+)_'}"], ids=["text", "mapping"]
)
def test_groups_of_patients_by_name(written, load):
    space = load(HEAD.replace("16", f"16, groups: {written}"))
    assert space.document["data"]["groups"] == {"pattern": "^(p[0-9]+)_"}


def test_warnings_name_their_place(load):
    space = load(
        RESNET.replace("ecrm, ", "")
        + "search: {sampler: cmaes, scheduler: {asha: {grace: 10}}, trials: 4}"
    )
    said = "\n".join(space.warnings)
    assert "space.yaml:15:65: train.aux_weight.ecrm: has no effect: ecrm is never" in said
    assert "space.yaml:16:19: search.sampler: cmaes" in said
    assert "space.yaml:16:52: search.scheduler.asha.grace: is train.epochs" in said


def test_a_folder_that_is_called_as_a_built_in_set_is_told_apart(load, tmp_path):
    """`source: digits` beside a folder of that name trained on the built-in set in silence."""
    (tmp_path / "digits").mkdir()
    assert any("./digits" in text for text in load(HEAD).warnings)
    space = load(HEAD.replace("digits", "./digits"))
    assert space.document["data"]["source"] == str(tmp_path / "digits")
    assert space.warnings == []


def test_a_segmentation_file_is_read(load):
    text = HEAD.replace("classification", "segmentation").replace("16", "16, ignore_index: 255")
    text = text.replace("digits", "scenes")
    space = load(text + "search: {objectives: {val_dice: max, macs: min}}")
    assert space.document["network"]["decoder"] == "unet"
    assert load(text).document["search"]["objectives"] == {"val_dice": "max"}


def test_the_steps_of_a_decoder_are_its_stages() -> None:
    space = load_space(
        {
            "name": "steps",
            "task": "segmentation",
            "data": {"source": None, "image_size": 64, "channels": 3, "classes": 2},
            "network": {"backbone": "resnet18", "width": 0.5},
            "insert": [
                {"at": "decoder[1-2]", "block": {"choice": ["none", "se"]}, "decide": "stage"}
            ],
        }
    )
    named = [(group.name, group.at, [site.name for site in group.sites]) for group in space.groups]
    assert named == [(name, name, [name]) for name in ("decoder1", "decoder2")]
