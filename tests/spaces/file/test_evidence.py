"""The studies of docs/evidence.md: every block once, alone, in the network that is asked about."""

from pathlib import Path

import pytest

from attnsearch.blocks.mechanisms import BLOCKS
from attnsearch.blocks.naming import NONE
from attnsearch.spaces import load_space, shipped
from attnsearch.spaces.file.shipped_files import find_space_file

FOLDER = Path(__file__).parents[3] / "spaces/evidence"


@pytest.mark.parametrize("name", ["cifar10", "kvasir"])
def test_each_block_stands_alone_in_one_network(name: str) -> None:
    space = load_space(FOLDER / f"{name}.yaml")
    assert space.architecture_count() == 14
    choices = [
        value
        for decision in space.decisions
        if decision.name.endswith(".block")
        for value in decision.choices
        if value != NONE
    ]
    assert sorted(choices) == sorted(set(BLOCKS) - {"identity"})
    confirm = space.document["confirm"]
    assert (confirm["top"], confirm["seeds"]) == (13, 5)


def test_the_files_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = find_space_file("spaces/evidence/cifar10.yaml")  # in a wheel, beside its modules
    assert found.is_absolute() and found.read_text() == (FOLDER / "cifar10.yaml").read_text()
    assert find_space_file("spaces/../evidence/cifar10.yaml") != found
    assert find_space_file("spaces/cifar10.yaml") == shipped()["cifar10"]
    assert find_space_file("evidence/nothing.yaml") == Path("evidence/nothing.yaml")
    (tmp_path / "cifar10.yaml").touch()
    assert find_space_file("cifar10.yaml") == Path("cifar10.yaml")
