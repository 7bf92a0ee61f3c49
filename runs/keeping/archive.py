"""Arrays of an .npz file that are read where they lie, or from a file of the cache.

What is not compressed is mapped where it is. What is compressed is expanded once, some at a time.
"""

import hashlib
import json
import os
import shutil
import socket
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.keeping.entry import PIXELS
from attnsearch.runs.keeping.errors import DataError
from attnsearch.runs.keeping.place import cache_folder, file_state, most_bytes, prune
from attnsearch.runs.keeping.store import Mapped, map_rows
from attnsearch.runs.whole import whole

# What zipfile, zlib and numpy raise on damaged files. RuntimeError: encrypted or unknown methods.
DAMAGE = (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Places:
    """Where the rows of arrays lie in a file.

    Attributes:
        source: The .npz.
        file: Where they lie.
        begins: Where each array's member begins in it.
        headers: How long its header is, its shape and its type.
        members: What each array is called in the .npz.
        sums: The checksum of each member.
        keep: `mapped` or `files`.
    """

    source: Path
    file: Path
    begins: Mapping[str, int]
    headers: Mapping[str, tuple[int, tuple[int, ...], np.dtype[Any]]]
    members: Mapping[str, str]
    sums: Mapping[str, int]
    keep: str

    def mapped(self) -> dict[str, NDArray[Any]]:
        """Return the arrays, mapped."""
        return {
            name: np.memmap(self.file, kind, "r", self.begins[name] + size, shape)
            for name, (size, shape, kind) in self.headers.items()
        }

    def rows(self, names: Sequence[str]) -> Mapped:
        """Return the rows of some of the arrays, one after the other."""
        headers = {name: self.headers[name] for name in names}
        begun = [
            (self.begins[n] + size, shape, kind) for n, (size, shape, kind) in headers.items()
        ]
        return map_rows(begun, self.file, partial(_again, self))


def _again(known: Places) -> Path:
    """Return where the same arrays lie on another machine.

    Raises:
        DataError: If it has not got them.
    """
    try:
        now = locate(known.source, known.members, known.keep)
    except (KeyError, *DAMAGE) as error:
        raise DataError(
            f"{known.source}: cannot be read on {socket.gethostname()}: {error}; put it where all "
            f"machines see it, or say data.keep: memory"
        ) from None
    if now.sums != known.sums or now.begins != known.begins:
        raise DataError(
            f"{known.source} on {socket.gethostname()} is another file; put the same there"
        )
    return now.file


def locate(path: Path, members: Mapping[str, str], keep: str) -> Places:
    """Find where the rows of arrays lie in a file; what is read has the checksums of the .npz.

    Args:
        path: The .npz.
        members: Of the arrays, by name.
        keep: `mapped` or `files`.

    Returns:
        Where: in the .npz itself where it is not compressed, else in a file of the cache.

    Raises:
        DataError: If there is no such file.
    """
    place = cache_folder()
    with zipfile.ZipFile(path) as archive:
        infos = {name: archive.getinfo(member) for name, member in members.items()}
        sums = {name: info.CRC for name, info in infos.items()}
        headers = {}
        for name, info in infos.items():
            with archive.open(info) as stream:
                shape, by_columns, kind = header(stream)
                headers[name] = (stream.tell(), shape, kind)
            if by_columns and len(shape) > 1:
                raise DataError(
                    f"{path}: {name} is in Fortran order, which is not read row by row; save it "
                    f"with numpy.ascontiguousarray, or say data.keep: memory"
                )
        if all(info.compress_type == zipfile.ZIP_STORED for info in infos.values()):
            for info in infos.values():
                with archive.open(info) as stream:
                    while stream.read(2**20):
                        pass  # at the end zipfile compares the checksum
            begins = {name: _begin(path, info) for name, info in infos.items()}
            return Places(path, path, begins, headers, members, sums, keep)
        if keep == "files" or place is None:
            size = sum(info.file_size for info in infos.values()) / 2**20
            raise DataError(
                f"{path} is compressed (its images expand to {size:,.0f} MB), so that they "
                f"cannot be read where they lie, and "
                f"data.keep is {keep}"
                + ("" if keep == "files" else " with an empty ATTNSEARCH_CACHE")
                + "; save it with numpy.savez, or say data.keep: mapped"
                + ("" if keep == "files" else " and name a folder there")
            )
        ends = np.cumsum([info.file_size for info in infos.values()]).tolist()
        begins = dict(zip(infos, [0, *ends], strict=False))
        named = json.dumps([path.name, file_state(path), *sums.items()])
        entry = place / f"mapped-{hashlib.sha256(named.encode()).hexdigest()}"
        expanded = entry / PIXELS
        if not _is_expanded(expanded, infos):
            entry.mkdir(parents=True, exist_ok=True)
            with whole(expanded) as begun, begun.open("wb") as target:
                for info in infos.values():
                    with archive.open(info) as stream:
                        shutil.copyfileobj(stream, target, 2**20)
            prune(place, entry, most_bytes())
        os.utime(entry)
        return Places(path, expanded, begins, headers, members, sums, keep)


def header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether columns come first, and type of an array; the stream is at its data.

    Raises:
        ValueError: If it is none of plain numbers or text.
    """
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"format {version} of arrays is not known")
    shape, by_columns, kind = read[version](stream)
    if kind.hasobject:
        raise ValueError("Python objects are pickled")
    return shape, by_columns, kind


def _begin(path: Path, info: zipfile.ZipInfo) -> int:
    """Return where the content of a member that is not compressed begins in its .npz."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
        return info.header_offset + 30 + int(name) + int(extra)


def _is_expanded(expanded: Path, infos: Mapping[str, zipfile.ZipInfo]) -> bool:
    """Return whether a file holds the content of members, by their checksums."""
    if not expanded.is_file():
        return False
    with expanded.open("rb") as file:
        for info in infos.values():
            checksum, left = 0, info.file_size
            while left and (content := file.read(min(left, 2**20))):
                checksum, left = zlib.crc32(content, checksum), left - len(content)
            if left or checksum != info.CRC:
                return False
    return True
