"""A report's tables as a person reads them; Markdown, LaTeX and HTML write the same cells."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from attnsearch.blocks.naming import shown_name
from attnsearch.runs.results import (
    ActResult,
    ArmResult,
    MeasuredStudy,
    best,
    cost_cell,
    cost_text,
    difference_text,
    interval_text,
    is_number,
    leaderboard,
    luck_sentence,
    metric_text,
    p_text,
    percent,
    size_text,
)
from attnsearch.runs.statistics import (
    BETTER,
    INTERACTION,
    SUGGESTIVE,
    WORSE,
    Comparison,
    verdict_text,
)
from attnsearch.spaces.keys import COSTS, is_share, metric_name

_MOST_TRIALS = 20


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: As it is read.
        order: What the column is sorted by; None for its text.
        strong: Whether it stands out.
        verdict: The verdict it shows, for its colour.
    """

    text: str
    order: float | None = None
    strong: bool = False
    verdict: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        key: Names it in files: ``confirm``, ``confirm-contrasts``.
        title: Above it.
        headers: One a column.
        rows: The cells.
        notes: Below it.
        numeric: The columns that are aligned to the right.
    """

    key: str
    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    numeric: frozenset[int] = field(default_factory=frozenset)


def table(
    key: str,
    title: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    notes: Sequence[str] = (),
    words: Sequence[str] = (),
) -> Table:
    """Return a table without the columns that are empty throughout.

    Args:
        key: Names it in files.
        title: Above it.
        headers: One a column.
        rows: The cells.
        notes: Below it; empty ones are left out.
        words: The headers of columns that hold text and not numbers.
    """
    kept = [i for i, _ in enumerate(headers) if i == 0 or any(row[i].text for row in rows)]
    return Table(
        key,
        title,
        tuple(headers[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in rows),
        tuple(note for note in notes if note),
        frozenset(place for place, i in enumerate(kept) if i and headers[i] not in words),
    )


def act_title(act: ActResult) -> str:
    """Return what an act is called."""
    return "Confirmation" if act.plan.act == "confirm" else f"Ablation: {act.name}"


def score_header(metric: str) -> str:
    """Return a score's column."""
    words = metric_name(metric)
    return words[:1].upper() + words[1:] + (" (%)" if is_share(metric) else "")


def arm_table(act: ActResult) -> Table:
    """Return one row an arm: what is inserted where, score, difference to its reference, costs."""
    plan, metric = act.plan, act.metric
    level = percent(1 - plan.alpha)
    headers = [
        *("Arm", "Inserted", score_header(metric), "SD", "n"),
        *(f"Δ{' (points)' if is_share(metric) else ''}", f"{level} interval", "Simultaneous"),
        *("p (Holm)", "Verdict", *(cost.header for cost in COSTS.values()), "Validation", "Notes"),
    ]
    rows = []
    for arm in act.arms:
        summary = arm.summary
        mean = summary.mean if summary else None
        rows.append(
            [
                Cell(arm.label, strong=arm.label == act.winner),
                Cell("" if arm.inserted in (arm.label, "baseline") else arm.inserted),
                Cell(metric_text(metric, mean), mean, strong=arm.best),
                Cell(metric_text(metric, summary.sd if summary else None)),
                Cell(_count(arm), summary.n if summary else 0),
                *_difference_cells(act, arm),
                *(Cell(cost_cell(k, arm.costs), arm.costs.get(k)) for k in COSTS),
                _validation(act, arm),
                Cell("; ".join(_arm_notes(act, arm))),
            ]
        )
    words = ("Inserted", "Verdict", "Notes", f"{level} interval", "Simultaneous")
    return table(act_key(act), act_title(act), headers, rows, _table_notes(act), words)


def act_key(act: ActResult) -> str:
    """Name an act in files."""
    return "confirm" if act.plan.act == "confirm" else f"ablation-{act.name}"


def _count(arm: ArmResult) -> str:
    n = arm.summary.n if arm.summary else 0
    return f"{n} of {len(arm.runs)}" if len(arm.scored) < len(arm.runs) else str(n)


def _validation(act: ActResult, arm: ArmResult) -> Cell:
    if act.plan.checkpoint == "best_val" or act.plan.part == "val":
        return Cell("")
    return Cell(metric_text(act.metric, arm.validation), arm.validation)


