"""The shipped space files, the schema, and what importing costs."""

import subprocess
import sys
from pathlib import Path

import pytest

from attnsearch.blocks.build.catalog import block_names
from attnsearch.spaces import load_space, schema, shipped

FOLDER = Path(__file__).parents[3] / "spaces"


def test_every_file_of_the_folder_is_shipped():
    assert {path.name for path in shipped().values()} == {p.name for p in FOLDER.glob("*.yaml")}
    assert {"resnet", "cifar10"} <= shipped().keys()


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_shipped_file_has_nothing_wrong_or_suspicious(name):
    space = load_space(shipped()[name])
    assert space.warnings == []
    assert space.infeasible == ()
    config = space.resolve(space.defaults())
    assert space.forbidden(space.defaults()) is None
    assert config["name"] == space.name
    if space.document["published"] is None:
        assert space.baseline() is not None


def test_resnet_has_the_decisions_of_the_design():
    space = load_space(shipped()["resnet"])
    assert [decision.name for decision in space.decisions] == [
        "layer4.block",
        "layer4.ecrm.bank_size",
        "layer4.gc.ratio",
        "layer2.conv2.block",
        "layer2.conv2.psa.kernels",
        "layer2.conv2.psa.groups",
        "layer3.conv2.block",
        "layer3.conv2.psa.kernels",
        "layer3.conv2.psa.groups",
        "train.lr",
    ]
    assert space.architecture_count() == 192
    assert space.document["limits"] == {"params": 12e6}


@pytest.mark.parametrize("written", ["spaces/resnet.yaml", "resnet.yaml"])
def test_a_shipped_file_is_found_from_anywhere(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_space(written).name == "resnet-digits"
    Path("spaces").mkdir()
    own = (FOLDER / "resnet.yaml").read_text().replace("name: resnet-digits", "name: mine")
    Path(written).write_text(own, encoding="utf-8")
    assert load_space(written).name == "mine"


def test_cifar10_takes_any_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = load_space(shipped()["cifar10"], ["data.source=cifar10_small.npz"])
    assert space.document["data"]["source"] == str(tmp_path / "cifar10_small.npz")


def test_the_schema_documents_every_key_and_block():
    found = schema()
    assert set(found["required"]) == {"name", "task", "data", "network"}
    assert set(found["properties"]["blocks"]["properties"]) == set(block_names())
    bank = found["properties"]["blocks"]["properties"]["ecrm"]["properties"]["bank_size"]
    assert bank["default"] == 20
    assert bank["description"]
    undocumented = [
        (name, key)
        for name, section in {"": found, **found["$defs"]}.items()
        if name != "Scheduler"
        for key, value in section["properties"].items()
        # A section that is described by its class says so where it is defined.
        if not (value.get("description") or found["$defs"][value["$ref"][8:]]["description"])
    ]
    assert undocumented == []


def test_every_reference_of_the_schema_leads_somewhere():
    found = schema()
    references: list[str] = []

    def walk(node):
        if isinstance(node, dict):
            references.extend([node["$ref"]] if "$ref" in node else [])
        for item in node.values() if isinstance(node, dict) else node:
            if isinstance(item, dict | list):
                walk(item)

    walk(found)
    assert references
    assert {reference.removeprefix("#/$defs/") for reference in references} <= set(found["$defs"])


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, attnsearch.spaces; "
        "print([m for m in ('torch', 'pydantic', 'yaml') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_an_unknown_public_name_is_an_attribute_error():
    import attnsearch.spaces

    with pytest.raises(AttributeError, match="no attribute 'lode_space'"):
        attnsearch.spaces.lode_space  # noqa: B018
    for name in attnsearch.spaces.__all__:
        assert getattr(attnsearch.spaces, name)
