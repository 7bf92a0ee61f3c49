"""What the tests of space files share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from attnsearch.spaces import Space, load_space

Load = Callable[..., Space]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a text as `space.yaml`, from its own folder so that messages say just that name."""
    monkeypatch.chdir(tmp_path)

    def load_text(text: str | bytes, *overrides: str) -> Space:
        data = text.encode() if isinstance(text, str) else text
        Path("space.yaml").write_bytes(data)
        return load_space("space.yaml", overrides)

    return load_text
