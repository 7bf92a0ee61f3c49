"""The published host networks: names, counts, numbers, starts, sizes."""

import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from attnsearch.blocks.build.architecture import canonical_architecture
from attnsearch.blocks.build.network import build_network
from attnsearch.blocks.errors import BlockError, SiteError
from attnsearch.blocks.hosts.axial_block import AxialBlock
from attnsearch.blocks.hosts.axial_resnet import AxialResNet
from attnsearch.blocks.hosts.backbones import BACKBONES
from attnsearch.blocks.hosts.construct import host_constructor
from attnsearch.blocks.hosts.host import Host
from attnsearch.blocks.hosts.medt import ROWS, AxialUNet, MedT
from attnsearch.blocks.hosts.patches import Folding, join, split
from attnsearch.blocks.hosts.resnet import ResidualBlock
from attnsearch.blocks.hosts.scnet import SCBottleneck, SCNet
from attnsearch.blocks.mechanisms.psa import PSA
from attnsearch.spaces import load_space
from tests import naive_hosts

SHARED = Path(os.environ.get("ATTNSEARCH_SHARED", Path(__file__).parents[4] / "shared"))
SEGMENTS = ("medt", "logo", "axial_unet", "gated_axial_unet")
GATES = ("f_qr", "f_kr", "f_sve", "f_sv")


def golden_files(*names: str) -> list[Path]:
    return [path for path in sorted(SHARED.glob("golden/*.npz")) if path.name.startswith(names)]


def published(name: str) -> dict[str, Any]:
    return json.loads((SHARED / "golden" / name).read_text())


def config(folder: Path, backbone: str, image_size: int = 224, **extra: Any) -> dict[str, Any]:
    """A published network's config, on the way that a user takes."""
    task = "segmentation" if backbone in SEGMENTS else "classification"
    space = {
        "name": "published",
        "task": task,
        "data": {
            "source": None,
            "image_size": image_size,
            "channels": 3,
            "classes": 2 if backbone in SEGMENTS else 1000,
        },
        "network": {"backbone": backbone},
        "insert": [],
        **extra,
    }
    path = folder / "space.yaml"
    path.write_text(json.dumps(space))
    return load_space(path).resolve({})


def close(actual: Tensor, expected: Tensor, relative: float, what: str = "") -> None:
    distance = float((actual.detach().double() - expected.detach().double()).norm())
    assert distance <= relative * float(expected.detach().double().norm()) + 1e-10, (
        what,
        distance,
    )


def filled(name: str, tensor: Tensor) -> Tensor:
    """A tensor by the recorded networks' rule, which goes through float32."""
    z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(tensor.shape))
    if name.endswith("running_mean"):
        z = 0.1 * z
    elif name.endswith("running_var"):
        z = 1 + 0.5 * abs(z)
    elif name.endswith("relative"):
        z = 0.5 * z
    elif tensor.ndim == 1 or tuple(tensor.shape[1:]) == (1, 1):
        z = 1 + 0.1 * z if name.endswith("weight") else 0.1 * z
    else:
        z = z * np.sqrt(2 / np.prod(tensor.shape[1:]))
    return torch.from_numpy(z).float().double()


def fill(network: nn.Module) -> nn.Module:
    state = network.double().state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.ndim > 0:
            state[name] = filled(name, tensor)
    network.load_state_dict(state, strict=True)
    return network


HOSTS = {
    "epsanet50": ("resnet50", "psa"),
    "epsanet101": ("resnet101", "psa"),
    "medt128": ("medt", None),
    "gated128": ("gated_axial_unet", None),
    "axialunet128": ("axial_unet", None),
    "logo128": ("logo", None),
    "axial26s": ("axial_resnet26", None),
    "axial50s": ("axial_resnet50", None),
}


