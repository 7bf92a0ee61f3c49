"""What is pending is found without going through all places for each epoch of the study."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.requests import Place, Request
from attnsearch.runs.mirror.positions import Positions


@pytest.fixture
def asked() -> Any:
    """The questions to databases, with their parameters."""
    seen: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        seen.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


def test_places_are_gone_through_once(tmp_path: Path, asked: list[tuple[str, Any]]) -> None:
    """Ten thousand trials took a pass of the mirror 45 s of a CPU, with three to show."""
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        study = ledger.open_study("digits", "", {}, "data", {})
        for number in range(2):
            claim = ledger.claim(
                Request(f"key{number}", {}, seed=0, epochs=2, study_id=study.id),
                place=Place(number),
            )
            ledger.record_epoch(claim.run_id, 1, {"val_loss": 0.5 + number})
        positions = Positions(ledger)
        positions.mark(positions.pending(study.id)[:1])
        asked.clear()
        (item,) = positions.pending(study.id)
        selects = [one for one in asked if one[0].lstrip().startswith("SELECT")]
        with ledger.database.read() as connection:
            plans = [
                str(row)
                for statement, parameters in selects
                for row in connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}", parameters
                )
            ]
    assert (item.trial.number, item.trial.epochs) == (1, ({"epoch": 1, "val_loss": 1.5},))
    assert len(item.points) == 1
    assert plans
    assert not [plan for plan in plans if "CORRELATED" in plan]
