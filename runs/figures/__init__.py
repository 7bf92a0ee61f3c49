"""The drawings of a study.

arms       The figures of an act: differences with their intervals, seeds, interactions
cost       Score against cost, with the Pareto front: of arms, and of trials
exploring  The figures of exploring: learning curves, importances, and how well it ranked
heatmaps   Heatmaps of a report: block by site, measured in an ablation or seen in exploring
svg        A few shapes of SVG, for figures that take their colours from the page they stand in
plots      Plots of a study, drawn without pyplot: nothing global, so any thread may draw
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.figures.arms import Figure, forest, interaction_slopes, seeds
    from attnsearch.runs.figures.cost import cost_of_arms, cost_of_trials
    from attnsearch.runs.figures.exploring import (
        curves_of_arms,
        curves_of_trials,
        importances,
        rank_correlation,
        rank_pairs,
        ranks,
    )
    from attnsearch.runs.figures.heatmaps import explored_cells, heatmap, measured_cells
    from attnsearch.runs.figures.plots import study_plots

face(__name__)
