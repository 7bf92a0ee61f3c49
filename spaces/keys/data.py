"""The `data` section: the images, how they are split and how they are changed in training."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from attnsearch.spaces.keys.values import (
    Of,
    Positive,
    Searchable,
    SearchableFloat,
    SearchableInt,
    Section,
    Seed,
    When,
    by_type,
)

Fraction = Annotated[float, Field(ge=0, le=1)]
Half = Annotated[float, Field(ge=0, le=0.5)]


class GroupsPattern(Section):
    """Groups from file names."""

    pattern: str = Field(
        min_length=1,
        description="A regular expression with one group, searched in an image's name: what the "
        "group catches is the patient. Images that it does not fit are groups of their own.",
    )


class GroupsTable(Section):
    """Groups from a table."""

    csv: str = Field(
        min_length=1, description="A CSV file with the columns name and group, one line an image."
    )


class Augment(Section):
    """Random changes of training images; what is not named is off."""

    crop: SearchableInt[Annotated[int, Field(ge=0)]] = Field(
        0, description="Pixels of zero padding before a random crop back to the image's size."
    )
    flip: Searchable[bool] = Field(False, description="Mirror left and right, half of the time.")
    vflip: Searchable[bool] = Field(False, description="Mirror up and down, half of the time.")
    rotate: SearchableFloat[Annotated[float, Field(ge=0, le=180)]] = Field(
        0, description="Rotate by up to this many degrees either way."
    )
    scale: SearchableFloat[Annotated[float, Field(ge=0, le=0.9)]] = Field(
        0, description="Zoom by a factor between 1 - scale and 1 + scale."
    )
    translate: SearchableFloat[Half] = Field(
        0, description="Shift by up to this fraction of the image's side."
    )
    elastic: SearchableFloat[Annotated[float, Field(ge=0, le=0.2)]] = Field(
        0, description="Bend: the deviation of 4x4 points' movements, as a fraction of the side."
    )
    brightness: SearchableFloat[Fraction] = Field(
        0, description="Change the brightness by a factor of up to 1 +- this."
    )
    contrast: SearchableFloat[Fraction] = Field(
        0, description="Change the contrast by a factor of up to 1 +- this."
    )
    noise: SearchableFloat[Fraction] = Field(
        0, description="Standard deviation of Gaussian noise, in units of the full range."
    )
    erase: SearchableFloat[Half] = Field(
        0, description="Erase a rectangle of up to this fraction of the image's area."
    )


class Data(Section):
    """The images, and how they are split."""

    source: Annotated[Annotated[str, Field(min_length=1)] | None, Of("host")] = Field(
        description="`digits` (built in), or a path relative to this file: an .npz in MedMNIST "
        "layout, a folder of class folders with or without train/val/test. For segmentation "
        "`scenes` (built in), or a folder with images/ and masks/, with or without "
        "train/val/test. null: a network without data, which can be checked and built."
    )
    image_size: Annotated[int, Field(ge=1, le=4096)] = Field(
        32, description="Side in pixels that images are resized to."
    )
    channels: Literal[1, 3] | None = Field(
        None, description="1 grey, 3 colour; null takes what the images have."
    )
    classes: (
        Annotated[
            Annotated[Annotated[int, Field(ge=2)], Tag("<number>")]
            | Annotated[
                Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2)],
                Tag("<names>"),
            ],
            by_type(
                "a number of classes or a list of their names", int="<number>", list="<names>"
            ),
        ]
        | None
    ) = Field(None, description="Number or names of the classes; null takes them from the data.")
    seed: Seed = Field(0, description="Fixes the split for all runs.")
    groups: (
        Annotated[
            Annotated[Annotated[str, Field(min_length=1)], Tag("<text>")]
            | Annotated[GroupsPattern, Tag("<pattern>")]
            | Annotated[GroupsTable, Tag("<csv>")],
            Discriminator(
                lambda value: (
                    "<text>"
                    if isinstance(value, str)
                    else "<csv>"
                    if isinstance(value, GroupsTable)
                    or (isinstance(value, dict) and "csv" in value)
                    else "<pattern>"
                )
            ),
        ]
        | None
    ) = Field(
        None,
        description="Keeps one patient's images in one split: a regular expression with one group "
        "on the images' names, or the path of a .csv with the columns name and group.",
    )
    folds: Annotated[int, Field(ge=2, le=100)] | None = Field(
        None, description="Number of cross-validation folds; null for one split."
    )
    fold: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Which of the folds is the test part, from 0; null confirms on all of them.",
    )
    development: Annotated[Annotated[float, Field(gt=0, lt=1)] | None, Of("data")] = Field(
        None,
        description="With folds: the share of the data, outside of all folds, on which exploring "
        "trains and validates. Without it exploring sees test images of other folds.",
    )
    splits: Annotated[list[Positive], Field(min_length=3, max_length=3)] = Field(
        [0.7, 0.15, 0.15],
        description="Fractions for training, validation and test where the data has no split.",
    )
    augment: Augment = Field(
        default_factory=lambda: Augment.model_validate({}),
        description="Random changes of training images.",
    )
    ignore_index: Annotated[
        Annotated[int, Field(ge=0, le=255)] | None, When("task", "segmentation")
    ] = Field(
        None, description="Segmentation: the mask value that is left out of loss and metrics."
    )
    mask_values: Annotated[
        (
            Annotated[
                list[Annotated[int, Field(ge=0, le=65535)]], Field(min_length=2, max_length=255)
            ]
            | None
        ),
        Of("data"),
        When("task", "segmentation"),
    ] = Field(
        None,
        description="Segmentation: the mask value of each class in order, as [0, 128, 255]; "
        "null finds out.",
    )
    mask_name: Annotated[
        Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")] | None,
        Of("data"),
        When("task", "segmentation"),
    ] = Field(
        None,
        description="Segmentation: how a mask's name is made of its image's, without the endings, "
        'as "{}_mask"; null finds out.',
    )
    tile_overlap: Annotated[
        Annotated[float, Field(ge=0, le=0.9)] | None, Of("data"), When("task", "segmentation")
    ] = Field(
        None,
        description="Segmentation: cuts images into tiles of image_size that overlap by at least "
        "this fraction, instead of resizing them; null resizes.",
    )
