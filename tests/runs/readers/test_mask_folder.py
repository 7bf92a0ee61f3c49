"""Folders of images and masks: what is found, what is read, and what is refused."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.readers.source import DataError
from tests.runs.mask_sets import whole

Pixels = NDArray[Any]
Save = Callable[[str, Pixels], None]


def photo(height: int = 11, width: int = 7, channels: int = 3, seed: int = 0) -> Pixels:
    draws = np.random.RandomState(seed)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return draws.randint(0, 256, shape).astype(np.uint8)


def blob(height: int = 11, width: int = 7, value: int = 255, other: int = 0) -> Pixels:
    mask = np.full((height, width), other, dtype=np.uint8)
    mask[2 : height - 3, 1 : width - 2] = value
    return mask


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(name: str, pixels: Pixels) -> None:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    return write


def load(folder: Path, **data: Any) -> DataSet:
    config = {"source": str(folder / "set"), "image_size": 8, "splits": [0.5, 0.25, 0.25], **data}
    return load_data(config, "segmentation")


def fill(save: Save, masks: str = "{}.png", count: int = 4, images: str = "{}.jpg") -> None:
    for number in range(count):
        save(f"images/{images.format(number)}", photo(11 + number, 7, seed=number))
        save(f"masks/{masks.format(number)}", blob(11 + number, 7))


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("{}.jpg", "{}.png"),
        ("{}.JPG", "{}.PNG"),
        ("case{}.png", "case{}_mask.png"),
        ("case{}.png", "mask_case{}.png"),
        ("{}_image.png", "{}_gt.png"),
        ("img-{}.png", "seg-{}.png"),
        ("Image_{}.png", "Image_{}_1stHO.png"),
        ("a/{}.png", "a/{}-gt.png"),
    ],
)
def test_masks_are_found_by_their_names(
    tmp_path: Path, save: Save, images: str, masks: str
) -> None:
    for number in (1, 2, 3, 12):
        save(f"images/{images.format(number)}", photo(seed=number))
        mask = blob()
        mask[0, 0] = 255 * (number % 2)
        save(f"masks/{masks.format(number)}", mask)
    data = load(tmp_path)
    odd = {name: bool(mask[0, 0]) for name, mask in whole(data).items()}
    assert len(data.train) + len(odd) == 4
    for name, found in odd.items():
        digits = "".join(char for char in Path(name).stem if char.isdigit())
        assert found == bool(int(digits) % 2)
    if Path(images).stem != Path(masks).stem:
        assert any("masks are paired" in note for note in data.notes)


def test_two_annotators_are_a_choice_of_the_user(tmp_path: Path, save: Save) -> None:
    fill(save, "{}_1stHO.png")
    for number in range(4):
        save(f"masks/{number}_2ndHO.png", blob(11 + number, 7, value=0, other=255))
    with pytest.raises(DataError, match=r"2 masks each.*_1stho.*_2ndho.*data\.mask_name"):
        load(tmp_path)
    data = load(tmp_path, mask_name="{}_2ndHO")
    assert all(mask[0, 0] == 1 for mask in whole(data).values())


def test_missing_masks_are_listed(tmp_path: Path, save: Save) -> None:
    fill(save)
    save("images/77.jpg", photo())
    save("images/78.jpg", photo())
    with pytest.raises(DataError, match=r"2 of 6 images have no mask.*77\.jpg, 78\.jpg"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"names without their ending: \"\{\}_mask\""):
        load(tmp_path, mask_name="{}_mask.PNG")


def test_of_two_classes_the_second_is_no_background(tmp_path: Path, save: Save) -> None:
    fill(save)
    with pytest.raises(DataError, match="turn them round"):
        load(tmp_path, classes=["polyp", "background"])


def test_masks_without_an_image_are_left_out_and_named(tmp_path: Path, save: Save) -> None:
    fill(save)
    save("masks/99.png", blob())
    assert any("99.png" in note for note in load(tmp_path).notes)


ENCODINGS: Mapping[str, tuple[Pixels, str, dict[str, Any], list[int]]] = {
    "one bit": (blob().astype(bool), "png", {}, [0, 1]),
    "black and white": (blob(), "png", {}, [0, 1]),
    "black and grey": (blob(value=7), "png", {}, [0, 1]),
    "grey in colour": (np.repeat(blob()[..., None], 3, 2), "png", {}, [0, 1]),
    "lossy": (blob(), "jpg", {}, [0, 1]),
    "index": (blob(value=2, other=1), "png", {"classes": ["a", "b", "c"]}, [1, 2]),
    "wide": (blob().astype(np.uint16) * 2, "png", {"mask_values": [0, 510]}, [0, 1]),
    "listed": (blob(value=128), "png", {"mask_values": [255, 128, 0]}, [1, 2]),
    "ignored": (blob(value=1, other=255), "png", {"classes": 2, "ignore_index": 255}, [1, 255]),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_class_indices(tmp_path: Path, save: Save, encoding: str) -> None:
    pixels, ending, keys, expected = ENCODINGS[encoding]
    for number in range(6):
        save(f"images/{number}.png", photo(seed=number))
        save(f"masks/{number}.{ending}", pixels)
    if encoding in ("index", "listed", "ignored"):  # every class occurs in the training part
        for number in range(6):
            whole_mask = pixels.copy()
            whole_mask[:4, :] = {"index": 0, "listed": 255, "ignored": 0}[encoding]
            save(f"masks/{number}.{ending}", whole_mask)
        expected = sorted({0, *expected})
    data = load(tmp_path, **keys)
    for mask in whole(data).values():
        assert mask.shape == pixels.shape[:2]
        assert sorted(np.unique(mask)) == expected
    assert data.train.masks is not None
    assert set(np.unique(data.train.masks.resized)) <= set(expected)


def test_a_palette_counts_by_index_and_not_by_colour(tmp_path: Path, save: Save) -> None:
    fill(save, count=5)
    for number in range(5):
        picture = Image.fromarray(blob(11 + number, 7, value=1)).convert("P")
        picture.putpalette([200, 10, 10, 10, 200, 10])
        picture.putdata(blob(11 + number, 7, value=1).ravel().tolist())
        picture.save(tmp_path / "set" / "masks" / f"{number}.png")
    assert all(set(np.unique(mask)) == {0, 1} for mask in whole(load(tmp_path)).values())


def test_images_of_mixed_sizes_keep_their_masks_and_nothing_is_blended(
    tmp_path: Path, save: Save
) -> None:
    for number in range(8):
        height, width = 9 + 5 * number, 31 - 3 * number
        save(f"images/{number}.png", photo(height, width, 1 + 2 * (number % 2), seed=number))
        mask = np.arange(height * width, dtype=np.uint8).reshape(height, width) % 5
        save(f"masks/{number}.png", mask)
    data = load(tmp_path, classes=5)
    assert data.channels == 3
    for part in (data.train, data.val, data.test):
        assert part.masks is not None
        assert part.masks.resized.shape == (len(part), 8, 8)
        assert part.masks.resized.max() <= 4
    for name, mask in whole(data).items():
        number = int(Path(name).stem)
        assert mask.shape == (9 + 5 * number, 31 - 3 * number)
        assert (mask.ravel() == np.arange(mask.size) % 256 % 5).all()


def damage_size(folder: Path, save: Save) -> None:
    save("masks/2.png", blob(12, 7))


def damage_colour(folder: Path, save: Save) -> None:
    save("masks/2.png", photo(13, 7))


def damage_value(folder: Path, save: Save) -> None:
    mask = blob(13, 7)
    mask[0, 0] = 9
    save("masks/2.png", mask)


def damage_image(folder: Path, save: Save) -> None:
    (folder / "set/images/2.jpg").write_bytes(b"no image")


def damage_mask(folder: Path, save: Save) -> None:
    content = (folder / "set/masks/2.png").read_bytes()
    (folder / "set/masks/2.png").write_bytes(content[: len(content) // 2])


def damage_empty(folder: Path, save: Save) -> None:
    for file in (folder / "set/masks").iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_size, r"2\.png is 7x12, images/2\.jpg is 7x13"),
        (damage_colour, r"2\.png \(is a colour image"),
        (damage_value, r"2\.png: the mask holds 9, which is no class"),
        (damage_image, r"images/2\.jpg \("),
        (damage_mask, r"masks/2\.png \("),
        (damage_empty, r"masks: no images"),
    ],
)
def test_a_fault_is_an_error_that_names_the_file(
    tmp_path: Path, save: Save, damage: Callable[[Path, Save], None], message: str
) -> None:
    fill(save)
    damage(tmp_path, save)
    with pytest.raises(DataError, match=message):
        load(tmp_path, classes=["background", "polyp"])


def test_one_reason_for_many_files_is_said_once(tmp_path: Path, save: Save) -> None:
    fill(save)
    for number in range(3):
        save(f"masks/{number}.png", photo(11 + number, 7))
    (tmp_path / "set/masks/3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0\.png, masks/1\.png, masks/2\.png \(is a col") as error:
        load(tmp_path)
    assert str(error.value).count("is a colour image") == 1
    assert "masks/3.png (cannot identify" in str(error.value)


@pytest.mark.parametrize("value", [255, 7])
def test_masks_of_one_value_are_not_advised_a_list_of_it(
    value: int, tmp_path: Path, save: Save
) -> None:
    fill(save)
    for number in range(4):
        save(f"masks/{number}.png", blob(11 + number, 7, value, value))
    with pytest.raises(DataError, match=f"nothing but {value} .*no class to find") as error:
        load(tmp_path)
    assert "mask_values" not in str(error.value)


def test_values_that_are_no_indices_ask_for_a_list(tmp_path: Path, save: Save) -> None:
    fill(save)
    mask = blob(13, 7)
    mask[0, 0] = 128
    save("masks/2.png", mask)
    with pytest.raises(DataError, match=r"data\.mask_values: \[0, 128, 255\]"):
        load(tmp_path)


def test_parts_groups_and_folds_hold_for_masks_too(tmp_path: Path, save: Save) -> None:
    for part, count in (("train", 6), ("valid", 3), ("Test", 2)):
        for number in range(count):
            save(f"{part}/images/p{number}_0.png", photo(seed=number))
            save(f"{part}/masks/p{number}_0.png", blob())
    data = load(tmp_path)
    assert [len(data.train), len(data.val), len(data.test)] == [6, 3, 2]

    for number in range(12):
        save(f"images/p{number % 4}_{number}.png", photo(seed=number))
        save(f"masks/p{number % 4}_{number}.png", blob())
    for part in ("train", "valid", "Test"):
        for file in (tmp_path / "set" / part).rglob("*.png"):
            file.unlink()
        for side in ("images", "masks"):
            (tmp_path / "set" / part / side).rmdir()
        (tmp_path / "set" / part).rmdir()
    folded = load(tmp_path, groups={"pattern": r"images/(p\d)_"}, folds=4, fold=1)
    patients = [set(part.groups or ()) for part in (folded.train, folded.val, folded.test)]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 4


def test_tiles_cover_every_pixel_and_know_their_place(tmp_path: Path, save: Save) -> None:
    fill(save, count=5)
    save("images/9.jpg", photo(30, 21))
    save("masks/9.png", blob(30, 21))
    data = load(tmp_path, tile_overlap=0.25)
    for part in (data.train, data.val, data.test):
        masks = part.masks
        assert masks is not None and masks.corners is not None
        assert len(part.images) == len(masks.resized) == len(masks.image) >= len(part)
        for image, (height, width) in enumerate(masks.sizes.tolist()):
            seen = np.zeros((height, width), dtype=bool)
            for row in np.flatnonzero(masks.image == image).tolist():
                top, left = masks.corners[row].tolist()
                seen[top : top + 8, left : left + 8] = True
                inside = masks.resized[row][: height - top, : width - left]
                if masks.flat is not None:
                    cut = masks.original(image)[top : top + 8, left : left + 8]
                    assert (inside == cut).all()
                outside = masks.resized[row].copy()
                outside[: height - top, : width - left] = 255
                assert (outside == 255).all()
            assert seen.all()


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The images that were decoded since it was last cleared, with a cache of its own."""
    from attnsearch.runs.readers import cache as decode_cache, mask_folder

    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(decode_cache, "SMALLEST_MB", 0)
    paths: list[Path] = []
    decode = mask_folder.decode
    monkeypatch.setattr(
        mask_folder, "decode", lambda path, size: paths.append(path) or decode(path, size)
    )
    return paths