def _difference_cells(act: ActResult, arm: ArmResult) -> list[Cell]:
    """Return difference, interval, simultaneous interval, p and verdict."""
    c = arm.comparison
    if arm.excluded:
        return [Cell(""), Cell(""), Cell(""), Cell(""), Cell("excluded", verdict="no verdict")]
    if c is None:
        reference = act.complete and arm.label == act.reference
        return [Cell("")] * 4 + [Cell("reference" if reference else "")]
    return [
        Cell(difference_text(act.metric, c.difference), c.difference),
        Cell(interval_text(act.metric, c.low, c.high), c.low),
        Cell(interval_text(act.metric, c.simultaneous_low, c.simultaneous_high)),
        Cell(p_text(c.p_adjusted), c.p_adjusted),
        Cell(shown_verdict(act, c), verdict=c.verdict),
    ]


def shown_verdict(act: ActResult, c: Comparison) -> str:
    """Return a verdict as tables and sentences write it."""
    margin = act.plan.margin
    edge = None if margin is None else size_text(act.metric, margin)
    words = verdict_text(c.verdict, edge)
    if c.against == INTERACTION:
        words = {BETTER: "more than the sum", WORSE: "less than the sum"}.get(c.verdict, words)
    elif c.verdict == SUGGESTIVE and c.favours:
        words = f"suggestive ({c.favours})"
    return words


def _arm_notes(act: ActResult, arm: ArmResult) -> list[str]:
    notes = [*arm.arm.notes]
    if arm.arm.equals is not None and not any(note.startswith("= ") for note in notes):
        notes.append(f"the runs of {arm.arm.equals}")
    c = arm.comparison
    if c is not None and act.plan.act == "confirm" and c.minus[0] != act.reference:
        notes.append(f"Δ to {c.minus[0]}")
    if arm.failed:
        notes.append(f"{len(arm.failed)} failed")
    notes += [f"{arm.split} in micro-batches"] if arm.split else []
    if arm.excluded:
        notes.append(f"excluded: {arm.excluded}")
    return notes


def _table_notes(act: ActResult) -> list[str]:
    plan = act.plan
    what = "seeds" if plan.folds == (None,) else "folds"
    notes = []
    if act.reference is not None:
        compared = [arm.comparison for arm in act.arms if arm.comparison is not None]
        other = any(c.minus[0] != act.reference for c in compared)
        least = f"{act.reference}{', or what its notes name' if other else ''}"
        notes.append(f"Δ: arm less {least}, paired by {what[:-1]}.")
    if act.winner is not None:
        notes.append(f"Winner, by validation data alone: {act.winner}.")
    if act.comparisons:
        level = percent(1 - plan.alpha)
        notes.append(
            f"The {level} intervals are {'repeated ones, ' if plan.interim else ''}not adjusted; "
            "the simultaneous ones are (Bonferroni, over the family)."
        )
        leader = next((arm.label for arm in act.arms if arm.best), None)
        if leader is None:
            notes.append("No arm is marked as best: none is distinguishable from all others.")
        else:
            notes.append(f"Marked as best, being better than every other arm: {leader}.")
    if plan.act == "ablation":
        tuned = "Every arm's training settings were tuned, with equal budgets."
        notes.append(tuned if plan.retuned else "Settings are the reference's, not retuned.")
        if plan.reuses_confirm:
            notes.append("The reference was selected on these seeds.")
    if not act.complete:
        notes.append(
            f"{act.ended} of {act.expected} runs have ended; nothing is compared before all "
            "scores are there."
        )
    return notes


def contrast_table(act: ActResult, members: Sequence[Comparison], family: str) -> Table:
    """Return all contrasts of a family, with both scopes and what the tests rest on."""
    metric, level = act.metric, percent(1 - act.plan.alpha)
    beyond = f"New {cases_name(act)} ({level})"
    headers = [
        *("Contrast", f"Δ{' (points)' if is_share(metric) else ''}", f"{level} interval"),
        *("Simultaneous", beyond, "p", "p (Holm)", "Verdict", "Why", "n", "df"),
        *("p (sign flips)", "p (TOST, Holm)", "Correlation", "Detectable"),
    ]
    rows = []
    for c in members:
        new = c.new_patients
        rows.append(
            [
                Cell(c.name),
                Cell(difference_text(metric, c.difference), c.difference),
                Cell(interval_text(metric, c.low, c.high), c.low),
                Cell(interval_text(metric, c.simultaneous_low, c.simultaneous_high)),
                Cell("" if new is None else interval_text(metric, new.low, new.high)),
                Cell(p_text(c.p), c.p),
                Cell(p_text(c.p_adjusted), c.p_adjusted),
                Cell(shown_verdict(act, c), verdict=c.verdict),
                Cell(c.reason),
                Cell(str(c.n), c.n),
                Cell("" if c.df is None else f"{c.df:.3g}", c.df),
                Cell(p_text(c.permutation_p), c.permutation_p),
                Cell(p_text(c.equivalence_p_adjusted), c.equivalence_p_adjusted),
                Cell("" if c.correlation is None else f"{c.correlation:.2f}", c.correlation),
                Cell(metric_text(metric, c.detectable), c.detectable),
            ]
        )
    m = members[0].tests
    beyond_note = ""
    if any(c.new_patients is not None for c in members):
        beyond_note = "The scope of new patients: other patients and other seeds"
        unknown = "; every image is taken for a patient, since their identity is unknown"
        beyond_note += f"{'' if act.groups else unknown}."
    notes = [
        f"Family of {len(members)} {'contrast' if len(members) == 1 else 'contrasts'}, "
        f"m = {m} {'test' if m == 1 else 'tests'}, Holm at alpha = {act.plan.alpha:g}. "
        f"Scope of interval and p: {' and '.join(scopes(act, members))}.",
        beyond_note,
        "Detectable: the smallest difference found with a power of 80 % at this spread.",
        _status(act),
    ]
    words = ("Verdict", "Why", f"{level} interval", "Simultaneous", beyond)
    key = f"{act_key(act)}-{'-'.join(family.lower().replace(':', '').split())}"
    name = "tests" if family == act.name else family.removeprefix(f"{act.name}: ")
    return table(key, f"{act_title(act)}, {name}", headers, rows, notes, words)


