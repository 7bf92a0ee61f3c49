"""Running, ablating and checking a study: what `attnsearch run`, `ablate` and `check` do."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attnsearch.runs.given import GivenData
from attnsearch.runs.ledger import Ledger
from attnsearch.search import check as checking, study as acts
from attnsearch.search.api.watching import watched
from attnsearch.search.check import Forecast
from attnsearch.search.study import Progress, SessionResult
from attnsearch.spaces import Space, SpaceLike, as_space


def run_study(
    space: SpaceLike,
    *,
    data: Any = None,
    overrides: Sequence[str] = (),
    ledger: Ledger | str | Path | None = None,
    fresh: bool = False,
    progress: Progress | bool | None = None,
    callbacks: Sequence[Progress] = (),
    until: str | None = None,
) -> SessionResult:
    """Do a study's acts, or go on with them: what `attnsearch run` does.

    It explores; then it confirms and ablates, where the space says so. A finished study whose
    file has got a `confirm:` or `ablation:` since goes on with these.

    Where another process runs the study on the same ledger, the two share its runs.

    Ray is started for the study, or joined where `resources.address` or RAY_ADDRESS names a
    cluster. Called from the main thread, Ctrl-C and SIGTERM stop the study within seconds: what
    runs is recorded as interrupted, and the same call goes on from there.

    Args:
        space: A space, a space file's path, a mapping of its keys, or a `SpaceFile`.
        data: Your own data in place of `data.source`: (images, labels), a torch Dataset of such
            pairs, a mapping of train, val and test to either, or the arrays by name, see
            `docs/python.md`. Without `data.image_size` they keep their own size.
        overrides: Texts `KEY=VALUE`, as `--set` takes them; only where the space is not loaded.
        ledger: Where to record: a ledger, its file or its URL; by default the one that
            ATTNSEARCH_LEDGER names, or `attnsearch.db` in the current folder.
        fresh: Start a new study and ignore what other studies finished.
        progress: What shows how it goes on: True what the command prints, False nothing, or a
            `Progress` of your own. None prints in a notebook and on a terminal.
        callbacks: Who is told of every event beside.
        until: The last act: "explore", "confirm" or "ablate"; None for all that the space says.

    Raises:
        SpaceError: The space has mistakes.
        StudyError: It can be checked and built, but not run.
        ProposalError: The sampler cannot search it.
        PlanError: An ablation or confirm cannot be planned as the space says.
        DataError: Its data cannot be used.
        LedgerError: The ledger cannot be used, or another process runs this study otherwise.
        ClusterError: Ray cannot be started, is lost, or lacks what a trial needs.
    """
    loaded = _with_data(space, overrides, data)
    with _opened(ledger) as opened, watched(progress, callbacks) as watcher:
        return acts.run_study(loaded, ledger=opened, fresh=fresh, progress=watcher, until=until)


def ablate(
    config: str | Path | Mapping[str, Any],
    *,
    data: Any = None,
    plans: Sequence[str] = (),
    seeds: int | None = None,
    retune: bool | None = None,
    overrides: Sequence[str] = (),
    ledger: Ledger | str | Path | None = None,
    fresh: bool = False,
    progress: Progress | bool | None = None,
    callbacks: Sequence[Progress] = (),
) -> SessionResult:
    """Take parts of a network away, move or vary them: what `attnsearch ablate` does.

    Around a config, the ablations are recorded in the study of the config's name; around the
    winner of a study, in that study. What is there already is not trained again.

    Args:
        config: An exported folder, a file without choices (such as an export's `config.yaml`), a
            resolved config, or a study's name or `name/number`, whose winner is taken: the one
            that confirm chose, or else the best trial.
        data: As in `run_study`; a study of given data needs the same again.
        plans: `loco`, `positions`, `blocks`, `ofat`, `pairwise`, `factorial`; by default the
            config's `ablation.plans`, or `loco`.
        seeds: Runs of each arm; by default the config's `ablation.seeds`, or 5.
        retune: Whether to tune the training settings of every arm, with equal budgets; by default
            as the config says.
        overrides: Texts `KEY=VALUE` that change keys, as `--set` takes them.
        ledger: As in `run_study`.
        fresh: Ignore what was trained for other studies; only around a config.
        progress: As in `run_study`.
        callbacks: As in `run_study`.

    Raises:
        SpaceError: The config is not valid.
        StudyError: It has choices, or it says `data.source: null`.
        PlanError: The ablations cannot be planned.
        DataError, LedgerError, ClusterError: As `run_study`.
    """
    with _opened(ledger) as opened, watched(progress, callbacks) as watcher:
        return acts.ablate(
            config,
            data=None if data is None else GivenData(data),
            plans=plans,
            seeds=seeds,
            retune=retune,
            overrides=overrides,
            ledger=opened,
            fresh=fresh,
            progress=watcher,
        )


def check_study(space: SpaceLike, *, data: Any = None, overrides: Sequence[str] = ()) -> Forecast:
    """Foresee a study: what `attnsearch check` does. Nothing is trained or recorded.

    Args:
        space: As in `run_study`.
        data: As in `run_study`.
        overrides: As in `run_study`.

    Returns:
        The decisions, networks, runs to come and their time; `str()` is what the command prints.

    Raises:
        SpaceError: The space has mistakes, or blocks that break a rule.
        CheckError: No network of the space can be trained.
        DataError: The data cannot be used.
    """
    return checking.foreseen(_with_data(space, overrides, data))


def _with_data(space: SpaceLike, overrides: Sequence[str], data: Any) -> Space:
    """Return a space, of the caller's own data where there are any."""
    if data is None:
        return as_space(space, overrides)
    given = GivenData(data)
    size = {} if given.shape is None else {"image_size": list(given.shape)}
    return as_space(space, overrides, {"source": given, **size})


@contextlib.contextmanager
def _opened(ledger: Ledger | str | Path | None) -> Iterator[Ledger]:
    """Give the ledger; what is opened here is closed again."""
    if isinstance(ledger, Ledger):
        yield ledger
    else:
        with Ledger(ledger) as opened:
            yield opened
