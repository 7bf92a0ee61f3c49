"""The published networks: counts, names and figures, and checkpoints under published names."""

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks import WeightsError, build_network
from attnsearch.blocks.build import network as network_module
from attnsearch.blocks.measure import cost
from attnsearch.spaces import canonical, dump, load_space, shipped
from attnsearch.spaces.file.shipped_files import published
from tests.spaces.conftest import Load

# Names of the counts recorded from the authors' code.
RECORDED = {
    "axial_resnet26s": "axial26s",
    "axial_resnet50s": "axial50s",
    "axial_unet": "axialunet_128",
    "epsanet101": "epsanet101",
    "epsanet101_large": "epsanet101_large_recon_k3557",
    "epsanet50": "epsanet50",
    "epsanet50_large": "epsanet50_large_recon_k3557",
    "gated_axial_unet": "gated_128",
    "gcnet50": "gcresnet50_c3c5_r16_with_fc1000",
    "gcnet50_r4": "gcresnet50_c3c5_r4_with_fc1000",
    "logo": "logo_128",
    "medt": "medt_128",
    "scnet101": "scnet101",
    "scnet50": "scnet50",
    "scnet50_v1d": "scnet50_v1d",
}


def build(config: dict[str, Any]) -> nn.Module:
    data = config["data"]
    return build_network(
        config, in_channels=3, classes=data["classes"], image_size=data["image_size"]
    )


@pytest.fixture
def weightless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks on the meta device: no time for initial weights."""

    def construct(make: Any, *_: Any, **__: Any) -> nn.Module:
        with torch.device("meta"):
            return make()

    monkeypatch.setattr(network_module, "seeded", construct)


# Built on the meta device in seconds; the deepest and those that differ in a number, some more.
DEEP = {"axial_resnet50s", "epsanet101", "epsanet101_large", "gcnet50_r4", "scnet101"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in DEEP)) for n in sorted(published())],
)
def test_counts_are_the_published_ones(name: str, weightless: None, shared: Path) -> None:
    config = load_space(shipped()[name]).resolve({})
    network = build(config)
    stated = published()[name]["params"]
    assert cost.count_params(network) == pytest.approx(stated, rel=0.01)
    if name not in RECORDED:
        return
    recorded = json.loads((shared / "golden" / "param_counts.json").read_text())["counts"]
    counts = recorded[RECORDED[name]]
    assert sum(parameter.numel() for parameter in network.parameters()) == counts["total"]
    if "state_dict_keys" in counts:
        assert len(network.state_dict()) == counts["state_dict_keys"]
    if name.startswith(("epsanet", "scnet")):  # nothing but convolutions and linear layers
        assert cost.count_macs(network, (3, 224, 224)) == counts["conv_linear_macs"]


@pytest.mark.parametrize("name", sorted(published()))
def test_a_file_leaves_nothing_open_and_survives_export(name: str, tmp_path: Path) -> None:
    space = load_space(shipped()[name])
    assert space.decisions == ()
    assert space.name == name
    assert space.document["data"]["source"] is None
    config = space.resolve({})
    assert "published" not in config
    (tmp_path / "again.yaml").write_text(dump(config))
    again = load_space(tmp_path / "again.yaml").resolve({})
    assert again == config
    assert canonical(again) == canonical(config)


def test_epsanets_convolutions_start_as_published() -> None:
    """Normal with standard deviation sqrt(2 / (k^2 out)), the squeeze's too; measured."""
    network = build(load_space(shipped()["epsanet50"]).resolve({}))
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            wanted = (2 / (module.out_channels * module.kernel_size[0] ** 2)) ** 0.5
            assert float(module.weight.detach().std()) == pytest.approx(wanted, rel=0.05), name
            assert float(module.weight.detach().abs().max()) > 2.5 * wanted, (
                f"{name} is not normal"
            )
        if name.endswith(("se.fc1", "se.fc2")) and module.weight.numel() > 2000:
            wanted = (2 / module.out_channels) ** 0.5
            assert float(module.weight.detach().std()) == pytest.approx(wanted, rel=0.1), name


SMALL = ["network.width=0.125", "data.image_size=32", "data.classes=7"]


def gcnet(*overrides: str) -> dict[str, Any]:
    return load_space(shipped()["gcnet50"], [*SMALL, *overrides]).resolve({})


@lru_cache
def authors_gcnet() -> dict[str, Tensor]:
    """A state dict under the names of the authors' code."""
    state = build(gcnet()).state_dict()
    pattern = r"inserted\.(layer\d)_(\d+)_residual\.0\."
    return {
        re.sub(pattern, r"\1.\2.context_block.", name): torch.rand_like(tensor.float())
        for name, tensor in state.items()
    }


def test_a_published_name_in_the_host_is_mapped(tmp_path: Path) -> None:
    state = authors_gcnet()
    assert "layer2.0.context_block.conv_mask.weight" in state
    torch.save(state, tmp_path / "gcnet.pth")
    network = build(gcnet(f"network.weights.path={tmp_path / 'gcnet.pth'}"))
    report = network.weights_report
    assert report is not None
    for kind in ("missing", "unexpected", "mismatched", "replaced", "fresh", "unused"):
        assert getattr(report, kind) == [], kind
    now = network.state_dict()
    assert set(report.loaded) == set(now)
    for name, tensor in state.items():
        ours = re.sub(r"(layer\d)\.(\d+)\.context_block\.", r"inserted.\1_\2_residual.0.", name)
        torch.testing.assert_close(now[ours], tensor.to(now[ours].dtype), rtol=0, atol=0)


