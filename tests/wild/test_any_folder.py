"""Whatever lies in a folder, `init` and `check` end with a word, and never with a traceback."""

import io
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings, strategies as st
from PIL import Image

from attnsearch.search.check import forecast
from attnsearch.search.cli import call
from attnsearch.search.exit import DONE, WRONG_INPUT
from attnsearch.search.terminal import budget
from tests.wild.layouts import LAYOUTS

FOLDERS = settings(
    deadline=None,
    max_examples=int(os.environ.get("ATTNSEARCH_FOLDERS", "5")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NAMES = st.sampled_from(
    [
        *("train", "val", "valid", "test", "images", "masks", "labels", "imagesTr", "labelsTr"),
        *("cat", "Cat", "dog", "0", "1", "annotations", "p01", "p02", "a b", "ä", "-x", "#1"),
        *("x.y", "__MACOSX", ".hidden", "nul", "=cmd()", "<script>", "%20"),
    ]
)
STEMS = st.sampled_from(
    ["a", "b", "c", "001", "002", "a_mask", "b_mask", "p01_L", "p01_R", "x y", "é", "=1+1", "a.b"]
)
MODES = st.sampled_from(["L", "RGB", "RGBA", "P", "1", "I;16", "LA", "CMYK"])
SIZES = st.integers(1, 40)


@st.composite
def image(draw: Any) -> tuple[str, bytes]:
    mode, seed = draw(MODES), draw(st.integers(0, 5))
    size = (draw(SIZES), draw(SIZES))
    values = draw(st.sampled_from(["noise", "zeros", "full", "binary", "few"]))
    random = np.random.default_rng(seed)
    pixels = {
        "noise": random.integers(0, 256, size[::-1]),
        "zeros": np.zeros(size[::-1]),
        "full": np.full(size[::-1], 255),
        "binary": 255 * random.integers(0, 2, size[::-1]),
        "few": random.integers(0, 4, size[::-1]),
    }[values].astype(np.uint8)
    made = Image.fromarray(pixels)
    made = Image.fromarray(pixels.astype(np.uint16)) if mode == "I;16" else made.convert(mode)
    suffix = draw(st.sampled_from(["png", "jpg", "bmp", "tif", "PNG"]))
    stream = io.BytesIO()
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
    try:
        made.save(stream, kind)
    except (OSError, ValueError):  # this kind has no such mode
        made.convert("RGB").save(stream, kind)
    content = stream.getvalue()
    cut = draw(st.sampled_from([None, None, None, None, len(content) // 2, 0]))
    return suffix, content[:cut]


@st.composite
def arrays(draw: Any) -> tuple[str, bytes]:
    count = draw(st.integers(0, 6))
    shape = draw(st.sampled_from([(8, 8), (8, 8, 3), (8, 8, 5), (8,), ()]))
    kind = draw(st.sampled_from(["uint8", "float32", "int64", "bool", "U3"]))
    stored: dict[str, Any] = {}
    for part in draw(st.lists(st.sampled_from(["train", "val", "valid", "test"]), max_size=3)):
        stored[f"{part}_images"] = np.zeros((count, *shape), kind)
        labels = np.arange(count + draw(st.integers(0, 1))) % 2
        stored[f"{part}_{draw(st.sampled_from(['labels', 'masks', 'y']))}"] = labels
    stream = io.BytesIO()
    np.savez(stream, **stored)
    return "npz", stream.getvalue()


OTHER = st.tuples(
    st.sampled_from(["txt", "csv", "json", "png", "zip", "npz", "yaml", "npy", "DS_Store"]),
    st.binary(max_size=60),
)
FILE = st.tuples(STEMS, st.one_of(image(), image(), image(), arrays(), OTHER))
TREE: Any = st.recursive(
    st.lists(FILE, max_size=5),
    lambda inner: st.tuples(st.lists(FILE, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=8,
)


def write(folder: Path, tree: Any) -> None:
    folder.mkdir()
    files, folders = tree if isinstance(tree, tuple) else (tree, {})
    for stem, (suffix, content) in files:
        (folder / f"{stem}.{suffix}").write_bytes(content)
    for name, inner in folders.items():
        if not (folder / name).exists():
            write(folder / name, inner)


def ends_with_a_word(place: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    statuses = [call(["init", str(data), "--to", "space.yaml"])]
    if statuses[0] == DONE:
        statuses.append(call(["check", "space.yaml"]))
    event(f"init and check end with {statuses}")  # pytest --hypothesis-show-statistics
    said = capsys.readouterr()
    assert set(statuses) <= {DONE, WRONG_INPUT}, said.err
    assert "Traceback" not in said.out + said.err
    assert statuses[-1] == DONE or said.err.strip(), "a refusal says why"
    left = {path.name for path in place.iterdir()}
    assert left <= {data.name, "space.yaml"}, "nothing else is written"


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All layouts, each made once."""
    folder = tmp_path_factory.mktemp("layouts")
    made = {}
    for name, layout in LAYOUTS.items():
        (folder / name).mkdir()
        made[name] = layout.make(folder / name).data
    return made


def damage(data: Any, root: Path) -> None:
    """Change one file or folder below a root, as it happens to people's data."""
    paths = sorted(path for path in root.rglob("*")) or [root]
    path: Path = data.draw(st.sampled_from(paths))
    kind = data.draw(
        st.sampled_from(["delete", "cut", "empty", "rename", "copy", "suffix", "junk", "swap"])
    )
    folder = path if path.is_dir() else path.parent
    if kind == "delete":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif kind == "cut" and path.is_file():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "empty" and path.is_file():
        path.write_bytes(b"")
    elif kind == "rename":
        path.rename(path.with_name(data.draw(NAMES) + path.suffix))
    elif kind == "copy" and path.is_file():
        shutil.copy(path, path.with_name(data.draw(STEMS) + path.suffix))
    elif kind == "suffix" and path.is_file():
        path.rename(path.with_suffix(data.draw(st.sampled_from([".jpg", ".png", ".txt", ""]))))
    elif kind == "junk":
        stem, (suffix, content) = data.draw(FILE)
        (folder / f"{stem}.{suffix}").write_bytes(content)
    elif kind == "swap" and path.is_file():
        other = data.draw(st.sampled_from([path for path in paths if path.is_file()]))
        path.write_bytes(other.read_bytes())


@FOLDERS
@given(data=st.data(), name=st.sampled_from(sorted(LAYOUTS)), changes=st.integers(0, 3))
def test_a_layout_with_something_changed_ends_with_a_word(
    data: Any,
    name: str,
    changes: int,
    layouts: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(forecast, "seconds_per_epoch", lambda *_: 2.0)
    monkeypatch.setattr(budget, "seconds_per_epoch", lambda *_: 2.0)
    place = tmp_path / "here"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    monkeypatch.chdir(place)
    copy = place / layouts[name].name
    if layouts[name].is_dir():
        shutil.copytree(layouts[name], copy, symlinks=True)
    else:
        shutil.copy(layouts[name], copy)
    for _ in range(changes):
        if copy.is_dir():
            damage(data, copy)
    ends_with_a_word(place, copy, capsys)


@FOLDERS
@given(tree=TREE, single=st.one_of(st.none(), FILE))
def test_init_and_check_end_with_a_word(
    tree: Any,
    single: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "here"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    monkeypatch.chdir(place)
    data = place / "data"
    if single is not None:
        data = place / f"{single[0]}.{single[1][0]}"
        data.write_bytes(single[1][1])
    else:
        write(data, tree)
    ends_with_a_word(place, data, capsys)
