"""The ledger's plans and looks: what was to be compared, and when test data was opened.

A plan is stored before its first run is trained. An edited one takes its place and both are
kept: the earlier one's runs stay where its plan finds them, see `arm_runs`.

**The test part is guarded.** Scores on it are computed after `open_test` has noted the
look, and every look at the same examples counts, whichever study takes it. A comparison is
confirmatory where its plan had been stored before the first look.
"""

from collections.abc import Mapping, Sequence
from time import time
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from attnsearch.runs.ledger.access import Access, add, change
from attnsearch.runs.ledger.patience import LedgerError
from attnsearch.runs.ledger.reading import read_places
from attnsearch.runs.ledger.records import Analysis, Look, PlanRow, TrialRow
from attnsearch.runs.ledger.schema import AnalysisRecord, LookRecord, PlanRecord, StudyRun
from attnsearch.runs.ledger.states import PlanState
from attnsearch.runs.statistics import Plan


def store_plan(ledger: Access, study_id: int, plan: Plan) -> PlanRow:
    """Store a plan, once; another one of the same act and name is superseded.

    Storing an earlier plan again makes it the current one, with the time of its first
    storing. Where the new plan has other runs at the places of the old one's, the old ones
    move to an arm of their own, ``<arm> (plan <id>)``.

    Args:
        ledger: The ledger.
        study_id: The study.
        plan: The plan.
    """
    with ledger.database.write() as connection:
        plan_id = None
        for row in _versions(connection, study_id, plan):
            if row.hash == plan.hash:
                plan_id = row.id
            elif row.current:
                _set_aside(connection, row, plan)
                change(connection, PlanRecord, row.id, superseded=time())
        if plan_id is None:
            plan_id = add(
                connection,
                PlanRecord,
                study_id=study_id,
                act=plan.act,
                name=plan.name,
                hash=plan.hash,
                document=plan.to_document(),
                created=time(),
                state=PlanState.PLANNED,
            )
        change(connection, PlanRecord, plan_id, superseded=None)
        return _read_plans(connection, PlanRecord.id == plan_id)[0]


def plans(ledger: Access, study_id: int, *, superseded: bool = True) -> list[PlanRow]:
    """Read a study's plans, oldest first.

    Args:
        ledger: The ledger.
        study_id: The study.
        superseded: Whether to list those too whose place another plan took.
    """
    conditions = [PlanRecord.study_id == study_id]
    if not superseded:
        conditions.append(PlanRecord.superseded.is_(None))
    with ledger.database.read() as connection:
        return _read_plans(connection, *conditions)


def set_plan_state(ledger: Access, plan_id: int, state: PlanState) -> None:
    """Note how far a plan has come; where another driver of the study noted more, it stays."""
    behind = list(PlanState)[: list(PlanState).index(PlanState(state))]
    with ledger.database.write() as connection:
        less = update(PlanRecord).where(PlanRecord.id == plan_id, PlanRecord.state.in_(behind))
        connection.execute(less.values(state=PlanState(state)))


def freeze_winner(
    ledger: Access, plan_id: int, label: str, ranking: Sequence[tuple[str, float | None]]
) -> PlanRow:
    """Keep the winner of a plan, for good.

    Args:
        ledger: The ledger.
        plan_id: The plan.
        label: The winner's.
        ranking: All candidates with their validation means, the best first.

    Raises:
        LedgerError: Another winner was frozen before.
    """
    with ledger.database.write() as connection:
        undecided = update(PlanRecord).filter_by(id=plan_id, winner=None)
        connection.execute(undecided.values(winner=label, ranking=ranking, frozen=time()))
        row = _read_plans(connection, PlanRecord.id == plan_id)[0]
    if row.winner != label:
        raise LedgerError(
            f"the winner of the plan {row.plan.name} was frozen as {row.winner!r} and cannot "
            f"become {label!r}"
        )
    return row


