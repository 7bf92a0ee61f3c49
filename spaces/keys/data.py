"""The `data` section: the images, how they are split and how they are changed in training."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from attnsearch.spaces.keys.values import (
    SEGMENTATION_ONLY,
    WHOLE_IMAGES,
    Count,
    Of,
    Positive,
    Searchable,
    SearchableFloat,
    SearchableInt,
    Section,
    Seed,
    Text,
    by_type,
)

Fraction = Annotated[float, Field(ge=0, le=1)]
Half = Annotated[float, Field(ge=0, le=0.5)]
Ratio = Annotated[float, Field(ge=1, le=10)]
Chance = Annotated[float, Field(gt=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Byte = Annotated[int, Field(ge=0, le=255)]
MaskValue = Annotated[int, Field(ge=0, le=65535)]
Pixels = Annotated[int, Field(ge=1, le=4096)]


def _size_tag(value: Any) -> str:
    """Tell a pair from lists of other lengths, which are no sizes."""
    return (
        "<other>" if isinstance(value, list) and len(value) != 2 else f"<{type(value).__name__}>"
    )


def _one_if_square(size: int | list[int]) -> int | list[int]:
    """Return one number for a pair of equal ones, so that equal sizes have one run key."""
    return size[0] if isinstance(size, list) and size[0] == size[1] else size


def _channels(value: Any) -> Any:
    """Return the red, green and blue of a colour that is written as #rrggbb."""
    if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value):
        return [*bytes.fromhex(value[1:])]
    return value


Color = Annotated[list[Byte], Field(min_length=3, max_length=3), BeforeValidator(_channels)]


class GroupsPattern(Section):
    """Groups from file names."""

    pattern: Text
    """A regular expression with one group, searched in an image's name: what the group catches is
    the patient. Images that it does not fit are groups of their own."""


class GroupsTable(Section):
    """Groups from a table."""

    csv: Text
    """A CSV file with the columns name and group, one line an image."""


def _groups_tag(value: Any) -> str:
    if isinstance(value, str):
        return "<text>"
    table = isinstance(value, GroupsTable) or (isinstance(value, dict) and "csv" in value)
    return "<csv>" if table else "<pattern>"


OF_ANOTHER = {
    "crop_ratio": "resized_crop",
    "erase_chance": "erase",
    "erase_ratio": "erase",
    "policy_steps": "policy",
    "policy_magnitude": "policy",
}
"""Keys of `data.augment` that say how another one of them changes images."""


class Augment(Section):
    """Random changes of training images; what is not named is off."""

    crop: SearchableInt[Annotated[int, Field(ge=0)]] = 0
    """Pixels of zero padding before a random crop back to the image's size."""
    resized_crop: SearchableFloat[Fraction] = 0
    """Crop to an area drawn from this fraction of the image's to all of it, and resize that to the
    image's size, as 0.08; 0 is off."""
    crop_ratio: SearchableFloat[Ratio] = 4 / 3
    """With resized_crop: the largest ratio of the crop's sides, either way."""
    flip: Searchable[bool] = False
    """Mirror left and right, half of the time."""
    vflip: Searchable[bool] = False
    """Mirror up and down, half of the time."""
    rotate: SearchableFloat[Annotated[float, Field(ge=0, le=180)]] = 0
    """Rotate by up to this many degrees either way."""
    scale: SearchableFloat[Annotated[float, Field(ge=0, le=0.9)]] = 0
    """Zoom by a factor between 1 - scale and 1 + scale."""
    translate: SearchableFloat[Half] = 0
    """Shift by up to this fraction of the image's side."""
    elastic: SearchableFloat[Annotated[float, Field(ge=0, le=0.2)]] = 0
    """Bend: the deviation of 4x4 points' movements, as a fraction of the side."""
    brightness: SearchableFloat[Fraction] = 0
    """Change the brightness by a factor of up to 1 +- this."""
    contrast: SearchableFloat[Fraction] = 0
    """Change the contrast by a factor of up to 1 +- this."""
    saturation: SearchableFloat[Fraction] = 0
    """Change the distance of colours to grey by a factor of up to 1 +- this."""
    hue: SearchableFloat[Half] = 0
    """Turn colours by up to this part of the circle either way."""
    noise: SearchableFloat[Fraction] = 0
    """Standard deviation of Gaussian noise, in units of the full range."""
    erase: SearchableFloat[Half] = 0
    """Erase a rectangle of up to this fraction of the image's area."""
    erase_chance: SearchableFloat[Chance] = 1
    """With erase: the probability that an image has one."""
    erase_ratio: SearchableFloat[Ratio] = 2
    """With erase: the largest ratio of its sides, either way."""
    policy: Annotated[
        Searchable[Literal["randaugment", "trivial_augment"] | None], WHOLE_IMAGES
    ] = None
    """Operations drawn from a list for each image: policy_steps of one strength (randaugment), or
    one of any strength (trivial_augment)."""
    policy_steps: Annotated[SearchableInt[Count], WHOLE_IMAGES] = 2
    """With policy: randaugment, how many operations an image has."""
    policy_magnitude: Annotated[
        SearchableFloat[Annotated[float, Field(gt=0, le=30)]], WHOLE_IMAGES
    ] = 9
    """With policy: randaugment, their strength, out of 30."""
    mixup: Annotated[SearchableFloat[NotNegative], WHOLE_IMAGES] = 0
    """Mix images with others of the batch, and their labels alike; their shares are drawn from
    Beta(this, this), as 0.2; 0 is off."""
    cutmix: Annotated[SearchableFloat[NotNegative], WHOLE_IMAGES] = 0
    """Put a rectangle of another image of the batch in, and mix labels by its area, which is drawn
    from Beta(this, this), as 1; 0 is off. Beside mixup each batch has one of them."""


