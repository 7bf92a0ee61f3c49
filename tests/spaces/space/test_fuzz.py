"""Whatever a file holds, loading it gives a space or a readable error, and nothing else."""

import copy
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from attnsearch.spaces import SpaceError, dump, load_space, shipped
from attnsearch.spaces.file.document import parse

FUZZ = settings(
    deadline=None,
    max_examples=int(os.environ.get("ATTNSEARCH_FILES", "80")),  # of each kind
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
VALID = parse(shipped()["resnet"].read_text(), "resnet.yaml").value

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=True)
    | st.text(max_size=12)
    | st.sampled_from(
        ["none", "gc", "psa", "layer4", "layer[2-3].*.conv2", "a:b", "stage", "digits", "max"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=6)
            | st.sampled_from(["choice", "int", "float", "step", "log", "prior", "at", "block"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """Loads bytes; a problem must have a place and a message, a space must resolve."""
    monkeypatch.chdir(tmp_path)

    def load(data: bytes) -> None:
        Path("space.yaml").write_bytes(data)
        try:
            space = load_space("space.yaml")
        except SpaceError as error:
            assert error.problems
            for problem in error.problems:
                assert problem.file == "space.yaml"
                assert problem.message
                assert problem.line is None or (problem.line >= 1 and problem.column >= 1)
            return
        values = space.defaults()
        config = space.resolve(values)
        space.forbidden(values)
        space.architecture_count()
        Path("again.yaml").write_text(dump(config), encoding="utf-8")
        assert load_space("again.yaml").resolve({}) == config

    return load


@FUZZ
@given(data=st.binary(max_size=200))
def test_any_bytes(data, attempt):
    attempt(data)


@FUZZ
@given(text=st.text(max_size=200))
def test_any_text(text, attempt):
    attempt(text.encode("utf-8", "surrogatepass"))


@FUZZ
@given(text=st.text(alphabet="ab:&*[]{}-,#|>!'\"%@\n \t<?0123.e", max_size=80))
def test_text_made_of_the_signs_of_yaml(text, attempt):
    attempt(text.encode())


@FUZZ
@given(document=junk)
def test_any_document(document, attempt):
    attempt(dump({"name": document}).replace("name:", "", 1).encode("utf-8", "replace"))


def places(node, path=()):
    """All paths in a document."""
    yield path
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from places(value, (*path, key))


PLACES = [path for path in places(VALID) if path]


@FUZZ
@given(data=st.data())
def test_a_valid_document_with_parts_replaced(data, attempt):
    document = copy.deepcopy(VALID)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(PLACES))
        node = document
        try:
            for part in path[:-1]:
                node = node[part]
            action = data.draw(st.sampled_from(["replace", "delete", "add", "swap"]))
            if action == "delete":
                del node[path[-1]]
            elif action == "add" and isinstance(node, dict):
                node[data.draw(st.text(max_size=8))] = data.draw(junk)
            elif action == "swap":
                other = document
                for part in data.draw(st.sampled_from(PLACES)):
                    other = other[part]
                node[path[-1]] = copy.deepcopy(other)
            else:
                node[path[-1]] = data.draw(junk)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    attempt(dump(document).encode("utf-8", "replace"))


@FUZZ
@given(data=st.data())
def test_a_valid_text_with_characters_changed(data, attempt):
    text = shipped()["resnet"].read_text()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text) - 1))
        end = min(len(text), start + data.draw(st.integers(0, 6)))
        text = text[:start] + data.draw(st.text(max_size=3)) + text[end:]
    attempt(text.encode("utf-8", "surrogatepass"))


@FUZZ
@given(overrides=st.lists(st.text(max_size=30) | st.builds("{}={}".format, st.sampled_from(
    ["train.lr", "insert.0", "insert.0.block", "blocks.psa", "data", "", "search.objectives"]
), junk), max_size=3))  # fmt: skip
def test_any_overrides(overrides):
    try:
        space = load_space(shipped()["resnet"], overrides)
    except SpaceError as error:
        assert error.problems
    else:
        space.resolve(space.defaults())


@settings(FUZZ, max_examples=60)
@given(data=st.data())
def test_a_resolved_config_is_a_space_that_resolves_to_itself(data, attempt, tmp_path):
    space = load_space(shipped()["resnet"])

    def choose(decision):
        if decision.kind == "choice":
            return data.draw(st.sampled_from(decision.choices))
        if decision.count is not None:
            return data.draw(st.sampled_from(list(decision.values())))
        return data.draw(st.floats(decision.low, decision.high))

    config = space.resolve(space.ask(choose))
    path = tmp_path / "config.yaml"
    path.write_text(dump(config), encoding="utf-8")
    again = load_space(path)
    assert again.decisions == ()
    assert again.warnings == []
    assert again.resolve({}) == config
