"""Commands, options and public Python names are those of the list, see `tests/public.py`."""

import importlib

import pytest

from tests.public import FACES, LIST, lines


def test_commands_options_and_names_are_those_that_users_rely_on() -> None:
    listed, now = LIST.read_text(encoding="utf-8").splitlines(), lines()
    gone = [line for line in listed if line not in now]
    new = [line for line in now if line not in listed]
    assert not gone, "these are gone or changed, which breaks scripts"
    assert not new, "add them with python -m tests.public"
    assert listed == now


@pytest.mark.parametrize("face", FACES)
def test_a_public_name_says_what_it_is(face: str) -> None:
    package = importlib.import_module(face)
    lacking = [
        name
        for name in package.__all__
        if callable(getattr(package, name)) and not getattr(package, name).__doc__
    ]
    assert lacking == []
