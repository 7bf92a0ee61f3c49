"""What one session of a study came to."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attnsearch.runs.ledger import Ledger, PlanRow, Role, State, StudyRow, TrialRow
from attnsearch.search.text import plural

AGAIN = "run it again to go on from there"
REPORT_SECONDS = 60.0  # in which another driver ends the report that it writes


@dataclass(frozen=True)
class SessionResult:
    """A study as one session left it.

    Attributes:
        study: Its row in the ledger.
        state: "finished", "interrupted" or "failed" (no trial finished, or an act could not be
            done).
        trials: All its runs, also those of earlier sessions.
        best: Number of the best finished trial by the first objective; None without one.
        front: Numbers of the best trials: with several objectives the Pareto front.
        importances: Objective to the decisions that matter more than chance, see `Importance`.
        notes: What the user should know, one sentence each.
        message: Why the session ended and, where the study can go on, how.
        seconds: Wall time of the session.
        plans: What confirm and ablations compare, superseded plans left out.
        winner: Label of the arm that confirm froze as the winner.
        verdicts: What the comparisons say, one sentence each.
        report: The folder of the report, where it was written.
    """

    study: StudyRow
    state: State
    trials: list[TrialRow]
    best: int | None
    front: list[int]
    importances: dict[str, dict[str, dict[str, float]]]
    notes: list[str]
    message: str
    seconds: float
    plans: list[PlanRow] = field(default_factory=list)
    winner: str | None = None
    verdicts: list[str] = field(default_factory=list)
    report: Path | None = None


def report_of(
    ledger: Ledger, study: StudyRow, note: Callable[[str], None]
) -> tuple[list[str], Path | None]:
    """Write the report of a study's comparisons, if there are any.

    Args:
        ledger: The ledger.
        study: The study.
        note: Told where it could not be written.

    Returns:
        What they say, and where the report lies.
    """
    if not ledger.plans(study.id):
        return [], None
    from attnsearch.runs.reports import ReportError, verdict_lines, write_report

    resource, deadline = f"report:{study.id}", time.monotonic() + REPORT_SECONDS
    while ledger.hold(resource) and time.monotonic() < deadline:  # another driver writes it
        time.sleep(0.1)
    try:
        written = write_report(ledger, study.id)
    except ReportError as error:
        note(str(error))
        return list(verdict_lines(ledger, study.id)), None
    finally:
        ledger.free(resource)
    return list(written.verdicts), written.folder


def outcome_text(
    state: State,
    rows: Sequence[TrialRow],
    budget: int,
    winner: str | None,
    unfinished: Sequence[str],
) -> str:
    """Return why a session ended and, where the study can go on, how.

    Args:
        state: As in `SessionResult`.
        rows: All runs of the study.
        budget: Trials that the search may spend.
        winner: Label of the frozen winner.
        unfinished: Why acts could not be done.
    """
    searched = [row for row in rows if row.arm is None]
    counts = Counter(row.state for row in searched)
    words = {state: str(state) for state in State if state.ended}
    words[State.STOPPED] = "stopped early"
    states = ", ".join(f"{counts[key]} {word}" for key, word in words.items() if counts[key])
    ended = sum(counts[key] for key in words)
    arms = _arms_text(rows)
    if state == State.INTERRUPTED:
        so_far = f" ({states})" if states else ""
        acts = f" and {arms}" if arms else ""
        return f"stopped after {ended} of {budget} trials{so_far}{acts}; all is recorded; {AGAIN}"
    if state == State.FAILED and not unfinished:
        reasons = [row for row in searched if row.error]
        why = f"; trial {reasons[0].number:03d}: {reasons[0].error}" if reasons else ""
        if any(row.over for row in searched if row.state == State.FINISHED):
            return f"no trial that finished keeps the limits ({states}){why}"
        return f"no trial finished ({states or 'none was tried'}){why}"
    parts = [f"{plural(ended, 'trial')}: {states}"] if ended else []
    parts += [arms] if arms else []
    parts += [f"winner: {winner}"] if winner else []
    return "; ".join([*parts, *unfinished])


def _arms_text(rows: Sequence[TrialRow]) -> str:
    """Return `18 runs of confirm, 9 of ablations`."""
    counts = Counter(row.role for row in rows if row.state.ended)
    words = {
        Role.TUNING: "of tuning",
        Role.CONFIRM: "of confirm",
        Role.ABLATION: "of ablations",
    }
    return ", ".join(
        f"{plural(counts[role], 'run')} {word}" for role, word in words.items() if counts[role]
    )
