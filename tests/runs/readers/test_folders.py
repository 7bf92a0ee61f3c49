import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile

from attnsearch.runs.data.data import load_data
from attnsearch.runs.readers.folders import read_folder
from attnsearch.runs.readers.source import NO_PART, PARTS, DataError, Source
from attnsearch.runs.readers.walking import folder_shapes

RED = (200, 30, 40)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def noise(seed: int, size: tuple[int, int] = (9, 9), mode: str = "RGB") -> Image.Image:
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def fill(folder: Path, count: int = 4, classes: tuple[str, ...] = ("a", "b")) -> Path:
    """`count` different images for each class."""
    for label, name in enumerate(classes):
        for i in range(count):
            save(folder / name / f"{i:03d}.png", noise(1000 * label + i + hash_of(folder.name)))
    return folder


def hash_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def read(folder: Path, size: int = 8, **options: Any) -> Source:
    return read_folder(folder, size, **options)


def one(tmp_path: Path, path: Path, size: int = 8, **options: Any) -> tuple[np.ndarray, list[str]]:
    """The pixels of one image, read beside plain images of another class."""
    fill(tmp_path, 1, ("other",))
    source = read(tmp_path, size, **options)
    return source.images[source.names.index(path.relative_to(tmp_path).as_posix())], source.notes


def test_unsplit_folder_gives_every_image_once_in_the_order_of_names(tmp_path: Path) -> None:
    fill(tmp_path, 3, ("dog", "cat"))
    source = read(tmp_path)
    assert source.class_names == ["cat", "dog"]
    assert source.names == [f"{c}/{i:03d}.png" for c in ("cat", "dog") for i in range(3)]
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert (source.parts == NO_PART).all()
    assert source.images.shape == (6, 8, 8, 3)
    assert not any(str(tmp_path) in note for note in source.notes)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val", "VALIDATION"])
def test_a_split_is_recognised_by_its_names(tmp_path: Path, val: str) -> None:
    for part, count in (("Train", 5), (val, 2), ("test", 3)):
        fill(tmp_path / part, count)
    source = read(tmp_path)
    counts = [int((source.parts == i).sum()) for i in range(len(PARTS))]
    assert counts == [10, 4, 6]
    for name, part in zip(source.names, source.parts, strict=True):
        assert name.lower().startswith(PARTS[part][:3])


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    fill(tmp_path, 2, ("bus", "car", "train"))
    source = read(tmp_path)
    assert source.class_names == ["bus", "car", "train"]
    assert (source.parts == NO_PART).all()


def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere/b/0.png", noise(9))
    for label in ("cat", "dog"):
        save(tmp_path / f"set/{label}/0.png", noise(ord(label[0])))
    (tmp_path / "set/cat/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "elsewhere")
    source = read_folder(tmp_path / "set", 8)
    assert source.names == ["cat/0.png", "cat/more/b/0.png", "dog/0.png"]


def test_images_deep_in_a_class_folder_are_found(tmp_path: Path) -> None:
    fill(tmp_path)
    save(tmp_path / "a" / "patient7" / "visit 2" / "x.png", noise(0))
    assert "a/patient7/visit 2/x.png" in read(tmp_path).names


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("X.PNG", {}),
        ("x.JPG", {"format": "JPEG"}),
        ("x.JPeG", {"format": "JPEG"}),
        ("x.TIF", {"format": "TIFF"}),
        ("x.bmp", {}),
        ("x.webp", {"lossless": True}),
        ("x.GIF", {}),
        ("x.ppm", {}),
    ],
)
def test_endings_of_any_case_are_read(tmp_path: Path, name: str, options: Any) -> None:
    path = save(tmp_path / "a" / name, Image.new("RGB", (8, 8), RED), **options)
    pixels, _ = one(tmp_path, path)
    assert np.abs(pixels.astype(int) - RED).max() <= 3


def _palette() -> Image.Image:
    return Image.new("RGB", (8, 8), RED).quantize(4)


def _cmyk() -> Image.Image:
    return Image.new("RGB", (8, 8), RED).convert("CMYK")


