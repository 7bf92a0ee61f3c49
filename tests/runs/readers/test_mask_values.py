"""What the values of masks mean: read rightly or refused, never read as something else."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.metrics.masks import confusion, summary
from attnsearch.runs.readers.mask_files import MaskFile, decode_mask
from attnsearch.runs.readers.masks import IgnoreIndexError, find_coding
from attnsearch.runs.readers.source import DataError
from tests.runs.mask_sets import whole

Pixels = NDArray[Any]
SIDE = 40


def disc(value: int = 255, side: int = SIDE, radius: float = 0.33) -> Pixels:
    y, x = np.mgrid[:side, :side] - side / 2
    return np.where(y**2 + x**2 < (radius * side) ** 2, value, 0).astype(np.uint8)


def bands(*values: int) -> Pixels:
    """Every value on as many rows."""
    rows = np.repeat(np.array(values, dtype=np.uint8), -(-SIDE // len(values)))
    return np.repeat(rows[:SIDE, None], SIDE, 1)


def smooth(side: int = SIDE) -> Pixels:
    image = Image.fromarray(disc(side=4 * side))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def files(folder: Path, masks: Mapping[str, Pixels | Image.Image], **options: Any) -> Path:
    """A data set of these masks with images of their sizes."""
    (folder / "images").mkdir(exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    for number, (name, mask) in enumerate(masks.items()):
        image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        image.save(folder / "masks" / name, **options)
        pixels = np.random.RandomState(number).randint(0, 256, (*image.size[::-1], 3))
        stem = Path(name).stem
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{stem}.png")
    return folder


def eight(folder: Path, *masks: Pixels, ending: str = "png", **options: Any) -> Path:
    turns = {f"{n}.{ending}": masks[n % len(masks)] for n in range(8)}
    return files(folder, turns, **options)


def load(folder: Path, **data: Any) -> DataSet:
    config = {"source": str(folder), "image_size": 16, "splits": [0.5, 0.25, 0.25], **data}
    return load_data(config, "segmentation")


def decoded(folder: Path) -> dict[str, MaskFile]:
    return {path.name: decode_mask(path) for path in sorted((folder / "masks").iterdir())}


def three(side: int = 100) -> Pixels:
    cup = disc(128, side)
    cup[disc(255, side, 0.15) > 0] = 255
    return cup


def test_a_jpeg_among_the_masks_changes_nothing_for_the_others(tmp_path: Path) -> None:
    masks = {f"{n}.{'jpg' if n % 2 else 'png'}": disc() for n in range(8)}
    ones = {
        name: m if "jpg" in name else Image.fromarray(m).convert("1") for name, m in masks.items()
    }
    data = load(files(tmp_path, ones))
    assert data.train.masks is not None
    parts = [*data.train.masks.resized, *whole(data).values()]
    shares = [(mask == 1).mean() for mask in parts]
    assert min(shares) > 0.3 and max(shares) < 0.4


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_black_and_white_masks_survive_jpeg(tmp_path: Path, quality: int) -> None:
    random = np.random.RandomState(0)
    truths = {
        "sharp": disc(side=90),
        "small": disc(side=11),
        "smooth": smooth(80),
        "specks": np.where(random.rand(64, 64) > 0.97, 255, 0).astype(np.uint8),
        "blank": np.zeros((30, 20), np.uint8),
        "colour": np.repeat(disc()[..., None], 3, 2),
    }
    files(tmp_path, {f"{name}.jpg": mask for name, mask in truths.items()}, quality=quality)
    found = decoded(tmp_path)
    coding, notes = find_coding(found, ["background", "polyp"], None, None)
    assert any("cut into black and white at 128: 6 of 6" in note for note in notes)
    for name, truth in truths.items():
        index = coding.index(found[f"{name}.jpg"], name)
        wrong = index != (truth.reshape(*truth.shape[:2], -1)[..., 0] >= 128)
        assert wrong.mean() < (0.02 if quality == 30 else 0.004)


INDICES = bands(0, 1, 2)
REFUSED: Mapping[str, tuple[Pixels, dict[str, Any], str]] = {
    "cup and disc": (three(), {}, "8 of 8 are not black and white"),
    "cup and disc named": (three(), {"classes": ["bg", "cup", "disc"]}, "not black and white"),
    "cup and disc listed": (three(), {"mask_values": [0, 128, 255]}, "not black and white"),
    "one grey": (disc(128, 90), {"classes": 2}, "not black and white"),
    "indices": (INDICES, {}, "not black and white"),
    "two indices": (disc(1), {"classes": ["bg", "polyp"]}, "not black and white"),
    "three classes": (disc(), {"classes": 3}, "3 classes, with the values 0, 1, 2"),
    "ignored white": (disc(), {"ignore_index": 255}, "data.ignore_index is 255"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_jpeg_masks_are_refused(tmp_path: Path, case: str) -> None:
    mask, keys, reason = REFUSED[case]
    eight(tmp_path, mask, ending="jpg")
    with pytest.raises(DataError, match=rf"masks/0\.jpg.*do not keep.*{reason}.*as PNG"):
        load(tmp_path, **keys)


def test_what_is_lossy_is_seen_in_the_file_and_not_in_its_name(tmp_path: Path) -> None:
    jpeg = io.BytesIO()
    Image.fromarray(disc()).save(jpeg, "JPEG")
    (tmp_path / "a.png").write_bytes(jpeg.getvalue())
    pixels = np.repeat(INDICES[..., None], 3, 2)
    Image.fromarray(pixels).save(tmp_path / "b.webp", lossless=True)
    Image.fromarray(pixels).save(tmp_path / "c.webp", lossless=True, exif=Image.Exif().tobytes())
    Image.fromarray(pixels).save(tmp_path / "d.webp", quality=80)
    Image.fromarray(INDICES).save(tmp_path / "e.tif", compression="jpeg")
    Image.fromarray(INDICES).save(tmp_path / "f.tif", compression="tiff_lzw")
    found = {path.stem: decode_mask(path) for path in tmp_path.iterdir()}
    assert {name for name, mask in found.items() if mask.lossy} == {"a", "d", "e"}
    assert all((found[name].levels == INDICES).all() for name in "bcf")


@pytest.mark.parametrize("value", [1, 7, 128, 254, 255])
def test_two_classes_are_zero_and_any_other_value(tmp_path: Path, value: int) -> None:
    eight(tmp_path, disc(value), disc(0))
    for classes in (None, 2, ["background", "polyp"]):
        data = load(tmp_path, classes=classes)
        for name, mask in whole(data).items():
            assert (mask == disc(1 - int(Path(name).stem) % 2)).all()


def test_wide_masks_and_a_narrow_one_go_together(tmp_path: Path) -> None:
    wide = disc(1).astype(np.uint16) * 1000
    files(tmp_path, {f"{n}.png": wide if n else disc(0) for n in range(8)})
    data = load(tmp_path)
    assert {int(mask.max()) for mask in whole(data).values()} == {1}
    found = decoded(tmp_path)
    coding, _ = find_coding(found, None, None, None)
    assert not coding.index(found["0.png"], "0.png").any()


SETS: Mapping[str, tuple[Sequence[Pixels], list[str], int | None, str]] = {
    "white": ([disc(), disc(0), bands(255)], ["bg", "fg"], None, "png"),
    "grey": ([disc(128), disc(0), bands(128)], ["bg", "fg"], None, "png"),
    "lossy": ([disc(), disc(0), bands(255)], ["bg", "fg"], None, "jpg"),
    "border": ([bands(0, 1, 255), bands(0, 255), bands(255)], ["bg", "fg"], 255, "png"),
    "indices": ([bands(0, 1, 2, 255), bands(2, 255), bands(0)], ["a", "b", "c"], 255, "png"),
}


@pytest.mark.parametrize("case", SETS)
def test_one_mask_alone_is_read_as_among_all(tmp_path: Path, case: str) -> None:
    masks, names, ignored, ending = SETS[case]
    found = decoded(eight(tmp_path, *masks, ending=ending))
    whole, _ = find_coding(found, names, ignored, None)
    for name, file in found.items():
        alone, _ = find_coding({name: file}, names, ignored, None)
        assert (alone.index(file, name) == whole.index(file, name)).all()


VOC = bands(0, 1, 2, 255)
HINTS: Mapping[str, tuple[Sequence[Pixels], dict[str, Any], str]] = {
    "void": ([VOC], {}, r"data\.ignore_index: 255; if it is a class, .*\[0, 1, 2, 255\]"),
    "void, named": ([VOC], {"classes": 3}, r"holds 255, .*data\.ignore_index: 255"),
    "gaps": ([bands(0, 2, 5)], {}, r"mask_values: \[0, 2, 5\], or give data\.classes"),
    "no zero": ([bands(1, 2)], {}, r"mask_values: \[1, 2\]"),
    "blended": ([smooth()], {}, r"masks were blended .*threshold them"),
    "blended, two": ([smooth()], {"classes": 2}, r"masks/0\.png: .*blended .*threshold them$"),
    "two kinds": ([disc(1), disc(255)], {}, r"4 hold 1 \(such as masks/0.*4 hold 255 \(such as m"),
    "two kinds, two": ([disc(7), disc(9)], {"classes": 2}, r"4 hold 7 .*4 hold 9 .*the same$"),
    "many": ([disc()], {"classes": 300}, r"300 classes; masks can have 2 to 255"),
    "white ignored": ([disc()], {"ignore_index": 255}, r"nothing but 0 .*remove data\.ignore_ind"),
    "zero ignored": ([bands(0, 1, 2)], {"ignore_index": 0}, r"class background .*\[1, 2\]"),
    "ignored class": (
        [bands(0, 1, 2)],
        {"classes": list("abc"), "ignore_index": 2},
        "the class c ",
    ),
    "nothing": ([disc(0)], {"classes": 2}, "nothing but 0: .*folder of the masks"),
    "same metric": (
        [bands(0, 1, 2)],
        {"classes": ["background", "a b", "a_b"]},
        "a b, a_b: two classes have the metric val_dice_a_b",
    ),
    "metric of all": ([bands(0, 1, 2)], {"classes": ["bg", "pooled", "x"]}, "val_dice_pooled"),
}


@pytest.mark.parametrize("case", HINTS)
def test_a_refusal_says_what_to_do(tmp_path: Path, case: str) -> None:
    masks, keys, message = HINTS[case]
    eight(tmp_path, *masks)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, **keys)
    assert isinstance(caught.value, IgnoreIndexError) == (case == "void")


def test_the_first_of_unnamed_classes_is_the_background(tmp_path: Path) -> None:
    truth = bands(0, 0, 0, 1, 2)
    eight(tmp_path, truth)
    data = load(tmp_path)
    assert data.class_names == ["background", "class 1", "class 2"]
    assert any("mean over class 1, class 2; background is left out" in n for n in data.notes)
    counts = confusion(np.zeros_like(truth), truth, 3)[None]
    assert summary(counts, data.class_names)["dice"] == 0
    named = load(tmp_path, classes=["sky", "road", "car"])
    assert any("over all 3 classes" in note for note in named.notes)
    assert summary(counts, named.class_names)["dice"] > 0.2


def test_masks_that_are_not_turned_like_their_images_are_noted(tmp_path: Path) -> None:
    eight(tmp_path, disc())
    tag = Image.Exif()
    tag[0x0112] = 6
    for number in range(3):
        image = Image.open(tmp_path / "images" / f"{number}.png")
        image.save(tmp_path / "images" / f"{number}.png", exif=tag)
    image = Image.fromarray(disc())
    image.save(tmp_path / "masks" / "2.png", exif=tag)
    (note,) = [note for note in load(tmp_path).notes if "EXIF" in note]
    assert "2 of 8 images, such as images/0.png" in note
    files(tmp_path, {"0.png": disc()[:30]})
    pixels = np.asarray(Image.open(tmp_path / "images" / "0.png"))
    Image.fromarray(pixels).save(tmp_path / "images" / "0.png", exif=tag)
    with pytest.raises(DataError, match=r"0\.png is 40x30.*is 30x40; 1 of these.*EXIF"):
        load(tmp_path)


def test_unusual_kinds_of_files(tmp_path: Path) -> None:
    eight(tmp_path, disc(1), ending="tif")
    pages = [Image.fromarray(disc(1)), Image.fromarray(disc(0))]
    pages[0].save(tmp_path / "masks" / "3.tif", save_all=True, append_images=pages[1:])
    data = load(tmp_path)
    assert any("1 of 8 masks, such as masks/3.tif" in note for note in data.notes)
    palette = Image.fromarray(disc(1)).convert("P")
    palette.putdata(disc(1).ravel().tolist())
    palette.convert("PA").save(tmp_path / "pa.tif")
    assert (decode_mask(tmp_path / "pa.tif").levels == disc(1)).all()
    Image.new("LAB", (5, 4)).save(tmp_path / "lab.tif")
    with pytest.raises(DataError, match="colour mode LAB; save it as"):
        decode_mask(tmp_path / "lab.tif")
    hidden = np.full((SIDE, SIDE, 4), 255, np.uint8)
    hidden[..., 3] = disc()
    Image.fromarray(hidden).save(tmp_path / "hidden.png")
    with pytest.raises(DataError, match="in the transparency"):
        decode_mask(tmp_path / "hidden.png")


def meaning(folder: Path, values: Sequence[Sequence[int]], classes: int | None = None) -> int:
    """How many classes masks of these values are found to have."""
    decoded = {}
    for number, own in enumerate(values):
        path = folder / f"{number:02d}.png"
        Image.fromarray(np.resize(np.array(own, np.uint8), (SIDE, SIDE))).save(path)
        decoded[path.name] = decode_mask(path)
    return len(find_coding(decoded, classes, None, None)[0].values)


@pytest.mark.parametrize("first", [0, 1])
def test_instances_are_no_classes(first: int, tmp_path: Path) -> None:
    """With a background, and cut so close that there is none."""
    values = [range(first, count + 1) for count in (3, 9, 12, 4, 7, 10)]
    with pytest.raises(DataError, match=r"instances .*1 to its own last one, 3 to 12; .*: 13"):
        meaning(tmp_path, values)
    assert meaning(tmp_path, values, 13) == 13  # who says so is believed


def test_instances_with_a_gap_among_all_masks_are_told_as_such(tmp_path: Path) -> None:
    """One mask was cut out of a larger one, and lost instances."""
    values = [range(count + 1) for count in (3, 9, 5, 4, 7, 10, 6, 8, 11, 13, 14, 15)]
    with pytest.raises(DataError, match="instances counted through"):
        meaning(tmp_path, [*values, (0, 1, 17)])


@pytest.mark.parametrize(
    "values",
    [
        [range(11)] * 6,  # all classes in each
        [(0, *range(number, 11)) for number in range(1, 7)],
        [range(number + 1) for number in (2, 3, 4, 5, 6, 7)],  # grades, one within the other
        [(0, number) for number in range(1, 11)],  # one thing an image
    ],
)
def test_classes_are_no_instances(values: list[Sequence[int]], tmp_path: Path) -> None:
    assert meaning(tmp_path, values) in (8, 11)
