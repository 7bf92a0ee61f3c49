"""The drawings of a study: one function a figure, each an inline SVG or a PNG.

drawing    The one way to draw: a figure on matplotlib, as SVG in its page's colours and as a PNG
arms       The figures of an act: differences with their intervals, seeds, interactions
combined   The figures of several data sets: the critical difference, a forest plot of an effect
cost       Score against cost, with the Pareto front: of arms, and of trials
curves     Learning curves: of arms, and of trials
exploring  The figures of exploring: objectives over the trials, importances, how well it ranked
heatmaps   Heatmaps of a report: block by site, measured in an ablation or seen in exploring
renderer   What matplotlib draws as SVG elements: text stays text, a colour is the page's variable
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.figures.arms import forest, interaction_slopes, seeds
    from attnsearch.runs.figures.combined import (
        critical_difference,
        effect_forest,
        heterogeneity,
    )
    from attnsearch.runs.figures.cost import cost_of_arms, cost_of_trials
    from attnsearch.runs.figures.curves import curves_of_arms, curves_of_trials
    from attnsearch.runs.figures.drawing import Figure
    from attnsearch.runs.figures.exploring import (
        importances,
        rank_correlation,
        rank_pairs,
        ranks,
        study_plots,
    )
    from attnsearch.runs.figures.heatmaps import heatmap_of_arms, heatmap_of_trials
    from attnsearch.runs.figures.renderer import COLOURS

face(__name__)
