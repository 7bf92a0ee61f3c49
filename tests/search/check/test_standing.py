"""What `check` says of blocks that cannot stand, of published figures, and of weights."""

import json
import re
from pathlib import Path

import pytest
from safetensors.torch import save_file

from attnsearch.blocks import BLOCKS, build_network
from attnsearch.blocks.build.network import Images
from attnsearch.search.check.published import _compared, _stated
from attnsearch.search.check.standing import barred
from attnsearch.search.check.survey import examples
from attnsearch.search.cli import call
from attnsearch.search.exit import DONE, WRONG_INPUT
from attnsearch.spaces import Space, SpaceError, load_space

HEAD = """\
name: x
task: classification
data: {source: null, image_size: 16, channels: 1, classes: 3}
network: {backbone: resnet18, stem: small, width: 0.25}
"""


def space(folder: Path, text: str) -> Space:
    (folder / "x.yaml").write_text(HEAD + text)
    return load_space(folder / "x.yaml")


def test_every_block_of_the_table_is_tried_at_every_entry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """\
insert:
  - {at: "layer[3-4].*.conv2", block: {choice: [none, conv1x1]}}
  - {at: "layer2.0.conv1", block: {choice: [none, psa]}}
blocks:
  psa: {groups: {choice: [[1, 1, 1, 1], [2, 2, 2, 2]]}}
  se: {reduction: 100}
"""
    found = barred(space(tmp_path, text))
    first = {block: item for item in found if item.entry == 0 for block in item.blocks}
    assert first["scconv"].sites == ("layer4.0.conv2", "layer4.1.conv2")
    assert first["scconv"].of == 4
    assert first["scconv"].reason.startswith("a 2x2 map is smaller than pooling_ratio=4")
    assert "the nearest valid value is 2" in first["scconv"].reason
    assert first["se"].reason.startswith("reduction=100 leaves no channel of 64")
    assert "the nearest valid value is 64" in first["se"].reason
    assert set(first) == {"scconv", "se"}
    second = {block: item for item in found if item.entry == 1 for block in item.blocks}
    assert "psa" not in second  # its first groups fit
    assert "axial" not in second
    alike = second["gc"]
    assert {"gc", "identity", "simam", "ecrm"} <= set(alike.blocks) <= set(BLOCKS)
    assert "takes no out_channels and stride" in alike.reason
    assert "out_channels=32 must equal channels=16" in second["scconv"].reason
    assert call(["check", str(tmp_path / "x.yaml")]) == DONE
    told = " ".join(capsys.readouterr().out.split())
    assert "layer[3-4].*.conv2 (4 sites):" in told
    assert "* se at layer3.*.conv2: reduction=100" in told
    assert "* scconv at layer4.*.conv2: a 2x2 map" in told


def test_nothing_is_listed_where_everything_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "insert: [{at: layer2, block: {choice: [none, se]}}]\n"
    text += "blocks: {psa: {groups: [1, 2, 2, 4]}, gc: {ratio: 0.25}}\n"
    assert barred(space(tmp_path, text)) == []
    assert call(["check", str(tmp_path / "x.yaml")]) == DONE
    assert "cannot stand" not in capsys.readouterr().out


def test_a_batch_of_one_is_tried_as_such(tmp_path: Path) -> None:
    """SCConv pools a 4x4 map to one position; a ResNet on 8 pixels ends in one."""
    text = "insert: [{at: layer3.*.conv2, block: {choice: [none, scconv]}}]\n"
    assert space(tmp_path, text).infeasible == ()
    one = space(tmp_path, text + "train: {batch_size: {choice: [8, 1]}}\n")
    (item,) = one.infeasible
    assert item.host == {"train.batch_size": 1}
    assert "needs at least 2 values per channel" in item.reason
    assert "layer3.0.conv2" in item.reason
    chosen = {"layer3.conv2.block": "scconv", "train.batch_size": 1}
    assert one.forbidden(chosen)
    assert one.forbidden({**chosen, "train.batch_size": 8}) is None
    (tmp_path / "y.yaml").write_text(HEAD + "train: {batch_size: 1}\n")
    with pytest.raises(SpaceError, match=r"layer4.* is 1x1 .* the nearest valid value is 2"):
        load_space(tmp_path / "y.yaml", ["data.image_size=8"])


