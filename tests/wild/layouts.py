"""Data as people have it: one function a layout, each with what a reader must make of it.

Images are tiny and learnable in seconds. Each layout is a few files; what they mean is recorded as
they are written, and never read back from them.
"""

import json
import os
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IGNORED = 255
SIDE = 24
Pixels = NDArray[Any]


@dataclass(frozen=True)
class Example:
    """One image, and what is true of it.

    Attributes:
        name: Of its file, without folders; in an .npz file its part and number.
        path: The file; None in an .npz file.
        truth: The name of its class; or its mask (h, w) of class indices, 255 where none counts.
        part: Where the layout puts it; None where the layout has no split.
        group: The patient, where the layout tells.
    """

    name: str
    path: Path | None
    truth: str | Pixels
    part: str | None = None
    group: str | None = None


@dataclass
class Made:
    """A layout on disk.

    Attributes:
        data: What `init` is given.
        classes: Their names in any order; their number where any names will do.
        channels: Of the images.
        examples: All images that count.
    """

    data: Path
    classes: Sequence[str] | int
    channels: int = 3
    examples: list[Example] = field(default_factory=list)

    @property
    def task(self) -> str:
        """What the layout is for."""
        masks = not isinstance(self.examples[0].truth, str)
        return "segmentation" if masks else "classification"

    def image(
        self,
        path: str,
        label: str,
        part: str | None = None,
        group: str | None = None,
        shape: tuple[int, ...] = (SIDE, SIDE, 3),
        depth: type = np.uint8,
    ) -> None:
        """Write an image of a class."""
        assert not isinstance(self.classes, int)
        kind = [plain(name) for name in self.classes].index(plain(label))
        pixels = picture(kind, len(self.examples), shape).astype(depth)
        file = save(self.data / path, pixels * 200 if depth is np.uint16 else pixels)
        self.examples.append(Example(file.name, file, label, part, group))

    def pair(
        self,
        path: str,
        mask: str,
        part: str | None = None,
        group: str | None = None,
        code: Callable[[Pixels], Pixels | Image.Image] = lambda indices: indices,
        shape: tuple[int, ...] = (SIDE, SIDE, 3),
    ) -> None:
        """Write an image and its mask; `code` turns class indices into what the file holds."""
        count = self.classes if isinstance(self.classes, int) else len(self.classes)
        pixels, indices = scene(len(self.examples), count, shape)
        file = save(self.data / path, pixels)
        save(self.data / mask, code(indices))
        self.examples.append(Example(file.name, file, indices, part, group))


@dataclass(frozen=True)
class Layout:
    """A layout's maker, and what may come of it beside the right proposal.

    Attributes:
        make: Writes it below a folder.
        asks: Patterns; `init` may refuse where its message holds one of them: it then names the
            option that it needs, or what is wrong with the data.
        never: A pattern that nothing which is printed may hold.
    """

    make: Callable[[Path], Made]
    asks: tuple[str, ...] = ()
    never: str = ""


LAYOUTS: dict[str, Layout] = {}


def layout(*asks: str, never: str = "") -> Callable[[Callable[[Path], Made]], None]:
    """Enter a layout into `LAYOUTS` by its function's name."""

    def enter(make: Callable[[Path], Made]) -> None:
        LAYOUTS[make.__name__] = Layout(make, asks, never)

    return enter


def plain(name: str) -> str:
    """Return a class's name without what nobody sees: case, form of accents, outer spaces."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def picture(kind: int, number: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an image of a class, which a bright band tells, at its height by the class."""
    pixels = np.random.default_rng([kind, number]).integers(0, 90, shape)
    rows = shape[0] // 4
    pixels[kind % 4 * rows : kind % 4 * rows + rows] += 140
    return pixels.astype(np.uint8)