def add_analysis(
    ledger: Access,
    row: PlanRow,
    number: int,
    settled: Mapping[str, str],
    seeds: Mapping[str, int],
) -> None:
    """Keep what an analysis of a plan has settled, once: it stays as it was first written.

    Args:
        ledger: The ledger.
        row: The plan, with analyses.
        number: The analysis, counted from 1.
        settled: As in `Analysis`.
        seeds: As in `Analysis`.
    """
    assert row.plan.interim is not None, "the plan has analyses"
    place = {"plan_id": row.id, "number": number}
    with ledger.database.write() as connection:
        if connection.execute(select(AnalysisRecord.size).filter_by(**place)).first() is None:
            values = {
                **place,
                "size": row.plan.interim.sizes[number - 1],
                "settled": dict(settled),
                "seeds": dict(seeds),
                "made": time(),
            }
            connection.execute(insert(AnalysisRecord).values(**values))


def open_test(ledger: Access, fingerprint: str, plan_id: int) -> Look:
    """Note that a plan looks at a test part; the same plan's look counts once.

    Args:
        ledger: The ledger.
        fingerprint: `DataSet.test_fingerprint`.
        plan_id: The plan.
    """
    with ledger.database.write() as connection:
        here = _read_looks(connection, LookRecord.fingerprint == fingerprint)
        for look in here:
            if look.plan_id == plan_id:
                return look
        study = select(PlanRecord.study_id).where(PlanRecord.id == plan_id)
        look_id = add(
            connection,
            LookRecord,
            fingerprint=fingerprint,
            number=max((look.number for look in here), default=0) + 1,
            study_id=connection.execute(study).scalar_one(),
            plan_id=plan_id,
            opened=time(),
        )
        return _read_looks(connection, LookRecord.id == look_id)[0]


def looks(ledger: Access, fingerprint: str | None = None) -> list[Look]:
    """Read the looks at one test part, or at all of them, oldest first."""
    conditions = [] if fingerprint is None else [LookRecord.fingerprint == fingerprint]
    with ledger.database.read() as connection:
        return _read_looks(connection, *conditions)


def look_of(ledger: Access, row: PlanRow) -> int | None:
    """Tell the number of a plan's look; None where it has not looked.

    With folds, which have a test part each, it is the largest of the numbers.
    """
    return max((look.number for look in looks(ledger) if look.plan_id == row.id), default=None)


def confirmatory(ledger: Access, row: PlanRow) -> bool:
    """Tell whether a plan was stored before anybody saw the test data that it looks at."""
    every = looks(ledger)
    seen = {look.fingerprint for look in every if look.plan_id == row.id}
    return all(
        row.created <= look.opened
        for look in every
        if look.fingerprint in seen and look.number == 1
    )


def added_seeds(ledger: Access, row: PlanRow) -> tuple[int, ...]:
    """Tell the seeds that were added after results had been looked at.

    Those are the ones that an earlier plan of the same act and name, with an arm in common,
    did not have, where that plan was finished or had opened the test part.
    """
    opened = {look.plan_id for look in looks(ledger)}
    configs = [arm.config for arm in row.plan.arms]
    with ledger.database.read() as connection:
        versions = _versions(connection, row.study_id, row.plan)
    before = {
        seed
        for other in versions
        if other.id < row.id and (other.id in opened or other.state == PlanState.FINISHED)
        if any(arm.config in configs for arm in other.plan.arms)
        for seed in _seeds_of_all(other.plan, row.plan)
    }
    return tuple(seed for seed in row.plan.seeds if before and seed not in before)


