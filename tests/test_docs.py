"""The documentation names what there is."""

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


RUN = [page for page in PAGES if page.name in ("python.md", "own-loss.md")]  # from above to below, in one program


@pytest.mark.slow  # each trains a study in Ray
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    files = {block.split()[1]: block for block in blocks if re.match(r"# \w+\.py\n", block)}
    files["page.py"] = "\n".join(block for block in blocks if block not in files.values())
    for name, text in files.items():
        (tmp_path / name).write_text(text)
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
