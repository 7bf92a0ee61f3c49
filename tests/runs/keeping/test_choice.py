"""What `data.keep: auto` becomes, and what is said of it."""

from pathlib import Path

import pytest

from attnsearch.runs.keeping import choice
from attnsearch.runs.keeping.choice import choose, on_card

GB = 2**30


@pytest.mark.parametrize(
    ("size", "free", "sets", "room", "how"),
    [
        (2, 6, 1, 20, "memory"),
        (2, 5.9, 1, 20, "mapped"),
        (2, 6, 2, 20, "mapped"),  # another data set for each fold
        (30, 6, 1, 20, "files"),
        (8, 2, 1, 20, "mapped"),
    ],
)
def test_auto_goes_by_size_and_free_memory(
    size: float,
    free: float,
    sets: int,
    room: float,
    how: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "free_memory", lambda: int(free * GB))
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path / "not" / "there"))
    monkeypatch.setenv("ATTNSEARCH_CACHE_GB", str(room))
    for asked in (None, "auto"):
        kept = choose(asked, int(size * GB), sets)
        assert kept.how == how
        assert kept.words.startswith(how)
        assert f"{size:.{0 if size >= 10 else 1}f} GB of images" in kept.words
        assert f"{free:.1f} GB are free" in kept.words


def test_without_a_cache_or_disk_auto_decodes_when_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "free_memory", lambda: GB)
    monkeypatch.setenv("ATTNSEARCH_CACHE", "")
    kept = choose(None, 8 * GB)
    assert kept.how == "files" and "ATTNSEARCH_CACHE is empty" in kept.words
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path))
    monkeypatch.setattr(choice.shutil, "disk_usage", lambda _: type("Use", (), {"free": 3 * GB}))
    kept = choose(None, 8 * GB)
    assert kept.how == "files" and "has room for 3.0 GB" in kept.words


def test_what_is_asked_for_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "free_memory", lambda: 0)
    asked = ("device", "memory", "mapped", "files")
    assert [choose(how, 8 * GB).how for how in asked] == ["memory", "memory", "mapped", "files"]
    assert choose("device", 8 * GB).words == "memory, by data.keep: device; 8.0 GB of images"
    assert choose("device", 8 * GB).notable and choose("files", 8 * GB).notable
    monkeypatch.setattr(choice, "free_memory", lambda: 100 * GB)
    assert not choose(None, GB).notable and not choose("auto", GB).notable


def test_a_card_takes_what_leaves_room_for_the_network() -> None:
    assert on_card(None, 4 * GB, 8 * GB) and on_card("auto", 4 * GB, 8 * GB)
    assert not on_card(None, 5 * GB, 8 * GB)
    assert on_card("device", 5 * GB, 8 * GB)
    assert not on_card("memory", 1, 8 * GB)


def test_it_is_told_how_examples_come_to_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "free_memory", lambda: 100 * GB)
    monkeypatch.setattr(choice, "card_memory_mb", lambda: (0.0, 16 * 1024.0))
    kept = choose(None, 6 * GB)
    assert kept.told(6 * GB, 0) == kept.words
    assert kept.told(6 * GB, 1).endswith("6.0 GB go to a trial's 16 GB of GPU memory whole")
    assert kept.told(6 * GB, 0.5).endswith("8.0 GB of GPU memory batch by batch")
    assert choose("device", 6 * GB).told(6 * GB, 0.5).endswith("whole")
    assert choose("mapped", 6 * GB).told(6 * GB, 1).endswith("batch by batch")
    assert "decoded by resources.cpus processes" in choose("files", GB).told(GB, 1)
    monkeypatch.undo()
    assert kept.told(6 * GB, 1) == kept.words


def test_what_reading_takes_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path))
    monkeypatch.setattr(choice, "free_memory", lambda: 10 * GB)
    assert choose(None, GB, reading=9 * GB).how == "memory"
    assert choose(None, GB, reading=10 * GB).how == "mapped"
