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
