"""A study's acts, from the first trial to the last ablation, and their records.

session      Runs a study: its acts in order, all recorded, from where an earlier session stopped
acts         The acts of a study that follow exploring: tuning the baseline, confirm, ablation
arithmetic   The arithmetic of a study: chosen before its first run, and the same for all of them
queue        The queue of a study's jobs: its acts fill it, and it alone speaks with what executes
             them
exploring    The exploring act: proposes trials, skips configs that were tried, and takes their
             results
alike        Noticing that all runs of an act fail with the same error: so would the rest
plan_runs    The runs of a plan, and after an analysis of it which arms go on
test_runs    Trained networks applied to the test part, several in one job
checkpoints  The checkpoints of a study's runs: found before a run begins, dropped once it has
             ended
records      Records what becomes of a study's trainings: ledger, weights, MLflow, and watchers
events       What a study tells whoever watches it: the command line's live table, a notebook, a
             test
outcome      What one session of a study came to
interrupt    Ctrl-C and SIGTERM end a study cleanly; a second one ends the process at once
learned      Whether exploring has found anything that learns, before confirm spends hours on it
company      The other drivers that run the same study, each with work of its own
stage        What the acts of a study share: what they work with, and how runs are named and ranked
ablation     Ablations by themselves: around one config, or around the winner of a study
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.search.study.ablation import ablate
    from attnsearch.search.study.events import (
        ActInfo,
        Progress,
        Several,
        StudyEnd,
        StudyInfo,
        TrialEnd,
        TrialInfo,
    )
    from attnsearch.search.study.outcome import SessionResult
    from attnsearch.search.study.session import run_study

face(__name__)
