"""The YAML reader."""

import pytest

from attnsearch.spaces.file.document import MAX_BYTES, parse, read_text
from attnsearch.spaces.file.errors import SpaceError


def value_of(text):
    document = parse(text, "f.yaml")
    assert not document.problems, list(document.problems)
    return document.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("12e6", 12e6),
        ("1E+3", 1000.0),
        ("-.5e3", -500.0),
        ("1.", 1.0),
        ("12", 12),
        ("-7", -7),
        ("1_000", 1000),
        ("012", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("''", ""),
        # What YAML 1.1 reads as something else stays text.
        ("no", "no"),
        ("on", "on"),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("none", "none"),
        ("1e", "1e"),
        ("'1e-4'", "1e-4"),
        ("!!str 12", "12"),
        ("!!float 3", 3.0),
    ],
)
def test_scalars(text, value):
    found = value_of(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_a_value_with_aliases_is_written_out():
    assert value_of("a: &x [1, 2]\nb: *x") == {"a": [1, 2], "b": [1, 2]}


def test_merge_keys_add_what_is_not_there_and_keep_its_place():
    document = parse("base: &b {x: 1, y: 2}\nc: {y: 3, <<: *b}\nd: {<<: [*b, {z: 4}]}", "f.yaml")
    assert document.value["c"] == {"y": 3, "x": 1}
    assert document.value["d"] == {"x": 1, "y": 2, "z": 4}
    assert str(document.problems.place(("c", "x"))) == "f.yaml:1:14"
    assert str(document.problems.place(("c", "y"))) == "f.yaml:2:8"


def test_every_key_and_value_has_its_place():
    problems = parse("a:\n  b: [1, {c: 2}]\n", "f.yaml").problems
    assert str(problems.place(("a", "b"), at_key=True)) == "f.yaml:2:3"
    assert str(problems.place(("a", "b", 0))) == "f.yaml:2:7"
    assert str(problems.place(("a", "b", 1, "c"))) == "f.yaml:2:14"


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes("\ufeffname: é".encode())
    assert value_of(read_text(path, "f.yaml")) == {"name": "é"}


def test_aliases_that_explode_are_refused_quickly():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(SpaceError, match=r"more than 20,000 values"):
        parse("\n".join(lines), "f.yaml")


def test_a_merge_cannot_hide_an_explosion():
    lines = ["a0: &a0 {k: [x, x, x, x, x, x, x, x, x, x]}"]
    lines += [f"a{i}: &a{i} {{<<: *a{i - 1}, l{i}: *a{i - 1}}}" for i in range(1, 25)]
    with pytest.raises(SpaceError, match=r"more than 20,000 values"):
        parse("\n".join(lines), "f.yaml")


def test_a_file_too_large_is_refused(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SpaceError, match=r"f.yaml: has 262,145 bytes; .* at most 262,144"):
        read_text(path, "f.yaml")


@pytest.mark.parametrize("name", ["missing.yaml", ".", "a\0b"])
def test_what_is_no_file_is_said_to_be_none(name, tmp_path):
    with pytest.raises(SpaceError, match=r"there is no such file|is a folder|cannot be read"):
        read_text(tmp_path / name, name)


def test_several_mistakes_are_all_found():
    document = parse("a: .inf\nb: {c: 1, c: 2}\n3: x\n", "f.yaml")
    assert [problem.line for problem in document.problems] == [1, 2, 3]
