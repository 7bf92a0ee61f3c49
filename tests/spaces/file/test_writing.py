"""Configs as YAML."""

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from attnsearch.spaces import dump
from attnsearch.spaces.file.document import MAX_INTEGER, parse

text = st.text(st.characters(codec="utf-8"), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
    | st.sampled_from(["1e-4", "no", "on", "2024-01-01", "12:30", "0o7", "<<", "~", "null", "="])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4)
)


def loaded(written):
    document = parse(written, "f.yaml")
    assert not document.problems, (written, list(document.problems))
    return document.value


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(text, values, max_size=5))
def test_what_is_written_is_read_again(config):
    again = loaded(dump(config))
    assert again == config
    assert repr(again) == repr(config)


@pytest.mark.parametrize("word", ["1e-4", "no", "2024-01-01", "12:30:45", "null", "1.0", ""])
def test_words_that_look_like_something_else_are_words_for_every_reader(word):
    written = dump({"a": word})
    assert loaded(written) == {"a": word}
    assert yaml.safe_load(written) == {"a": word}


def test_it_is_readable():
    config = {
        "name": "x",
        "insert": [{"at": "layer4", "params": {"psa": {"kernels": [3, 5, 7, 9]}}}],
        "limits": {"params": 12e6},
    }
    assert dump(config) == (
        "name: x\n"
        "insert:\n"
        "  - at: layer4\n"
        "    params:\n"
        "      psa: {kernels: [3, 5, 7, 9]}\n"
        "limits: {params: 12000000.0}\n"
    )


def test_one_object_in_two_places_is_written_out_twice():
    shared = [1, 2]
    assert dump({"a": shared, "b": shared}) == "a: [1, 2]\nb: [1, 2]\n"