def test_a_second_start_reads_the_cache_and_a_change_does_not(
    tmp_path: Path, save: Save, decoded: list[Path]
) -> None:
    fill(save)
    (tmp_path / "set/README.md").write_text("hello")
    first = load(tmp_path)
    decoded.clear()
    (tmp_path / "set/README.md").write_text("hello again")
    (tmp_path / "set/images/.#1.jpg").symlink_to("user@host.1234:5678")
    second = load(tmp_path)
    assert not decoded
    assert (second.fingerprint, second.test_fingerprint) == (
        first.fingerprint,
        first.test_fingerprint,
    )
    assert all((whole(second)[name] == mask).all() for name, mask in whole(first).items())
    save("masks/2.png", blob(13, 7)[::-1].copy())
    third = load(tmp_path)
    assert decoded and third.fingerprint != first.fingerprint


def test_a_changed_byte_in_the_cache_is_no_image(
    tmp_path: Path, save: Save, decoded: list[Path]
) -> None:
    fill(save)
    first = load(tmp_path)
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(files) > 5
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        decoded.clear()
        assert load(tmp_path).fingerprint == first.fingerprint
        assert decoded, file.name
    decoded.clear()
    load(tmp_path)
    assert not decoded


def test_the_cache_sees_what_lies_behind_links(
    tmp_path: Path, save: Save, decoded: list[Path]
) -> None:
    """Stores of content, and archives, give files of one size and one time."""
    for store, value in (("a", 10), ("b", 200)):
        for number in range(4):
            save(f"../{store}/images/{number}.bmp", np.full((11, 7, 3), value + number, np.uint8))
            save(f"../{store}/masks/{number}.bmp", blob())
        for file in (tmp_path / store).rglob("*.bmp"):
            os.utime(file, (0, 0))
        (tmp_path / f"of {store}/set").mkdir(parents=True)
        for side in ("images", "masks"):
            (tmp_path / f"of {store}/set" / side).symlink_to(tmp_path / store / side)
    assert load(tmp_path / "of a").train.images.max() < 20
    assert load(tmp_path / "of b").train.images.min() >= 200
    decoded.clear()
    assert load(tmp_path / "of a").train.images.max() < 20 and not decoded
    save("../a/masks/2.bmp", blob(value=254))
    with pytest.raises(DataError, match="254"):
        load(tmp_path / "of a")

    for number in range(4):
        save(f"masks/{number}.bmp", blob())
        link = tmp_path / f"set/images/{number}.bmp"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(tmp_path / f"a/images/{number}.bmp")
    assert load(tmp_path).train.images.max() < 20
    for number in range(4):
        link = tmp_path / f"set/images/{number}.bmp"
        link.unlink()
        link.symlink_to(tmp_path / f"b/images/{number}.bmp")
    assert load(tmp_path).train.images.min() >= 200


