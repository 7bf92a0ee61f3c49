"""Images with masks, as people keep them: one function a layout."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.wild.making import (
    IGNORED,
    SIDE,
    Made,
    Pixels,
    layout,
    picture,
    save,
    scene,
    values,
)

WHITE = values(0, 255)
TWO = ["background", "foreground"]


@layout()
def images_and_masks(root: Path) -> Made:
    made = Made(root / "polyps", TWO)
    for i in range(12):
        made.pair(f"images/{i}.png", f"masks/{i}_mask.png", code=WHITE)
    return made


@layout()
def wide_pairs(root: Path) -> Made:
    """All of one shape, which is kept."""
    made = Made(root / "roads", TWO)
    for i in range(12):
        made.pair(f"images/{i}.png", f"masks/{i}.png", code=WHITE, shape=(20, 40, 3))
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


@layout(r"mask_colors", r"--mask-colors", never=r"(colour image.*){2}")
def colour_masks(root: Path) -> Made:
    made = Made(root / "camvid", 3)
    code = values((0, 0, 0), (128, 64, 128), (64, 0, 192))
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
