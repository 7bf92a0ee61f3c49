"""What is compared: the arms of confirm and of ablations, and their seeds.

arms       What confirm and ablation plans share: arms from configs, their labels, and folds
seeds      Seeds that no act shares with another
controls   What candidates are compared with: the baseline, one as large as the candidate, one
           tuned
confirm    The plan of confirm: which networks are trained again, and what each is compared with
ablations  Ablation plans: what of a network is taken away, moved, replaced or varied
changes    What can be changed about a network: its insertions, their places, blocks and settings
first      What a search tries first, see `search.first`: given configs, and the published places
measurable Whether the data can give what a study is measured by
text       A plan in words, before its first run is trained
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.search.plans.ablations import ablation_plan, ablation_settings
    from attnsearch.search.plans.arms import (
        NothingToVary,
        PlanError,
        network_text,
        plan_folds,
        run_config,
        statistics_of,
    )
    from attnsearch.search.plans.confirm import Ranked, confirm_plan, given_configs, needs_tuning
    from attnsearch.search.plans.controls import baseline_config, tuning_space
    from attnsearch.search.plans.first import (
        SHARE,
        Start,
        StartError,
        config_values,
        starts_of,
        starts_text,
    )
    from attnsearch.search.plans.measurable import check_measurable
    from attnsearch.search.plans.seeds import most_seeds
    from attnsearch.search.plans.text import plan_runs, plan_text

face(__name__)
