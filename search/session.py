"""`attnsearch run`: one session of a study, and what is said when it is over."""

import shlex
from collections.abc import Mapping, Sequence

import click

from attnsearch.search.check import left_out
from attnsearch.search.cli import DONE, FAILED, INTERRUPTED
from attnsearch.search.events import StudyEnd, StudyInfo
from attnsearch.search.progress import open_progress
from attnsearch.search.studies import (
    inserted,
    leaderboard,
    leaderboard_text,
    open_ledger,
    states_text,
)
from attnsearch.search.text import paragraph, table, value_text
from attnsearch.spaces import load_space

_TOP = 5
_STATUS = {"finished": DONE, "interrupted": INTERRUPTED, "failed": FAILED}


def run_space(path: str, overrides: Sequence[str], *, fresh: bool) -> int:
    """Runs a space file's study until it is done or stopped, and prints what came out.

    Args:
        path: The space file.
        overrides: Texts `KEY=VALUE`.
        fresh: Whether to start a new study and to ignore finished runs.

    Returns:
        The exit status.

    Raises:
        AttnsearchError: The input is wrong, or nothing can be run here.
    """
    space = load_space(path, overrides)
    for warning in space.warnings:
        click.echo(f"warning: {warning}", err=True)
    for key in left_out(space):
        click.echo(f"{key}: is left out for now; this searches only", err=True)
    with open_progress() as progress:
        from attnsearch.search.engine import run_study  # Ray; while the progress says so

        run_study(space, fresh=fresh, progress=progress)
    assert progress.study is not None and progress.end is not None
    again = shlex.join(
        ["attnsearch", "run", path, *(f"--set={override}" for override in overrides)]
    )
    click.echo(summary(progress.study, progress.end, again))
    return _STATUS[progress.end.state]


def summary(study: StudyInfo, end: StudyEnd, again: str) -> str:
    """What came out of a study: the best config, the leaderboard, and what to do next.

    Args:
        study: The study.
        end: How its session ended.
        again: The command that continues it.
    """
    label = f"{study.name}/{study.number}"
    name = study.name if study.number == 1 else label
    with open_ledger() as ledger:
        row = ledger.find_study(label)
        trials = [trial for trial in ledger.trials(row.id) if trial.arm is None]
    ranked = leaderboard(trials, study.objectives)
    out = ["", f"Study {label}: {end.state}; {states_text(trials)}"]
    if ranked:
        best = ranked[0]
        out += [
            "",
            leaderboard_text(ranked, study.objectives, top=_TOP),
            "",
            f"Best: trial {best.number:03d}, {inserted(best)}",
            _values_text(best.values),
        ]
    failed = [trial for trial in trials if trial.state == "failed"]
    if failed and not ranked:
        out += ["", paragraph(f"Trial {failed[0].number:03d} failed: {failed[0].error}")]
    out += ["", f"Records:  {study.ledger}", f"MLflow:   {study.tracking_uri}", ""]
    if end.state == "interrupted":
        out.append(f"Continue: {again}")
    out.append(f"Look:     attnsearch show {name}")
    if ranked:
        out.append(f"Take:     attnsearch export {name} --to {study.name}-best")
    out.append("Browse:   attnsearch ui")
    return "\n".join(out)


def _values_text(values: Mapping[str, object]) -> str:
    if not values:
        return "  (no decisions: the file describes one network)"
    rows = [(name, value_text(value)) for name, value in values.items()]
    return table([], rows, indent="  ")
