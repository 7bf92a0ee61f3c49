"""What measured numbers allow to say: plans, tests, intervals and verdicts, as pure functions.

plan           What is planned before it is measured: the arms of an act, and the differences to be
               tested
interim        When a plan is analysed before its last seed: group-sequential analyses, fixed with
               the plan
paired         Tests and intervals for paired differences: Student's t, two one-sided tests, sign
               flips
measured       What runs of an arm scored, seed by seed or fold by fold, and an arm's own summary
differences    One contrast's pairs, and everything that follows from them alone
courses        How far the contrasts of a plan with interim analyses have come: which are settled,
               and why
comparison     The differences that a plan asks for: estimate, intervals, tests and verdict of each
learning       Whether a network has learned anything at all, before it is compared with others
patients       The scope of new patients: what would hold for other patients, and for other seeds
cases          One network's scores, and where they would be on other cases: patients, or else
               images
power          What a number of seeds can find, before a run is trained: power of the paired t
verdicts       What may be said of a difference, given how it came about
claim          The claim that a paper makes of its winner, and what it needs
importance     Which decisions of a search matter: shares of the scores' variance, held against
               chance
luck           The winner's curse: how much of a selected score is the luck of its one seed
datasets       Several data sets, one claim: which arms rank before others, and one effect out of
               many
families       Families of tests: p-values adjusted together so that the family has one error rate
fold_variance  Folds of one data set share most of their training images, so their scores are
               correlated
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.statistics.cases import class_intervals, mean_interval, share_interval
    from attnsearch.runs.statistics.claim import (
        HELPS,
        HELPS_NEGLIGIBLY,
        NEEDED,
        Conclusion,
        judge_claim,
    )
    from attnsearch.runs.statistics.comparison import INTERACTION, Comparison, compare
    from attnsearch.runs.statistics.courses import Course, follow, seeds_wanted
    from attnsearch.runs.statistics.datasets import Pooled, Ranking, judge, pool, rank_arms
    from attnsearch.runs.statistics.importance import LEAST_TRIALS, importances
    from attnsearch.runs.statistics.interim import Interim, expected_seeds, interim_analyses
    from attnsearch.runs.statistics.learning import PERFECT, constant_of, has_learned
    from attnsearch.runs.statistics.luck import expected_luck, seed_noise
    from attnsearch.runs.statistics.measured import ArmSummary, Interval, Measured, summarise
    from attnsearch.runs.statistics.patients import case_values, mean_case_values
    from attnsearch.runs.statistics.plan import (
        AGAINST_BASELINE,
        AGAINST_CONTROLS,
        Arm,
        Contrast,
        Plan,
    )
    from attnsearch.runs.statistics.power import (
        achieved_power,
        detectable,
        pair_sd,
        power_sentence,
        seeds_needed,
    )
    from attnsearch.runs.statistics.verdicts import (
        BETTER,
        EQUIVALENT,
        IDENTICAL,
        LEAST_DECIDED,
        NO_VERDICT,
        NOT_DISTINGUISHABLE,
        SUGGESTIVE,
        WORSE,
        verdict_text,
    )

face(__name__)
