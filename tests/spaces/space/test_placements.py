"""The places of blocks in their papers, as values of a space."""

from typing import Any

import pytest

from attnsearch.blocks.build import expand
from attnsearch.spaces import Space
from attnsearch.spaces.space.placements import published_values

RESNET = {"backbone": "resnet50", "stem": "small", "width": 0.25}


def space(*insert: dict[str, Any], **more: Any) -> Space:
    data = {"source": "digits", "image_size": 32}
    named = {"name": "places", "task": "classification"}
    return Space.from_dict(
        {**named, "data": data, "network": RESNET, "insert": list(insert), **more}
    )


def sites(of: Space, block: str) -> list[str]:
    (values,) = (v for words, v in published_values(of).items() if words.startswith(f"{block} "))
    inserted = expand(of.resolve(values))
    assert {insertion.block for insertion in inserted} == {block}
    return [insertion.site for insertion in inserted]


BRANCHES = {"at": "layer[1-4].*.residual", "name": "branch", "decide": "stage"}


def test_gc_stands_in_the_branches_of_stages_2_to_4() -> None:
    found = sites(space({**BRANCHES, "block": {"choice": ["none", "gc", "se"]}}), "gc")
    assert found == [
        f"layer{n}.{k}.residual" for n, d in ((2, 4), (3, 6), (4, 3)) for k in range(d)
    ]


@pytest.mark.parametrize("block", ["psa", "scconv"])
def test_psa_and_scconv_stand_for_every_3x3_and_no_1x1(block: str) -> None:
    choice = {"choice": ["none", block]}
    entries = [
        {"at": "layer[1-4].*.conv2", "name": "c2", "block": choice},
        {"at": "layer1.0.conv1", "name": "c1", "block": choice},
    ]
    params = {"psa": {"kernels": [3, 5], "groups": [1, 1]}, "scconv": {}}
    found = sites(space(*entries, blocks={block: params[block]}), block)
    assert found == [
        f"layer{n}.{k}.conv2" for n, d in enumerate((3, 4, 6, 3), 1) for k in range(d)
    ]


def test_ecrm_stands_at_the_end_and_nowhere_else() -> None:
    entries = [{"at": f"layer{n}", "block": {"choice": ["none", "ecrm"]}} for n in (3, 4)]
    assert sites(space(*entries), "ecrm") == ["layer4"]


def test_others_stand_in_every_branch_and_every_other_block() -> None:
    of = space({**BRANCHES, "block": {"choice": ["none", "se", "eca", "cbam", "gc"]}})
    assert len(sites(of, "se")) == len(sites(of, "eca")) == len(sites(of, "cbam")) == 16
    every = {"at": "layer[1-4].*", "name": "b", "block": {"choice": ["none", "nonlocal"]}}
    found = sites(space({**every, "decide": "each"}), "nonlocal")
    assert found == ["layer2.1", "layer2.3", "layer3.1", "layer3.3", "layer3.5"]


def test_hyperparameters_are_the_papers_where_the_space_has_them() -> None:
    entry = {"at": "layer[2-4].*.residual", "name": "b", "block": {"choice": ["none", "gc"]}}
    has = space(entry, blocks={"gc": {"ratio": {"choice": [0.25, 0.0625]}}})
    (values,) = published_values(has).values()
    assert values["b.gc.ratio"] == 0.0625
    lacks = space(entry, blocks={"gc": {"ratio": {"choice": [0.25, 0.5]}}})
    (values,) = published_values(lacks).values()
    assert values["b.gc.ratio"] == 0.25


def test_a_space_without_such_places_has_none() -> None:
    assert published_values(space({"at": "layer1", "block": {"choice": ["none", "gc"]}})) == {}
    fixed = space({"at": "layer4", "block": "ecrm"}, train={"lr": {"choice": [0.1, 0.2]}})
    assert published_values(fixed) == {}


def test_two_entries_never_want_the_same_convolution() -> None:
    one = {"at": "layer1.*.conv2", "name": "one", "block": {"choice": ["none", "scconv"]}}
    both = space(one, {**one, "at": "layer[1-2].*.conv2", "name": "two"})
    (values,) = published_values(both).values()
    assert both.forbidden(values) is None
    assert values["one.block"] == "scconv" and values["two.block"] == "none"
