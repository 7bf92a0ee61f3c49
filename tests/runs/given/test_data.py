"""A program's own data, in every form: the same data set."""

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, TensorDataset

from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.given.data import GivenData
from attnsearch.runs.readers import DataError, Given
from attnsearch.spaces.keys import GIVEN

DRAWS = np.random.default_rng(0)
IMAGES = DRAWS.integers(0, 256, (60, 8, 6), dtype=np.uint8)
LABELS = np.arange(60) % 3
PARTS = {"train": slice(0, 40), "val": slice(40, 50), "test": slice(50, 60)}
SPLIT = {part: (IMAGES[rows], LABELS[rows]) for part, rows in PARTS.items()}


class Pairs(Dataset[tuple[torch.Tensor, int]]):
    """What torchvision's sets give with `ToTensor`: channels first, floats to 1."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.images[index])[None] / 255, int(self.labels[index])


def load(data: Any, task: str = "classification", **keys: Any) -> DataSet:
    given = GivenData(data)
    section = {"image_size": list(given.shape or (8, 8)), **keys}
    return load_data({"source": given, **section}, task)


@pytest.mark.parametrize(
    "given",
    [
        {part: Pairs(*pair) for part, pair in SPLIT.items()},
        {part: list(pair) for part, pair in SPLIT.items()},
        {part: {"images": pair[0], "labels": pair[1]} for part, pair in SPLIT.items()},
        {
            f"{part}_{kind}": pair[k]
            for part, pair in SPLIT.items()
            for k, kind in enumerate(("images", "labels"))
        },
        {part: (pair[0][..., None], pair[1][:, None]) for part, pair in SPLIT.items()},
        {part: (pair[0], np.eye(3, dtype=int)[pair[1]]) for part, pair in SPLIT.items()},
        {
            part: TensorDataset(torch.from_numpy(pair[0])[:, None], torch.from_numpy(pair[1]))
            for part, pair in SPLIT.items()
        },
        {
            part: (torch.from_numpy(pair[0]), torch.from_numpy(pair[1]))
            for part, pair in SPLIT.items()
        },
    ],
    ids=["Dataset", "lists", "by kind", "MedMNIST", "channels", "one-hot", "tensors", "torch"],
)
def test_every_form_is_the_same_data_set(given: dict[str, Any]) -> None:
    expected, data = load(SPLIT), load(given)
    assert data.fingerprint == expected.fingerprint
    assert [len(part) for part in (data.train, data.val, data.test)] == [40, 10, 10]
    assert np.array_equal(data.train.images[..., 0], IMAGES[:40])
    assert (data.image_size, data.classes, data.train.names[0]) == ((8, 6), 3, "train/000000")


def test_data_without_parts_is_split_as_a_folders_is() -> None:
    data = load((IMAGES, LABELS), splits=[0.5, 0.25, 0.25], seed=3)
    assert [len(part) for part in (data.train, data.val, data.test)] == [30, 15, 15]
    assert load(Pairs(IMAGES, LABELS), splits=[0.5, 0.25, 0.25], seed=3).fingerprint == (
        data.fingerprint
    )
    assert load((IMAGES, LABELS), seed=4).fingerprint != load((IMAGES, LABELS)).fingerprint


def test_other_pixels_labels_or_parts_are_other_data() -> None:
    changed = IMAGES.copy()
    changed[0, 0, 0] ^= 1
    prints = {
        load(data).fingerprint
        for data in (
            (IMAGES, LABELS),
            (changed, LABELS),
            (IMAGES, np.roll(LABELS, 1)),
            SPLIT,
            {**SPLIT, "val": SPLIT["test"], "test": SPLIT["val"]},
        )
    }
    assert len(prints) == 5


def test_names_tell_groups_and_classes_have_names() -> None:
    names = [f"patient{number // 6}/{number}" for number in range(60)]
    data = load(
        {"images": IMAGES, "labels": LABELS, "names": names, "class_names": ["a", "b", "c"]},
        groups={"pattern": r"(patient\d+)"},
    )
    assert data.class_names == ["a", "b", "c"]
    own = [{*(split.groups or ())} for split in (data.train, data.val, data.test)]
    assert not (own[0] & own[1] or own[0] & own[2] or own[1] & own[2])


def test_images_are_resized_where_the_space_says_a_size() -> None:
    given = GivenData((IMAGES, LABELS))
    data = load_data({"source": given, "image_size": 16, "channels": 3})
    assert data.train.images.shape[1:] == (16, 16, 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (3, "data: found int; give (images, labels), a torch Dataset"),
        ({"pictures": IMAGES}, "data: unknown keys pictures; give (images, labels)"),
        ({"class_names": ["a"]}, "data: no images; give"),
        ({"val": SPLIT["val"]}, "data: no training part; give train"),
        ({"images": IMAGES, "train_images": IMAGES}, "data: both images and train_images"),
        ([IMAGES[0]] * 4, "data: item 0 of list is ndarray; a Dataset gives pairs"),
        ((IMAGES, LABELS[:5]), "data: all_labels has 5 labels for 60 images"),
        ((IMAGES.reshape(-1), LABELS), "data: all_images is 2880; expected (N, H, W)"),
        ((IMAGES, LABELS / 2), "data: all_labels is of type float64; expected whole numbers"),
        ((IMAGES - 0.5, LABELS), "data: "),
        (([IMAGES[0], IMAGES[0, :5]], [0, 1]), "data: all_images: images of different sizes"),
        ({"images": IMAGES, "labels": LABELS, "names": ["a"] * 60}, "60 different texts"),
    ],
)
def test_what_is_no_data_is_told_with_what_to_give(data: Any, words: str) -> None:
    with pytest.raises(DataError) as caught:
        load(data)
    assert words in str(caught.value)


def test_a_document_records_and_sends_a_word_and_never_the_arrays() -> None:
    given = GivenData((IMAGES, LABELS))
    document = {"source": given}
    assert json.dumps(document) == '{"source": "given"}'
    assert copy.deepcopy(document)["source"] is given
    sent = pickle.loads(pickle.dumps(document))["source"]
    assert type(sent) is str and sent == GIVEN == given
    assert isinstance(given, Given) and len(pickle.dumps(document)) < 100
    with pytest.raises(DataError, match=r"a program gave the data .* run_study\(space, data="):
        load_data({"source": sent, "image_size": 8})


def test_any_number_of_classes_an_image() -> None:
    labels = np.stack([LABELS == 0, LABELS != 1], 1)
    names = {"class_names": ["first", "not second"]}
    arrays = {"images": IMAGES, "labels": labels} | names
    whole = load(arrays, "multilabel")
    assert whole.class_names == ["first", "not second"]
    assert whole.train.labels.shape == (len(whole.train), 2)
    pairs = [
        (torch.from_numpy(i)[None] / 255, torch.from_numpy(s))
        for i, s in zip(IMAGES, labels, strict=False)
    ]
    again = load(pairs, "multilabel")
    assert again.fingerprint == whole.fingerprint
    with pytest.raises(DataError, match="several labels an image; write task: multilabel"):
        load({"images": IMAGES, "labels": np.ones((60, 2), int)})
