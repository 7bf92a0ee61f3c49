"""A plan in words, before its first run is trained."""

import itertools
import math
from collections import Counter
from collections.abc import Mapping

from attnsearch.runs.statistics import Arm, Interim, Plan
from attnsearch.runs.words import duration, listed
from attnsearch.search.text import Letters, paragraph, plural, table

_KINDS = {
    "candidate": "candidate",
    "baseline": "baseline",
    "capacity": "baseline of that size",
    "tuned_baseline": "baseline, tuned",
    "reference": "reference",
    "variant": "variant",
}


def plan_runs(plan: Plan) -> int:
    """Return how many runs a plan has; arms that are equal are trained once."""
    return len(plan.repeats()) * sum(1 for arm in plan.arms if arm.equals is None)


def plan_text(
    plan: Plan,
    *,
    reused: Mapping[str, int] | None = None,
    run_seconds: float | None = None,
    workers: int = 1,
    letters: Letters | None = None,
) -> str:
    """Return what a plan is going to do: arms, runs, those that are reused, and the time.

    Args:
        plan: The plan.
        reused: How many runs of each arm ready_of finished already, by label.
        run_seconds: Of one run; None where it is not known.
        workers: How many runs there are side by side.
        letters: For the long names of arms; by default by their order in the plan.
    """
    letters = letters or Letters(arm.label for arm in plan.arms)
    ready_of = reused or {}
    each = len(plan.repeats())
    shown: object = each
    if plan.interim is not None:
        shown = f"{plan.interim.sizes[0]}-{each}"
    rows = [[str(cell) for cell in _row(arm, shown, ready_of)] for arm in plan.arms]
    total = plan_runs(plan)
    ready = min(sum(ready_of.get(arm.label, 0) for arm in plan.arms if arm.equals is None), total)
    out = [
        _head(plan),
        table(
            ["arm", "kind", "runs", "reused", "note"],
            [[letters(cell) for cell in row] for row in rows],
            right={"runs", "reused"},
            indent="  ",
        ),
        letters.legend(*itertools.chain.from_iterable(rows), indent="  "),
        paragraph(_comparisons(plan), indent="  ", hanging="  "),
    ]
    line = f"{plural(total - ready, 'run')} to train"
    if plan.interim is not None:
        line = f"at least {total * plan.interim.sizes[0] // each} runs, at most {total}"
    if ready:
        line += f", {ready} reused"
    if run_seconds is not None:
        rounds = math.ceil((total - ready) / max(workers, 1))
        about = "about" if plan.interim is None else "at most about"
        line += f"; {about} {duration(rounds * run_seconds)}, {workers} at a time"
    out.append(f"  {line}")
    return "\n".join(part for part in out if part)


def _head(plan: Plan) -> str:
    name = plan.name if plan.act == "confirm" else f"ablation {plan.name}"
    seeds = plural(len(plan.seeds), "seed")
    if plan.interim is not None:
        seeds = f"{plan.interim.sizes[0]} to {seeds}"
    folds = f" on each of {len(plan.folds)} folds" if len(plan.folds) > 1 else ""
    part = {"test": "test", "val": "validation"}[plan.part]
    epoch = "best validation epoch" if plan.checkpoint == "best_val" else "last epoch"
    words = (
        f"{name}: {plural(len(plan.arms), 'arm')}, {seeds}{folds}, {plural(plan.epochs, 'epoch')} "
        f"a run; {plan.metric} of the {epoch} on the {part} part"
    )
    if plan.act == "ablation" and not plan.retuned:
        words += "; training settings are the reference's (not retuned)"
    if plan.retuned:
        words += "; every arm's training settings are tuned first, with the search's budget"
    if plan.interim is not None:
        words += f"; {interim_text(plan.interim)}"
    if plan.nesting == "not nested":
        words += "; not nested, so without verdicts"
    return paragraph(words, hanging="  ")


def interim_text(interim: Interim) -> str:
    """Return when a plan is analysed, and what becomes of its arms."""
    return (
        f"analysed at {listed([str(size) for size in interim.sizes])} seeds, after each of which "
        "the arms stop whose comparisons are settled: better, worse, equivalent, or futile"
    )


def _row(arm: Arm, each: object, reused: Mapping[str, int]) -> tuple[object, ...]:
    notes = [note for note in arm.notes if note != f"= {arm.equals}"]
    if arm.equals is not None:
        notes.insert(0, f"= {arm.equals}, whose runs these are")
    runs = 0 if arm.equals is not None else each
    ready = "-" if arm.equals is not None else reused.get(arm.label, 0)
    return arm.label, _KINDS[arm.kind], runs, ready, "; ".join(notes)


def _comparisons(plan: Plan) -> str:
    families = Counter(contrast.family for contrast in plan.contrasts)
    words = ", ".join(f"{family} ({count})" for family, count in families.items())
    return f"compared, with Holm's adjustment within each family: {words}" if words else ""
