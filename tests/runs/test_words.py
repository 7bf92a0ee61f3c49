"""Names from users' files are shown as they are, and do nothing where they are shown."""

import pytest

from attnsearch.runs.words import code, markdown, no_formula


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)", r"&lt;script\>alert(1)"),
        ("p < 0.05", r"p \< 0.05"),
        ("a|b\nc", r"a\|b c"),
        ("[x](javascript:y)", r"\[x\](javascript:y)"),
        ("*_`", r"\*\_\`"),
        ("plain", "plain"),
    ],
)
def test_markdown_shows_a_name_as_it_is(text: str, shown: str) -> None:
    assert markdown(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [("/a b/c", "`/a b/c`"), ("a`b", "`` a`b ``"), ("a``b\n`", "``` a``b ` ```")],
)
def test_code_holds_any_backticks(text: str, shown: str) -> None:
    assert code(text) == shown


@pytest.mark.parametrize(
    "text",
    ["=cmd()", "+cmd|' /C calc'!A0", "-2+SUM(A1)", "@SUM(A1)", "\t=HYPERLINK(1)", "=1\n+a()"],
)
def test_a_spreadsheet_runs_no_name(text: str) -> None:
    assert no_formula(text) == "'" + text


@pytest.mark.parametrize("value", ["-1.png", "@left", "+", "gc@layer4 (best)", -0.5, None, 3])
def test_what_is_no_formula_stays(value: object) -> None:
    assert no_formula(value) is value
