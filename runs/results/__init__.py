"""A study as it was measured, before any word is written.

ranking      Which runs are best, and in which order runs are listed: the one definition
collect      From the ledger to a report's `MeasuredStudy`: reads, checks and compares
combined     Several studies as one: the same arms on several data sets, or what keeps them apart
luck         The winner's curse in words: what the best explored score owes to its one seed
model        What a report is made of: a study's acts as they were measured
predictions  What a report takes from the stored predictions of runs
trials       Tables of a study's runs, as pandas frames and as files
frames       A report's numbers as pandas frames, in metric units: nothing rounded, a fact a column
numbers      How a report writes numbers: shares in percent, their differences in points, p-values,
             costs
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.results.collect import collect_plan, collect_study
    from attnsearch.runs.results.combined import (
        Combined,
        CombinedArm,
        CombineError,
        Effect,
        combine_studies,
    )
    from attnsearch.runs.results.frames import study_frames
    from attnsearch.runs.results.luck import luck_sentence
    from attnsearch.runs.results.model import ActResult, ArmResult, MeasuredStudy
    from attnsearch.runs.results.numbers import (
        MINUS,
        cost_cell,
        cost_text,
        difference_text,
        factor,
        finite,
        interval_text,
        is_number,
        metric_text,
        p_phrase,
        p_text,
        percent,
        points,
        size_text,
        unit,
    )
    from attnsearch.runs.results.ranking import (
        best,
        counting,
        importance_sentence,
        importances_of,
        listed,
        objective_values,
        pareto_front,
        rank,
        ranked,
        value_of,
    )
    from attnsearch.runs.results.trials import (
        frame_of,
        leaderboard,
        leaderboard_files,
        leaderboard_note,
        trials_frame,
    )

face(__name__)
