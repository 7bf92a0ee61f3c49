"""Checkpoints: files from which a training that was interrupted goes on.

Each is written whole or not at all, and its name holds the SHA-256 of its content. One that was
cut off or altered is passed over, and the one before it is used.
"""

import contextlib
import hashlib
import io
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attnsearch.runs.store import open_store
from attnsearch.runs.whole import whole

KEPT = 2  # the newest ones of a training
FREE_BYTES = 256 * 2**20  # stay free on the disk, for the ledger and the results
_NAME = re.compile(r"(?P<epoch>\d{6,})-(?P<batches>\d{9,})-(?P<checksum>[0-9a-f]{64})\.checkpoint")


@dataclass(frozen=True)
class Checkpoint:
    """A training's state, as it is written.

    Attributes:
        name: Of its file: epochs done, batches of the next one done, and the checksum.
        content: The bytes.
    """

    name: str
    content: bytes

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Checkpoint":
        """Pack the state of a training, from `Training.state`."""
        file = io.BytesIO()
        torch.save(dict(state), file)
        content = file.getvalue()
        batches = state["pass"]["batches"] if state["pass"] else 0
        checksum = hashlib.sha256(content).hexdigest()
        return cls(f"{len(state['history']):06d}-{batches:09d}-{checksum}.checkpoint", content)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return int(self.name.partition("-")[0])

    def state(self) -> dict[str, Any]:
        """Return what `Training.load_state` takes."""
        state: dict[str, Any] = torch.load(io.BytesIO(self.content), weights_only=True)
        return state

    def write(self, folder: Path) -> None:
        """Write it into the folder of its training, and delete those that it makes superfluous.

        Raises:
            OSError: It cannot be written, or the disk would be nearly full; the others stay.
        """
        if (store := open_store()) is not None:
            store.put(f"{_in_store(folder)}/{self.name}", self.content)
            for name in _newest_first(store.names(_in_store(folder)))[KEPT:]:
                store.drop(f"{_in_store(folder)}/{name}")
            return
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < len(self.content) + FREE_BYTES:
            raise OSError(
                f"less than {FREE_BYTES >> 20} MiB would be left on the disk of {folder}"
            )
        with whole(folder / self.name) as new:
            new.write_bytes(self.content)
        for name in _newest_first(_files(folder))[KEPT:]:
            (folder / name).unlink(missing_ok=True)


def sound(folder: Path) -> Iterator[Checkpoint]:
    """Yield the checkpoints of a training that hold what was written, the newest first."""
    store, names = open_store(), []
    with contextlib.suppress(OSError):
        names = _files(folder) if store is None else store.names(_in_store(folder))
    for name in _newest_first(names):
        with contextlib.suppress(OSError):
            if store is None:
                content = (folder / name).read_bytes()
            else:
                content = store.get(f"{_in_store(folder)}/{name}")
            if hashlib.sha256(content).hexdigest() in name:
                yield Checkpoint(name, content)


def kept_trainings(parent: Path) -> set[str]:
    """Return the names of the folders of checkpoints that there are.

    Args:
        parent: In which they lie, where they lie on the disk.
    """
    with contextlib.suppress(OSError):
        store = open_store()
        return set(_files(parent) if store is None else store.names("checkpoints"))
    return set()


def remove(folder: Path) -> None:
    """Delete all checkpoints of a training, as far as they can be reached."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # others are in it, or it was never made
        folder.parent.rmdir()
    if (store := open_store()) is not None:
        with contextlib.suppress(OSError):
            store.drop(_in_store(folder))


def _in_store(folder: Path) -> str:
    """Return the name of a training's folder in a store."""
    return f"checkpoints/{folder.name}"


def _files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _newest_first(names: Iterable[str]) -> list[str]:
    return sorted(filter(_NAME.fullmatch, names), reverse=True)