ImageSize = Annotated[
    Annotated[
        Annotated[Pixels, Tag("<int>")]
        | Annotated[list[Pixels], Field(min_length=2, max_length=2), Tag("<list>")],
        Discriminator(
            _size_tag,
            custom_error_type="type",
            custom_error_message="must be a number of pixels or [height, width]",
        ),
    ],
    AfterValidator(_one_if_square),
]


class Data(Section):
    """The images, and how they are split."""

    source: Annotated[Text | None, Of("host")]
    """`digits` (built in), or a path relative to this file: an .npz in MedMNIST layout, a folder
    of class folders with or without train/val/test. For multilabel such an .npz with labels 0 and
    1 (images, classes), or a folder of images with labels.csv. For segmentation `scenes` (built
    in), or a folder with images/ and masks/, with or without train/val/test. null: a network
    without data, which can be checked and built."""
    image_size: ImageSize = 32
    """Pixels that images are resized to: the side of a square, or [height, width]."""
    eval_size: Annotated[ImageSize | None, Of("data")] = None
    """The same for validation and test images, and for those that a trained network is given
    later; null is image_size."""
    eval_crop: Annotated[
        Annotated[
            Annotated[int, Field(ge=2, le=8192), Tag("<int>")]
            | Annotated[float, Field(gt=0, le=1), Tag("<float>")],
            by_type("a number of pixels such as 256, or a fraction such as 0.875"),
        ]
        | None,
        Of("data"),
        WHOLE_IMAGES,
    ] = None
    """Cuts those images from the middle of larger ones that keep their ratio, in place of resizing
    them as a whole: the pixels of the shorter side before, as 256 for 224 of 256, or the fraction
    of it that is left, as 0.875."""
    keep: Annotated[Literal["auto", "device", "memory", "mapped", "files"] | None, Of("host")] = (
        None
    )
    """Where examples lie while they are trained on: device: in memory and on the GPU, memory: once
    per machine, mapped: decoded once to a file in the cache, files: nowhere, decoded when needed;
    auto and null: by their size and free memory. The results are the same."""
    channels: Literal[1, 3] | None = None
    """1 grey, 3 colour; null takes what the images have."""
    classes: (
        Annotated[
            Annotated[int, Field(ge=2), Tag("<int>")]
            | Annotated[list[Text], Field(min_length=2), Tag("<list>")],
            by_type("a number of classes or a list of their names"),
        ]
        | None
    ) = None
    """Number or names of the classes; null takes them from the data."""
    seed: Seed = 0
    """Fixes the split for all runs."""
    groups: (
        Annotated[
            Annotated[Text, Tag("<text>")]
            | Annotated[GroupsPattern, Tag("<pattern>")]
            | Annotated[GroupsTable, Tag("<csv>")],
            Discriminator(_groups_tag),
        ]
        | None
    ) = None
    """Keeps one patient's images in one split: a regular expression with one group on the images'
    names, or the path of a .csv with the columns name and group."""
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """Number of cross-validation folds; null for one split."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """Which of the folds is the test part, from 0; null confirms on all of them."""
    development: Annotated[Annotated[float, Field(gt=0, lt=1)] | None, Of("data")] = None
    """With folds: the share of the data, outside of all folds, on which exploring trains and
    validates. Without it exploring sees test images of other folds."""
    splits: Annotated[list[Positive], Field(min_length=3, max_length=3)] = [0.7, 0.15, 0.15]
    """Fractions for training, validation and test where the data has no split."""
    augment: Augment = Field(default_factory=Augment)
    """Random changes of training images."""
    ignore_index: Annotated[Byte | None, SEGMENTATION_ONLY] = None
    """Segmentation: the mask value that is left out of loss and metrics."""
    mask_values: Annotated[
        Annotated[list[MaskValue], Field(min_length=2, max_length=255)] | None,
        Of("data"),
        SEGMENTATION_ONLY,
    ] = None
    """Segmentation: the mask value of each class in order, as [0, 128, 255]; null finds out."""
    mask_colors: Annotated[
        Annotated[dict[Text, Color], Field(max_length=256)] | None,
        Of("data"),
        SEGMENTATION_ONLY,
    ] = None
    """Segmentation with colour-coded masks: each class's colour, in the order of the classes, as
    {background: [0, 0, 0], vessel: "#ff0000"}. Pixels of a colour called `ignore` do not count."""
    mask_name: Annotated[
        Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*( -> [^{}]*\{\}[^{}]*)?$")] | None,
        Of("data"),
        SEGMENTATION_ONLY,
    ] = None
    """Segmentation: how a mask's name is made of its image's, without the endings, as "{}_mask",
    or "{}_rgb -> {}_mask" where images add something too; null finds out."""
    tile_overlap: Annotated[
        Annotated[float, Field(ge=0, le=0.9)] | None, Of("data"), SEGMENTATION_ONLY
    ] = None
    """Segmentation: cuts images into tiles of image_size that overlap by at least this fraction,
    instead of resizing them; null resizes."""
