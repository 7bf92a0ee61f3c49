"""What computes, as run keys name it, and what a cluster's machines have to have."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attnsearch.search.study import stage as module
from attnsearch.search.study.stage import device_kind, examined_for
from attnsearch.search.workers.cluster import Cluster


@pytest.mark.parametrize(
    ("own", "cards", "kind"),
    [
        ((), ("NVIDIA H200, 580",), "NVIDIA H200"),  # the driver needs no card
        (("NVIDIA A100, 580",), ("NVIDIA H200, 580",), "NVIDIA H200"),  # and its own trains not
        ((), ("NVIDIA A100, 580", "NVIDIA H200, 580"), "NVIDIA A100 and NVIDIA H200"),
        ((), (), "cuda"),
    ],
)
def test_on_a_cluster_the_cards_of_its_machines_are_in_the_key(
    own: tuple[str, ...],
    cards: tuple[str, ...],
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "gpu_names", lambda: own)
    joined = Cluster(tmp_path, 1, {}, joined=True, cards=cards)
    assert device_kind(1, joined) == kind
    assert device_kind(0, joined) == "cpu"
    here = own[0].partition(",")[0] if own else "cuda"
    assert device_kind(1, Cluster(tmp_path, 1, {})) == device_kind(1) == here


@pytest.mark.parametrize(
    ("source", "how", "asked"),
    [
        ("/images", "memory", []),
        ("/images", "mapped", ["/images"]),
        ("/images", "files", ["/images"]),
        ("digits", "files", []),  # a built-in set is everywhere
        ("/images", None, []),
    ],
)
def test_images_are_asked_for_on_a_machine_that_reads_them_itself(
    source: str,
    how: str | None,
    asked: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(module, "examined", lambda *arguments: given.append(arguments))
    space: Any = SimpleNamespace(document={"data": {"source": source}}, path=tmp_path / "s.yaml")
    data: Any = SimpleNamespace(kept=how and SimpleNamespace(how=how))
    examined_for(space, data, {}, Cluster(tmp_path, 1, {}, joined=True), print)
    ((_, document, _, folders, paths, _),) = given
    assert (document, folders, paths) == (space.document, [str(tmp_path)], asked)
