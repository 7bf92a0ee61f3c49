"""Benchmarks are tools that nobody runs for weeks: what they import must still be there."""

import ast
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from attnsearch.blocks import build_network
from attnsearch.spaces import load_space
from benchmarks import blocks, step
from benchmarks.picture import PANELS, draw, rows

FILES = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_a_benchmark_imports_of_the_product_is_there(file: Path) -> None:
    imports = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("attnsearch.")
        for alias in node.names
    ]
    missing = [
        f"{module}: {name}"
        for module, name in imports
        if not hasattr(importlib.import_module(str(module)), name)
        and importlib.util.find_spec(f"{module}.{name}") is None
    ]
    assert not missing


def test_the_picture_is_that_of_the_tables() -> None:
    text = (FILES[0].parents[1] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    widths = [bar.get_width() for axes in draw(text).axes for bar in axes.patches]
    tables = [(heading, column) for heading, _, column, _ in PANELS]
    cells = [float(row[column]) for heading, column in tables for row in rows(text, heading)]
    assert widths == cells and len(cells) > 10


def test_every_table_stands_below_its_command() -> None:
    """And the page says on what machine, with which versions, and when."""
    text = (FILES[0].parents[1] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    head, *sections = re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]
    assert "images/benchmarks.png" in head
    assert re.search(r"on 20\d\d-\d\d-\d\d on two cores of .*torch \d.*Ray \d", head, re.DOTALL)
    tables = [section.split("\n|")[0] for section in sections if "\n|" in section]
    assert len(tables) > 6
    command = re.compile(r"^    (nice )?python (-m )?benchmarks", re.MULTILINE)
    assert [above.splitlines()[0] for above in tables if not command.search(above)] == []


def test_the_loop_of_epsanet_computes_what_ours_does(tmp_path: Path) -> None:
    """In its authors' order of operations; hosts' tests hold those of MedT, LoGo and the U-Net."""
    case = step.CASES["epsanet50"]
    settings = {"task": "classification", "source": "digits", "side": 32, "precision": "fp32"}
    text = step.SPACE.format(network=case.network, insert=case.insert, batch=2, **settings)
    (tmp_path / "step.yaml").write_text(text)
    config = load_space(tmp_path / "step.yaml").resolve()
    ours, loops = (build_network(config, 3, 10, (32, 32), seed=0).double() for _ in range(2))
    loops = step.transcribed(loops, case.formula)
    assert sum(isinstance(module, step.Transcribed) for module in loops.modules()) == 16
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    gradients = []
    for network in (ours.eval(), loops.eval()):
        network(images).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-10)


def test_a_block_that_cannot_be_compiled_says_so_in_its_cell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def compiler(function: Any, fullgraph: bool = False) -> Any:
        def broken(*_: Any) -> None:
            raise RuntimeError("no C++ compiler")

        return broken if fullgraph else function

    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    threads = torch.get_num_threads()
    written = tmp_path / "rows.json"
    words = ["--block", "eca", "--shape", "1,8,8,8", "--rounds", "1", "--device", "cpu"]
    blocks.main([*words, "--threads", str(threads), "--json", str(written)])
    cells = [line.split(" | ")[3:8] for line in capsys.readouterr().out.splitlines()[2:]]
    failed = {version for version, *figures in cells if figures[0] == "not compiled: RuntimeError"}
    assert failed == {"block compiled", "block channels_last compiled"} and len(cells) == 8
    rows = {row["version"]: row for row in json.loads(written.read_text())}
    assert rows["block compiled"]["milliseconds"] is None
    assert rows["naive compiled"]["milliseconds"] > 0