@pytest.mark.parametrize("lost", ["images.npy", "mask-flat.npy", "source.json", "{}", "all"])
def test_a_damaged_entry_is_made_again(
    tmp_path: Path, save: Save, decoded: list[Path], lost: str
) -> None:
    fill(save)
    first = load(tmp_path)
    entry = next((tmp_path / "cache/decoded").iterdir())
    if lost == "{}":
        (entry / "source.json").write_text("[]")
    for file in entry.iterdir():
        if lost in (file.name, "all"):
            file.unlink()
    decoded.clear()
    assert load(tmp_path).fingerprint == first.fingerprint and decoded
    decoded.clear()
    assert load(tmp_path).fingerprint == first.fingerprint and not decoded
    assert list((tmp_path / "cache/decoded").iterdir()) == [entry]


def test_the_cache_keeps_to_its_size(
    tmp_path: Path, save: Save, decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(save)
    load(tmp_path)
    names = (".attnsearch-left.new", ".attnsearch-written.new")
    left, written = (tmp_path / "cache/decoded" / name for name in names)
    for partial in (left, written):
        partial.mkdir()
        (partial / "images.npy").write_bytes(b"half")
    os.utime(left, (0, 0))
    load(tmp_path, image_size=9)
    entries = set((tmp_path / "cache/decoded").iterdir())
    assert len(entries) == 3 and written in entries
    monkeypatch.setenv("ATTNSEARCH_CACHE_GB", "0")
    load(tmp_path, image_size=10)
    kept = set((tmp_path / "cache/decoded").iterdir()) - {written}
    assert len(kept) == 1 and not kept & entries
    for given in ("20GB", "nan", "-1"):
        monkeypatch.setenv("ATTNSEARCH_CACHE_GB", given)
        with pytest.raises(DataError, match=f"ATTNSEARCH_CACHE_GB is {given}, expected a number"):
            load(tmp_path)


def test_a_part_whose_masks_are_not_found_is_an_error(tmp_path: Path, save: Save) -> None:
    for part, masks in (("train", "masks"), ("val", "masks"), ("test", "second")):
        for number in range(4):
            save(f"{part}/images/{number}.png", photo(seed=number))
            mask = blob() if masks == "masks" else photo(seed=9 + number)
            save(f"{part}/{masks}/{number}.png", mask)
    with pytest.raises(DataError, match=r"test: found images/, second/, .* labelcol, gt;"):
        load(tmp_path)
    shutil.rmtree(tmp_path / "set/test/second")
    save("masks/9.png", blob())
    save("images/9.png", blob())
    data = load(tmp_path)
    assert "test/ has no masks and was left out (4 images)" in data.notes
    assert "left out beside the parts: images/ (1 images), masks/ (1 images)" in data.notes
    assert len(data.val) == 4 and len(data.train) + len(data.test) == 4


def test_linked_folders_are_read_and_loops_are_not(tmp_path: Path, save: Save) -> None:
    fill(save)
    for number in range(3):
        save(f"../store/images/deep/{number}.png", photo(seed=10 + number))
        save(f"../store/masks/deep/{number}.png", blob())
    for side in ("images", "masks"):
        (tmp_path / "set" / side / "site").symlink_to(tmp_path / "store" / side)
        (tmp_path / "set" / side / "again").symlink_to(".")
        (tmp_path / "set" / side / "up").symlink_to("..")
        (tmp_path / "store" / side / "back").symlink_to(tmp_path / "set" / side)
    data = load(tmp_path)
    names = {name for part in (data.train, data.val, data.test) for name in part.names}
    assert names == {
        *(f"images/{number}.jpg" for number in range(4)),
        *(f"images/site/deep/{number}.png" for number in range(3)),
    }


def test_the_built_in_scenes_are_the_same_every_time_and_their_parts_differ() -> None:
    first = load_data({"source": "scenes", "image_size": 32}, "segmentation")
    second = load_data({"source": "scenes", "image_size": 32, "seed": 1}, "segmentation")
    assert first.class_names == ["background", "digit"]
    assert first.test_fingerprint == second.test_fingerprint
    assert first.fingerprint != second.fingerprint
    assert any("semi-synthetic" in note for note in first.notes)
    assert "semi-synthetic" in first.describe()
    shares = [(part.masks.resized == 1).mean() for part in (first.train, first.val, first.test)]
    assert all(0.02 < share < 0.2 for share in shares)


def test_a_real_set_is_read(shared: Path) -> None:
    streets = load_data(
        {"source": str(shared / "data/camvid_small"), "image_size": 32, "ignore_index": 11},
        "segmentation",
    )
    assert (len(streets.val), streets.classes) == (30, 11)


@pytest.mark.parametrize("size", [(12, 7), (5, 16)])
def test_masks_and_tiles_have_both_sides(
    size: tuple[int, int], tmp_path: Path, save: Save
) -> None:
    fill(save)
    save("images/9.png", photo(30, 41))
    save("masks/9.png", blob(30, 41))
    data = load(tmp_path, image_size=[*size])
    assert data.image_size == size
    for part in (data.train, data.val, data.test):
        assert part.masks is not None
        assert part.images.shape[1:] == (*size, 3)
        assert part.masks.resized.shape[1:] == size

    high, wide = size
    data = load(tmp_path, image_size=[*size], tile_overlap=0.25, splits=[0.2, 0.4, 0.4])
    assert f"tiles of {high}x{wide} pixels" in " ".join(data.notes)
    for part in (data.train, data.val, data.test):
        masks = part.masks
        assert masks is not None and masks.corners is not None
        assert part.images.shape[1:] == (*size, 3)
        for image, (height, width) in enumerate(masks.sizes.tolist()):
            seen = np.zeros((height, width), dtype=int)
            for row in np.flatnonzero(masks.image == image).tolist():
                top, left = masks.corners[row].tolist()
                seen[top : top + high, left : left + wide] += 1
                if masks.flat is not None:
                    cut = masks.original(image)[top : top + high, left : left + wide]
                    assert (masks.resized[row][: height - top, : width - left] == cut).all()
            assert seen.min() >= 1
            assert (height > high or width > wide) == (np.sum(masks.image == image) > 1)
