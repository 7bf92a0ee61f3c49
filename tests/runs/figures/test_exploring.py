"""Figures of exploring: what they mark is what the ledger says."""

from pathlib import Path

import pytest
from matplotlib.lines import Line2D

from attnsearch.runs.figures import curves
from attnsearch.runs.figures.drawing import WIDE, Figure, Sheet
from attnsearch.runs.figures.exploring import importances, study_plots
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.requests import Ending, Place, Request


@pytest.fixture
def figures(made_up: Ledger) -> dict[str, Figure]:
    study = made_up.find_study("digits")
    return study_plots(study, made_up.trials(study.id))


def lines(figure: Figure) -> list[Line2D]:
    """What a figure draws, as matplotlib has it."""
    sheet = Sheet(WIDE)
    figure.draw(sheet)
    return list(sheet.canvas.axes[0].lines)


def points(figure: Figure, label: str) -> list[tuple[float, float]]:
    """The points that a figure draws under a label of its legend."""
    for line in lines(figure):
        if line.get_label() == label:
            return [(x, pytest.approx(y)) for x, y in zip(*line.get_data(), strict=True)]
    raise AssertionError(f"nothing is labelled {label!r}")


def test_a_study_has_a_figure_of_everything_it_knows(figures: dict[str, Figure]) -> None:
    assert sorted(figures) == [
        *("cost_params", "curves", "importances"),
        *("objective_val_accuracy", "objective_val_loss"),
    ]
    for figure in figures.values():
        assert figure.title and figure.caption and figure.words
        assert figure.svg().count("<svg") == 2
        assert figure.png().startswith(b"\x89PNG")


def test_the_objective_marks_each_fate(figures: dict[str, Figure]) -> None:
    figure = figures["objective_val_accuracy"]
    assert points(figure, "full schedule") == [(0, 60), (1, 80), (4, 70)]
    assert points(figure, "stopped early (value then)") == [(2, 90)]
    assert [x for x, _ in points(figure, "failed")] == [3]
    assert [x for x, _ in points(figure, "over a limit, not trained")] == [5]
    assert [y for _, y in points(figure, "baseline")] == [60, 60]
    # A stopped run's value is never the best, however good.
    assert [y for _, y in points(figure, "best so far")] == [60, 80, 80, 80]
    lowest = figures["objective_val_loss"]
    assert [y for _, y in points(lowest, "best so far")] == [0.4, 0.2, 0.2, 0.2]
    assert figure.caption == "best: 001 gc@layer4, 80.00 %"


def test_a_baseline_beside_the_search_is_a_line_and_no_trial(made_up: Ledger) -> None:
    study = made_up.find_study("digits")
    run_id = made_up.claim(
        Request("beside", config={}, seed=0, epochs=3, study_id=study.id)
    ).run_id
    made_up.attach(study.id, run_id, Place(number=0, role="baseline", arm="plain"))
    made_up.finish(
        run_id, Ending("finished", metrics={"val_accuracy": 0.75}, costs={"params": 900})
    )
    trials = [trial for trial in made_up.trials(study.id) if trial.role != "plain"]
    figures = study_plots(study, trials)
    objective = figures["objective_val_accuracy"]
    assert points(objective, "full schedule") == [(1, 80), (4, 70)]
    assert [y for _, y in points(objective, "baseline")] == [75, 75]
    assert points(figures["cost_params"], "baseline") == [(900, 75)]


def test_the_cost_plot_marks_the_pareto_front(figures: dict[str, Figure]) -> None:
    figure = figures["cost_params"]
    assert points(figure, "Pareto front") == [(1000, 60), (3000, 80)]
    assert points(figure, "dominated") == [(4000, 70)]
    assert points(figure, "baseline") == [(1000, 60)]
    assert ">3.00 k<" in figure.svg()


def test_curves_show_every_trial_and_dim_the_stopped(figures: dict[str, Figure]) -> None:
    drawn = lines(figures["curves"])
    assert len(drawn) == 4
    assert drawn[-1].get_label() == "001 gc@layer4"  # the best, on top
    stopped = next(line for line in drawn if line.get_label() == "stopped early")
    others = [line.get_alpha() or 1 for line in drawn if line is not stopped]
    assert (stopped.get_alpha() or 1) < min(others)


def test_curves_of_a_long_search_are_the_best_the_baseline_and_some(
    made_up: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "CURVES", 2)
    study = made_up.find_study("digits")
    figure = study_plots(study, made_up.trials(study.id))["curves"]
    labels = [line.get_label() for line in lines(figure)]
    assert sorted(labels) == ["001 gc@layer4", "baseline", "stopped early"]
    assert "of 4 trials" in figure.words
    assert figure.caption.endswith("3 of them are drawn: the best, and one in 2.")


def test_importances_are_ordered_and_named(figures: dict[str, Figure]) -> None:
    figure = figures["importances"]
    assert figure.title == "Which decisions matter for validation accuracy"
    page = figure.svg()
    assert page.index("gc.ratio: 0.750") < page.index("psa.kernels: 0.250")


def test_importances_of_two_objectives_stand_side_by_side() -> None:
    half, whole = ({"share": share, "low": 0.25, "high": 1.0, "p": 0.01} for share in (0.5, 1.0))
    figure = importances({"val_accuracy": {"a": half}, "params": {"b": whole}})
    assert figure is not None and figure.title == "Which decisions matter"
    page = figure.svg()
    for words in ("a: 0.500", "b: 1.000", ">validation accuracy<", ">params<"):
        assert words in page
    assert importances({"val_accuracy": {}}) is None


def test_a_study_without_results_has_no_figures(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "empty.db")
    study = ledger.open_study("empty", "", {}, "data", {})
    assert study_plots(study, []) == {}
