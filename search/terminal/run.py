"""`attnsearch run` and `ablate`: one session of a study, and what is said when it is over."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from attnsearch.runs.ledger import Role, State
from attnsearch.runs.results import ActResult, collect_study, ranked
from attnsearch.runs.words import value_text
from attnsearch.search.exit import DONE, FAILED, INTERRUPTED
from attnsearch.search.study import StudyInfo
from attnsearch.search.terminal.arms import arms_text, letters_of
from attnsearch.search.terminal.progress import open_progress
from attnsearch.search.terminal.show import (
    beside_text,
    inserted,
    leaderboard_text,
    states_text,
)
from attnsearch.search.terminal.written import steps_text
from attnsearch.search.text import render, run_command
from attnsearch.spaces import load_space

if TYPE_CHECKING:
    from attnsearch.search.study import SessionResult

_TOP = 5
_STATUS = {State.FINISHED: DONE, State.INTERRUPTED: INTERRUPTED, State.FAILED: FAILED}


def run_space(
    path: str, overrides: Sequence[str], *, fresh: bool, until: str | None = None
) -> int:
    """Run a space file's study until it is done or stopped, and print what came out.

    Args:
        path: The space file.
        overrides: Texts `KEY=VALUE`.
        fresh: Whether to start a new study and to ignore finished runs.
        until: The last act; None for all.

    Returns:
        The exit status.

    Raises:
        AttnsearchError: The input is wrong, or nothing can be run here.
    """
    space = load_space(path, overrides)
    for warning in space.warnings:
        click.echo(f"warning: {warning}", err=True)
    with open_progress() as progress:
        from attnsearch.search.study import run_study

        result = run_study(space, fresh=fresh, progress=progress, until=until)
    return _sum_up(result, progress.study, run_command(path, overrides))


def ablate_config(
    config: str,
    plans: Sequence[str],
    overrides: Sequence[str],
    *,
    seeds: int | None,
    retune: bool | None,
    fresh: bool,
) -> int:
    """Run ablations until they are done or stopped, and print what came out.

    Args:
        config: A file, an exported folder, or a study.
        plans: Names of plans.
        overrides: Texts `KEY=VALUE`.
        seeds: Runs of each arm.
        retune: Whether to tune every arm.
        fresh: Whether to start a new study and to ignore finished runs.

    Returns:
        The exit status.

    Raises:
        AttnsearchError: The input is wrong, or nothing can be run here.
    """
    with open_progress() as progress:
        from attnsearch.search.study import ablate

        result = ablate(
            config,
            plans=plans,
            seeds=seeds,
            retune=retune,
            overrides=overrides,
            fresh=fresh,
            progress=progress,
        )
    words = ["attnsearch", "ablate", config]
    words += ["--plans", ",".join(plans)] if plans else []
    words += ["--seeds", str(seeds)] if seeds else []
    words += ["--retune"] if retune else []
    words += [word for override in overrides for word in ("--set", override)]
    return _sum_up(result, progress.study, shlex.join(words))


def _sum_up(result: "SessionResult", study: StudyInfo | None, again: str) -> int:
    assert study is not None, "every session that returns has started its study"
    click.echo(summary(result, study, again))
    return _STATUS[result.state]


def summary(result: "SessionResult", study: StudyInfo, again: str) -> str:
    """Return what came out of a study: the best config, the leaderboard, and what to do next.

    Args:
        result: The study as the session left it.
        study: The study as it started.
        again: The command that continues it.
    """
    name = study.name if study.number == 1 else result.study.label
    trials = [row for row in result.trials if row.arm is None]
    beside = [row for row in result.trials if row.role == Role.BASELINE]
    leaders = ranked(trials, study.objectives)
    best = leaders[0] if leaders else None
    letters, legend = letters_of(result.plans)
    return render(
        "terminal",
        "summary.txt",
        result=result,
        verdicts=[letters(sentence) for sentence in result.verdicts],
        legend=legend,
        study=study,
        name=name,
        again=again,
        states=states_text(trials),
        leaderboard=leaderboard_text(leaders, study.objectives, top=_TOP),
        beside=beside and beside_text(beside, study.objectives),
        best=best,
        inserted=best and inserted(best),
        decisions=best and [(name, value_text(value)) for name, value in best.values.items()],
        failed=[trial for trial in trials if trial.error],
        plans=[arms_text(plan, result.trials, letters) for plan in result.plans],
        steps=_steps(result, again) if best else [],
    )


def _steps(result: "SessionResult", again: str) -> list[str]:
    if result.state == State.INTERRUPTED:
        return []
    acts: Sequence[ActResult] = ()
    if result.plans:
        with result.ledger() as ledger:
            acts = collect_study(ledger, result.study.id).acts
    return steps_text(result.study, acts, shlex.split(again))
