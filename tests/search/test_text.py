import pytest

from attnsearch.runs.words import duration, value_text
from attnsearch.search.text import Letters, quantity, table


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


def test_long_names_get_short_ones_where_numbers_would_be_split() -> None:
    rows = [("capacity of psa@layer2.conv2", 0.91, "winner"), ("baseline", 0.9, "")]
    told = table(["arm", "val", "note"], rows, right={"val"}, indent="  ", width=30)
    assert told.splitlines() == [
        "  arm        val  note",
        "  A1        0.91  winner",
        "  baseline   0.9",
        "  A1  capacity of",
        "      psa@layer2.conv2",
    ]


def test_two_long_columns_have_marks_of_their_own() -> None:
    row = ("a long name of a score", "a long name of a trial", 1)
    told = table(["best score", "best trial", "n"], [row], right={"n"}, width=30)
    assert {"BS1  a long name of a score", "BT1  a long name of a trial"} < {*told.splitlines()}


def test_the_last_column_stands_below_where_there_is_no_room() -> None:
    rows = [(1, 0.9175, "gc@layer4 psa@layer3"), (2, 0.9, "plain")]
    told = table(["trial", "val_accuracy", "inserted"], rows, right={"trial"}, width=24)
    assert told.splitlines() == [
        "trial  val_accuracy",
        "    1  0.9175",
        "    gc@layer4 psa@layer3",
        "    2  0.9",
        "    plain",
    ]


def test_table_is_never_cut_where_there_is_no_terminal() -> None:
    long = "x " * 200
    assert long.strip() in table(["a", "b"], [("1", long)])


def test_long_names_in_sentences_are_letters_with_a_legend() -> None:
    long = "gc@layer4 scconv@layer2.conv2 scconv@layer3.conv2"
    other = "axial@layer4 psa@layer2.*.conv2"
    names = ["baseline", long, f"{long} (layer4.ratio=0.125)", other, f"capacity of {long}"]
    letters = Letters(names)
    texts = [f"{long} (layer4.ratio=0.125) - baseline: +1", f"({long}, capacity of {long})"]
    assert [letters(text) for text in texts] == [
        "A (layer4.ratio=0.125) - baseline: +1",
        "(A, capacity of A)",
    ]
    assert letters.legend(*texts) == f"A is {long}"
    assert letters.legend(*names).splitlines() == [f"A is {long}", f"B is {other}"]
    assert letters(f"arm {other} seed 3: {other}.") == "arm B seed 3: B."


def test_a_name_that_comes_later_changes_no_letter() -> None:
    """An ablation's reference is called by what its confirmed candidates have in common."""
    common = "psa@layer2.conv2 psa@layer3.conv2"
    candidates = [f"{common} (groups={number})" for number in (1, 2)]
    texts = [f"arm {name} seed 1" for name in (*candidates, f"capacity of {candidates[1]}")]
    for names in (candidates, [*candidates, common]):
        assert [Letters(names)(text) for text in texts] == [
            *("arm A seed 1", "arm B seed 1", "arm capacity of B seed 1"),
        ]
    assert Letters([*candidates, common])(f"loco: {common}, {candidates[0]}") == "loco: C, A"


def test_a_letter_stands_for_whole_names_alone() -> None:
    letters = Letters(["gc@layer4 psa@layer2.conv1"])
    for other in (
        *("gc@layer4 psa@layer2.conv10", "gc@layer4 psa@layer2.conv1.extra"),
        *("my-gc@layer4 psa@layer2.conv1", "gc@layer4 psa@layer2.conv1[0]"),
    ):
        assert letters(other) == other
    assert letters("gc@layer4 psa@layer2.conv1, 3 seeds") == "A, 3 seeds"
    assert Letters(["gc@layer4"])("gc@layer4 helps") == "gc@layer4 helps"
    assert Letters([])("nothing at all") == "nothing at all" and Letters([]).legend("") == ""
