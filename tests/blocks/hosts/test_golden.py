"""The blocks against recorded outputs of the published implementations."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks.mechanisms.axial import AxialAttention
from attnsearch.blocks.mechanisms.ecrm import ECRM
from attnsearch.blocks.mechanisms.global_context import GlobalContext
from attnsearch.blocks.mechanisms.psa import PSA
from attnsearch.blocks.mechanisms.scconv import SCConv

SHARED = Path(os.environ.get("ATTNSEARCH_SHARED", Path(__file__).parents[4] / "shared"))
BOTTLENECKS = ("psa_epsablock",)


def cases(*prefixes: str) -> list[Path]:
    files = sorted(SHARED.glob("golden/*.npz"))
    return [
        path
        for path in files
        if path.name.startswith(prefixes) and not path.name.startswith(BOTTLENECKS)
    ]


BLOCK_FILES = cases("axial_", "gc_", "psa_", "sc_")
ECRM_FILES = cases("ecrm_bank")


class Golden:
    """One file: its arrays as tensors, its meta data as a dict."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.meta = json.loads(str(arrays["meta"]))
            self.tensors = {k: torch.tensor(arrays[k]) for k in arrays.files if k != "meta"}

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def build(meta: dict) -> tuple[nn.Module, str, dict]:
    """The block of a file, the name of its naive transcription and that one's arguments."""
    cls, args = meta["cls"], meta["args"]
    if cls.startswith("AxialAttention"):
        settings = {
            "heads": args["groups"],
            "stride": args.get("stride", 1),
            "axis": "width" if args.get("width") else "height",
            "gated": "dynamic" in cls,
            "position": "wopos" not in cls,
        }
        block = AxialAttention(
            args["in_planes"], args["out_planes"], span=args["kernel_size"], **settings
        )
        return block, "axial_attention", settings
    if cls == "ContextBlock":
        settings = {
            "pooling": args["pooling_type"],
            "fusion": [kind.removeprefix("channel_") for kind in args["fusion_types"]],
        }
        return GlobalContext(args["inplanes"], args["ratio"], **settings), "gc", settings
    if cls == "PSAModule":
        settings = {
            "kernels": args.get("conv_kernels", (3, 5, 7, 9)),
            "groups": args.get("conv_groups", (1, 4, 8, 16)),
            "stride": args.get("stride", 1),
        }
        return PSA(args["inplans"], args["planes"], **settings), "psa", settings
    settings = {name: args[name] for name in ("stride", "dilation", "groups")}
    settings["pooling_ratio"] = args["pooling_r"]
    block = SCConv(args["inplanes"], args["planes"], padding=args["padding"], **settings)
    return block, "scconv", settings


def assert_close(actual: Tensor, expected: Tensor, relative: float, what: str) -> None:
    distance = float((actual.double() - expected.double()).norm())
    assert distance <= relative * float(expected.double().norm()) + 1e-12, (what, distance)


