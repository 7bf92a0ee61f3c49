"""A network of the user's own as the backbone."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from attnsearch.blocks import SiteError, build_network
from attnsearch.blocks.build import Images, backbone_sites, match, write_network
from attnsearch.blocks.errors import AttnsearchError, BlockError
from attnsearch.runs.exports.export import _copy_blocks, _make_importable
from attnsearch.runs.exports.models import create_model
from attnsearch.runs.ledger import inputs, run_key
from attnsearch.search.plans.controls import capacity_control
from attnsearch.search.workers import has_user_code
from attnsearch.spaces import Space, SpaceError, load_space
from tests.runs.training.test_train import digest, make_config, make_data, run, trained

PAGE = Path(__file__).parents[3] / "docs" / "own-network.md"
NETS = PAGE.read_text("utf-8").split("```python\n")[1].partition("```")[0]
MORE = """

class Odd(nn.Module):
    def __init__(self, in_channels, classes, size=None):
        super().__init__()
        self.size = size
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Conv2d(8, 8, (1, 3), padding=(0, 1)),
            nn.Conv2d(8, 12, 3, 2, 1),
        )
        self.shared = nn.ReLU(inplace=True)
        self.rates = [x.item() for x in torch.linspace(0, 1, 3)]
        self.final = nn.Linear(12 * ((size[0] + 1) // 2) * ((size[1] + 1) // 2), classes)
        self.scale = nn.Parameter(torch.randn(1))

    def forward(self, x):
        y = self.features(x)
        y += 1
        y = self.shared(self.shared(y))
        return self.scale * self.final(y.flatten(1))


class Masks(nn.Module):
    segments = True

    def __init__(self, in_channels, classes):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.mixed = nn.Conv2d(8, 8, 3, padding=1)
        self.out = nn.Conv2d(8, classes, 1)

    def forward(self, x):
        return self.out(self.mixed(self.conv(x)))


class Says(Masks):
    segments = False


class Fails(Masks):
    def forward(self, x):
        return self.out(x @ x)


class Refuses(nn.Module):
    pass


NUMBER = 3
"""


@pytest.fixture
def own(own_module: Callable[[str, str], Path]) -> Path:
    """A folder with the user's networks, current and importable."""
    return own_module("nets", NETS + MORE)


def config_of(*insert: tuple[str, str], backbone: str = "nets:Small", **more: Any) -> Any:
    config = make_config(*insert)
    config["data"]["image_size"] = 8
    config["network"] |= {"backbone": backbone, "stem": None, "width": 1.0, **more}
    return config


def space_of(
    *insert: Any, task: str = "classification", data: Any = None, **network: Any
) -> Space:
    return load_space(
        {
            "name": "own",
            "task": task,
            "data": {"source": "digits", "image_size": 8, **(data or {})},
            "network": {"backbone": "nets:Small", **network},
            "insert": list(insert),
        }
    )


def test_sites_are_the_paths_of_modules_with_the_shapes_of_a_pass(own: Path) -> None:
    sites = {site.name: site for site in backbone_sites("nets:Small", image_size=8)}
    assert "stem" not in sites and str(sites["stem.after"]) == "stem.after (16 channels, 8x8)"
    conv = sites["stages.1.conv1"]
    assert str(conv) == "stages.1.conv1 (16 channels, 8x8 -> 32 channels, 4x4)"
    assert (conv.replaces, conv.stride, conv.kernel, conv.beside) == (
        True, 2, 3, "stages.1.conv1.after",
    )  # fmt: skip
    assert [*sites].index("stages.0") < [*sites].index("stages.1.conv1")
    assert [s.name for s in match("stages.last.norm*", [*sites.values()])] == [
        "stages.2.norm1", "stages.2.norm2",
    ]  # fmt: skip


def test_what_runs_twice_or_is_no_square_convolution_is_no_site_of_its_kind(own: Path) -> None:
    sites = {site.name: site for site in backbone_sites("nets:Odd", image_size=(8, 6))}
    assert "shared" not in sites
    assert [name for name, site in sites.items() if site.replaces] == ["features.4"]
    assert {"features.0.after", "features.2.after", "features.3.after"} <= sites.keys()
    masks = backbone_sites("nets:Masks", image_size=8)
    assert [site.name for site in masks] == ["conv.after", "mixed", "mixed.after"]


@pytest.mark.parametrize("backbone", ["nets:Small", "nets:Odd", "nets:Masks"])
def test_identity_at_every_site_is_the_network_bit_for_bit(own: Path, backbone: str) -> None:
    sites = [site.name for site in backbone_sites(backbone, image_size=8) if not site.replaces]
    task = "segmentation" if backbone == "nets:Masks" else "classification"
    plain, filled = (
        build_network({**config_of(*insert, backbone=backbone), "task": task}, 1, 3, 8)
        for insert in ([], [(site, "identity") for site in sites])
    )
    images = torch.randn(4, 1, 8, 8)
    for network in (plain, filled):
        network.train()
        network(images).square().mean().backward()
    assert plain(images).equal(filled(images))
    names = dict(plain.named_parameters())
    assert names.keys() == dict(filled.named_parameters()).keys()
    grads = [(p.grad, dict(filled.named_parameters())[name].grad) for name, p in names.items()]
    assert all(one is not None and other is not None and one.equal(other) for one, other in grads)


def test_names_are_the_users_and_copies_stand_alone(own: Path) -> None:
    import nets  # type: ignore[import-not-found]

    plain = build_network(config_of(), 1, 3, 8)
    assert [*plain.state_dict()] == [*nets.Small(1, 3).state_dict()]
    odd = build_network(config_of(("features.4.after", "eca"), backbone="nets:Odd"), 1, 3, 8)
    assert "scale" in odd.state_dict() and "inserted.features_4_after.0.conv.weight" in {
        name: 0 for name in odd.state_dict()
    }
    images = torch.randn(2, 1, 8, 8)
    before = odd.eval()(images)
    copied = copy.deepcopy(odd)
    with torch.no_grad():
        for tensor in copied.parameters():
            tensor.zero_()
    assert odd(images).equal(before) and not copied(images).any()
    odd.to(torch.float64)
    assert odd(images.double()).dtype == torch.float64


def test_a_block_replaces_a_convolution_at_any_depth(own: Path) -> None:
    deep = build_network(config_of(("stages.1.conv1", "conv1x1")), 1, 3, 8)
    top = {**config_of(("mixed", "conv1x1"), backbone="nets:Masks"), "task": "segmentation"}
    flat = build_network(top, 1, 3, 8)
    for network, path in ((deep, "stages.1.conv1"), (flat, "mixed")):
        network.train()
        network(torch.randn(2, 1, 8, 8)).sum().backward()
        block = network.get_submodule(path)
        assert type(block).__name__ == "Conv1x1"
        assert all(parameter.grad is not None for parameter in block.parameters())


def test_seeds_pair_networks_and_the_mode_reaches_the_users_root(own: Path) -> None:
    one, same, other = (build_network(config_of(), 1, 3, 8, seed=seed) for seed in (0, 0, 1))
    filled = build_network(config_of(("stages.1", "se")), 1, 3, 8)
    key = "stages.2.conv2.weight"
    weights = [network.state_dict()[key] for network in (one, same, filled, other)]
    assert weights[0].equal(weights[1]) and weights[0].equal(weights[2])
    assert not weights[0].equal(weights[3])
    assert not vars(one.eval())["net"].training and vars(one.train())["net"].training


def test_weights_of_the_users_load_under_their_own_names(own: Path) -> None:
    import nets

    saved = nets.Small(1, 3).state_dict()
    save_file(saved, "saved.safetensors")
    network = build_network(config_of(weights="saved.safetensors"), 1, 3, 8)
    assert all(tensor.equal(saved[name]) for name, tensor in network.state_dict().items())


def test_an_interrupted_training_goes_on_bit_for_bit(own: Path) -> None:
    config = config_of(("stages.*.norm2", "se"), ("stages.last", "ecrm"))
    config["train"]["epochs"] = 2
    whole, half = run(config), run(config, epochs=1)
    resumed = trained(config, make_data(), threads=1)
    resumed.load_state(half.state())
    resumed.run_epoch()
    assert digest(resumed) == digest(whole)


@pytest.mark.parametrize(
    ("network", "task", "words"),
    [
        ({"backbone": "nets:Smal"}, "classification", "did you mean nets:Small?"),
        (
            {"backbone": "no_such:Net"},
            "classification",
            "network 'no_such:Net' cannot be imported",
        ),
        ({"backbone": "nets:NUMBER"}, "classification", "is 3; a network is a class derived from"),
        ({"backbone": "nets:Refuses"}, "classification", "nets:Refuses(3, 13) failed: TypeError"),
        ({"backbone": "nets:Fails"}, "segmentation", "nets:Fails failed on images (2, 3, 8, 8): "),
        ({"backbone": "nets:Says"}, "classification", "nets:Says gave (2, 13, 8, 8) for 2 images"),
        ({"backbone": "nets:Masks"}, "classification", "write task: segmentation"),
        ({}, "segmentation", "a network of your own for masks has a class attribute"),
        (
            {"backbone": "nets:Masks", "width": 0.5},
            "segmentation",
            "nets:Masks has none: give its",
        ),
        (
            {"stem": "small"},
            "classification",
            "nets:Small is your own, and so is its stem; remove",
        ),
        ({"backbone": "nets:Masks", "decoder": "unet"}, "segmentation", "no decoder of ours"),
        ({"backbone": "nets:Masks", "aux_heads": ["a"]}, "segmentation", "takes no auxiliary"),
    ],
)
def test_mistakes_stand_at_their_key(own: Path, network: Any, task: str, words: str) -> None:
    with pytest.raises(SpaceError) as caught:
        space_of(task=task, data={}, **network)
    assert words in str(caught.value)


def test_a_site_that_is_not_there_is_told(own: Path) -> None:
    words = r"fits 'stages.9' \(nearest: .*\); sites are the paths of the network's"
    with pytest.raises(SiteError, match=words):
        match("stages.9", backbone_sites("nets:Small", image_size=8))


def test_stages_are_what_the_pattern_leaves_open(own: Path) -> None:
    choice = {"choice": ["none", "se"]}
    space = space_of({"at": "stages.[0-1].norm*", "block": choice, "decide": "stage"})
    assert [(group.name, group.at) for group in space.groups] == [
        ("stages.0.norm", "stages.0.norm*"),
        ("stages.1.norm", "stages.1.norm*"),
    ]


def test_the_source_of_a_network_is_part_of_the_key(own: Path) -> None:
    space = space_of()
    config = space.resolve(space.defaults())
    before = run_key(config, "data", 0, 2, "cpu", 1)
    assert [*inputs(config)] == [*inputs(space.document)] == ["nets:Small"]
    assert has_user_code(config) and config["network"]["stem"] is None
    (own / "nets.py").write_text(NETS + MORE + "\n")
    assert run_key(config, "data", 0, 2, "cpu", 1) != before


def test_the_capacity_control_widens_or_fills(own: Path) -> None:
    images = Images(1, (8, 8), 3)
    wide = capacity_control(config_of(("stages.*", "conv1x1")), images)
    assert wide.config["network"]["width"] > 1 and wide.notes[0].startswith("of width 1.")
    odd = capacity_control(config_of(("features.1", "conv1x1"), backbone="nets:Odd"), images)
    assert odd.config["network"]["width"] == 1
    assert odd.notes[0] == "1x1 bottlenecks with hidden channels: 4 at features.1"


def test_what_cannot_be_exported_says_so(own: Path) -> None:
    with pytest.raises(BlockError, match="nets:Small is a network of your own, whose source"):
        write_network(config_of(), 1, 3, 8)
    with pytest.raises(AttnsearchError, match="a network of your own has no such name"):
        create_model("nets:Small_se_stages.1")


def test_an_export_finds_and_takes_along_what_is_the_users(own: Path, tmp_path: Path) -> None:
    (own / "losses.py").write_text("import nets\n\n\ndef zero(logits, targets): ...\n")
    config = config_of(("stages.1", "se"))
    config["train"]["loss"] = "losses:zero"
    assert _copy_blocks(config, to := tmp_path / "export") == []
    assert sorted(file.name for file in to.iterdir()) == ["losses.py", "nets.py"]


def test_a_later_process_imports_from_where_the_study_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/installed"])
    command = ["attnsearch", "run", "spaces/own.yaml"]
    start = {"folder": "/project", "command": command}
    study: Any = SimpleNamespace(provenance=[start], inputs={"network.weights": "1"})
    _make_importable(study)
    assert sys.path == ["/installed"]
    study.inputs["nets:Small"] = "2"
    _make_importable(study)
    assert sys.path == ["/installed", str(Path.cwd()), "/project/spaces", "/project"]
