"""The space files that come with attnsearch."""

from pathlib import Path
from typing import Any

from attnsearch.spaces.file.document import parse, read_text

_FOLDER = Path(__file__).parents[1]


def shipped() -> dict[str, Path]:
    """Return the shipped space files by name, `resnet` for `resnet.yaml`."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def published() -> dict[str, dict[str, Any]]:
    """Return the `published` section of the shipped files that have one, by name."""
    documents = {
        name: parse(read_text(path, str(path)), str(path)).value
        for name, path in shipped().items()
    }
    return {name: doc["published"] for name, doc in documents.items() if doc.get("published")}


def find_space_file(path: str | Path) -> Path:
    """Return the file of a path: itself, or the shipped one where it is missing.

    `spaces/resnet.yaml`, `resnet.yaml` and `spaces/evidence/cifar10.yaml` work in any folder.
    """
    file = Path(path)
    try:
        missing = not file.exists()
    except (OSError, ValueError):
        return file
    inside = file.relative_to("spaces") if file.is_relative_to("spaces") else file
    place = _FOLDER / inside
    return place if missing and place in _FOLDER.rglob("*.yaml") else file