def arm_runs(ledger: Access, row: PlanRow) -> dict[str, list[TrialRow | None]]:
    """Read the runs of every arm of a plan, in the order of `Plan.repeats`.

    Returns:
        Arm label -> rows; None where a run has not been begun. An arm that equals another has
        the other's runs.
    """
    with ledger.database.read() as connection:
        rows = read_places(connection, StudyRun.study_id == row.study_id)
        aside = _asides(connection, row)
    places = {(*run.place, run.fold, run.seed): run for run in rows}
    runs: dict[str, list[TrialRow | None]] = {}
    for arm in row.plan.arms:
        if arm.equals is not None:
            runs[arm.label] = runs[arm.equals]
            continue
        role, name = row.plan.place(arm.label)
        names = [*(aside_name(name, plan_id) for plan_id in aside), name]
        wanted = [
            [(role, name, number, *repeat) for name in names]
            for number, repeat in enumerate(row.plan.repeats())
        ]
        runs[arm.label] = [
            next((places[place] for place in either if place in places), None) for either in wanted
        ]
    return runs


def aside_name(arm: str, plan_id: int) -> str:
    """Name the arm under which a superseded plan keeps runs whose places another plan took."""
    return f"{arm} (plan {plan_id})"


def _set_aside(connection: Connection, old: PlanRow, new: Plan) -> None:
    """Move the runs of a plan whose places the plan that follows it needs for other runs."""
    repeats = new.repeats()
    configs = {arm.label: arm.config for arm in new.arms if arm.equals is None}
    for arm in old.plan.arms:
        if arm.label not in configs:
            continue
        role, name = old.plan.place(arm.label)
        moved = [
            number
            for number, repeat in enumerate(old.plan.repeats())
            if configs[arm.label] != arm.config or repeats[number : number + 1] != [repeat]
        ]
        connection.execute(
            update(StudyRun)
            .filter_by(study_id=old.study_id, role=role, arm=name)
            .where(StudyRun.number.in_(moved))
            .values(
                arm=aside_name(name, old.id),
                name=func.substr(StudyRun.name, 1, 230) + f" (plan {old.id})",
                mirrored_revision=-1,
            )
        )


def _asides(connection: Connection, row: PlanRow) -> list[int]:
    """Return the plans under whose numbers runs of a superseded plan may stand, in that order.

    A run that it shared with the plan after it moved when that plan was superseded in turn.
    """
    since = row.superseded
    if since is None:
        return []
    later = [
        (other.superseded, other.id)
        for other in _versions(connection, row.study_id, row.plan)
        if other.superseded is not None and other.superseded >= since and other.id != row.id
    ]
    return [row.id, *(plan_id for _, plan_id in sorted(later))]


def _seeds_of_all(other: Plan, plan: Plan) -> tuple[int, ...]:
    """Return the seeds that another plan planned for each arm, whatever came out.

    Where arms stop after a look, that is as many as it takes to look first, unless the plan stops
    its arms by the same rule.
    """
    return other.seeds if other.interim == plan.interim else other.shared_seeds


def _versions(connection: Connection, study_id: int, plan: Plan) -> list[PlanRow]:
    """Read what a study has of a plan's act and name, oldest first."""
    return _read_plans(
        connection,
        PlanRecord.study_id == study_id,
        PlanRecord.act == plan.act,
        PlanRecord.name == plan.name,
    )


def _read_plans(connection: Connection, *conditions: Any) -> list[PlanRow]:
    query = select(*PlanRecord.__table__.columns).where(*conditions).order_by(PlanRecord.id)
    plans = [(row, Plan.from_document(row.document)) for row in connection.execute(query)]
    return [
        PlanRow(
            row._mapping,
            plan=plan,
            ranking=tuple((label, mean) for label, mean in row.ranking or ()),
            analyses=() if plan.interim is None else _read_analyses(connection, row.id),
        )
        for row, plan in plans
    ]


def _read_analyses(connection: Connection, plan_id: int) -> tuple[Analysis, ...]:
    columns = AnalysisRecord.__table__.columns
    query = select(*columns).where(columns.plan_id == plan_id).order_by(columns.number)
    return tuple(Analysis(row._mapping) for row in connection.execute(query))


def _read_looks(connection: Connection, *conditions: Any) -> list[Look]:
    query = select(*LookRecord.__table__.columns).where(*conditions).order_by(LookRecord.id)
    return [Look(row._mapping) for row in connection.execute(query)]
