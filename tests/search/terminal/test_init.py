from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnsearch.search.check import forecast as forecast_module
from attnsearch.search.check.data import class_rows
from attnsearch.search.cli import call
from attnsearch.search.exit import DONE, WRONG_INPUT
from attnsearch.search.terminal import budget, init, tiles
from attnsearch.spaces import load_space


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_module, "seconds_per_epoch", lambda *_: 2.0)
    monkeypatch.setattr(budget, "seconds_per_epoch", lambda *_: 2.0)


def folder(path: Path, counts: dict[str, int], side: tuple[int, int] = (40, 30)) -> Path:
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (path / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(0, 255, (*side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / name / f"{index}.PNG")
    return path


def npz(path: Path, side: int, count: int = 40) -> Path:
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = random.integers(0, 255, (count, side, side, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % 4)[:, None]
    np.savez(path, **arrays)
    return path


def test_what_init_writes_passes_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "scans", {"healthy": 20, "ill": 20})
    npz(tmp_path / "path.npz", 28)
    for data in (str(tmp_path / "scans"), str(tmp_path / "path.npz"), "digits"):
        file = tmp_path / f"{Path(data).stem}.yaml"
        assert call(["init", data, "--to", str(file)]) == DONE
        assert f"attnsearch check {file}" in capsys.readouterr().out
        assert call(["check", str(file)]) == DONE
        told = capsys.readouterr().out
        assert "Cannot be built" not in told
        assert "Warnings" not in told


def test_images_with_masks_get_a_file_for_segmentation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder(tmp_path / "polyps", {"images": 12})
    (data / "masks").mkdir()
    for index in range(12):
        mask = np.zeros((40, 30), np.uint8)
        mask[5 : 20 + index, 4:20] = 255
        Image.fromarray(mask).save(data / "masks" / f"{index}_seg.png")
    file = tmp_path / "x.yaml"
    assert call(["init", str(data), "--to", str(file)]) == DONE
    space = load_space(file)
    assert space.task == "segmentation"
    assert space.document["data"]["classes"] == ["background", "foreground"]
    assert "# mask values: 0 background, 255 foreground" in file.read_text()
    assert call(["check", str(file)]) == DONE
    told = capsys.readouterr().out
    assert "Cannot be built" not in told and "Warnings" not in told
    assert "pixels of class" in told


@pytest.mark.parametrize(
    ("values", "classes", "ignored"),
    [
        ((0, 128), ["background", "foreground"], None),
        ((0, 1, 2, 255), ["background", "class 1", "class 2"], 255),
    ],
)
def test_what_init_writes_for_unusual_mask_values_passes_check(
    values: tuple[int, ...],
    classes: list[str],
    ignored: int | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = folder(tmp_path / "polyps", {"images": 12})
    (data / "masks").mkdir()
    mask = np.repeat(np.array(values, np.uint8), 40 // len(values))[:, None].repeat(30, 1)
    for index in range(12):
        Image.fromarray(mask).save(data / "masks" / f"{index}.png")
    file = tmp_path / "x.yaml"
    assert call(["init", str(data), "--to", str(file)]) == DONE
    section = load_space(file).document["data"]
    assert (section["classes"], section.get("ignore_index")) == (classes, ignored)
    assert ("`background` does not count in the mean" in file.read_text()) == (len(classes) > 2)
    capsys.readouterr()
    assert call(["check", str(file)]) == DONE
    told = capsys.readouterr().out
    assert "Cannot be built" not in told and "Warnings" not in told
    assert "Dice is" in told


@pytest.mark.parametrize(
    ("side", "image_size", "stem"), [(9, 16, "small"), (20, 20, "small"), (300, 64, "imagenet")]
)
def test_sizes_follow_the_images(
    side: int, image_size: int, stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    npz(tmp_path / "x.npz", side)
    proposal = init.propose(str(tmp_path / "x.npz"), tmp_path / "x.yaml")
    assert (proposal.image_size, proposal.stem) == (image_size, stem)
    (tmp_path / "x.yaml").write_text(init.space_text(proposal))
    assert load_space(tmp_path / "x.yaml").infeasible == ()


def test_the_file_says_what_fits_the_data(tmp_path: Path) -> None:
    folder(tmp_path / "My scans (2024): é", {"a#b": 60, "true": 12, "1e5": 20})
    data = tmp_path / "My scans (2024): é"
    assert call(["init", str(data), "--to", str(tmp_path / "x.yaml")]) == DONE
    space = load_space(tmp_path / "x.yaml")
    config = space.resolve(space.defaults())
    assert config["data"]["source"] == str(data)
    assert config["name"] == "My-scans-2024"
    assert config["data"]["image_size"] == 28  # the shorter side has 30
    # The classes are uneven: 5 to 1.
    assert config["train"]["class_weights"] == "balanced"
    assert config["search"]["objectives"] == {"val_auroc": "max"}
    assert config["confirm"]["seeds"] == 5
    assert space.baseline() is not None
    text = (tmp_path / "x.yaml").read_text()
    assert "# 3 classes: 1e5, a#b, true" in text
    assert "# training images of a class: from 8 (true) to 42 (a#b)" in text
    assert 'source: "My scans (2024): é"' in text  # relative, the file can move with its data


def test_with_a_gpu_the_published_size_is_proposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    npz(tmp_path / "x.npz", 300)
    proposal = init.propose(str(tmp_path / "x.npz"), tmp_path / "x.yaml")
    assert (proposal.image_size, proposal.stem, proposal.width) == (224, "imagenet", 1.0)
    (tmp_path / "x.yaml").write_text(init.space_text(proposal))
    assert load_space(tmp_path / "x.yaml").document["resources"]["gpus"] == 1


def test_an_existing_file_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("mine")
    assert call(["init", "digits", "--to", str(file)]) == WRONG_INPUT
    assert file.read_text() == "mine"
    (line,) = capsys.readouterr().err.splitlines()
    assert "exists already" in line


def test_data_that_is_none_is_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    folder(tmp_path / "polyps" / "train", {"images": 2, "masks": 2})
    for data, words in (
        ("missing", "does not exist"),
        ("empty", "no images"),
        ("broken.npz", "broken.npz"),
        ("polyps", "is a colour image; a mask has one value per pixel"),
    ):
        file = tmp_path / "x.yaml"
        assert call(["init", str(tmp_path / data), "--to", str(file)]) == WRONG_INPUT
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
        assert not file.exists()
    assert call(["init", "digits", "--to", str(tmp_path / "no" / "x.yaml")]) == WRONG_INPUT
    assert "there is no folder" in capsys.readouterr().err


def test_a_file_that_would_be_unsound_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init, "space_text", lambda proposal: "name: [")
    assert call(["init", "digits", "--to", str(tmp_path / "x.yaml")]) == WRONG_INPUT
    assert list(tmp_path.iterdir()) == []


def test_groups_are_said_asked_for_and_switched_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for number in range(24):
        path = tmp_path / "eyes" / f"{'ab'[number % 4 // 2]}/x{number // 2}_{'LR'[number % 2]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (20, 20), dtype=np.uint8)).save(path)
    data = str(tmp_path / "eyes")

    def groups(name: str, *options: str) -> Any:
        assert call(["init", data, "--to", str(tmp_path / name), *options]) == DONE
        return load_space(tmp_path / name).document["data"].get("groups")

    assert groups("a.yaml") is not None
    assert "left and right" in capsys.readouterr().out
    assert "left and right" in (tmp_path / "a.yaml").read_text()
    assert groups("b.yaml", "--groups", "none") is None
    assert groups("c.yaml", "--groups", r"x(\d+)_") == {"pattern": r"x(\d+)_"}


def test_groups_that_the_own_split_tears_are_told_and_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder(tmp_path / "eyes", {f"{p}/{c}": 9 for p in ("train", "test") for c in "ab"})
    for path in sorted(data.rglob("*.PNG")):
        side = "L" if "train" in path.parts else "R"
        path.rename(path.with_name(f"{path.parent.name}{path.stem}_{side}.png"))
    file = tmp_path / "x.yaml"
    assert call(["init", str(data), "--to", str(file)]) == DONE
    assert "18 groups are in more than one part" in " ".join(capsys.readouterr().out.split())
    assert not load_space(file).document["data"].get("groups")


def test_folders_that_may_be_classes_either_way_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {f"{name}/{place}": 8 for name in ("cat", "dog") for place in ("in", "out")}
    data, file = str(folder(tmp_path / "pets", counts)), tmp_path / "x.yaml"
    assert call(["init", data, "--to", str(file)]) == WRONG_INPUT
    assert "--classes cat,dog or --classes in,out" in capsys.readouterr().err
    assert call(["init", data, "--to", str(file), "--classes", "in,out"]) == DONE
    assert load_space(file).document["data"]["classes"] == ["in", "out"]


@pytest.mark.parametrize(
    ("options", "colors", "classes"),
    [
        ([], {"background": [0, 0, 0], "color_1": [0, 255, 0], "color_2": [255, 0, 0]}, 3),
        (
            ["--mask-colors", "rest=0 0 0, vessel=#FF0000, ignore=#00ff00"],
            {"rest": [0, 0, 0], "vessel": [255, 0, 0], "ignore": [0, 255, 0]},
            2,
        ),
    ],
)
def test_the_palette_of_colour_coded_masks_is_proposed_or_given(
    options: list[str],
    colors: dict[str, list[int]],
    classes: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = folder(tmp_path / "eyes", {"images": 12})
    (data / "masks").mkdir()
    mask = np.zeros((40, 30, 3), np.uint8)
    mask[:10, :, 0] = mask[20:30, :, 1] = 255
    for index in range(12):
        Image.fromarray(mask).save(data / "masks" / f"{index}.png")
    file = tmp_path / "x.yaml"
    assert call(["init", str(data), "--to", str(file), *options]) == DONE
    told = capsys.readouterr().out
    assert f"for {classes} classes" in told
    assert ("name their classes in data.mask_colors" in told) == (not options)
    section = load_space(file).document["data"]
    assert section["mask_colors"] == colors and [*section["mask_colors"]] == [*colors]
    assert call(["check", str(file)]) == DONE
    assert "Warnings" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--mask-values", "a,b"],
        ["--mask-name", "mask"],
        ["--classes", "one"],
        ["--mask-colors", "a=#000000,b=#ff"],
        ["--mask-colors", "a=#000000,b=1 2"],
        ["--mask-colors", "#000000"],
        ["--mask-colors", "a=#000000,b=#ff0000,a=#00ff00"],
        ["--mask-colors", "a=#000000,b=#ff0000,"],
    ],
)
def test_an_option_that_its_key_cannot_have_is_named(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder(tmp_path / "scans", {"a": 8, "b": 8})
    assert call(["init", str(data), "--to", str(tmp_path / "x.yaml"), *options]) == WRONG_INPUT
    assert options[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("classes", "mirrored"),
    [(("cat", "dog"), True), (("left eye", "right eye"), False), (("hand_L", "hand_R"), False)],
)
def test_pictures_are_not_mirrored_where_a_class_is_a_side(
    classes: tuple[str, str], mirrored: bool, tmp_path: Path
) -> None:
    folder(tmp_path / "x", dict.fromkeys(classes, 12))
    proposal = init.propose(str(tmp_path / "x"), tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text(init.space_text(proposal))
    assert load_space(tmp_path / "x.yaml").document["data"]["augment"]["flip"] is mirrored


def test_uneven_classes_are_ranked_only_where_every_part_has_two(tmp_path: Path) -> None:
    npz(tmp_path / "x.npz", 16)
    arrays = dict(np.load(tmp_path / "x.npz"))
    arrays["train_labels"][:] = (np.arange(40) % 8 == 0)[:, None]
    for part, first in (("val", 0), ("test", 1)):
        arrays[f"{part}_labels"][:] = first
    np.savez(tmp_path / "x.npz", **arrays)
    metrics = [init.propose(str(tmp_path / "x.npz"), tmp_path / "x.yaml").metric]
    for part in ("val", "test"):
        arrays[f"{part}_labels"][:7] = 1 - arrays[f"{part}_labels"][:7]
    np.savez(tmp_path / "x.npz", **arrays)
    metrics.append(init.propose(str(tmp_path / "x.npz"), tmp_path / "x.yaml").metric)
    assert metrics == ["balanced_accuracy", "auroc"]


def drawn(path: Path, shape: str, side: int = 300, count: int = 14) -> Path:
    """Draw a `disc` on every image, or `threads`, or `specks` beside a disc or `bands`."""
    y, x = np.mgrid[:side, :side]
    for index in range(count):
        disc = (y - side // 2) ** 2 + (x - side // 2) ** 2 < (side // 4 + index) ** 2
        threads = (y + x + index) % 40 < 3
        specks = (y % 60 < 2) & (x % 60 < 2)
        bands = 1 + (y + index) // 40  # large classes beside the thin one
        mask = {
            "disc": disc,
            "threads": threads,
            "specks": np.where(specks, 2, disc),
            "bands": np.where(specks, 9, bands) * (y < 280),
        }[shape]
        for folder, pixels in (("images", 25 * mask), ("masks", mask)):
            (path / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path / folder / f"{index}.png")
    return path


@pytest.mark.parametrize(
    ("shape", "lost"), [("disc", None), ("threads", "foreground"), ("specks", "class 2")]
)
def test_images_are_cut_into_tiles_where_resizing_would_lose_what_is_thin_or_small(
    shape: str,
    lost: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    data, file = drawn(tmp_path / "x", shape), tmp_path / "x.yaml"
    assert call(["init", str(data), "--to", str(file)]) == DONE
    told, section = " ".join(capsys.readouterr().out.split()), load_space(file).document["data"]
    assert section["image_size"] == 96
    if lost is None:
        assert section["tile_overlap"] is None and "lost" not in told
        return
    assert section["tile_overlap"] == 0.25
    for text in (told, file.read_text()):
        dice = float(text.split("a Dice of ")[1].split(f" for {lost} at the images' own size")[0])
        assert dice < 0.7
    # Ten images of 16 tiles: 20 steps of 8 an epoch, and no fewer than 300.
    assert "epochs: 20  # about 400 steps" in file.read_text()
    # What is resized all the same is told by `check`, and what is cut is not.
    assert call(["check", str(file)]) == DONE
    assert "small things are lost" not in capsys.readouterr().out
    assert call(["check", str(file), "--set", "data.tile_overlap=null"]) == DONE
    assert f"for {lost}" in " ".join(capsys.readouterr().out.split())


def test_one_lost_class_of_many_is_told_and_makes_no_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    data, file = drawn(tmp_path / "x", "bands"), tmp_path / "x.yaml"
    assert call(["init", str(data), "--to", str(file)]) == DONE
    assert "for class 9 at the images' own size; if" in " ".join(capsys.readouterr().out.split())
    assert load_space(file).document["data"]["tile_overlap"] is None


def test_tiles_that_would_be_too_many_are_told_and_not_proposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(tiles, "_TILES", (100, 100))
    data, file = drawn(tmp_path / "x", "threads"), tmp_path / "x.yaml"
    assert call(["init", str(data), "--to", str(file)]) == DONE
    assert "would be 224 tiles, too many" in " ".join(capsys.readouterr().out.split())
    assert load_space(file).document["data"]["tile_overlap"] is None


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((24, 48), [24, 48]),  # their own
        ((48, 24), [48, 24]),
        ((200, 400), [48, 96]),  # as many pixels as the square of 64, in steps of 16
        ((30, 40), 28),  # near enough to a square
        ((10, 40), 16),  # too flat to be halved
    ],
)
def test_images_that_share_a_rectangle_keep_its_form(
    shape: tuple[int, int], size: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    folder(tmp_path / "scans", {"healthy": 20, "ill": 20}, shape)
    proposal = init.propose(str(tmp_path / "scans"), tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text(init.space_text(proposal))
    space = load_space(tmp_path / "x.yaml")
    assert space.document["data"]["image_size"] == size
    assert space.infeasible == ()
    told = (tmp_path / "x.yaml").read_text()
    assert (f"{shape[0]} pixels high and {shape[1]} wide" in told) == isinstance(size, list)
    assert ("raise it where there is one" in told) == (shape == (200, 400))


def test_images_of_several_shapes_get_a_square(tmp_path: Path) -> None:
    folder(tmp_path / "scans", {"healthy": 20}, (24, 48))
    folder(tmp_path / "scans", {"ill": 20}, (24, 50))
    proposal = init.propose(str(tmp_path / "scans"), tmp_path / "x.yaml")
    assert (proposal.rectangle, proposal.image_size) == (None, 24)


def test_the_training_images_of_an_array_decide(tmp_path: Path) -> None:
    data = npz(tmp_path / "x.npz", 20)
    arrays = dict(np.load(data))
    for part, side in (("val", 30), ("test", 40)):
        arrays[f"{part}_images"] = np.repeat(arrays["train_images"], 2, 1)[:, :side, :side]
    np.savez(data, **{name: arrays[name] for name in sorted(arrays)})
    proposal = init.propose(str(data), tmp_path / "x.yaml")
    assert (proposal.native, proposal.image_size, proposal.rectangle) == (20, 20, None)


def test_tiles_of_images_that_share_a_rectangle_have_its_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    data, file = drawn(tmp_path / "x", "threads"), tmp_path / "x.yaml"
    for path in data.glob("*/*.png"):
        Image.open(path).crop((0, 0, 300, 150)).save(path)
    assert call(["init", str(data), "--to", str(file)]) == DONE
    section = load_space(file).document["data"]
    assert (section["image_size"], section["tile_overlap"]) == ([64, 128], 0.25)
    assert "at 64x128 pixels thin or small things are lost" in file.read_text()


def test_epochs_fit_into_the_hours_that_a_measured_step_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "seconds_per_epoch", lambda *_: 2.0)
    told = init.write_space("digits", str(tmp_path / "day.yaml"))
    whole = load_space(tmp_path / "day.yaml").document["train"]["epochs"]
    assert "measured here: 2.0 s an epoch; exploring takes at most" in told
    assert "--hours" not in told
    monkeypatch.setattr(budget, "seconds_per_epoch", lambda *_: 60.0)
    told = init.write_space("digits", str(tmp_path / "night.yaml"), hours=12)
    epochs = load_space(tmp_path / "night.yaml").document["train"]["epochs"]
    assert f"{epochs} epochs and not {whole}, so that all acts end within 12 h" in told
    assert 6 <= epochs < whole
    told = init.write_space("digits", str(tmp_path / "hour.yaml"), hours=1)
    assert load_space(tmp_path / "hour.yaml").document["train"]["epochs"] == 6
    assert "even 6 epochs take longer than 1 h here: a GPU" in told


def test_several_labels_an_image_are_seen(tmp_path: Path) -> None:
    npz(tmp_path / "x.npz", 16)
    arrays = dict(np.load(tmp_path / "x.npz"))
    for part in ("train", "val", "test"):
        labels = arrays[f"{part}_labels"]
        arrays[f"{part}_labels"] = np.column_stack([labels % 2 == 0, labels % 4 < 2])
    np.savez(tmp_path / "x.npz", **arrays)
    proposal = init.propose(str(tmp_path / "x.npz"), tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text(init.space_text(proposal))
    document = load_space(tmp_path / "x.yaml").document
    assert document["task"] == "multilabel"
    assert document["search"]["objectives"] == {"val_map": "max"}
    rows = class_rows(proposal.data)
    assert rows == [("(none of them)", *[10] * 3), ("0", *[20] * 3), ("1", *[20] * 3)]
    hot = {k: np.eye(2, dtype=int)[v[:, 0] * 1] if "labels" in k else v for k, v in arrays.items()}
    np.savez(tmp_path / "hot.npz", **hot)
    other = init.propose(str(tmp_path / "hot.npz"), tmp_path / "y.yaml")
    assert other.data.task == "classification"
