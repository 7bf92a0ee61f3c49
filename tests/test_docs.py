"""The documentation names what there is."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


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


RUN = ("python.md", "own-loss.md", "tutorial.ipynb")  # from above to below, in one program


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
