"""Run keys: equal for runs that give the same numbers, unequal for all others."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnsearch.runs.ledger import key
from attnsearch.runs.ledger.key import package_inputs, run_key
from attnsearch.spaces import load_space

SPACE = """\
name: keys
task: classification
data: {source: digits, image_size: 16}
network: {backbone: resnet18, stem: small, width: 0.25}
insert:
  - {at: layer4, block: {choice: [none, gc, "MODULE:Mine"]}}
blocks:
  gc: {ratio: {choice: [0.25, 0.5]}}
train: {epochs: 2, optimizer: adamw, lr: 0.1}
"""
BLOCK = """\
from torch import Tensor, nn


class Mine(nn.Module):
    \"\"\"Does nothing.\"\"\"

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
"""


@pytest.fixture
def module(tmp_path: Path) -> str:
    """A module name of each test's own: Python imports a name once."""
    return f"mine_{tmp_path.name}"


@pytest.fixture
def resolve(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / f"{module}.py").write_text(BLOCK)
    (tmp_path / "space.yaml").write_text(SPACE.replace("MODULE", module))
    space = load_space(tmp_path / "space.yaml")

    def resolved(block: str = "gc", ratio: float = 0.25) -> dict[str, Any]:
        config: dict[str, Any] = space.resolve({"layer4.block": block, "layer4.gc.ratio": ratio})
        return copy.deepcopy(config)

    return resolved


def key_of(config: dict[str, Any], **changes: Any) -> str:
    given = {"data_fingerprint": "d", "seed": 0, "epochs": 2, "device_kind": "cpu", "threads": 1}
    return run_key(config, **(given | changes))


def test_what_does_not_touch_the_result_does_not_touch_the_key(
    resolve: Callable[..., dict[str, Any]],
) -> None:
    config = resolve()
    same = resolve()
    same["name"] = "another"
    same["data"]["source"] = "/elsewhere/digits"
    same["data"]["keep"] = "files"
    same["resources"] = {"cpus": 8, "gpus": 2, "timeout": 60.0}
    same["train"]["momentum"] = 0.5  # adamw has none
    assert key_of(same) == key_of(config)
    assert len(key_of(config)) == 64


def test_an_inactive_parameter_does_not_count(resolve: Callable[..., dict[str, Any]]) -> None:
    assert key_of(resolve("none", 0.25)) == key_of(resolve("none", 0.5))
    assert key_of(resolve("gc", 0.25)) != key_of(resolve("gc", 0.5))


def test_equal_numbers_count_as_equal(resolve: Callable[..., dict[str, Any]]) -> None:
    whole, real = resolve(), resolve()
    whole["train"]["lr"], real["train"]["lr"] = 1, 1.0
    assert key_of(whole) == key_of(real)


@pytest.mark.parametrize(
    "change",
    [
        {"data_fingerprint": "e"},
        {"seed": 1},
        {"epochs": 3},
        {"device_kind": "cuda"},
        {"threads": 2},
        {"fold": 0},
    ],
)
def test_what_determines_the_result_is_in_the_key(
    change: dict[str, Any], resolve: Callable[..., dict[str, Any]]
) -> None:
    assert key_of(resolve(), **change) != key_of(resolve())


def test_new_numerics_void_all_earlier_keys(
    resolve: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key_of(resolve())
    monkeypatch.setattr(key, "NUMERICS_REVISION", key.NUMERICS_REVISION + 1)
    assert key_of(resolve()) != before


def test_a_users_block_counts_by_its_source(
    tmp_path: Path, module: str, resolve: Callable[..., dict[str, Any]]
) -> None:
    mine, plain = key_of(resolve(f"{module}:Mine")), key_of(resolve("none"))
    assert mine != plain
    (tmp_path / f"{module}.py").write_text(BLOCK.replace("return x", "return 2 * x"))
    assert key_of(resolve(f"{module}:Mine")) != mine
    assert key_of(resolve("none")) == plain


def test_a_size_has_one_key_however_it_is_written(
    resolve: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    resolve()
    keys = {}
    for size in ("16", "[16, 16]", "[16, 24]", "[24, 16]"):
        space = load_space(tmp_path / "space.yaml", [f"data.image_size={size}"])
        keys[size] = key_of(space.resolve({"layer4.block": "none"}))
    assert keys["16"] == keys["[16, 16]"]
    assert len(set(keys.values())) == 3


def test_a_package_that_is_installed_meanwhile_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)

    def install(version: str) -> None:
        folder = tmp_path / f"numpy-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: numpy\nVersion: {version}\n"
        )

    before = package_inputs()
    install("99.1")
    assert package_inputs() == {**before, "numpy": "99.1"}
    (tmp_path / "numpy-99.1.dist-info").rename(tmp_path / "numpy-99.2.dist-info")
    (tmp_path / "numpy-99.2.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 99.2\n")
    assert package_inputs()["numpy"] == "99.2"