def test_a_detectors_checkpoint_gives_its_backbone(tmp_path: Path) -> None:
    state = authors_gcnet()
    backbone = {f"backbone.{k}": v for k, v in state.items() if not k.startswith("fc.")}
    heads = {
        "neck.fpn_convs.0.conv.weight": torch.zeros(2),
        "bbox_head.fc_cls.bias": torch.ones(3),
    }
    whole = {f"module.{name}": tensor for name, tensor in {**backbone, **heads}.items()}
    content = {"meta": {"epoch": 12, "CLASSES": ("a", "b")}, "state_dict": whole}
    torch.save(content, tmp_path / "detector.pth")
    network = build(gcnet(f"network.weights.path={tmp_path / 'detector.pth'}"))
    report = network.weights_report
    assert report is not None
    assert report.missing == ["fc.weight", "fc.bias"]
    assert report.unexpected == list(heads)
    assert report.fresh == report.replaced == report.mismatched == []
    assert "the file has no classifier (fc)" in str(report)
    # Without the key map the blocks are left over, and start anew.
    bare = gcnet()
    bare["network"]["weights"] = str(tmp_path / "detector.pth")
    report = build(bare).weights_report
    assert report is not None
    assert "layer2.0.context_block.conv_mask.weight" in report.unexpected
    assert "inserted.layer2_0_residual.0.conv_mask.weight" in report.fresh


def test_a_replaced_convolutions_checkpoint_loads_whole(tmp_path: Path) -> None:
    overrides = ["network.width=0.25", "data.image_size=32", "data.classes=7"]
    overrides += ["insert.0.params.psa.groups=[1, 2, 4, 4]"]
    state = build(load_space(shipped()["epsanet50"], overrides).resolve({})).state_dict()
    content = {"state_dict": {f"module.{name}": t for name, t in state.items()}, "epoch": 120}
    torch.save(content, tmp_path / "epsanet.pth")
    weights = f"network.weights={tmp_path / 'epsanet.pth'}"
    config = load_space(shipped()["epsanet50"], [*overrides, weights]).resolve({})
    report = build(config).weights_report
    assert report is not None
    assert set(report.loaded) == set(state)
    for kind in ("missing", "unexpected", "mismatched", "replaced", "fresh"):
        assert getattr(report, kind) == [], kind


SPACE = """\
name: x
task: classification
data: {source: null}
network:
  backbone: resnet20
  weights:
    path: w.pth
    rename:
"""


def test_mistakes_in_a_key_map_have_their_place(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnsearch.spaces import SpaceError

    lines = {
        '"a.*": b': "the stars of both sides must agree",
        '"a.*.**": "b.**.*"': "the stars of both sides must agree",
        '"": b': "the pattern is empty",
        'a: ""': "the new name is empty",
        '"a***": "b***"': "three stars in a row",
        '"*.*.*.*.*.*.*": null': "more than 6 stars",
        "c: 5": "expected text",
    }
    text = SPACE + "".join(f"      {line}\n" for line in lines)
    with pytest.raises(SpaceError) as caught:
        load(text)
    found = {problem.line: problem.message for problem in caught.value.problems}
    for number, words in enumerate(lines.values(), start=9):
        assert words in found[number], f"line {number}"
    assert "there is no file" in found[7]
    with pytest.raises(SpaceError, match=r"unknown key 'renames'; did you mean 'rename'"):
        load(SPACE.replace("rename:", "renames: {}").replace("w.pth", "null"))
    with pytest.raises(SpaceError, match=r"a path, or \{path: \.\.\., rename: \{\.\.\.\}\}"):
        load(SPACE.split("  weights:")[0] + "  weights: 5\n")


def test_two_names_may_not_become_one(tmp_path: Path) -> None:
    host = {"backbone": "resnet20", "width": 0.25}
    state = build_network({"network": host}).state_dict()
    torch.save({**state, "head.fc.weight": state["fc.weight"]}, tmp_path / "w.pth")
    path = str(tmp_path / "w.pth")
    settings = {**host, "weights": {"path": path, "rename": {"head.**": "**"}}}
    with pytest.raises(WeightsError, match=r"fc\.weight and head\.fc\.weight of .* both become"):
        build_network({"network": settings})
    dropped = {**host, "weights": {"path": path, "rename": {"head.**": None, "body.*": "*"}}}
    report = build_network({"network": dropped}).weights_report
    assert report is not None
    assert report.unexpected == []
    assert report.unused == ["body.*"]


def test_the_key_map_is_part_of_what_determines_a_result(tmp_path: Path) -> None:
    torch.save(authors_gcnet(), tmp_path / "w.pth")
    path = f"network.weights.path={tmp_path / 'w.pth'}"
    mapped, bare = canonical(gcnet(path)), canonical(gcnet(path, "network.weights.rename={}"))
    assert mapped != bare
    plain = gcnet()
    plain["network"]["weights"] = str(tmp_path / "w.pth")
    assert canonical(plain) == bare
    assert canonical(gcnet())["network"]["weights"] is None
