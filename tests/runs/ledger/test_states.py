"""The stored words: ledgers written before hold them, and JSON shows them."""

import json

import pytest
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from attnsearch.runs.ledger.schema import PlanRecord, Run, Study, StudyRun
from attnsearch.runs.ledger.states import PlanState, Role, State


def test_the_words_are_those_that_ledgers_hold() -> None:
    assert set(State) == {
        *("finished", "stopped", "failed", "infeasible", "interrupted", "running"),
    }
    assert set(PlanState) == {"planned", "measured", "finished"}
    assert set(Role) == {"trial", "plain", "baseline", "tuning", "confirm", "ablation"}


def test_words_read_as_text_wherever_they_are_shown() -> None:
    assert json.dumps({State.FINISHED: Role.BASELINE_TRIAL}) == '{"finished": "plain"}'
    assert f"{State.STOPPED} {Role.TRIAL}" == "stopped trial"


def test_what_runs_or_was_interrupted_has_not_ended() -> None:
    assert [state for state in State if not state.ended] == [State.INTERRUPTED, State.RUNNING]


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()])
def test_words_are_kept_as_the_text_columns_that_they_were(dialect: object) -> None:
    tables = {Study: "state", Run: "state", PlanRecord: "state", StudyRun: "role"}
    for table, column in tables.items():
        length = 32 if column == "role" else 16
        statement = str(CreateTable(table.__table__).compile(dialect=dialect))  # type: ignore[arg-type]
        assert f"\t{column} VARCHAR({length}) NOT NULL" in statement
