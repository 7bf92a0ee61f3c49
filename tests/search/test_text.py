import pytest

from attnsearch.runs.words import duration, value_text
from attnsearch.search.text import quantity, table


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (25_557_032, "25.6 M"),
        (999_949, "1.00 M"),
        (11_689_512, "11.7 M"),
        (1.82e9, "1.82 G"),
        (0.25, "0.25"),
    ],
)
def test_quantity(number: float | None, text: str) -> None:
    assert quantity(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.04, "0.0 s"),
        (59.4, "59 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7260, "2 h 1 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_values_read_as_in_the_yaml() -> None:
    assert value_text([3, 5, [True, None]]) == "[3, 5, [true, null]]"
    assert value_text(0.0625) == "0.0625"


def test_table_wraps_only_its_last_column() -> None:
    told = table(
        ["n", "name", "what"],
        [(1, "first", "a b c d e f g h i j k l m n o p q r s t"), (12, None, "short")],
        right={"n"},
        width=40,
    )
    assert told.splitlines() == [
        " n  name   what",
        " 1  first  a b c d e f g h i j k l m n o",
        "           p q r s t",
        "12  -      short",
    ]


def test_table_is_never_cut_where_there_is_no_terminal() -> None:
    long = "x " * 200
    assert long.strip() in table(["a", "b"], [("1", long)])
