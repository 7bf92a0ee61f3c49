"""The network as one file: the same outputs where no attnsearch can be imported."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from attnsearch.blocks import BLOCKS, build_network
from attnsearch.runs.exports.export import load_export, save_export
from attnsearch.runs.exports.weights import ExportError, Interface
from attnsearch.spaces import load_space

SPACE = """
name: {name}
task: {task}
data: {{source: null, image_size: {size}, channels: 1, classes: 3}}
network: {{{network}}}
insert: [{insert}]
train: {{channels_last: {last}}}
"""
# Where the defaults do not fit few channels.
PARAMS = {
    "psa": "{kernels: [3, 5], groups: [1, 2]}",
    "gc": "{ratio: 0.25}",
    "ecrm": "{bank_size: 4}",
    "axial": "{heads: 2}",
}
ALONE = """
import importlib.abc, importlib.util, sys
from pathlib import Path

import torch
from safetensors.torch import load_file


class Away(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "attnsearch":
            raise ImportError(f"{name} is not here")


sys.meta_path.insert(0, Away())
try:
    import attnsearch
except ImportError:
    pass
else:
    raise SystemExit("attnsearch can be imported")
for folder in map(Path, sys.argv[1:]):
    name = f"of_{folder.parent.name}"
    spec = importlib.util.spec_from_file_location(name, folder / "network.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    case = load_file(folder / "case.safetensors")
    network = module.load(str(folder / "weights.safetensors"))
    with torch.no_grad():
        outputs = network(module.preprocess(case["pixels"]))
    assert torch.equal(outputs, case["outputs"]), folder
    assert len(module.CLASS_NAMES) == outputs.shape[1]
assert not [name for name in sys.modules if name.startswith("attnsearch")]
"""


def exported(
    folder: Path,
    insert: str = "",
    network: str = "backbone: resnet20, width: 0.5",
    size: int | list[int] = 16,
    last: bool = False,
    name: str = "tiny",
) -> Path:
    """Export a network as after some training, with what it gives for some images."""
    task = (
        "segmentation"
        if any(word in network for word in ("decoder", "unet", "medt"))
        else "classification"
    )
    folder.mkdir(parents=True)
    file = folder / "space.yaml"
    values = {"name": name, "task": task, "size": size, "network": network, "insert": insert}
    file.write_text(SPACE.format(last=str(last).lower(), **values))
    config = load_space(file).resolve({})
    net = build_network(config, 1, 3, size)
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, tensor in net.state_dict().items():
            if key.endswith(("running_mean", "running_var", "bn2.weight", "bias", "bank")):
                tensor.uniform_(0.1, 0.9, generator=draws)
            elif key.endswith("count"):
                tensor.fill_(2)
    sides = (size, size) if isinstance(size, int) else (size[0], size[1])
    interface = Interface(("a", 'b"""', "\\c"), sides, 1, (0.25,), (0.5,))
    record = {"metrics": {}, "seed": 1}
    best = save_export(
        folder / "best", config, net.state_dict(), interface, record, formats=["source"]
    )
    pixels = torch.randint(256, (2, *sides, 1), generator=draws).byte()
    loaded: Any = load_export(best)
    with torch.no_grad():
        outputs = loaded(loaded.preprocess.normalisation(pixels))
    save_file({"pixels": pixels, "outputs": outputs.contiguous()}, best / "case.safetensors")
    return best


def run_alone(folders: list[Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, folders)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def entry(at: str, block: str, more: str = "") -> str:
    params = f", params: {{{block}: {PARAMS[block]}}}" if block in PARAMS else ""
    name = "-".join((at, block)).replace("*", "all")
    return f"{{at: {at}, block: {block}, name: {name}{params}{more}}}"


def test_networks_run_and_load_where_no_attnsearch_is(tmp_path: Path) -> None:
    classifies = ", ".join(
        [entry("layer2", "gc"), entry("layer2", "ecrm"), entry("layer3.*.conv2", "psa")]
    )
    segments = "backbone: resnet20, width: 0.5, decoder: unet, aux_heads: [layer2]"
    folders = [
        exported(tmp_path / "classifies", classifies, last=True),
        exported(tmp_path / "segments", entry("decoder2", "ecrm"), segments, [16, 24]),
        exported(tmp_path / "safe", entry("layer1", "nonlocal", ", pretrained_safe: true")),
    ]
    run_alone(folders)
    text = (folders[0] / "network.py").read_text(encoding="utf-8")
    assert not [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom) and "attnsearch" in ast.unparse(node)
    ]
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert "# Duplex" not in text and "https://arxiv.org/abs/2103.06725" in text
    assert "network.layer3[0].conv2 = PSA(32, " in text
    assert "SiteError" not in text and "Axial" not in text


@pytest.mark.slow  # fifteen blocks and eight hosts, seconds each
def test_every_block_and_host_is_written_out(tmp_path: Path) -> None:
    hosts = {
        "fpn": "backbone: resnet20, decoder: fpn",
        "fcn": "backbone: resnet18, width: 0.25, decoder: fcn",
        "aspp": "backbone: resnet20, decoder: aspp",
        "bottleneck": "backbone: resnet50, width: 0.25",
        "scnet": "backbone: scnet50, stem: small, width: 0.25",
        "axial": "backbone: axial_resnet26, stem: small, width: s",
        "axial_unet": "backbone: gated_axial_unet",
        "medt": "backbone: medt, joint_patches: true",
    }
    folders = [exported(tmp_path / f"b-{name}", entry("layer2", name)) for name in BLOCKS]
    for name, network in hosts.items():
        size = 128 if name == "medt" else 32
        folders.append(exported(tmp_path / f"h-{name}", "", network, size))
    run_alone(folders)


BLOCK = '''
from torch import Tensor, nn

from beside import scaled

__all__ = ["Halves"]
RATE = 0.5


class Halves(nn.Module):
    """Halves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return scaled(self.conv(x), RATE)
'''
BESIDE = "RATE = 2\n\n\ndef scaled(x, rate):\n    return x * rate * RATE\n"


def test_a_users_block_goes_along_with_what_it_rests_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "halving.py").write_text(BLOCK)
    (tmp_path / "beside.py").write_text(BESIDE)
    monkeypatch.syspath_prepend(tmp_path)
    folder = exported(tmp_path / "mine", "{at: layer2, block: 'halving:Halves'}")
    text = (folder / "network.py").read_text()
    assert "RATE_of_" in text  # of two modules
    (tmp_path / "halving.py").unlink()
    (tmp_path / "beside.py").unlink()
    run_alone([folder])


def test_what_cannot_be_written_out_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner.py").write_text(
        "from torch import nn\n\n\ndef make():\n    class Inner(nn.Identity):\n"
        "        def __init__(self, channels: int) -> None:\n            super().__init__()\n\n"
        "    return Inner\n\n\nInner = make()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ExportError, match=r"network\.py: .*Inner cannot be written out.*--source"):
        exported(tmp_path / "x", "{at: layer2, block: 'inner:Inner'}")
    assert not (tmp_path / "x/best").exists()


def test_a_file_that_gives_other_outputs_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnsearch.runs.exports import source

    plain = source.write_network

    def other(*given: Any) -> Any:
        written = plain(*given)
        return written._replace(definitions=written.definitions.replace("F.pad(", "1 + F.pad("))

    monkeypatch.setattr(source, "write_network", other)
    with pytest.raises(ExportError, match="gives other outputs than the network"):
        exported(tmp_path / "x")