@pytest.mark.parametrize("path", golden_files("net_"), ids=lambda path: path.stem)
def test_agrees_with_the_published_network(path: Path, tmp_path: Path) -> None:
    with np.load(path) as arrays:
        golden = {name: arrays[name] for name in arrays.files}
    meta = json.loads(str(golden["meta"]))
    backbone, block = HOSTS.get(meta["cls"], (meta["cls"], None))
    insert = [{"at": "layer*.*.conv2", "block": block}] if block else []
    size = meta["shape"][-1]
    resolved = config(tmp_path, backbone, size, insert=insert)
    classes = resolved["data"]["classes"]
    network = build_network(resolved, in_channels=3, classes=classes, image_size=size)
    fill(network)
    for mode in ("eval", "train"):  # the first changes nothing
        network.train(mode == "train").zero_grad()
        x = torch.from_numpy(np.random.RandomState(12345).standard_normal(meta["shape"]))
        y = network(x.requires_grad_())
        w = torch.from_numpy(np.random.RandomState(54321).standard_normal(tuple(y.shape)))
        (y * w).sum().backward()
        step = meta.get("y_stride", 1)
        seen = y[..., ::step, ::step] if y.ndim == 4 else y
        # They are stored in float32; the norms are not.
        close(seen, torch.from_numpy(golden[f"{mode}:y"]), 1e-7, f"{mode} y")
        gx = x.grad
        assert gx is not None
        close(gx[..., ::8, ::8], torch.from_numpy(golden[f"{mode}:gx_sub8"]), 1e-7, f"{mode} gx")
        assert float(gx.norm()) == pytest.approx(float(golden[f"{mode}:gx_norm"]), rel=1e-9)
        gradients = {name: p.grad for name, p in network.named_parameters()}
        without = [name for name, gradient in gradients.items() if gradient is None]
        assert sorted(without) == sorted(meta[f"{mode}:no_grad_params"])
        norms = dict(zip(meta[f"{mode}:gp_names"], golden[f"{mode}:gp_norm"], strict=True))
        assert norms.keys() == gradients.keys() - set(without)
        for name, norm in norms.items():
            found = gradients[name]
            assert found is not None
            assert float(found.norm()) == pytest.approx(float(norm), rel=1e-6, abs=1e-8), name


BLOCK_FILES = golden_files("axialblock", "scbneck", "psa_epsablock")


def published_block(meta: Mapping[str, Any], names: list[str]) -> nn.Module:
    """The block of a file, its shortcut as the names tell."""
    args = {name: value for name, value in meta["args"].items() if name != "norm_layer"}
    channels, planes, stride = args.pop("inplanes"), args.pop("planes"), args.pop("stride", 1)
    cls = meta["cls"]
    out = planes * (2 if cls.startswith("Axial") else 4)
    downsample: nn.Module | None = None
    if "sd:downsample.2.weight" in names:
        pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
        downsample = nn.Sequential(
            pool, nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out)
        )
    elif "sd:downsample.0.weight" in names:
        conv = nn.Conv2d(channels, out, 1, stride, bias=False)
        downsample = nn.Sequential(conv, nn.BatchNorm2d(out))
    if cls == "EPSABlock":
        block = ResidualBlock(BACKBONES["resnet50"], "", channels, planes, stride, downsample)
        block.conv2 = PSA(planes, planes, stride)
        return block
    if cls == "SCBottleneck":
        return SCBottleneck(channels, planes, stride, downsample, **args)
    return AxialBlock(
        channels,
        planes,
        stride,
        downsample,
        args["groups"],
        args["kernel_size"],
        args.get("base_width", 64),
        gated="dynamic" in cls,
        position="wopos" not in cls,
        learn_gates=True,
    )


@pytest.mark.parametrize("path", BLOCK_FILES, ids=lambda path: path.stem)
def test_agrees_with_the_published_residual_block(path: Path) -> None:
    with np.load(path) as arrays:
        golden = {name: arrays[name] for name in arrays.files}
    meta = json.loads(str(golden.pop("meta")))
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in golden.items()}
    dtype = getattr(torch, meta["dtype"])
    relative = 1e-9 if dtype == torch.float64 else 2e-5
    # Gradients are stored in float32; computed in it too, sums that nearly cancel have few digits.
    allowed = 1e-6 if dtype == torch.float64 else 2e-4
    block = published_block(meta, list(tensors)).to(dtype).train(meta["mode"] == "train")
    state = {k.removeprefix("sd:"): v for k, v in tensors.items() if k.startswith("sd:")}
    block.load_state_dict(state, strict=True)
    x = tensors["x"].requires_grad_()
    y = block(x) if meta["cls"] != "EPSABlock" else block(x, Host().inserted)
    (y * tensors["w"]).sum().backward()
    close(y, tensors["y"], relative, "y")
    assert x.grad is not None
    close(x.grad, tensors["gx"], relative, "gx")
    for name, parameter in block.named_parameters():
        if f"gp:{name}" in tensors:
            assert parameter.grad is not None
            close(parameter.grad, tensors[f"gp:{name}"], allowed, name)
        else:
            assert parameter.grad is None, name
    after = block.state_dict()
    for name, tensor in tensors.items():
        if name.startswith("sd_after:"):
            close(after[name.removeprefix("sd_after:")], tensor, relative, name)