@pytest.mark.parametrize(
    ("image", "ending", "expected"),
    [
        (Image.new("1", (8, 8), 1), "png", (255,) * 3),
        (Image.new("L", (8, 8), 77), "png", (77,) * 3),
        (Image.new("LA", (8, 8), (200, 128)), "png", (100,) * 3),
        (_palette(), "png", RED),
        (Image.new("RGB", (8, 8), RED), "png", RED),
        (Image.new("RGBA", (8, 8), (*RED, 0)), "png", (0, 0, 0)),
        (Image.new("RGBA", (8, 8), (*RED, 255)), "png", RED),
        (_cmyk(), "jpg", RED),
        (Image.new("RGB", (8, 8), RED).convert("YCbCr"), "jpg", RED),
        (Image.new("RGB", (8, 8), RED).convert("LAB"), "tif", RED),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_every_mode_becomes_colour(
    tmp_path: Path, image: Image.Image, ending: str, expected: tuple[int, ...]
) -> None:
    pixels, _ = one(tmp_path, save(tmp_path / "a" / f"x.{ending}", image))
    assert pixels.shape == (8, 8, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= 6


def test_a_palette_with_transparency_is_laid_over_black(tmp_path: Path) -> None:
    image = _palette()
    path = save(tmp_path / "a" / "x.png", image, transparency=image.getpixel((0, 0)))
    pixels, notes = one(tmp_path, path)
    assert pixels.max() == 0
    assert any("black" in note and "a/x.png" in note for note in notes)


def test_an_opaque_image_with_an_alpha_channel_is_not_called_transparent(tmp_path: Path) -> None:
    path = save(tmp_path / "a" / "x.png", Image.new("RGBA", (8, 8), (*RED, 255)))
    pixels, notes = one(tmp_path, path)
    assert (pixels == RED).all()
    assert not any("transparent" in note for note in notes)


def test_only_grey_files_give_one_channel(tmp_path: Path) -> None:
    save(tmp_path / "a" / "0.png", Image.new("L", (8, 8), 10))
    save(tmp_path / "a" / "1.png", Image.new("1", (8, 8), 1))
    save(tmp_path / "b" / "0.png", Image.new("LA", (8, 8), (30, 255)))
    save(tmp_path / "b" / "1.png", Image.new("L", (8, 8), 40).quantize(2))
    images = read(tmp_path).images
    assert images.shape == (4, 8, 8, 1)
    assert images[:, 0, 0, 0].tolist() == [10, 255, 30, 40]
    assert read(tmp_path, channels=3).images.shape == (4, 8, 8, 3)


def test_channels_decide_over_the_files(tmp_path: Path) -> None:
    save(tmp_path / "a" / "0.png", Image.new("RGB", (8, 8), RED))
    save(tmp_path / "b" / "0.png", Image.new("L", (8, 8), 50))
    grey = read(tmp_path, channels=1)
    assert grey.images[:, 0, 0, 0].tolist() == [
        Image.new("RGB", (1, 1), RED).convert("L").getpixel((0, 0)),
        50,
    ]
    assert any("converted to grey: 1 of 2" in note for note in grey.notes)
    colour = read(tmp_path)
    assert colour.images.shape[3] == 3
    assert any("repeated to 3 channels: 1 of 2" in note for note in colour.notes)


@pytest.mark.parametrize(("peak", "bits"), [(255, 8), (1023, 10), (4000, 12), (65535, 16)])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_images_keep_their_range_and_their_relation(
    tmp_path: Path, peak: int, bits: int, ending: str
) -> None:
    for name, value in (("a", peak), ("b", peak // 2)):
        pixels = np.full((9, 7), value, dtype=np.uint16)
        save(tmp_path / name / f"0.{ending}", Image.fromarray(pixels))
    source = read(tmp_path)
    expected = [round(255 * value / (2**bits - 1)) for value in (peak, peak // 2)]
    assert source.images.shape[3] == 1
    assert source.images[:, 0, 0, 0].tolist() == expected
    assert any(f"{bits}-bit values" in note for note in source.notes)


def test_float_images_are_scaled_or_refused_by_name(tmp_path: Path) -> None:
    for name, value in (("a", 0.25), ("b", 1.0)):
        save(tmp_path / name / "0.tif", Image.fromarray(np.full((8, 8), value, dtype=np.float32)))
    assert read(tmp_path).images[:, 0, 0, 0].tolist() == [64, 255]
    save(tmp_path / "b" / "1.tif", Image.fromarray(np.full((8, 8), -7, dtype=np.float32)))
    with pytest.raises(DataError, match=r"b/1\.tif.*floats from -7 to 1"):
        read(tmp_path)
    path = tmp_path / "b" / "1.tif"
    save(path, Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)))
    with pytest.raises(DataError, match=r"b/1\.tif \(holds values that are not finite"):
        read(tmp_path)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (117, 40), (500, 333)])
def test_any_size_is_resized(tmp_path: Path, size: tuple[int, int]) -> None:
    path = save(tmp_path / "a" / "x.png", Image.new("RGB", size, RED))
    pixels, notes = one(tmp_path, path)
    assert (pixels == RED).all()
    assert any("not square" in note for note in notes) == (size[0] != size[1])


def test_reducing_averages_instead_of_skipping(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    path = save(tmp_path / "a" / "x.png", Image.fromarray(stripes))
    pixels, _ = one(tmp_path, path)
    assert np.abs(pixels.astype(int) - 128).max() < 8


def test_a_large_jpeg_is_read_like_its_png(tmp_path: Path) -> None:
    smooth = noise(3, (6, 4)).resize((900, 600), Image.Resampling.BICUBIC)
    save(tmp_path / "a" / "x.png", smooth)
    save(tmp_path / "b" / "x.jpg", smooth, quality=95)
    first, second = read(tmp_path, 32).images.astype(int)
    assert np.abs(first - second).mean() < 1.5


def test_exif_orientation_is_obeyed(tmp_path: Path) -> None:
    upright = np.zeros((40, 20, 3), dtype=np.uint8)
    upright[:20] = 255  # bright above, dark below
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying down: turn it clockwise to see it upright
    lying = Image.fromarray(np.rot90(upright).copy())
    path = save(tmp_path / "a" / "x.jpg", lying, exif=exif)
    pixels, _ = one(tmp_path, path)
    assert pixels[:3].min() > 200
    assert pixels[-3:].max() < 50


def test_the_first_frame_is_taken_and_said(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), value) for value in (50, 200)]
    path = save(tmp_path / "a" / "x.tif", frames[0], save_all=True, append_images=frames[1:])
    pixels, notes = one(tmp_path, path)
    assert pixels.max() == 50
    assert any("frames" in note and "a/x.tif" in note for note in notes)


def test_hidden_files_are_skipped_in_silence_and_others_are_counted(tmp_path: Path) -> None:
    fill(tmp_path)
    for name in (".DS_Store", "._0.png", ".cache/x.png", "__MACOSX/x.png"):
        path = tmp_path / "a" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image")
    (tmp_path / ".git").mkdir()
    source = read(tmp_path)
    assert len(source.names) == 8
    assert source.notes == []
    (tmp_path / "a" / "notes.txt").write_text("hello")
    save(tmp_path / "loose.png", noise(0))
    source = read(tmp_path)
    assert len(source.names) == 8
    assert any("1 .txt" in note for note in source.notes)
    assert any("1 images outside of class folders" in note for note in source.notes)


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    damaged = {"cut": content[: len(content) // 2], "empty": b"", "text": b"<html>404</html>"}
    path.write_bytes(damaged[how])


@pytest.mark.parametrize("how", ["cut", "empty", "text"])
@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "tif"])
def test_a_damaged_image_is_an_error_with_its_name(tmp_path: Path, how: str, ending: str) -> None:
    fill(tmp_path)
    damage(save(tmp_path / "b" / f"bad.{ending}", noise(1, (40, 40))), how)
    with pytest.raises(DataError, match=rf"1 of 9 images cannot be read: b/bad\.{ending}"):
        read(tmp_path)


def test_one_damaged_image_in_a_hundred_is_skipped_and_named(tmp_path: Path) -> None:
    fill(tmp_path, 50)
    before = read(tmp_path)
    damage(tmp_path / "b" / "007.png", "cut")
    source = read(tmp_path)
    assert source.names == [name for name in before.names if name != "b/007.png"]
    kept = [i for i, name in enumerate(before.names) if name != "b/007.png"]
    assert (source.images == before.images[kept]).all()
    assert source.labels.tolist() == before.labels[kept].tolist()
    assert any("cannot be read (1 of 100): b/007.png" in note for note in source.notes)
    damage(tmp_path / "a" / "003.png", "empty")
    with pytest.raises(DataError, match=r"2 of 100 images cannot be read: a/003\.png .*b/007"):
        read(tmp_path)


def test_mistakes_in_the_layout_are_named(tmp_path: Path) -> None:
    def fails(message: str, **options: Any) -> None:
        with pytest.raises(DataError, match=message):
            read(tmp_path, **options)

    fails("no images; expected class folders")
    (tmp_path / "readme.dcm").write_bytes(b"x")
    fails(r"no images \(only \.dcm\)")
    save(tmp_path / "x.png", noise(0))
    fails(r"1 images, but none in a class folder \(such as x\.png\)")
    (tmp_path / "a").mkdir()
    fill(tmp_path, 2, ("b",))
    fails("no images of class a;")
    fails("data.classes names c, but there is no such folder; the folders are a, b", classes=["c"])


def test_mistakes_in_a_split_layout_are_named(tmp_path: Path) -> None:
    fill(tmp_path / "val", 2)
    fill(tmp_path / "test", 2)
    with pytest.raises(DataError, match="found val/, test/ but no train/"):
        read(tmp_path)
    fill(tmp_path / "train", 2, ("a",))
    with pytest.raises(DataError, match="no images of class b in train/"):
        read(tmp_path)
    shutil.rmtree(tmp_path / "train")
    fill(tmp_path / "train", 2, ("a", "b", "c"))
    notes = load_data({"source": str(tmp_path), "image_size": 8}).notes
    assert notes == ["no val images of class c", "no test images of class c"]
    fill(tmp_path / "valid", 2)
    with pytest.raises(DataError, match="both val/ and valid/"):
        read(tmp_path)


def test_a_folder_for_segmentation_is_not_taken_for_two_classes(tmp_path: Path) -> None:
    fill(tmp_path, 2, ("images", "masks"))
    with pytest.raises(DataError, match="task: segmentation"):
        read(tmp_path)


def test_a_folder_that_may_not_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)  # as root the tests may read everything
    with pytest.raises(DataError, match=r"cannot be read: .*Permission denied"):
        load_data({"source": str(tmp_path), "image_size": 8})


def test_classes_choose_and_order_the_folders(tmp_path: Path) -> None:
    fill(tmp_path, 2, ("benign", "junk", "malignant"))
    source = read(tmp_path, classes=["malignant", "benign"])
    assert source.class_names == ["malignant", "benign"]
    assert source.labels[source.names.index("malignant/000.png")] == 0
    assert len(source.names) == 4
    assert any("junk" in note for note in source.notes)


def test_the_fingerprint_ignores_the_path_and_the_order_on_disk(tmp_path: Path) -> None:
    def load(folder: Path) -> tuple[str, str]:
        data = load_data({"source": str(folder), "image_size": 8})
        return data.fingerprint, data.test_fingerprint

    first = fill(tmp_path / "first", 8)
    files = sorted(first.rglob("*.png"), reverse=True)
    for i, file in enumerate(files):
        copy = tmp_path / "second" / file.relative_to(first)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
        os.utime(copy, (i, i))
    assert load(first) == load(tmp_path / "second")
    save(tmp_path / "second" / "a" / "000.png", noise(99))
    assert load(first)[0] != load(tmp_path / "second")[0]


def test_cifar10_sample_is_read_in_under_a_second(shared: Path) -> None:
    folder = shared / "data" / "cifar10_folder_sample"
    times = []  # of the processor: others may be busy on this machine
    for _ in range(2):
        start = time.process_time()
        data = load_data({"source": str(folder), "image_size": 32})
        times.append(time.process_time() - start)
    assert min(times) < 1
    assert (len(data.train), len(data.val), len(data.test)) == (130, 40, 30)
    assert data.class_names[0] == "airplane"
    name = data.val.names[5]
    assert (data.val.images[5] == np.asarray(Image.open(folder / name))).all()
    assert data.class_names[data.val.labels[5]] == name.split("/")[1]


def test_the_limit_of_pixels_can_be_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # put back
    fill(tmp_path, 2)
    monkeypatch.setenv("ATTNSEARCH_MEGAPIXELS", "0.00008")  # 80; an image has 81
    with pytest.raises(
        DataError, match=r"more than 0\.00008 megapixels; .* ATTNSEARCH_MEGAPIXELS"
    ):
        read(tmp_path)
    monkeypatch.setenv("ATTNSEARCH_MEGAPIXELS", "0.001")
    assert len(read(tmp_path).images) == 4
    monkeypatch.setenv("ATTNSEARCH_MEGAPIXELS", "many")
    with pytest.raises(DataError, match="is many, expected a number"):
        read(tmp_path)


def test_images_of_the_form_asked_for_are_not_said_to_lose_theirs(tmp_path: Path) -> None:
    save(tmp_path / "a" / "x.png", noise(0, (40, 24)))
    save(tmp_path / "b" / "x.png", noise(1, (20, 12)))
    assert read_folder(tmp_path, (12, 20)).notes == []
    lost = "of another form than 20x12, the aspect ratio is not kept: 2 of 2 images"
    assert lost in read_folder(tmp_path, (20, 12)).notes[0]
    save(tmp_path / "a" / "y.png", noise(2, (12, 12)))
    assert "1 of 3 images, such as a/y.png" in read_folder(tmp_path, (12, 20)).notes[0]


def test_a_size_may_have_two_sides(tmp_path: Path) -> None:
    image = np.zeros((30, 50, 3), dtype=np.uint8)
    image[:15] = RED  # above
    image[:, 40:] = 255  # a fifth at the right
    save(tmp_path / "a" / "x.png", Image.fromarray(image))
    save(tmp_path / "b" / "x.png", Image.fromarray(image).resize((25, 25)))
    source = read_folder(tmp_path, (12, 20))
    assert source.images.shape == (2, 12, 20, 3)
    for pixels in source.images:
        assert np.abs(pixels[:5, :15].astype(int) - RED).max() < 8
        assert pixels[7:, :15].max() < 8
        assert pixels[:, 17:].min() > 247


@pytest.mark.parametrize("turn", [1, 3, 5, 6, 7, 8])
def test_an_image_is_turned_before_it_gets_its_size(tmp_path: Path, turn: int) -> None:
    upright = noise(3, (6, 4)).resize((900, 600), Image.Resampling.BICUBIC)
    back = {
        3: Image.Transpose.ROTATE_180,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(back[turn]) if turn in back else upright
    exif = Image.Exif()
    exif[0x0112] = turn
    save(tmp_path / "a" / "x.png", upright)
    save(tmp_path / "b" / "x.jpg", stored, exif=exif, quality=95)
    first, second = read_folder(tmp_path, (20, 48)).images.astype(int)
    assert first.shape == (20, 48, 3)
    assert np.abs(first - second).mean() < 1.5
    assert folder_shapes(tmp_path) == [(600, 900), (600, 900)]


def test_the_shape_of_a_file_is_told_upright_by_its_header_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for ending in ("png", "jpg", "webp"):
        save(tmp_path / f"a/{ending}.{ending}", noise(0, (9, 20)))
        save(tmp_path / f"b/{ending}.{ending}", noise(0, (9, 20)), exif=exif)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    monkeypatch.setattr(PngImageFile, "load", lambda _: pytest.fail("decoded"))
    assert folder_shapes(tmp_path) == [(20, 9)] * 3 + [(9, 20)] * 3
