"""The report's files are safe: LaTeX compiles, HTML asks for nothing, names stay names."""

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.reports.latex import escape as latex
from attnsearch.runs.reports.reporting import write_report
from attnsearch.runs.results.numbers import MINUS
from attnsearch.runs.statistics.plan import Arm, Contrast
from attnsearch.runs.words import markdown
from tests.runs import made_studies as made

HOSTILE = r"""a_b%&#$ <script>alert("1")</script> \x{y} ^~ |c| 'q' `z` [k] é 中"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study whose names and reasons are as unpleasant as files allow."""
    where = tmp_path_factory.mktemp("hostile")
    plan = made.pairwise_plan()
    names = {arm.label: f"{arm.label} {HOSTILE}" for arm in plan.arms}
    plan = replace(
        plan,
        arms=tuple(replace(arm, label=names[arm.label], notes=(HOSTILE,)) for arm in plan.arms),
        contrasts=tuple(
            Contrast(
                f"{c.family} {HOSTILE}" if len(c.plus) == 1 else c.family,
                f"{c.name} {HOSTILE}",
                tuple(names[label] for label in c.plus),
                tuple(names[label] for label in c.minus),
            )
            for c in plan.contrasts
        ),
    )
    with Ledger(where / "attnsearch.db") as ledger:
        study = made.open_study(ledger, "hostile_&%", data={"source": f"/x/{HOSTILE[:9]}"})
        made.explore(ledger, study)
        made.run_plan(ledger, study, plan, {names["gc@layer4"]: 0.86})
        failing = made.positions_plan()
        failing = replace(
            failing,
            arms=(failing.arms[0], Arm("other", "variant", made.config(("gc", "layer3")))),
            contrasts=(Contrast("positions", "one", ("other",), ("gc@layer4",)),),
        )
        ledger.store_plan(study.id, failing)
        made.run_arm(ledger, study, failing, "gc@layer4", [0.8, 0.81, 0.8, 0.79, 0.8])
        made.run_arm(ledger, study, failing, "other", [None, 0.8, 0.8, 0.8, 0.8])
        write_report(ledger, study.id, where / "report")
    return where / "report"


class Page(HTMLParser):
    """Tags, their attributes and text; raises where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":  # the one tag here that has no end
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, (tag, self._open[-3:])
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_stands_alone_and_names_stay_text(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bsrc=", text)
    allowed = {"html", "head", "meta", "title", "style", "body", "script"}
    assert [tag for tag, _ in page.tags].count("script") == 1
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "form"), tag
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        if "href" in attributes:
            assert (attributes["href"] or "").startswith("#")
    assert allowed < {tag for tag, _ in page.tags}
    assert HOSTILE in "".join(page.words)
    policy = next(a for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_every_figure_has_a_text_and_a_drawing_for_phones(folder: Path) -> None:
    page = Page((folder / "report.html").read_text())
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    kinds = [drawing["class"] for drawing in drawings]
    assert kinds == ["wide", "narrow"] * (len(kinds) // 2) and len(kinds) >= 16
    for drawing in drawings:
        assert drawing["role"] == "img" and len(drawing["aria-label"] or "") > 20
    titles = " ".join(page.words)
    for title in (
        "Differences",
        "Every seed",
        "Interactions: (AB - A) - (B - baseline)",
        "Two by two",
        "Block by site in exploring",
        "Which decisions matter for validation accuracy",
        "Validation accuracy against params",
        "Learning curves of the search",
    ):
        assert title in titles, title
    links = [a["href"] for t, a in page.tags if t == "a"]
    anchors = [f"#{a['id']}" for t, a in page.tags if t == "section"]
    assert links == anchors


def test_a_table_that_goes_on_to_the_right_says_so(folder: Path) -> None:
    page = Page((folder / "report.html").read_text())
    tags = [a.get("class") for t, a in page.tags if t in ("div", "p")]
    hints = [tags[index + 1] for index, kind in enumerate(tags) if kind == "scroll"]
    assert len(hints) >= 5 and set(hints) == {"more"}


def test_tables_can_be_sorted(folder: Path) -> None:
    page = Page((folder / "report.html").read_text())
    heads = [a for t, a in page.tags if t == "th" and a.get("scope") == "col"]
    buttons = [t for t, _ in page.tags if t == "button"]
    assert len(heads) == len(buttons) > 20
    orders = [a["data-order"] for t, a in page.tags if t in ("td", "th") and "data-order" in a]
    assert orders and all(float(order or "nan") == float(order or "nan") for order in orders)


def test_markdown_keeps_its_columns_and_shows_names_as_they_are(folder: Path) -> None:
    lines = (folder / "report.md").read_text().splitlines()
    widths: set[int] = set()
    for line in lines:
        bars = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        if bars:
            widths.add(bars)
        else:
            assert len(widths) <= 1, line
            widths = set()
    assert "<script>" not in "\n".join(lines).replace(r"\<script\>", "")
    assert markdown("a|b\nc_d*") == r"a\|b c\_d\*"


def test_latex_prints_names_as_they_are() -> None:
    assert latex("50 % of a_b & c #1 $x {y}") == r"50 \% of a\_b \& c \#1 \$x \{y\}"
    assert latex(f"{MINUS}1 ± 2 < 3") == r"\ensuremath{-}1 \ensuremath{\pm} 2 \ensuremath{<} 3"
    assert latex("\\é 中") == r"\textbackslash{}é [U+4E2D]"


def test_latex_is_balanced_and_its_rows_are_whole(folder: Path) -> None:
    text = (folder / "report.tex").read_text()
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") >= 5
    assert not [letter for letter in text if ord(letter) > 0x17E]
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(labels) == len(set(labels)) and all(
        re.fullmatch("[a-zA-Z0-9:-]+", x) for x in labels
    )
    for columns, body in re.findall(
        r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL
    ):
        for line in body.splitlines():
            if line.endswith(r"\\"):
                assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1, line


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_latex_compiles_by_itself_and_within_a_paper(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "report.tex", tmp_path)
    (tmp_path / "paper.tex").write_text(
        r"""\documentclass{article}
\usepackage[utf8]{inputenc}\usepackage{booktabs}\usepackage{graphicx}
\begin{document}
Before.
\input{report}
After, see Table~\ref{tab:hostile-1-leaderboard}.
\end{document}
"""
    )
    for name in ("report", "paper"):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"],
            cwd=tmp_path,
            capture_output=True,
            timeout=120,
            check=False,
        )
        log = done.stdout.decode(errors="replace")
        assert done.returncode == 0, log[-2000:]
        assert (tmp_path / f"{name}.pdf").stat().st_size > 10_000