COUNTED = {
    "scnet50": {},
    "scnet101": {},
    "scnet50_v1d": {},
    "scnet101_v1d": {},
    "medt_128": {"backbone": "medt"},
    "gated_128": {"backbone": "gated_axial_unet"},
    "logo_128": {"backbone": "logo"},
    "axialunet_128": {"backbone": "axial_unet"},
    "axial26s": {"backbone": "axial_resnet26"},
    "axial50s": {"backbone": "axial_resnet50", "width": "s"},
    "axial50m": {"backbone": "axial_resnet50", "width": "m"},
    "axial50l": {"backbone": "axial_resnet50", "width": 2.0},
}


@pytest.mark.parametrize("entry", COUNTED)
def test_has_the_published_counts(shared: Path, entry: str) -> None:
    settings = {"backbone": entry, **COUNTED[entry]}
    backbone = BACKBONES[settings["backbone"]]
    segments = backbone.task == "segmentation"
    side = backbone.usual_size
    with torch.device("meta"):
        network = host_constructor(settings, 3, 2 if segments else 1000, (side, side))()
    expected = published("param_counts.json")["counts"][entry]
    assert sum(p.numel() for p in network.parameters()) == expected["total"]
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trained == expected["trainable"]
    assert sum(buffer.numel() for buffer in network.buffers()) == expected["buffers"]
    assert len(network.state_dict()) == expected["state_dict_keys"]
    dead = dead_names(network)
    unused = sum(p.numel() for name, p in network.named_parameters() if name in dead)
    assert unused == expected.get("unused_params", 0)


def dead_names(network: nn.Module) -> set[str]:
    """The parameters that the parts of a host say they never run, by their whole names."""
    return {
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in network.named_modules()
        if isinstance(module, (MedT, AxialBlock))
        for name in module.dead_parameters
    }