def run(block: nn.Module, golden: Golden, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    block.load_state_dict(golden.group("sd:"), strict=True)
    block.to(dtype).train(golden.meta["mode"] == "train")
    x = golden["x"].to(dtype).requires_grad_()
    y = block(x)
    (y * golden["w"].to(dtype)).sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize("path", BLOCK_FILES, ids=lambda path: path.stem)
def test_agrees_with_the_published_block(path: Path) -> None:
    golden = Golden(path)
    block, _, _ = build(golden.meta)
    dtype = getattr(torch, golden.meta["dtype"])
    relative = 1e-9 if dtype == torch.float64 else 2e-5
    y, gx = run(block, golden, dtype)
    assert_close(y, golden["y"], relative, "y")
    assert_close(gx, golden["gx"], relative, "gx")
    gradients = {name: p.grad for name, p in block.named_parameters()}
    assert gradients.keys() == golden.group("gp:").keys()
    for name, expected in golden.group("gp:").items():
        if name in getattr(block, "dead_parameters", {}):
            assert gradients[name].abs().max() < 1e-6
        else:
            assert_close(gradients[name], expected, 1e-6, name)
    state = block.state_dict()
    for name, expected in golden.group("sd_after:").items():
        assert_close(state[name], expected, relative, name)


@pytest.mark.parametrize("path", BLOCK_FILES, ids=lambda path: path.stem)
def test_agrees_in_float32(path: Path) -> None:
    golden = Golden(path)
    block, _, _ = build(golden.meta)
    y, gx = run(block, golden, torch.float32)
    assert_close(y, golden["y"], 2e-5, "y")
    assert_close(gx, golden["gx"], 2e-5, "gx")
    for name, expected in golden.group("sd_after:").items():
        assert_close(block.state_dict()[name], expected, 2e-5, name)


@pytest.mark.parametrize("path", BLOCK_FILES, ids=lambda path: path.stem)
def test_the_oracle_agrees_too(path: Path, naive) -> None:
    golden = Golden(path)
    _, function, settings = build(golden.meta)
    p = {name: value.double() for name, value in golden.group("sd:").items()}
    x = golden["x"].double().requires_grad_()
    training = golden.meta["mode"] == "train"
    y = getattr(naive, function)(x, p, **settings, training=training)
    (y * golden["w"]).sum().backward()
    relative = 1e-9 if golden.meta["dtype"] == "float64" else 2e-5
    assert_close(y.detach(), golden["y"], relative, "y")
    assert_close(x.grad, golden["gx"], relative, "gx")
    for name, expected in golden.group("sd_after:").items():
        assert_close(p[name], expected, relative, name)


def ecrm(golden: Golden, compat: str | None) -> ECRM:
    args = golden.meta["args"]
    block = ECRM(
        args["x_channels"],
        args["bank_size"],
        hidden=args["feat_channels"],
        key=args["mid_channels"],
        compat=compat,
    ).double()
    block.load_state_dict(golden.group("sd:"), strict=True)
    return block


def step(block: ECRM, golden: Golden, i: int) -> tuple[Tensor, Tensor]:
    block.zero_grad()
    x = golden[f"step{i}:x"].requires_grad_()
    y = block(x)
    loss = (y * golden[f"step{i}:w"]).sum()
    (loss + (block.side["logits"] * golden[f"step{i}:w_aux"]).sum()).backward()
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize("path", ECRM_FILES, ids=lambda path: path.stem)
def test_official_ecrm_step_by_step(path: Path) -> None:
    golden = Golden(path)
    block = ecrm(golden, "official")
    for i in range(3):
        y, gx = step(block, golden, i)
        assert_close(y, golden[f"step{i}:out"], 1e-9, "out")
        assert_close(gx, golden[f"step{i}:gx"], 1e-9, "gx")
        assert_close(block.side["logits"].detach(), golden[f"step{i}:aux"], 1e-9, "aux")
        assert_close(block.side["prototype"].detach(), golden[f"step{i}:proto"], 1e-9, "proto")
        assert_close(block.bank, golden[f"step{i}:bank"], 1e-9, "bank")
        assert block.bank_ptr.tolist() == golden[f"step{i}:bank_ptr"].tolist()
        assert (int(block.count) == block.bank_size) == bool(golden[f"step{i}:bank_full"])
    for name, parameter in block.named_parameters():
        assert_close(parameter.grad, golden[f"step2:gp:{name}"], 1e-6, name)
    for name, expected in golden.group("sd_after:").items():
        assert_close(block.state_dict()[name], expected, 1e-9, name)

    block.eval()
    x = golden["eval:x"].requires_grad_()
    y = block(x, flag="test")
    (y * golden["eval_test:w"]).sum().backward()
    assert_close(y.detach(), golden["eval_test:out"], 1e-9, "flag test")
    assert_close(x.grad, golden["eval_test:gx"], 1e-9, "flag test, gx")
    assert_close(block.bank, golden["step2:bank"], 0, "flag test reads only")
    with torch.no_grad():
        y = block(x)
    assert_close(y, golden["eval_default:out"], 1e-9, "default flag")
    assert_close(block.bank, golden["eval_default:bank"], 1e-9, "default flag, bank")
    assert block.bank_ptr.tolist() == golden["eval_default:bank_ptr"].tolist()


@pytest.mark.parametrize("path", ECRM_FILES, ids=lambda path: path.stem)
def test_corrected_ecrm_step_by_step(path: Path) -> None:
    golden = Golden(path)
    block = ecrm(golden, None)
    for i in range(3):
        y, _ = step(block, golden, i)
        assert_close(block.bank, golden[f"ref_ring:step{i}:bank"], 1e-9, "bank")
        assert int(block.bank_ptr) == int(golden[f"ref_ring:step{i}:ptr"])
        assert int(block.count) == int(golden[f"ref_ring:step{i}:count"])
        if torch.equal(golden[f"step{i}:bank"], golden[f"ref_ring:step{i}:bank"]):
            assert_close(y, golden[f"ref_paper:step{i}:out"], 1e-9, "out")

    # A published checkpoint has no count of its slots; it is read off the bank.
    block.load_state_dict(golden.group("sd_after:"), strict=True)
    full = bool(golden["step2:bank_full"])
    assert int(block.count) == (block.bank_size if full else int(golden["step2:bank_ptr"]))
    with torch.no_grad():
        y = block.eval()(golden["eval:x"])
    assert_close(y, golden["ref_paper:eval_bank:out"], 1e-9, "eval")


STARTS = {
    "gc:ContextBlock(64,1/4,att,(add,mul))": lambda: GlobalContext(64, 0.25, "att", FUSION),
    "psa:PSAModule(64,64)": lambda: PSA(64),
    "axial:AxialAttention(32,32,groups=8,kernel=16)": lambda: AxialAttention(32, 32, span=16),
    "medt:AxialAttention_dynamic(32,32,8,16)": lambda: AxialAttention(32, 32, 8, 16, gated=True),
    "ecrm:ECRM(bank 8, 64/64/32/64)": lambda: ECRM(64, bank_size=8),
}
FUSION = ("add", "mul")


@pytest.mark.parametrize("entry", STARTS)
def test_starts_from_the_published_distribution(shared: Path, entry: str) -> None:
    recorded = json.loads((shared / "golden" / "init_stats.json").read_text())["stats"][entry]
    torch.manual_seed(0)
    states = [STARTS[entry]().state_dict() for _ in range(40)]
    for name, expected in recorded.items():
        values = torch.stack([state[name].float().flatten() for state in states])
        if expected["std"] == 0:
            assert values.unique().tolist() == pytest.approx([expected["mean"]]), name
            continue
        # Both are estimates, theirs of 20 draws: the tolerance is some standard errors wide.
        error = (1 / (20 * expected["shape_numel"]) + 1 / values.numel()) ** 0.5
        assert float(values.std()) == pytest.approx(expected["std"], rel=4 * error), name
        assert abs(float(values.mean()) - expected["mean"]) < 5 * error * expected["std"], name
