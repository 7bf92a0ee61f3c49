"""Plots: what they mark is what the ledger says."""

import threading
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from attnsearch.runs.figures.plots import pareto_front, plot_importances, study_plots
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.records import Ending, Place, Request


@pytest.fixture
def figures(made_up: Ledger) -> dict[str, Figure]:
    study = made_up.find_study("digits")
    return study_plots(study, made_up.trials(study.id))


def offsets(figure: Figure, label: str) -> list[tuple[float, float]]:
    """The points that a figure draws under a label of its legend."""
    for drawn in figure.axes[0].collections:
        if drawn.get_label() == label:
            return [(float(x), float(y)) for x, y in drawn.get_offsets()]
    for line in figure.axes[0].lines:
        if line.get_label() == label:
            return list(zip(line.get_xdata(), line.get_ydata(), strict=True))
    raise AssertionError(f"nothing is labelled {label!r}")


def test_every_plot_is_a_readable_picture(figures: dict[str, Figure], tmp_path: Path) -> None:
    assert sorted(figures) == [
        *("cost_macs", "cost_params", "curves", "importances"),
        *("objective_val_accuracy", "objective_val_loss"),
    ]
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width >= 1000
            assert len(picture.convert("L").getcolors() or ()) > 10
        axes = figure.axes[0]
        assert axes.get_title(loc="left")
        assert axes.get_xlabel()


def test_the_objective_marks_each_fate(figures: dict[str, Figure]) -> None:
    figure = figures["objective_val_accuracy"]
    assert offsets(figure, "full schedule") == [(0, 0.6), (1, 0.8), (4, 0.7)]
    assert offsets(figure, "stopped early (value then)") == [(2, 0.9)]
    assert [x for x, _ in offsets(figure, "failed")] == [3]
    assert [x for x, _ in offsets(figure, "over a limit, not trained")] == [5]
    assert [y for _, y in offsets(figure, "plain network")] == [0.6, 0.6]
    # A stopped run's value is never the best, however good.
    assert [y for _, y in offsets(figure, "best so far")] == [0.6, 0.8, 0.8, 0.8]
    lowest = figures["objective_val_loss"]
    assert [y for _, y in offsets(lowest, "best so far")] == pytest.approx([0.4, 0.2, 0.2, 0.2])


def test_a_plain_network_beside_the_search_is_a_line_and_no_trial(made_up: Ledger) -> None:
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
    assert offsets(objective, "full schedule") == [(1, 0.8), (4, 0.7)]
    assert [y for _, y in offsets(objective, "plain network")] == [0.75, 0.75]
    assert offsets(figures["cost_params"], "plain network") == [(900, 0.75)]


def test_the_cost_plot_marks_the_pareto_front(figures: dict[str, Figure]) -> None:
    figure = figures["cost_params"]
    assert offsets(figure, "Pareto front") == [(1000, 0.6), (3000, 0.8)]
    assert offsets(figure, "dominated") == [(4000, 0.7)]
    assert offsets(figure, "plain network") == [(1000, 0.6)]
    assert "M" in figures["cost_macs"].axes[0].xaxis.get_major_formatter()(5e6)


def test_curves_show_every_trial_and_dim_the_stopped(figures: dict[str, Figure]) -> None:
    lines = figures["curves"].axes[0].lines
    assert len(lines) == 4
    assert lines[-1].get_label() == "001 gc@layer4"  # the best, on top
    stopped = next(line for line in lines if line.get_label() == "stopped early")
    assert stopped.get_alpha() < min(line.get_alpha() for line in lines if line is not stopped)


def test_importances_are_ordered_and_named(figures: dict[str, Figure]) -> None:
    axes = figures["importances"].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["psa.kernels", "gc.ratio"]
    assert [bar.get_width() for bar in axes.patches] == [0.25, 0.75]


def test_importances_of_two_objectives_stand_side_by_side() -> None:
    axes = plot_importances({"val_accuracy": {"a": 0.5}, "params": {"b": 1.0}}).axes[0]
    assert len(axes.patches) == 4


@pytest.mark.parametrize(
    ("points", "goal", "front"),
    [
        ([(1, 0.5), (2, 0.7), (3, 0.6)], "max", {0, 1}),
        ([(1, 0.5), (2, 0.7), (3, 0.4)], "min", {0, 2}),
        ([(1, 0.5), (1, 0.5), (1, 0.4)], "max", {0, 1}),
        ([(2, 0.5), (1, 0.5)], "max", {1}),
        ([], "max", set()),
    ],
)
def test_the_front_holds_what_nothing_beats(
    points: list[tuple[float, float]], goal: str, front: set[int]
) -> None:
    assert pareto_front(points, goal) == front


def test_a_study_without_results_has_no_plots(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "empty.db")
    study = ledger.open_study("empty", "", {}, "data", {})
    assert study_plots(study, []) == {}


def test_any_thread_can_draw(made_up: Ledger, tmp_path: Path) -> None:
    study = made_up.find_study("digits")
    trials = made_up.trials(study.id)
    failures: list[BaseException] = []

    def draw(index: int) -> None:
        try:
            study_plots(study, trials)["curves"].savefig(tmp_path / f"{index}.png")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=draw, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