def disturbed(network: nn.Module) -> nn.Module:
    """No scale at one, no shift at zero: else a mistake in them would not show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in network.double().state_dict().values():
            if tensor.is_floating_point() and tensor.ndim == 1:
                noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
                tensor.add_(0.2 * noise)
    return network


def assert_agrees(
    network: nn.Module,
    oracle: Callable[..., Tensor],
    shape: tuple[int, ...],
    run: Callable[[Tensor], Tensor] | None = None,
    relative: float = 1e-9,
    **settings: Any,
) -> None:
    """In training mode: outputs, all gradients, and what became of the buffers."""
    disturbed(network).train()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    p = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    leaves = {name: p[name].requires_grad_() for name, _ in network.named_parameters()}
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = (run or network)(ours)
    expected = oracle(theirs, p, training=True, **settings)
    w = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    (y * w).sum().backward()
    (expected * w).sum().backward()
    close(y, expected, relative, "y")
    close(ours.grad, theirs.grad, relative, "gx")
    for name, parameter in network.named_parameters():
        if parameter.grad is None:
            assert leaves[name].grad is None or not parameter.requires_grad, name
        else:
            close(parameter.grad, leaves[name].grad, relative, name)
    for name, buffer in network.named_buffers():
        close(buffer, p[name], relative, name)


SHORT = {
    kind: replace(BACKBONES[name], name="short", depths=depths, planes=planes, stem_planes=stem)
    for kind, name, depths, planes, stem in (
        ("v1d", "scnet50_v1d", (1, 2), (8, 16), 12),
        ("scnet", "scnet50", (2, 1), (8, 16), None),
        ("axial", "axial_resnet26", (1, 2), (16, 32), 8),
    )
}


@pytest.mark.parametrize(
    ("kind", "size"), [("v1d", (35, 50)), ("scnet", (40, 33)), ("axial", (36, 46))]
)
def test_short_classifiers_agree_with_their_formulas(kind: str, size: tuple[int, int]) -> None:
    cls = AxialResNet if kind == "axial" else SCNet
    network = cls(SHORT[kind], 3, 5, size=size)
    assert_agrees(network, naive_hosts.classifier, (2, 3, *size))


@pytest.mark.parametrize(
    "settings",
    [
        {"stride": 2, "cardinality": 2, "bottleneck_width": 48},
        {"stride": 2, "avd": True, "cardinality": 4, "bottleneck_width": 16},
        {"avd": True, "is_first": True, "dilation": 2},
        {"avd": True, "dilation": 3, "cardinality": 3, "bottleneck_width": 17},
    ],
)
def test_settings_of_the_self_calibrated_bottleneck(settings: dict[str, Any]) -> None:
    stride = settings.get("stride", 1)
    downsample = nn.Sequential(nn.Conv2d(12, 64, 1, stride, bias=False), nn.BatchNorm2d(64))
    block = SCBottleneck(12, 16, downsample=downsample, **settings)
    width = {48: 12, 16: 4, 17: 4, 32: 8}[settings.get("bottleneck_width", 32)]
    assert block.conv1_a.out_channels == width * settings.get("cardinality", 1)
    known = {k: v for k, v in settings.items() if k != "bottleneck_width"}
    assert_agrees(block, naive_hosts.sc_bottleneck, (2, 12, 11, 14), **known)


def test_a_gated_u_net_agrees_with_its_formula() -> None:
    network = AxialUNet(BACKBONES["gated_axial_unet"], 1, 3, size=(32, 64))
    assert_agrees(network, naive_hosts.segmenter, (2, 1, 32, 64))


@pytest.mark.parametrize("position", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_folded_patches_are_patches_one_after_another(position: bool, stride: int) -> None:
    """With a momentum of its own in one place, and one normalisation frozen."""
    folding = Folding(4)
    downsample = nn.Sequential(nn.Conv2d(8, 32, 1, stride, bias=False), nn.Identity())
    block = AxialBlock(8, 16, stride, None, 8, (6, 4), position=position, folding=folding, site="")
    folded = type(block.bn1)
    downsample[1] = folded(32, folding)
    block.downsample = downsample

    def run(x: Tensor) -> Tensor:
        folding.start()
        y = block(split(x, 2))
        folding.finish()
        return join(y, 2)

    def one_by_one(x: Tensor, p: dict[str, Tensor], training: bool) -> Tensor:
        rows = []
        for i in range(2):
            row = []
            for j in range(2):
                patch = x[:, :, 6 * i : 6 * i + 6, 4 * j : 4 * j + 4]
                row.append(naive_hosts.axial_block(patch, p, stride, training))
            rows.append(torch.cat(row, 3))
        return torch.cat(rows, 2)

    assert_agrees(block, one_by_one, (3, 8, 12, 8), run)
    before = {name: buffer.clone() for name, buffer in block.named_buffers()}
    block.bn2.eval()
    block.bn1.momentum = None
    block.width_block.bn_output.momentum = 0.3
    run(torch.randn(3, 8, 12, 8, dtype=torch.float64))
    moved = {n for n, buffer in block.named_buffers() if not torch.equal(buffer, before[n])}
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert {name for name in before if name.endswith(buffers)} - moved == {
        f"bn2.{buffer}" for buffer in buffers
    }
    assert int(block.bn1.num_batches_tracked) == 8

    x = torch.randn(3, 8, 12, 8, dtype=torch.float64)
    block.eval()
    p = block.state_dict()
    close(join(block(split(x, 2)), 2), one_by_one(x, p, False), 1e-9, "eval")


def test_the_plain_average_of_folded_patches() -> None:
    """With momentum None, as averaging of weights sets it to."""
    x = torch.randn(3, 5, 8, 8, dtype=torch.float64)
    folding = Folding(4)
    norm = naive_norm = nn.BatchNorm2d(5, momentum=None).double()
    folded = type(AxialBlock(8, 16, folding=Folding(4)).bn1)(5, folding).double()
    folded.momentum = None
    for _ in range(2):
        for patch in split(x, 2).view(3, 4, 5, 4, 4).unbind(1):
            naive_norm(patch)
        folding.start()
        folded(split(x, 2))
        folding.finish()
    close(folded.running_mean, norm.running_mean, 1e-12)
    close(folded.running_var, norm.running_var, 1e-12)


class Dispatched(TorchDispatchMode):
    """Counts what is computed: all operations but views."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view and func is not torch.ops.aten._unsafe_view.default:
            self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def test_a_training_step_of_medt_dispatches_little_and_never_waits() -> None:
    network = MedT(BACKBONES["medt"]).train()
    x, target = torch.randn(1, 3, 128, 128), torch.zeros(1, 128, 128, dtype=torch.long)
    network(x)  # what is computed once
    with Dispatched() as step:
        F.cross_entropy(network(x), target).backward()
    assert sum(step.counts.values()) <= 2200, step.counts.most_common(12)
    assert "aten._local_scalar_dense.default" not in step.counts
    assert network.adjust_p.weight.grad is None


