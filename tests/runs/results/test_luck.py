"""The winner's curse in words: before and after several seeds have shown the noise."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.records import StudyRow, TrialRow
from attnsearch.runs.ledger.requests import Ending, Place, Request
from attnsearch.runs.ledger.states import Role, State
from attnsearch.runs.results.luck import luck_sentence
from tests.runs import made_studies as made

MAX = {"val_accuracy": "max"}
EXPLORED = [0.82, 0.84, 0.85, 0.86, 0.88]
CONFIRMED = [0.82, 0.84, 0.86, 0.83, 0.85]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        yield ledger


def train(
    ledger: Ledger,
    scores: Sequence[float],
    metric: str = "val_accuracy",
    *,
    arm: tuple[str, float] | None = None,
    epochs: int = 3,
) -> tuple[StudyRow, list[TrialRow]]:
    """Five trials, or the runs of one arm, of a name and a rate that stands for the config."""
    study = ledger.find_study("one") if arm else ledger.open_study("one", "", {}, "data", {})
    for number, score in enumerate(scores):
        rate = arm[1] if arm else float(number)
        config = {"train": {"lr": rate, "seed": number}}
        name = f"{arm[0]} {number}" if arm else f"{number:03d} gc@layer4"
        request = Request(
            f"{name} {metric}", config, seed=number, epochs=epochs, study_id=study.id
        )
        run_id = ledger.claim(request).run_id
        place = (
            Place(number, Role.CONFIRM, arm[0], name=name)
            if arm
            else Place(number, Role.TRIAL, name=name)
        )
        ledger.attach(study.id, run_id, place)
        ledger.finish(run_id, Ending(State.FINISHED, metrics={metric: score}))
    return study, ledger.trials(study.id)


def sentence(ledger: Ledger, objectives: Mapping[str, str] = MAX) -> str:
    text = luck_sentence(ledger.trials(1), objectives)
    assert text is not None
    return text


def test_one_seed_each_cannot_tell_how_much(ledger: Ledger) -> None:
    """All of the lead over the median trial may be luck: no more is known."""
    train(ledger, EXPLORED)
    text = sentence(ledger)
    assert "trial 004 has the best validation accuracy of 5 trials, 88.00 %" in text
    assert (
        "3.00 points, all of its lead over the median trial, if the trials do not differ" in text
    )


def test_seeds_of_an_arm_tell_the_noise_and_what_to_expect(ledger: Ledger) -> None:
    train(ledger, EXPLORED)
    train(ledger, CONFIRMED, arm=("baseline", 9.0))
    text = sentence(ledger)
    assert "moves a score by 1.58 points (standard deviation, 5 runs of 1 arm)" in text
    expected = float(text.partition("near ")[2].partition(" %")[0])
    lower = float(text.partition("about ")[2].partition(" points")[0])
    assert 82 < expected < 87.9 and expected + lower == pytest.approx(88, abs=0.011)
    assert "on average" not in text  # its own config has no fresh seeds


def test_its_own_fresh_seeds_are_told_beside_what_was_expected(ledger: Ledger) -> None:
    train(ledger, EXPLORED)
    train(ledger, CONFIRMED, arm=("gc@layer4", 4.0))
    assert sentence(ledger).endswith("On 5 fresh seeds it scored 84.00 % on average.")


def test_of_a_loss_the_lowest_is_the_luckiest(ledger: Ledger) -> None:
    losses = [1.0 - score for score in EXPLORED]
    train(ledger, losses, "val_loss")
    train(ledger, [1.0 - score for score in CONFIRMED], "val_loss", arm=("baseline", 9.0))
    text = sentence(ledger, {"val_loss": "min"})
    assert "0.1200, each on one seed" in text and " higher, near 0.1" in text


@pytest.mark.parametrize("runs", [{"epochs": 30}, {"metric": "val_f1"}], ids=["budget", "metric"])
def test_other_runs_do_not_show_the_noise(ledger: Ledger, runs: dict[str, object]) -> None:
    """Runs of another schedule, or without that score, have another noise."""
    train(ledger, EXPLORED)
    train(ledger, CONFIRMED, arm=("baseline", 9.0), **runs)  # type: ignore[arg-type]
    assert "One seed each cannot tell how much" in sentence(ledger)


def test_four_runs_of_an_arm_are_too_few(ledger: Ledger) -> None:
    train(ledger, EXPLORED)
    train(ledger, CONFIRMED[:4], arm=("baseline", 9.0))
    assert "One seed each cannot tell how much" in sentence(ledger)


@pytest.mark.parametrize(
    ("scores", "objectives"),
    [([0.8], MAX), ([], MAX), (EXPLORED, {"params": "min"})],
    ids=["one trial", "no trial", "a cost"],
)
def test_without_a_choice_by_score_there_is_no_luck(
    ledger: Ledger, scores: list[float], objectives: dict[str, str]
) -> None:
    train(ledger, scores)
    assert luck_sentence(ledger.trials(1), objectives) is None


def test_a_made_study_tells_it_after_confirm(ledger: Ledger) -> None:
    study = made.whole_study(ledger)
    text = luck_sentence(ledger.trials(study.id), study.objectives)
    assert text is not None and "Expect fresh seeds to score about" in text
