"""What the checkpoints of a study hold on the disk while it runs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.training.checkpoints import Checkpoint
from attnsearch.search.study.checkpoints import Checkpoints


def test_what_begun_runs_hold_is_counted_until_they_end(tmp_path: Path) -> None:
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        stage: Any = SimpleNamespace(ledger=ledger, saved=set())
        exploring, confirming = Checkpoints(stage), Checkpoints(stage)
        assert exploring.size_bytes() == 0
        for checkpoints, run in ((exploring, 1), (confirming, 2)):
            folder = checkpoints.begun("key", run)
            assert exploring.size_bytes() == 1000 * (run - 1), (
                "no folder is made before it is used"
            )
            Checkpoint(f"{run:06d}-{0:09d}-{'0' * 64}.checkpoint", bytes(1000)).write(folder)
        assert exploring.size_bytes() == confirming.size_bytes() == 2000
        exploring.drop("key", 1)
        assert confirming.size_bytes() == 1000