STARTS: dict[str, Callable[[], nn.Module]] = {
    "sc:SCBottleneck(64,16)": lambda: SCBottleneck(64, 16),
    "medt:AxialBlock_wopos(32,16,groups=8)": lambda: AxialBlock(32, 16, position=False),
    "net:scnet50.layer1.0": lambda: first(SCNet, "scnet50", (3, 4, 6, 3)),
    "net:axial26s.layer1.0": lambda: first(AxialResNet, "axial_resnet26", (1, 2, 4, 1)),
    "net:medt.layer1.0": lambda: MedT(BACKBONES["medt"]),
}


def first(cls: type[SCNet] | type[AxialResNet], name: str, depths: tuple[int, ...]) -> nn.Module:
    """A network of one block, which starts as the first block of the whole one."""
    whole = BACKBONES[name]
    assert whole.depths == depths
    return cls(replace(whole, name="first", depths=(1,), planes=whole.planes[:1]))


@pytest.mark.parametrize("entry", STARTS)
def test_starts_from_the_published_distribution(shared: Path, entry: str) -> None:
    recorded = published("init_stats.json")["stats"][entry]
    # The record pools 20 blocks or 3 networks.
    theirs, ours = (3, 8) if entry.startswith("net:") else (20, 40)
    torch.manual_seed(0)
    states = [STARTS[entry]().state_dict() for _ in range(ours)]
    assert recorded.keys() <= {name for name in states[0] if "tracked" not in name}
    for name, expected in recorded.items():
        values = torch.stack([state[name].float().flatten() for state in states])
        if expected["std"] == 0:
            assert values.unique().tolist() == pytest.approx([expected["mean"]]), name
            continue
        error = (1 / (theirs * expected["shape_numel"]) + 1 / values.numel()) ** 0.5
        assert float(values.std()) == pytest.approx(expected["std"], rel=4 * error), name
        assert abs(float(values.mean()) - expected["mean"]) < 5 * error * expected["std"], name
        # A uniform law ends where a normal one does not.
        bounded = max(-expected["min"], expected["max"]) < 1.8 * expected["std"]
        assert (float(values.abs().max()) < 1.8 * float(values.std())) == bounded, name


def test_gates_are_frozen_until_they_are_released(tmp_path: Path) -> None:
    def gates(network: Host) -> list[nn.Parameter]:
        return [p for name, p in network.named_parameters() if name.endswith(GATES)]

    space = config(tmp_path, "gated_axial_unet", 32)
    frozen = build_network(space, 3, 2, 32)
    assert len(gates(frozen)) == 64
    assert not any(gate.requires_grad for gate in gates(frozen))
    assert isinstance(frozen, AxialUNet)
    frozen.learn_gates()
    assert all(gate.requires_grad for gate in gates(frozen))

    released = config(
        tmp_path, "gated_axial_unet", 32,
        network={"backbone": "gated_axial_unet", "learn_gates": True},
    )  # fmt: skip
    network = build_network(released, 3, 2, 32)
    network(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(gate.grad is not None and gate.grad != 0 for gate in gates(network))
    assert canonical_architecture(released) != canonical_architecture(space)


@pytest.mark.parametrize(
    ("settings", "size", "words"),
    [
        ({"backbone": "medt"}, 256 - 32, ["224", "multiples of 128", "256"]),
        ({"backbone": "logo"}, (128, 64), ["128x64", "multiples of 128", "128"]),
        ({"backbone": "gated_axial_unet"}, 100, ["100", "multiples of 32", "96"]),
        ({"backbone": "scnet50"}, 96, ["96", "at least 97"]),
        ({"backbone": "scnet50", "stem": "small"}, 24, ["24", "at least 25"]),
        ({"backbone": "axial_resnet26", "width": 0.4}, 64, ["0.4", "0.25", "0.5"]),
        ({"backbone": "axial_resnet26", "width": "xl"}, 64, ["xl", "s, m, l"]),
        ({"backbone": "medt", "width": [1, 2]}, 128, ["twice as wide"]),
        ({"backbone": "scnet50_v1d", "stem": "small"}, 224, ["deep"]),
    ],
)
def test_what_a_host_cannot_be_says_what_it_can(
    settings: dict[str, Any], size: int | tuple[int, int], words: list[str]
) -> None:
    task = BACKBONES[settings["backbone"]].task
    with pytest.raises(SiteError) as raised:
        build_network({"task": task, "network": settings, "insert": []}, 3, 2, size)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("backbone", "task", "word"),
    [("medt", "classification", "segmentation"), ("scnet50", "segmentation", "classification")],
)
def test_a_host_is_built_for_its_task(backbone: str, task: str, word: str) -> None:
    plain = {"task": task, "network": {"backbone": backbone}, "insert": []}
    with pytest.raises(SiteError, match=f"{backbone}.*{word}"):
        build_network(plain, 3, 2, 128)