def scene(
    number: int, classes: int, shape: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return an image of one box for each class but the background, and its class indices."""
    draws = np.random.default_rng([classes, number])
    pixels = draws.integers(0, 60, shape)
    indices = np.zeros(shape[:2], np.uint8)
    strip = shape[1] // (classes - 1)
    for kind in range(1, classes):
        height, width = draws.integers(shape[0] // 4, shape[0] // 2), draws.integers(4, strip - 2)
        top, left = draws.integers(1, shape[0] - height - 1), draws.integers(strip - width)
        indices[top : top + height, (kind - 1) * strip + left :][:, :width] = kind
    pixels += (indices * (180 // (classes - 1))).reshape(*shape[:2], *[1] * (len(shape) - 2))
    return pixels.astype(np.uint8), indices


def save(path: Path, pixels: Pixels | Image.Image) -> Path:
    """Write an image file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path)
    return path


def values(*codes: int) -> Callable[[Pixels], Pixels]:
    """Return a code of masks: the value of each class."""
    return lambda indices: np.array(codes, np.uint8)[indices]


def colours(*codes: tuple[int, int, int]) -> Callable[[Pixels], Pixels]:
    """Return a code of masks: the colour of each class."""
    return lambda indices: np.array(codes, np.uint8)[indices]


WHITE = values(0, 255)
TWO = ["background", "foreground"]


# Images beside masks


@layout()
def images_and_masks(root: Path) -> Made:
    made = Made(root / "polyps", TWO)
    for i in range(12):
        made.pair(f"images/{i}.png", f"masks/{i}_mask.png", code=WHITE)
    return made


@layout()
def nnunet(root: Path) -> Made:
    made = Made(root / "Dataset007_Blobs", ["background", "organ", "lesion"], channels=1)
    for i in range(12):
        image = f"imagesTr/blob_{i:03d}_0000.png"
        made.pair(image, f"labelsTr/blob_{i:03d}.png", shape=(SIDE, SIDE))
    for i in range(3):  # without labels, for a challenge's server
        save(made.data / f"imagesTs/blob_9{i}_0000.png", picture(0, i, (SIDE, SIDE)))
    about = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "organ": 1, "lesion": 2},
        "numTraining": 12,
        "file_ending": ".png",
    }
    (made.data / "dataset.json").write_text(json.dumps(about))
    return made


@layout()
def nnunet_without_its_json(root: Path) -> Made:
    made = Made(root / "blobs", TWO, channels=1)
    for i in range(12):
        image = f"imagesTr/blob_{i:03d}_0000.png"
        made.pair(image, f"labelsTr/blob_{i:03d}.png", shape=(SIDE, SIDE))
    return made


@layout()
def cvc(root: Path) -> Made:
    made = Made(root / "CVC-ClinicDB", TWO)
    for i in range(12):
        made.pair(f"Original/{i}.tif", f"Ground Truth/{i}.tif", code=WHITE)
    return made


@layout()
def ade(root: Path) -> Made:
    made = Made(root / "ADEChallengeData2016", 3)
    for i, (folder, part) in enumerate([("training", "train")] * 8 + [("validation", "val")] * 4):
        name = f"ADE_{i:08d}"
        made.pair(f"images/{folder}/{name}.jpg", f"annotations/{folder}/{name}.png", part)
    return made


@layout()
def mmseg(root: Path) -> Made:
    made = Made(root / "pets", 3)
    for i, part in enumerate(["train"] * 8 + ["val"] * 4):
        made.pair(f"img_dir/{part}/{i}.png", f"ann_dir/{part}/{i}.png", part)
    return made


@layout()
def input_and_target(root: Path) -> Made:
    made = Made(root / "roads", TWO)
    for i, part in enumerate(["train"] * 8 + ["val"] * 4 + ["test"] * 4):
        made.pair(f"{part}/input/{i}.png", f"{part}/target/{i}.png", part, code=WHITE)
    return made


