"""Where every machine can read and write weights and checkpoints: `ATTNSEARCH_STORE`.

A folder that all of them see is used as any folder is. A URL (`s3://`, `gs://`, `abfs://`, and
what else pyarrow or fsspec knows, as Ray takes it) is reached through `Store`. Its login may be in
it, so it is told and recorded nowhere.
"""

import contextlib
import functools
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.addresses import without_secrets

VARIABLE = "ATTNSEARCH_STORE"
_EXTRAS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs"}


_FLAT = ("s3", "gcs", "abfs")  # have no folders to be made


class StoreError(AttnsearchError, OSError):
    """The store cannot be used, or does not hold what is asked for; what a disk raises too."""

    exit_status = 1


def is_store_named() -> bool:
    """Return whether the variable names a store, of either kind."""
    return bool(os.environ.get(VARIABLE))


def store_value() -> str:
    """Return what the variable is to be on another machine, where a folder's path is whole."""
    return str(store_folder() or os.environ.get(VARIABLE, ""))


def store_folder() -> Path | None:
    """Return the folder that the variable names; None where it is unset or names a URL."""
    named = os.environ.get(VARIABLE, "")
    if "://" in named:
        return Path(named.removeprefix("file://")) if named.startswith("file:///") else None
    return Path(named).absolute() if named else None


def open_store() -> "Store | None":
    """Return the store that the variable names by a URL; None where it is unset or a folder."""
    named = os.environ.get(VARIABLE, "")
    return Store(named.rstrip("/")) if "://" in named and store_folder() is None else None


def check_store() -> None:
    """See that what the variable names can be written and read, if it names anything.

    Raises:
        StoreError: It cannot.
    """
    name, folder, store = f".attnsearch-{uuid.uuid4().hex}", store_folder(), open_store()
    if store is not None:
        store.put(name, b"probe")
        store.get(name)
        store.drop(name)
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"probe")
            (folder / name).unlink()
        except OSError as error:
            raise StoreError(f"{VARIABLE}={folder} cannot be written: {error}") from error


@dataclass(frozen=True)
class Store:
    """Files by name, in a place that a URL names; each is there whole or not at all.

    Attributes:
        url: Of the place.
    """

    url: str = field(repr=False)

    def __str__(self) -> str:
        return without_secrets(self.url)

    def put(self, name: str, content: bytes | memoryview) -> None:
        """Write a file, or another content of it.

        Raises:
            StoreError: It cannot be written.
        """
        with self._told(f"{name} cannot be written"):
            system, place = self._at(name)
            if system.type_name not in _FLAT:
                system.create_dir(place.rpartition("/")[0], recursive=True)
            with system.open_output_stream(place) as stream:
                stream.write(content)

    def get(self, name: str) -> bytes:
        """Return what a file holds.

        Raises:
            StoreError: It is not there, or cannot be read.
        """
        with self._told(f"{name} cannot be read"):
            system, place = self._at(name)
            with system.open_input_stream(place) as stream:
                content: bytes = stream.read()
                return content

    def names(self, folder: str) -> list[str]:
        """Return the names of what is in a folder; none of one that is not there.

        Raises:
            StoreError: The store does not answer.
        """
        from pyarrow.fs import FileSelector

        with self._told(f"{folder} cannot be listed"):
            system, place = self._at(folder)
            listed = system.get_file_info(FileSelector(place, allow_not_found=True))
            return [entry.base_name for entry in listed]

    def drop(self, name: str) -> None:
        """Delete a file, or a folder with its files, if it is there.

        Raises:
            StoreError: It cannot be deleted.
        """
        from pyarrow.fs import FileType

        with self._told(f"{name} cannot be deleted"):
            system, place = self._at(name)
            (entry,) = system.get_file_info([place])
            if entry.type == FileType.Directory:
                system.delete_dir(place)
            elif entry.type == FileType.File:
                system.delete_file(place)

    def _at(self, name: str) -> tuple[Any, str]:
        system, root = _opened(self.url)
        return system, f"{root.rstrip('/')}/{name}"

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except ImportError as error:
            package = _EXTRAS.get(self.url.partition(":")[0], "the fsspec package of its scheme")
            raise StoreError(
                f"{VARIABLE}={self}: {error}; install {package} on every machine"
            ) from error
        except (OSError, ValueError) as error:  # pyarrow's own are both
            raise StoreError(
                f"{VARIABLE}={self}: {what}: {without_secrets(' '.join(str(error).split()))}"
            ) from error


@functools.cache
def _opened(url: str) -> tuple[Any, str]:
    """Return a file system and the path in it: pyarrow's own, else fsspec's."""
    import pyarrow
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    try:
        system, root = FileSystem.from_uri(url)
    except pyarrow.ArrowInvalid:
        import fsspec

        spec, root = fsspec.core.url_to_fs(url)
        system = PyFileSystem(FSSpecHandler(spec))
    return system, root
