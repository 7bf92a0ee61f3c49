"""Names of files that are no text: refused before anything is trained."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from attnsearch.runs.readers.images import SUFFIXES
from attnsearch.runs.readers.source import DataError, listing
from attnsearch.runs.readers.walking import walk
from attnsearch.runs.words import plural, printable


def check_names(path: Path) -> None:
    """Refuse a source with names that are not UTF-8, as an old archive leaves them.

    They would go into the ledger, tables and exports, which are UTF-8, after the whole study.

    Args:
        path: Of the source.

    Raises:
        DataError: The path has such a name, or a folder or image below it.
    """
    odd = [printable(name) for name in _names(path) if name != printable(name)]
    if odd:
        raise DataError(
            f"data.source: {printable(str(path))} has {plural(len(odd), 'name')} of a file or "
            f"folder that is not UTF-8 ({listing(odd)}); rename it, or all of them at once: "
            f"convmv -r -f latin1 -t utf8 --notest FOLDER"
        )


def _names(path: Path) -> Iterator[str]:
    yield str(path)
    if not path.is_dir():
        return
    with suppress(OSError):  # what cannot be listed is the reader's to say
        for place, folders, files in walk(path):
            images = (name for name in files if Path(name).suffix.lower() in SUFFIXES)
            for name in (*folders, *images):
                if not name.isascii():
                    yield (place.relative_to(path) / name).as_posix()