def test_the_smallest_images_that_a_host_says_it_takes() -> None:
    for backbone, size in (("scnet50", 97), ("axial_unet", 32)):
        task = BACKBONES[backbone].task
        network = build_network({"task": task, "network": {"backbone": backbone}}, 1, 4, size)
        y = network.eval()(torch.zeros(1, 1, size, size))
        assert y.shape[:2] == (1, 4)


def test_a_map_of_another_size_is_an_error() -> None:
    network = AxialResNet(SHORT["axial"], size=(64, 64)).eval()
    with pytest.raises(BlockError, match=r"span=16.*8"):
        network(torch.zeros(1, 3, 32, 64))


@pytest.mark.slow  # the loop over patches: a minute
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backbone", ["medt", "logo"])
def test_whole_networks_agree_with_patches_one_after_another(backbone: str) -> None:
    assert ROWS == 4
    network = MedT(BACKBONES[backbone], 3, 2)
    assert_agrees(network, naive_hosts.segmenter, (2, 3, 128, 128))


@torch.no_grad()
def test_joint_patches_are_seen_in_evaluation_as_in_training() -> None:
    """With running statistics that are the last batch's, the two modes agree; published, not."""
    x = torch.randn(2, 3, 128, 128)
    x[:, :, :32, :32] *= 9  # patches that differ, as those of a picture do
    differences, weights = {}, {}
    for joint in (False, True):
        torch.manual_seed(0)
        network = MedT(BACKBONES["medt"], 3, 2, joint_patches=joint)
        weights[joint] = {name: t.clone() for name, t in network.state_dict().items()}
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 1.0
        trained = network.train()(x)
        seen = network.eval()(x)
        differences[joint] = float((trained - seen).norm() / trained.norm())
    assert differences[True] < 0.05 < 0.2 < differences[False]
    assert weights[True].keys() == weights[False].keys()
    assert all(torch.equal(weights[True][name], t) for name, t in weights[False].items())


def test_joint_patches_are_a_setting_of_the_network(tmp_path: Path) -> None:
    joint = config(tmp_path, "medt", 128, network={"backbone": "medt", "joint_patches": True})
    built = build_network(joint, 3, 2, 128)
    assert isinstance(built, MedT) and built.folding is None
    assert canonical_architecture(joint) != canonical_architecture(config(tmp_path, "medt", 128))


@pytest.mark.slow  # tracing whole networks: minutes
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("backbone", "size"),
    [("medt", 128), ("logo", 128), ("scnet50_v1d", 97), ("axial_resnet26", 64)],
)
def test_hosts_are_exported_and_compiled_whole(backbone: str, size: int) -> None:
    task = BACKBONES[backbone].task
    plain = {"task": task, "network": {"backbone": backbone}, "insert": []}
    network = build_network(plain, 3, 2, size).eval()
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        exported = torch.export.export(network, (x,)).module()
        close(exported(x), network(x), 1e-6)
    network.train()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    y = torch.compile(network, backend="eager", fullgraph=True)(x)
    after = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(state)
    close(y, network(x), 1e-5)
    for name, tensor in network.state_dict().items():
        close(after[name], tensor, 1e-5, name)


@pytest.mark.parametrize(
    "backbone",
    [
        "axial_unet",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("logo", "medt")),
    ],
)
def test_networks_of_axial_attention_take_rectangles(backbone: str, tmp_path: Path) -> None:
    resolved = config(tmp_path, backbone, 128)
    network = build_network(resolved, in_channels=3, classes=2, image_size=(128, 256)).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 128, 256)).shape == (1, 2, 128, 256)


@pytest.mark.parametrize(
    ("backbone", "size", "words"),
    [
        ("logo", (128, 192), r"128x192.*multiples of 128 pixels.*valid value is \[128, 256\]"),
        ("axial_unet", (96, 170), r"96x170.*multiples of 32 pixels.*valid value is \[96, 160\]"),
        ("scnet101", (128, 64), "128x64.*at least 97 pixels"),
    ],
)
def test_each_side_is_checked(backbone: str, size: tuple[int, int], words: str) -> None:
    host = BACKBONES[backbone]
    with pytest.raises(SiteError, match=words):
        host.check_size(size, host.stems[0])
