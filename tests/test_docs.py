"""The documentation names what there is."""

import json
import os
import re
import shlex
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import click
import pytest

from attnsearch.search.cli import cli
from attnsearch.spaces import load_space
from benchmarks import block_page
from tests.public import LIST

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

SHELL = {"&&", "|", ">", ";", "&"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_of_modules_are_those_of_the_tree(page: Path) -> None:
    paths = re.findall(
        r"(?<![\w/.])((?:blocks|spaces|runs|search|tests)/[\w/]+\.py)",
        page.read_text(encoding="utf-8"),
    )
    assert [path for path in paths if not (ROOT / path).exists()] == []


RUN = (
    "python.md",
    "own-loop.md",
    "own-loss.md",
    "own-network.md",
    "own-metrics.md",
    "tutorial.ipynb",
)  # from above to below, in one program


def code_of(page: Path) -> list[str]:
    """The pieces of Python of a page or notebook."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    cells = json.loads(text)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.slow  # each trains a study in Ray
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RUN)
def test_code_of_a_page_runs(name: str, tmp_path: Path) -> None:
    blocks = code_of(ROOT / "docs" / name)
    files = {block.split()[1]: block for block in blocks if re.match(r"# \w+\.py\n", block)}
    files["page.py"] = "\n".join(block for block in blocks if block not in files.values())
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env={**os.environ, **store},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_notebook_holds_no_outputs() -> None:
    """They would change with every run, and say nothing of the code that is there now."""
    cells = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    links = re.findall(r"\]\(([\w-]+\.md)\)", "".join("".join(c["source"]) for c in cells))
    assert links and all((ROOT / "docs" / link).exists() for link in links)


def test_every_room_stands_in_the_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {
        path.parent.relative_to(ROOT).as_posix()
        for folder in ("blocks", "spaces", "runs", "search")
        for path in (ROOT / folder).glob("*/__init__.py")
    }
    assert {room for room in rooms if f"[{room}]" not in page} == set()


def test_a_decision_has_a_dated_heading_and_a_few_lines() -> None:
    _, *entries = (ROOT / "docs" / "decisions.md").read_text().split("\n## ")
    for entry in entries:
        heading, *lines = entry.strip().splitlines()
        assert re.match(r"\d{4}-\d\d-\d\d · \S", heading), heading
        assert 1 <= len([line for line in lines if line]) <= 12, heading


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page_are_those_of_the_command_line(page: Path) -> None:
    for block in _blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            starts = [at for at, word in enumerate(words) if Path(word).name == "attnsearch"]
            for start in starts:
                called = list(takewhile(lambda word: word not in SHELL, words[start + 1 :]))
                command = cli.commands[called[0]] if called and called[0][0] != "-" else cli
                parser = command.make_parser(click.Context(command))
                _, left, _ = parser.parse_args(called[command is not cli :])
                assert left == [], line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_a_page_are_spaces_and_blocks_that_hold(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page.read_text(encoding="utf-8")
    files = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", text, flags=re.DOTALL)
    for name, content in files:
        (tmp_path / name).write_text(content)
    for name, _ in files:
        if name.endswith(".yaml"):
            load_space(tmp_path / name)
    if files and page not in RUN:  # the other Python of the page, beside its files
        monkeypatch.syspath_prepend(tmp_path)
        for block in _blocks(page, "python"):
            exec(block, {"__name__": page.stem})


def test_the_site_leads_to_every_page_and_has_every_public_name() -> None:
    site = (ROOT / "mkdocs.yml").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert {page for page in pages if not re.search(rf"[:-] {page}$", site, re.M)} == set()
    shown = re.findall(r"^::: (\S+)", (ROOT / "docs" / "api.md").read_text(), re.M)
    names = {name.partition("(")[0] for name in LIST.read_text().splitlines() if "." in name[:11]}
    last = {name.rpartition(".")[2] for name in shown}
    assert {name for name in names if name.rpartition(".")[2] not in last} == {
        "attnsearch.__version__"  # a string: `attnsearch --version`
    }
    assert set(shown) <= names


def test_the_page_of_blocks_is_that_of_the_blocks() -> None:
    remedy = "run python -m benchmarks.block_page"
    page = block_page.PAGE.read_text("utf-8")
    assert block_page.page(page) == page, remedy
    for name in block_page.BLOCKS:
        drawn = (block_page.PICTURES / f"{name}.svg").read_text("utf-8")
        assert drawn == block_page.picture(name), remedy


def _blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
