"""The space files that come with attnsearch."""

from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[1]


def shipped() -> dict[str, Path]:
    """Return the shipped space files by name, `resnet` for `resnet.yaml`."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def published() -> dict[str, dict[str, Any]]:
    """Return the `published` section of the shipped files that have one, by name."""
    from attnsearch.spaces.file.document import parse, read_text

    found = {}
    for name, path in shipped().items():
        document = parse(read_text(path, str(path)), str(path)).value
        if document.get("published"):
            found[name] = document["published"]
    return found


def find_space_file(path: str | Path) -> Path:
    """Return the file of a path: itself, or the shipped one where it is missing.

    `spaces/resnet.yaml` and `resnet.yaml` work in any folder.
    """
    found = Path(path)
    try:
        missing = not found.exists()
    except (OSError, ValueError):
        return found
    name_only = found.parent in (Path(), Path("spaces"))
    if missing and name_only and found.suffix == ".yaml" and found.stem in shipped():
        return shipped()[found.stem]
    return found
