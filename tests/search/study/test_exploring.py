"""What a search proposes first, by its space file."""

from typing import Any

import pytest

from attnsearch.search.study.exploring import make_proposals
from attnsearch.spaces.space import Space, load_space


def proposed(space: Space, count: int) -> list[tuple[str, dict[str, Any]]]:
    """The first proposals, none of which has ended."""
    bridge = make_proposals(space, [space.baseline()])
    asked = [bridge.ask() for _ in range(count)]
    return [(proposal.how, proposal.values) for proposal in asked if proposal is not None]


def test_settings_first_are_tried_on_the_network_with_nothing_inserted() -> None:
    space = load_space("spaces/resnet.yaml", ["search.settings=first"])
    hows, values = zip(*proposed(space, 6), strict=True)
    assert hows == ("given", "probe", "probe", "probe", "probe", "sampler")
    blocks = [{k: v for k, v in each.items() if k != "train.lr"} for each in values[:5]]
    assert all(set(each.values()) == {"none"} for each in blocks)
    assert len({each["train.lr"] for each in values}) == 6


def test_a_network_stands_for_the_plain_one_that_the_file_excludes() -> None:
    space = load_space(
        "spaces/resnet.yaml", ["search.settings=first", "insert.0.block={choice: [gc, ecrm]}"]
    )
    assert space.baseline() is None
    hows, values = zip(*proposed(space, 5), strict=True)
    assert hows == ("given", *["probe"] * 4)
    assert {each["layer4.block"] for each in values} == {"gc"}


@pytest.mark.parametrize(
    "overrides",
    [
        ["search.settings=null"],
        ["search.settings=together"],
        ["search.settings=first", "train.lr=0.05"],
        ["search.settings=first", "insert=[]", "forbid=[]"],
    ],
)
def test_other_searches_try_no_settings_by_themselves(overrides: list[str]) -> None:
    space = load_space("spaces/resnet.yaml", overrides)
    assert "probe" not in [how for how, _ in proposed(space, 4)]
