"""Decoded files in a mapped file: written as they are decoded, resumed, checked, made again."""

import json
import os
import pickle
import shutil
import signal
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from attnsearch.runs.keeping import decoding, entry, store
from attnsearch.runs.keeping.entry import CHUNKS, PIXELS
from attnsearch.runs.keeping.errors import DataError
from attnsearch.runs.keeping.store import Mapped, survey

FILES = 40


@dataclass(frozen=True)
class Read:
    pixels: NDArray[np.uint8]
    digest: bytes
    length: int


def read(path: Path, log: Path) -> Read:
    content = path.read_bytes()
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{path.name}\n")
    if content == b"bad":
        raise OSError("damaged")
    return Read(np.frombuffer(content, np.uint8).reshape(4, -1), content[:4] + bytes(2), 9)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(entry, "CHUNK_FILES", 8)
    paths = {f"{number:02d}": tmp_path / f"{number:02d}" for number in range(FILES)}
    for number, path in enumerate(paths.values()):
        path.write_bytes(np.random.default_rng(number).bytes(4 * (3 + number)))
    return paths


class Cache:
    """What `survey` did for some files."""

    def __init__(self, files: dict[str, Path], keep: str = "mapped") -> None:
        self.log = files["00"].parent / "log"
        self.log.write_text("")
        decoder = partial(read, log=self.log)
        self.facts, self.faults, self.items = survey(files, decoder, keep, ["pixels"])
        assert isinstance(self.items, Mapped) or keep == "files"
        for number, name in enumerate(self.facts):
            expected = np.frombuffer(files[name].read_bytes(), np.uint8).reshape(4, -1)
            assert (self.items[number] == expected).all()
            assert self.facts[name].pixels.shape == expected.shape
            assert self.facts[name].digest == expected.tobytes()[:4] + bytes(2)
            assert self.facts[name].length == 9

    @property
    def decoded(self) -> list[str]:
        return sorted(self.log.read_text().split())


def entry_of(files: dict[str, Path]) -> Path:
    (entry,) = (files["00"].parent / "cache" / "decoded").glob("mapped-*")
    return entry


def test_files_are_decoded_once(files: dict[str, Path]) -> None:
    assert Cache(files).decoded == sorted(files)
    again = Cache(files)
    assert again.decoded == [] and list(again.facts) == list(files)
    files["07"].write_bytes(b"another one!")
    assert Cache(files).decoded == sorted(files)


def killed(files: dict[str, Path], after: int) -> None:
    left = iter(range(after))

    def dies(path: Path, log: Path) -> Read:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(path, log)

    survey(files, partial(dies, log=files["00"].parent / "log"), "mapped", ["pixels"])


def test_a_killed_process_costs_the_chunk_it_was_at(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "available_cpus", lambda: 1)
    process = get_context("fork").Process(target=killed, args=(files, 30))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    whole = [json.loads(line) for line in (entry_of(files) / CHUNKS).read_text().splitlines()]
    assert 2 <= len(whole) <= 3
    assert Cache(files).decoded == sorted(files)[8 * len(whole) :]
    assert Cache(files).decoded == []


@pytest.mark.parametrize("damage", ["pixel", "cut", "line", "lines", "gone"])
def test_what_is_damaged_is_decoded_anew_from_there_on(
    files: dict[str, Path], damage: str
) -> None:
    Cache(files)
    entry = entry_of(files)
    pixels, chunks = entry / PIXELS, entry / CHUNKS
    lines = chunks.read_bytes().splitlines(keepends=True)
    if damage == "pixel":
        start = sum(json.loads(line)["bytes"] for line in lines[:2])
        content = bytearray(pixels.read_bytes())
        content[start + 3] ^= 255
        pixels.write_bytes(content)
    if damage == "cut":
        start = sum(json.loads(line)["bytes"] for line in lines[:2])
        os.truncate(pixels, start + 5)
    if damage == "line":
        chunks.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    if damage == "lines":
        chunks.write_bytes(b"".join(lines[:2]) + b"{}\n" + b"".join(lines[2:]))
    if damage == "gone":
        shutil.rmtree(entry)
    assert Cache(files).decoded == sorted(files)[0 if damage == "gone" else 16 :]
    assert Cache(files).decoded == []


def test_a_file_that_failed_is_tried_again(files: dict[str, Path]) -> None:
    times = files["11"].stat()
    good = files["11"].read_bytes()
    files["11"].write_bytes(b"bad")
    first = Cache(files)
    assert first.faults == {"11": "damaged"} and "11" not in first.facts
    assert Cache(files).decoded == ["11"]  # and nothing else
    # A disk that was away for a while: the same file by all that its entry knows of it.
    files["11"].write_bytes(good)
    os.utime(files["11"], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Cache(files).faults == {}


def test_a_worker_makes_again_what_its_machine_lacks(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = Cache(files).items
    there = pickle.dumps(items)
    before = items[3].tolist()
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path / "own"))
    assert pickle.loads(there)[3].tolist() == before
    assert list((tmp_path / "own" / "decoded").glob("mapped-*"))
    files["05"].write_bytes(bytes(64))
    shutil.rmtree(tmp_path / "own")
    with pytest.raises(DataError, match="05 was changed since the study began"):
        pickle.loads(there)[3]
    files["05"].unlink()
    shutil.rmtree(tmp_path / "own")
    with pytest.raises(DataError, match=r"on elsewhere there are neither .* folder that all"):
        pickle.loads(there)[3]


def test_a_file_that_changes_while_it_is_trained_on_is_noticed(files: dict[str, Path]) -> None:
    items = Cache(files, "files").items
    files["05"].write_bytes(bytes(64))
    with pytest.raises(DataError, match="05 was changed since the study began"):
        items[5]
    files["06"].unlink()
    with pytest.raises(DataError, match="06: could be read when the study began"):
        items[6]


def test_mapped_pages_are_given_back(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    monkeypatch.setattr(store, "MAPPED_BYTES", 1000)
    monkeypatch.setattr(store, "advise", lambda array, advice, *part: given.append(advice))
    Cache(files)
    total = sum(path.stat().st_size for path in files.values())
    assert 1 < given.count("MADV_DONTNEED") <= total // 1000
    assert given[0] == "MADV_RANDOM" and given.count("MADV_WILLNEED") == FILES


def test_without_a_cache_nothing_can_be_mapped(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNSEARCH_CACHE", "")
    with pytest.raises(DataError, match=r"keep: mapped needs the folder of ATTNSEARCH_CACHE"):
        Cache(files)
    assert Cache(files, "files").facts.keys() == files.keys()


def test_a_full_disk_is_said(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(entry.Entry, "_end", full)
    with pytest.raises(DataError, match="No space left on device; make room"):
        Cache(files)
