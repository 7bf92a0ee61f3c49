"""What to do after a study, by what it found: each step a reason and a command that works."""

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from attnsearch.runs.ledger import StudyRow
from attnsearch.runs.results import ActResult
from attnsearch.runs.statistics import (
    EQUIVALENT,
    HELPS,
    HELPS_NEGLIGIBLY,
    IDENTICAL,
    LEAST_DECIDED,
    NEEDED,
    WORSE,
    Comparison,
    Conclusion,
    judge_claim,
    seeds_needed,
)
from attnsearch.runs.words import listed, plural
from attnsearch.spaces.keys import is_share

_FOLDER = "best"  # what the export is called in commands
_MOST = 100  # seeds, above which more of them are no way
_POINT = 0.01


class Step(NamedTuple):
    """Something to do next.

    Attributes:
        why: A sentence or two.
        commands: What does it, each a line to paste; in this order.
    """

    why: str
    commands: tuple[str, ...]


def next_steps(
    study: StudyRow, acts: Sequence[ActResult], again: Sequence[str] | None
) -> list[Step]:
    """Return what to do next with a study, the most useful first; nothing while it goes on.

    Args:
        study: Its row.
        acts: What was compared.
        again: The words of the command that continues it; None where its file is gone.
    """
    confirm = next((act for act in acts if act.plan.act == "confirm"), None)
    if confirm is None:
        return [] if acts or again is None else [_confirm_first(study, again)]
    if not confirm.complete:
        return []
    if confirm.unlearned:
        return [_train_longer(study, again)]
    if confirm.winner is None:
        return []
    claim = judge_claim(confirm.comparisons, confirm.winner)
    if claim.state in (HELPS, HELPS_NEGLIGIBLY):
        return _helps(study, acts, claim)
    return _open(study, confirm, claim)


def _name(study: StudyRow) -> str:
    return study.name if study.number == 1 else study.label


def _command(*words: object) -> str:
    return shlex.join(map(str, words))


def _export(study: StudyRow) -> str:
    return _command("attnsearch", "export", _name(study), "--to", _FOLDER)


def _with(again: Sequence[str], key: str, value: int) -> str:
    """Return a command with a setting, in place of the one that it has of that key."""
    words: list[str] = []
    for word in again:
        if word.startswith(f"{key}=") and words[-1] == "--set":
            words.pop()
        else:
            words.append(word)
    return _command(*words, "--set", f"{key}={value}")


def _confirm_first(study: StudyRow, again: Sequence[str]) -> Step:
    confirms = study.document.get("confirm")
    command = _command(*again) if confirms else _with(again, "confirm.seeds", LEAST_DECIDED)
    return Step(
        "One seed a trial decides nothing. Train the best of them again, on fresh seeds and "
        "beside controls:",
        (command,),
    )


def _train_longer(study: StudyRow, again: Sequence[str] | None) -> Step:
    epochs = 2 * study.document["train"]["epochs"]
    why = "The baseline has not learned yet, so nothing could be compared. Train longer"
    if again is None:
        return Step(f"{why}: train.epochs: {epochs} in the space file.", ())
    return Step(f"{why}:", (_with(again, "train.epochs", epochs),))


def _helps(study: StudyRow, acts: Sequence[ActResult], claim: Conclusion) -> list[Step]:
    take = "It helps: take it, and score it on images that this study has never seen (DATA):"
    if claim.state == HELPS_NEGLIGIBLY:
        take = "It helps by less than what matters to you, so take it only if it costs nothing:"
    score = _command("attnsearch", "evaluate", _FOLDER) + " DATA"
    steps = [Step(take, (_export(study), score))]
    if all(act.plan.act == "confirm" for act in acts):
        ablate = _command("attnsearch", "ablate", _name(study))
        steps.append(Step("Which part of it matters:", (ablate,)))
    return steps


