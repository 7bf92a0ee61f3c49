"""After an analysis of a plan: which comparisons are settled, and which arms go on."""

from attnsearch.runs.ledger import PlanRow
from attnsearch.runs.results import ActResult, collect_plan
from attnsearch.runs.statistics import seeds_wanted
from attnsearch.search.study.stage import Stage
from attnsearch.search.text import plural


def analyse(stage: Stage, row: PlanRow) -> bool:
    """Keep in the ledger what the results so far have settled, and tell it.

    It follows from the results in the order of their seeds, so drivers side by side, and a study
    that was stopped in the midst, come to the same.

    Args:
        stage: The study's surroundings.
        row: A plan with analyses, whose runs so far are scored.

    Returns:
        Whether all is settled, so that no arm goes on.
    """
    act = collect_plan(stage.ledger, row)
    analyses = [course.analysis for course in act.courses if course.analysis is not None]
    made = max(analyses, default=-1) + 1
    for number in range(len(row.analyses) + 1, made + 1):
        settled = {
            course.contrast.name: course.settled
            for course in act.courses
            if course.settled is not None and course.analysis == number - 1
        }
        seeds = seeds_wanted(row.plan, act.courses)
        stage.ledger.add_analysis(row, number, settled, seeds)
        stage.progress.note(_analysis_text(act, number, settled, seeds))
    return all(course.settled is not None for course in act.courses)


def _analysis_text(
    act: ActResult, number: int, settled: dict[str, str], seeds: dict[str, int]
) -> str:
    interim = act.plan.interim
    assert interim is not None, "the plan has analyses"
    size = interim.sizes[number - 1]
    words = "; ".join(f"{name}: {why}" for name, why in settled.items()) or "nothing settled yet"
    going = sum(count > size for count in seeds.values())
    rest = "all arms stop"
    if going:
        rest = f"{plural(going, 'arm')} of {len(seeds)} go on to {max(seeds.values())} seeds"
    return (
        f"{act.plan.title}, analysis {number} of {len(interim.sizes)} at {size} seeds: "
        f"{words}; {rest}"
    )
