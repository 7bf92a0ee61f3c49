import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from attnsearch.runs.data.data import DataSet, load_data


def load(**options: object) -> DataSet:
    return load_data({"source": "digits", "image_size": 16, **options})


def test_the_split_has_fixed_sizes_and_is_balanced() -> None:
    data = load()
    for part, count in ((data.train, 160), (data.val, 400), (data.test, 500)):
        assert part.images.shape == (count, 16, 16, 1)
        assert np.bincount(part.labels).tolist() == [count // 10] * 10
    assert data.class_names == list("0123456789")
    assert data.notes == []


def test_images_and_labels_are_those_of_scikit_learn() -> None:
    digits = load_digits()
    data = load(image_size=8)
    row = int(data.val.names[7].split("/")[1])
    assert data.val.labels[7] == digits.target[row]
    assert np.abs(data.val.images[7, :, :, 0] / 255 - digits.images[row] / 16).max() < 0.5 / 255


def test_a_seed_moves_train_and_val_but_never_test() -> None:
    first, again, other = load(), load(), load(seed=1)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.test.names == other.test.names
    assert first.test_fingerprint == other.test_fingerprint
    assert set(first.train.names) != set(other.train.names)
    for data in (first, other):
        names = [*data.train.names, *data.val.names, *data.test.names]
        assert len(set(names)) == 1060


def test_size_and_channels_are_as_asked() -> None:
    assert load(image_size=28, channels=3).train.images.shape == (160, 28, 28, 3)


def test_the_upscaled_digits_can_be_learned_but_not_perfectly() -> None:
    data = load()
    model = LogisticRegression(max_iter=300)
    model.fit(data.train.images.reshape(160, -1) / 255, data.train.labels)
    score = model.score(data.val.images.reshape(400, -1) / 255, data.val.labels)
    assert 0.85 < score < 0.97