def _open(study: StudyRow, act: ActResult, claim: Conclusion) -> list[Step]:
    """Return the steps after a claim that is not made."""
    voided = [c for c in claim.open if c.failed]
    if voided:
        show = _command("attnsearch", "show", _name(study))
        return [Step("Runs failed, and so there is no verdict. Why they did:", (show,))]
    for verdicts, words in (
        ((WORSE,), "It does worse than"),
        ((EQUIVALENT, IDENTICAL), "It is no better than"),
    ):
        beaten = [NEEDED[c.against] for c in claim.open if c.verdict in verdicts]
        if beaten:
            sites = _command("attnsearch", "sites", study.document["network"]["backbone"])
            why = (
                f"{words} {listed(beaten)}: keep the baseline, or look elsewhere, at other blocks "
                "and other places:"
            )
            return [Step(why, ("attnsearch blocks", sites))]
    return [_more_seeds(study, act, claim)]


def _more_seeds(study: StudyRow, act: ActResult, claim: Conclusion) -> Step:
    """Say how many seeds would settle it, and confirm the same network anew with as many.

    Not from the difference seen, from which power only says p in other words, but for the smallest
    difference that matters. Seeds added to this study would void its verdict.
    """
    seeds: int | None = max(LEAST_DECIDED, len(act.plan.seeds))
    parts = []
    if claim.open:
        seeds, why = _seeds(act, claim.open, study.document.get("smallest_effect"))
        parts.append(why)
    if claim.missing:
        controls = listed([NEEDED[kind] for kind in claim.missing])
        parts.append(f"It was never compared with {controls}.")
    if seeds is None:
        return Step(" ".join(parts), ())
    settings = [f"train.seed={study.document['train']['seed'] + 1}", f"confirm.seeds={seeds}"]
    settings += [f"confirm.controls=[{','.join(NEEDED)}]"] if claim.missing else []
    run = ["attnsearch", "run", f"{_FOLDER}/config.yaml"]
    run += [word for setting in settings for word in ("--set", setting)]
    if act.plan.part == "test":
        parts.append(
            "On this test data a second look is exploratory, so suggestive at most; a verdict "
            "needs other test data."
        )
    parts.append("Its network alone, on other seeds (`attnsearch check` says how long):")
    return Step(" ".join(parts), (_export(study), _command(*run)))


def _seeds(
    act: ActResult, comparisons: Sequence[Comparison], matters: float | None
) -> tuple[int | None, str]:
    """Return how many seeds would settle comparisons, and that in words."""
    if act.plan.folds != (None,):
        return None, "Not settled. With folds, more seeds do not help: more data would."
    have, share = max(c.n for c in comparisons), is_share(act.plan.metric)
    spread = [(c.sd, c.tests) for c in comparisons if c.sd]
    if not spread or (matters is None and not share):
        few = max(LEAST_DECIDED, have + 1)
        return few, f"Not settled: {plural(have, 'seed')}; verdicts need {LEAST_DECIDED}."
    effect = matters or _POINT
    size = (
        f"{effect:g}"
        if not share
        else "1 point"
        if effect == _POINT
        else f"{100 * effect:g} points"
    )
    wanted = f"a difference of {size}" + (", your smallest_effect," if matters else "")
    sd, tests = max(spread)
    needed = seeds_needed(effect, sd, tests, act.plan.alpha, most=_MOST)
    if needed is None:
        return None, (
            f"Not settled: as the differences scatter here, even {_MOST} seeds would find "
            f"{wanted} in fewer than 4 of 5 studies. What scatters less would help: more data, "
            "longer training."
        )
    needed = max(needed, LEAST_DECIDED)
    if needed <= have:
        return None, (
            f"Not settled: {plural(have, 'seed')} would have found {wanted} in 4 of 5 studies, so "
            "what there is is likely smaller. To claim that it is equal, name a margin (`margin` "
            "in the space file) before a study on other test data."
        )
    return needed, (
        f"Not settled by {plural(have, 'seed')}: as the differences scatter here, {wanted} would "
        f"be found by {needed} seeds in 4 of 5 studies."
    )
