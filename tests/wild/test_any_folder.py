"""Whatever lies in a folder, `init` and `check` end with a word, and never with a traceback."""

import io
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from attnsearch.search.cli import call
from attnsearch.search.exit import DONE, WRONG_INPUT

FOLDERS = settings(
    deadline=None,
    max_examples=int(os.environ.get("ATTNSEARCH_FOLDERS", "12")),
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
    statuses = [call(["init", str(data), "--to", "space.yaml"])]
    if statuses[0] == DONE:
        statuses.append(call(["check", "space.yaml"]))
    event(f"init and check end with {statuses}")  # pytest --hypothesis-show-statistics
    said = capsys.readouterr()
    assert set(statuses) <= {DONE, WRONG_INPUT}, said.err
    assert "Traceback" not in said.out + said.err
    assert statuses[-1] == DONE or said.err.strip(), "a refusal says why"
    left = {path.name for path in tmp_path.iterdir()} | {path.name for path in place.iterdir()}
    assert left <= {"here", data.name, "space.yaml"}, "nothing else is written"