@layout()
def voc(root: Path) -> Made:
    made = Made(root / "VOC2012", 3)

    def palette(indices: Pixels) -> Image.Image:
        framed = indices.copy()
        framed[0] = indices[0] = IGNORED
        image = Image.fromarray(framed, "P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 756 + [224, 224, 192])
        return image

    lists: dict[str, list[str]] = {"train": [], "val": []}
    for i, part in enumerate(["train"] * 8 + ["val"] * 4):
        name = f"2007_{i:06d}"
        lists[part].append(name)
        made.pair(f"JPEGImages/{name}.jpg", f"SegmentationClass/{name}.png", part, code=palette)
        objects = np.array(Image.open(made.data / f"SegmentationClass/{name}.png")) > 0
        save(made.data / f"SegmentationObject/{name}.png", objects.astype(np.uint8))
        (made.data / "Annotations").mkdir(exist_ok=True)
        (made.data / f"Annotations/{name}.xml").write_text("<annotation/>")
    for i in range(4):  # those for detection alone have no mask
        save(made.data / f"JPEGImages/2008_{i:06d}.jpg", picture(0, i, (SIDE, SIDE, 3)))
    (made.data / "ImageSets/Segmentation").mkdir(parents=True)
    for part, names in {**lists, "trainval": [*lists["train"], *lists["val"]]}.items():
        (made.data / f"ImageSets/Segmentation/{part}.txt").write_text("\n".join(names) + "\n")
    return made


@layout(r"--mask-name", r"--mask-values")
def cityscapes(root: Path) -> Made:
    made = Made(root / "cityscapes", 3)
    cities = [("train", "aachen")] * 4 + [("train", "bochum")] * 4 + [("val", "lindau")] * 4
    for i, (part, city) in enumerate(cities):
        name = f"{part}/{city}/{city}_{i:06d}_000019"
        labels = f"gtFine/{name}_gtFine_labelIds.png"
        image = f"leftImg8bit/{name}_leftImg8bit.png"
        made.pair(image, labels, part, code=values(7, 11, 23))
        ids = np.array(Image.open(made.data / labels))
        colour = np.stack([ids * 9, ids * 5, 255 - ids], -1)
        save(made.data / f"gtFine/{name}_gtFine_color.png", colour)
        instances = ids.astype(np.uint16) * 1000
        save(made.data / f"gtFine/{name}_gtFine_instanceIds.png", instances)
        (made.data / f"gtFine/{name}_gtFine_polygons.json").write_text("{}")
    return made


@layout()
def brats(root: Path) -> Made:
    made = Made(root / "tumours", 4, channels=1)
    for i in range(12):
        code = values(0, 1, 2, 4)
        made.pair(f"images/{i}.png", f"masks/{i}.png", code=code, shape=(SIDE, SIDE))
    return made


@layout(r"mask_colors", r"--mask-colors")
def colour_masks(root: Path) -> Made:
    made = Made(root / "camvid", 3)
    code = colours((0, 0, 0), (128, 64, 128), (64, 0, 192))
    for i in range(12):
        made.pair(f"images/{i}.png", f"labels/{i}_L.png", code=code)
    return made


@layout(r"--task", r"--mask-name")
def masks_beside_images(root: Path) -> Made:
    made = Made(root / "carvana", TWO)
    for i in range(12):
        made.pair(f"car_{i:02d}.png", f"car_{i:02d}_mask.png", code=WHITE)
    return made


@layout(r"--task", r"--mask-name")
def masks_beside_images_in_parts(root: Path) -> Made:
    made = Made(root / "nuclei", TWO)
    for i, part in enumerate(["train"] * 8 + ["val"] * 4 + ["test"] * 4):
        made.pair(f"{part}/{i}.png", f"{part}/{i}_mask.png", part, code=WHITE)
    return made


@layout(r"--task")
def masks_in_class_folders(root: Path) -> Made:
    """Ultrasound images with a lesion's mask beside each, in folders of two classes."""
    made = Made(root / "BUSI", ["benign", "malignant"])
    for i in range(12):
        for name in ("benign", "malignant"):
            made.image(f"{name}/{name} ({i}).png", name)
            mask = scene(i, 2, (SIDE, SIDE))[1] * 255
            save(made.data / f"{name}/{name} ({i})_mask.png", mask)
    return made


@layout(r"nothing but 255", never=r"mask_values: \[255\]")
def masks_all_255(root: Path) -> Made:
    made = Made(root / "white", TWO)
    for i in range(12):
        full = values(255, 255)
        made.pair(f"images/{i}.png", f"masks/{i}.png", code=full)
    return made


@layout(r"(?i)instance", never=r"blended")
def instance_ids(root: Path) -> Made:
    """Cells counted through in 16 bits: what is not 0 is foreground."""
    made = Made(root / "cells", TWO)
    for i in range(24):
        first = 300 + 40 * i

        def count_through(indices: Pixels, first: int = first) -> Pixels:
            cells = indices.astype(np.uint16) * first
            rows = np.arange(len(cells), dtype=np.uint16)[:, None]
            return np.where(cells > 0, cells + rows, 0).astype(np.uint16)

        made.pair(f"images/{i}.png", f"masks/{i}.png", code=count_through)
    return made


@layout(r"--mask-name")
def two_annotators(root: Path) -> Made:
    """The right mask is the first: `init` may ask, and does not guess."""
    made = Made(root / "CHASEDB1", TWO)
    for i in range(1, 9):
        for eye in "LR":
            name = f"Image_{i:02d}{eye}"
            made.pair(
                f"images/{name}.png", f"labels/{name}_1stHO.png", group=f"{i:02d}", code=WHITE
            )
            other = scene(100 + i, 2, (SIDE, SIDE))[1] * 255
            save(made.data / f"labels/{name}_2ndHO.png", other)
    return made


@layout()
def eyes_with_masks(root: Path) -> Made:
    made = Made(root / "vessels", TWO)
    for i in range(1, 11):
        for eye in "LR":
            name = f"Image_{i:02d}{eye}.png"
            made.pair(f"images/{name}", f"masks/{name}", group=f"{i:02d}", code=WHITE)
    return made


@layout()
def wide_with_masks(root: Path) -> Made:
    made = Made(root / "panoramas", TWO)
    for i in range(12):
        made.pair(f"images/{i}.png", f"masks/{i}.png", code=WHITE, shape=(16, 40, 3))
    return made


# Class folders


def in_classes(
    made: Made,
    where: str,
    count: int = 12,
    part: str | None = None,
    names: Iterable[str] | None = None,
    **kind: Any,
) -> Made:
    """Write `count` images a class; `where` holds `{name}` and `{i}`."""
    assert not isinstance(made.classes, int)
    for name in names or made.classes:
        for i in range(count):
            made.image(where.format(name=name, i=i), name, part, **kind)
    return made


@layout()
def class_folders(root: Path) -> Made:
    return in_classes(Made(root / "scans", ["healthy", "ill"]), "{name}/{name}_{i}.png")


@layout()
def folder_called_digits(root: Path) -> Made:
    """A folder with the name of a built-in data set."""
    return in_classes(Made(root / "digits", ["even", "odd"]), "{name}/{name}_{i}.png")


@layout()
def wide_images(root: Path) -> Made:
    made = Made(root / "strips", ["healthy", "ill"])
    return in_classes(made, "{name}/{name}_{i}.png", shape=(12, 32, 3))


@layout()
def deep_grey(root: Path) -> Made:
    """Grey of 16 bits, as microscopes write it."""
    made = Made(root / "deep", ["healthy", "ill"], channels=1)
    return in_classes(made, "{name}/{name}_{i}.png", shape=(SIDE, SIDE), depth=np.uint16)


@layout()
def unequal_classes(root: Path) -> Made:
    made = Made(root / "rare", ["common", "rare"])
    in_classes(made, "{name}/{name}_{i}.png", 32, names=["common"])
    return in_classes(made, "{name}/{name}_{i}.png", 8, names=["rare"])


@layout()
def chest_xrays(root: Path) -> Made:
    made = Made(root / "chest_xray", ["NORMAL", "PNEUMONIA"], channels=1)
    for part, count in {"train": 8, "val": 4, "test": 4}.items():
        where = f"{part}/{{name}}/{part}-{{name}}-{{i}}.jpeg"
        in_classes(made, where, count, part, names=["NORMAL"], shape=(SIDE, SIDE))
        in_classes(made, where, 3 * count, part, names=["PNEUMONIA"], shape=(SIDE, SIDE))
    return made


@layout()
def set_folders(root: Path) -> Made:
    made = Made(root / "pets", ["cats", "dogs"])
    in_classes(made, "training_set/{name}/{name}.{i}.jpg", part="train")
    return in_classes(made, "test_set/{name}/{name}.9{i}.jpg", 6, "test")


@layout()
def train_dev_eval(root: Path) -> Made:
    made = Made(root / "numerals", ["one", "two"])
    for folder, part in {"train": "train", "dev": "val", "eval": "test"}.items():
        in_classes(made, f"{folder}/{{name}}/{folder}_{{name}}_{{i}}.png", 6, part)
    return made


@layout(r"--groups")
def patients_on_top(root: Path) -> Made:
    made = Made(root / "biopsies", ["benign", "malignant"])
    for patient in range(10, 20):
        where = f"{patient}/{{name}}/{patient}_{{name}}_{{i}}.png"
        in_classes(made, where, 2, group=f"{patient}")
    return made


@layout()
def one_class_in_a_part(root: Path) -> Made:
    made = Made(root / "late", ["healthy", "ill"])
    in_classes(made, "train/{name}/t{name}{i}.png", part="train")
    in_classes(made, "val/{name}/v{name}{i}.png", 4, "val")
    return in_classes(made, "test/{name}/e{name}{i}.png", 4, "test", names=["ill"])


@layout(r"scans/scans")
def nested_in_itself(root: Path) -> Made:
    """An archive of a folder, unpacked into a folder of the same name."""
    made = Made(root / "scans", ["healthy", "ill"])
    return in_classes(made, "scans/{name}/{name}_{i}.png")


def _near(made: Made, other: str) -> Made:
    """Write two classes whose first has another name in the test part."""
    _, second = made.classes  # type: ignore[misc]
    in_classes(made, "train/{name}/{name}_{i}.png", 8, "train")
    in_classes(made, "test/{name}/{name}_9{i}.png", 4, "test", names=[other, second])
    return made


@layout(r"(?s)Cat\b.*\bcat\b|\bcat\b.*Cat\b")
def near_by_case(root: Path) -> Made:
    return _near(Made(root / "animals", ["cat", "dog"]), "Cat")


@layout(r"(?i)['\"]cat ['\"]|space")
def near_by_space(root: Path) -> Made:
    return _near(Made(root / "animals", ["cat", "dog"]), "cat ")


@layout(r"(?i)NFC|NFD|unicode|accent|written differently")
def near_by_accent(root: Path) -> Made:
    name = "caf\u00e9"
    return _near(Made(root / "drinks", [name, "tea"]), unicodedata.normalize("NFD", name))


@layout(r"(?i)UTF-8")
def not_utf8(root: Path) -> Made:
    """Names of a class and of files in Latin-1; messages name them, since all are not square."""
    made = Made(root / "latin", [os.fsdecode(b"caf\xe9"), "tea"])
    in_classes(made, "{name}/{name}_{i}.png", 11, shape=(SIDE, SIDE + 2, 3))
    name = os.fsdecode(b"na\xefve.png")
    made.image(f"tea/{name}", "tea", shape=(SIDE, SIDE + 2, 3))
    return made


@layout(r"(?i)UTF-8")
def folder_not_utf8(root: Path) -> Made:
    made = Made(root / os.fsdecode(b"donn\xe9es"), ["healthy", "ill"])
    return in_classes(made, "{name}/{name}_{i}.png")


@layout()
def script_class(root: Path) -> Made:
    made = Made(root / "tags", ["<script>alert(1)", "harmless & plain"])
    return in_classes(made, "{name}/{name}_{i}.png")


def _many_of_each(made: Made, where: str, groups: Sequence[str], views: Sequence[str]) -> Made:
    """Write every view of every group; classes alternate from group to group."""
    for number, group in enumerate(groups):
        label = made.classes[number % 2]  # type: ignore[index]
        for view in views:
            made.image(where.format(label=label, group=group, view=view), label, group=group)
    return made


@layout()
def two_eyes(root: Path) -> Made:
    made = Made(root / "retina", ["healthy", "ill"])
    children = [f"{i:02d}" for i in range(1, 15)]
    return _many_of_each(made, "{label}/Image_{group}{view}.jpg", children, "LR")


@layout()
def slices(root: Path) -> Made:
    made = Made(root / "ct", ["healthy", "ill"])
    patients = [f"pat{i}" for i in range(1, 13)]
    views = [f"{i:03d}" for i in range(10, 14)]
    return _many_of_each(made, "{label}/{group}_slice{view}.png", patients, views)


@layout()
def frames(root: Path) -> Made:
    made = Made(root / "endoscopy", ["polyp", "wall"])
    videos = [f"video{i}" for i in range(1, 13)]
    views = [f"{i:04d}" for i in (31, 32, 33)]
    return _many_of_each(made, "{label}/{group}_frame_{view}.png", videos, views)


@layout()
def visits(root: Path) -> Made:
    made = Made(root / "skin", ["mole", "naevus"])
    patients = [f"P{i:03d}" for i in range(7, 19)]
    return _many_of_each(made, "{label}/{group}_visit{view}.png", patients, ["1", "2"])


# Arrays


def arrays(
    root: Path,
    classes: Sequence[str],
    shape: tuple[int, ...] = (SIDE, SIDE),
    label: Callable[[NDArray[np.int64]], Pixels] = lambda kinds: kinds,
    parts: Sequence[str] = ("train", "val", "test"),
    channels: int = 1,
) -> Made:
    """Write an .npz file in MedMNIST layout; `label` turns class indices into what it holds."""
    made = Made(root / "arrays.npz", classes, channels)
    held: dict[str, Pixels] = {}
    for part, key, count in zip(("train", "val", "test"), parts, (24, 8, 8), strict=True):
        kinds = np.arange(count) % len(classes)
        numbers = enumerate(kinds.tolist(), len(made.examples))
        held[f"{key}_images"] = np.stack([picture(kind, i, shape) for i, kind in numbers])
        held[f"{key}_labels"] = label(kinds)
        made.examples += [
            Example(f"{part}/{i:06d}", None, classes[kind], part)
            for i, kind in enumerate(kinds.tolist())
        ]
    np.savez(made.data, **held)
    return made


@layout()
def medmnist(root: Path) -> Made:
    return arrays(root, ["0", "1", "2"], label=lambda kinds: kinds[:, None])


@layout()
def one_hot_labels(root: Path) -> Made:
    return arrays(root, ["0", "1", "2"], label=lambda kinds: np.eye(3, dtype=np.uint8)[kinds])


@layout(r"(?i)labels? .*from 1")
def labels_from_one(root: Path) -> Made:
    return arrays(root, ["1", "2", "3"], label=lambda kinds: kinds + 1)


@layout(r"(?i)RGBA|alpha|transparen")
def rgba_arrays(root: Path) -> Made:
    return arrays(root, ["0", "1"], (SIDE, SIDE, 4), channels=3)


@layout()
def valid_arrays(root: Path) -> Made:
    return arrays(root, ["0", "1"], parts=("train", "valid", "test"))


def swollen(root: Path, megabytes: int) -> Path:
    """Write an .npz file, a thousandth of what it expands to: black images of 1 MB each."""
    path = root / "swollen.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for part, count in (("train", megabytes), ("val", 2), ("test", 2)):
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, 1024, 1024)}
            with archive.open(f"{part}_images.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                for _ in range(count):
                    stream.write(bytes(2**20))
            with archive.open(f"{part}_labels.npy", "w") as stream:
                np.lib.format.write_array(stream, np.arange(count) % 2)
    return path