def scope_of(act: ActResult, c: Comparison) -> str:
    """Return what an interval over seeds or folds speaks of."""
    return c.scope.replace("test", "validation") if act.plan.part == "val" else c.scope


def scopes(act: ActResult, comparisons: Sequence[Comparison]) -> list[str]:
    """Return what the intervals of some comparisons speak of."""
    return sorted({scope_of(act, c) for c in comparisons})


def cases_name(act: ActResult) -> str:
    """Return what the cases are: patients where they are known, else images."""
    return "patients" if act.groups else "images"


def _status(act: ActResult) -> str:
    if act.plan.part == "val":
        return "On validation data; the test data was not opened for it."
    if act.confirmatory:
        return f"Confirmatory: planned before the test data was first opened (look {act.look})."
    return f"Exploratory (look {act.look}): planned after the test data had been opened."


def headers_of(names: Sequence[str]) -> list[str]:
    """Return the header of a table of metrics."""
    return ["Arm", *(score_header(name) for name in names)]


def trouble_table(result: MeasuredStudy) -> Table | None:
    """Tabulate the runs that failed, were excluded or left the plan; None without any."""
    rows = []
    for act in result.acts:
        for arm in act.trained:
            for run in arm.runs:
                if run.state in ("failed", "excluded"):
                    fold = "" if run.fold is None else str(run.fold)
                    cells = (act_title(act), arm.label, fold, str(run.seed), run.state, run.reason)
                    rows.append([Cell(text) for text in cells])
        for row in act.strays:
            fold = "" if row.fold is None else str(row.fold)
            why = "not in the current plan"
            cells = (act_title(act), row.arm or "", fold, str(row.seed), "not used", why)
            rows.append([Cell(text) for text in cells])
    if not rows:
        return None
    headers = ["Act", "Arm", "Fold", "Seed", "State", "Why"]
    title = "Failed, excluded and unused runs"
    return table("trouble", title, headers, rows, words=("Arm", "State", "Why"))


def leaderboard_table(result: MeasuredStudy) -> Table:
    """Return the search's best trials, with what they are not."""
    study = result.study
    frame = leaderboard(study, result.trials, _MOST_TRIALS)
    metric, goal = next(iter(study.objectives.items()))
    rows = []
    for record in frame.to_dict("records"):
        cells = [Cell(shown_name(str(record["name"]))), Cell(str(record["state"]))]
        for name in study.objectives:
            value = record.get(name)
            number = float(value) if is_number(value) else None
            text = cost_text(name, number) if name in COSTS else metric_text(name, number)
            cells.append(Cell(text, number))
        for cost in COSTS:
            if cost not in study.objectives:
                value = record.get(cost)
                cells.append(Cell(cost_cell(cost, record), value if is_number(value) else None))
        cells.append(Cell(str(record["epochs"]), float(record["epochs"])))
        rows.append(cells)
    objectives = [
        COSTS[name].header if name in COSTS else score_header(name) for name in study.objectives
    ]
    costs = [cost.header for name, cost in COSTS.items() if name not in study.objectives]
    notes = [
        luck_sentence(result.rows, study.objectives) or "Selected maxima on one seed.",
        "No result: the confirmation trains on fresh seeds.",
        f"The {_MOST_TRIALS} best are shown." if len(result.trials) > _MOST_TRIALS else "",
        "" if best(result.trials, metric, goal) else "No trial has ended its full schedule yet.",
    ]
    headers = ["Trial", "State", *objectives, *costs, "Epochs"]
    return table("leaderboard", "Exploring", headers, rows, notes, words=("State",))
