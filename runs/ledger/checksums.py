"""Comparing a stored file with its checksum; free of SQLAlchemy, since workers do it too."""

import hashlib
from pathlib import Path

from attnsearch.blocks.errors import AttnsearchError


class DamagedFile(AttnsearchError):
    """A stored file does not hold what was stored."""


def check_file(path: Path, expected: str | None) -> None:
    """Compare a file with its checksum.

    Args:
        path: The file.
        expected: Its SHA-256 in hexadecimal; None where none was noted.

    Raises:
        DamagedFile: It holds something else.
        OSError: It cannot be read.
    """
    if expected is None:
        return
    with path.open("rb") as file:
        stands = hashlib.file_digest(file, "sha256").hexdigest()
    if stands != expected:
        raise DamagedFile(
            f"{path} does not hold what was stored: its SHA-256 is {stands[:12]}..., not "
            f"{expected[:12]}...; put back a sound copy, or delete it and train or export anew"
        )
