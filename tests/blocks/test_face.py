import gc
from pathlib import Path

import pytest


@pytest.mark.parametrize("enabled", [True, False])
def test_nothing_is_collected_while_modules_load(
    enabled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tmp_path / f"room_{enabled}"
    room.mkdir()
    (room / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\nfrom attnsearch.blocks.face import face\n"
        f"if TYPE_CHECKING:\n    from {room.name}.inside import collected\nface(__name__)\n"
    )
    (room / "inside.py").write_text("import gc\ncollected = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    if not enabled:
        gc.disable()
    try:
        assert __import__(room.name).collected is False
        assert gc.isenabled() is enabled
        with pytest.raises(AttributeError, match="no attribute 'other'"):
            _ = __import__(room.name).other
    finally:
        gc.enable()
