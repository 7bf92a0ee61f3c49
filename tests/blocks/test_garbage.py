"""The search for garbage is paused, and goes on as it was."""

import gc

import pytest

from attnsearch.blocks.garbage import no_garbage


@pytest.mark.parametrize("was_on", [True, False])
def test_it_goes_on_as_it_was_after_an_error_too(was_on: bool) -> None:
    (gc.enable if was_on else gc.disable)()
    try:
        with pytest.raises(ValueError, match="within"), no_garbage():
            assert not gc.isenabled()
            raise ValueError("within")
        assert gc.isenabled() == was_on
    finally:
        gc.enable()


def test_one_thread_does_not_end_it_for_another() -> None:
    """Ray must not be closed while garbage is looked for, whatever the mirror reads meanwhile."""
    first, second = no_garbage(), no_garbage()  # as two threads enter and leave them
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()