def test_check_prints_the_published_figures_and_the_loaded_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = {"backbone": "resnet18", "stem": "small", "width": 0.25}
    state = build_network({"network": network}, 1, 3, 16).state_dict()
    del state["fc.weight"]
    save_file(state, "w.safetensors")
    text = """\
insert: [{at: layer2.0.conv2, block: scconv, pretrained_safe: true}]
published: {about: A small one, params: 0.7e6, macs: 9e6, counts: All of it, results: good}
"""
    space(tmp_path, text)
    assert call(["check", "x.yaml", "--set", "network.weights=w.safetensors"]) == DONE
    told = " ".join(capsys.readouterr().out.split())
    assert "Published: A small one here published params" in told
    row = r"params [\d,]+ 700 k \S+ % here MACs [\d,]+ 9\.00 M \S+ % here All of it Results: good"
    assert re.search(row, told), told
    assert "lost, a block stands there: layer2.0.conv2.weight" in told
    assert "not in the file: fc.weight" in told
    assert "insert.0.pretrained_safe: has no effect at layer2.0.conv2" in told
    assert call(["check", "x.yaml", "--json"]) == DONE
    plan = json.loads(capsys.readouterr().out)
    assert plan["published"]["params"] == 0.7e6
    assert plan["cannot_stand"][0]["at"] == "layer2.0.conv2" or plan["cannot_stand"] == []


@pytest.mark.parametrize(
    ("counted", "stated", "text", "verdict"),
    [
        (22_561_715, 22.56e6, "22.56 M", "the same"),
        (22_571_715, 22.56e6, "22.56 M", "+0.1 % here"),
        (5_944_936, 5.9e6, "5.90 M", "the same"),
        (27_899_518, 27.90e6, "27.90 M", "the same"),
        (3_597_900_160, 3.62e9, "3.62 G", "-0.6 % here"),
        (1_560_140, 1_560_140.0, "1,560,140", "the same"),
        (1_560_141, 1_560_140.0, "1,560,140", "+0.0 % here"),
        (None, 3.62e9, "3.62 G", ""),
    ],
)
def test_figures_agree_to_their_digits(
    counted: int | None, stated: float, text: str, verdict: str
) -> None:
    assert _stated(stated) == text
    assert _compared(counted, stated) == verdict


def test_published_networks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["blocks", "--published"]) == DONE
    told = capsys.readouterr().out
    for words in (
        "spaces/medt.yaml",
        "spaces/gcnet50_r4.yaml",
        "22.56 M  3.62 G",
        "a reconstruction",
    ):
        assert words in told
    assert call(["blocks", "psa", "--published"]) == WRONG_INPUT


def test_the_gate_counts_among_the_extremes(tmp_path: Path) -> None:
    """Against the network that is built, with a gate for SE and none for GC."""
    text = """\
insert: [{at: layer2, block: {choice: [none, gc, se]}, pretrained_safe: true}]
blocks: {gc: {ratio: 0.25}}
"""
    whole = space(tmp_path, text)
    for example in examples(whole, Images(1, (16, 16), 3)):
        network = build_network(whole.resolve(example.values), 1, 3, 16)
        assert example.params == sum(p.numel() for p in network.parameters())
        gated = any("gate" in name for name in network.state_dict())
        assert gated == ("se@" in example.label)


def test_pretrained_safe_survives_resolving(tmp_path: Path) -> None:
    from attnsearch.spaces import canonical, dump

    text = "insert: [{at: layer2, block: {choice: [se, none]}, pretrained_safe: true}]\n"
    whole = space(tmp_path, text)
    config = whole.resolve({"layer2.block": "se"})
    assert config["insert"][0]["pretrained_safe"] is True
    (tmp_path / "again.yaml").write_text(dump(config))
    assert load_space(tmp_path / "again.yaml").resolve({}) == config
    bare = space(tmp_path, text.replace("true", "false")).resolve({"layer2.block": "se"})
    assert "pretrained_safe" not in bare["insert"][0]
    assert canonical(bare) != canonical(config)
    empty = whole.resolve({"layer2.block": "none"})
    assert canonical(empty) == canonical({**bare, "insert": []})
