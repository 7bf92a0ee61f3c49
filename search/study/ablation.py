"""Ablations by themselves: around one config, or around the winner of a study."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnsearch.runs.exports import CONFIG
from attnsearch.runs.ledger import Ledger, LedgerError, StudyRow, study_digest
from attnsearch.search.study.arithmetic import settle_as
from attnsearch.search.study.events import Progress
from attnsearch.search.study.interrupt import Interrupt
from attnsearch.search.study.outcome import SessionResult, StudyError
from attnsearch.search.study.session import Session
from attnsearch.spaces import Space, as_space, load_space


def ablate(
    config: str | Path | Mapping[str, Any],
    *,
    data: str | None = None,
    plans: Sequence[str] = (),
    seeds: int | None = None,
    retune: bool | None = None,
    overrides: Sequence[str] = (),
    ledger: Ledger | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> SessionResult:
    """Take parts of a network away, move or vary them, see `attnsearch.search.ablate`.

    Args:
        config: What they are around.
        data: What stands for a program's own data in `data.source`; None for the config's.
        plans: Their names.
        seeds: Runs of each arm.
        retune: Whether to tune every arm.
        overrides: Texts `KEY=VALUE`.
        ledger: As in `run_study`.
        fresh: As in `run_study`; only around a config.
        progress: As in `run_study`.

    Raises:
        SpaceError: The config is not valid.
        StudyError: It has choices, or it says `data.source: null`.
        AttnsearchError: What `attnsearch.search.ablate` names.
    """
    wanted: dict[str, Any] = {"plans": list(plans), "seeds": seeds, "retune": retune}
    changes = [
        *overrides,
        *(
            f"ablation.{key}={json.dumps(value)}"
            for key, value in wanted.items()
            if value not in (None, [])
        ),
    ]
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        if ledger is None:
            ledger = stack.enter_context(Ledger())
        study = None
        if isinstance(config, Mapping):
            space = _loaded(dict(config), changes)
        elif (path := _file(config)) is not None:
            space = load_space(path, _with_section(path, changes))
            _check_no_choices(space)
        else:
            study = _find(ledger, str(config))
            space = _loaded(study.document, changes)
            space.text = study.space_text
            _check_same(study, space)
        if data is not None:
            space = as_space(space, data={"source": data})
        if space.document["data"]["source"] is None:
            raise StudyError("data.source: null describes a network without data; give a data set")
        session = Session(
            space,
            ledger,
            progress or Progress(),
            interrupt,
            fresh=fresh and study is None,
            until="ablate",
            confirm=False,
            study=study,
        )
        return session.run()


def _file(config: str | Path) -> Path | None:
    """Return the file that a path means; None where it is a study's name."""
    path = Path(config)
    if path.is_dir() and (path / CONFIG).is_file():
        return path / CONFIG
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        return path
    return None


def _find(ledger: Ledger, address: str) -> StudyRow:
    try:
        return ledger.find_study(address)
    except LedgerError as error:
        raise StudyError(
            f"{address!r} is no file, no exported folder and no study; {error}"
        ) from error


def _loaded(document: dict[str, Any], changes: Sequence[str]) -> Space:
    """Return the space of a document that is in no file."""
    if document.get("ablation") is None:
        document = {**document, "ablation": {}}
    return load_space(document, changes)


def _with_section(path: Path, changes: Sequence[str]) -> list[str]:
    """Return the changes, after one that gives the file an `ablation` section if it has none."""
    section = load_space(path).document["ablation"]
    return [*([] if section else ["ablation={}"]), *changes]


def _check_same(study: StudyRow, space: Space) -> None:
    """Refuse changes under which the study's trials would be others."""
    settle_as(space, [study], study.fingerprint)
    before, now = (
        study_digest(document, study.fingerprint) for document in (study.document, space.document)
    )
    if before != now:
        raise StudyError(
            f"--set changes what the trials of {study.label} depend on; only ablation, confirm, "
            "resources and how scores are compared can be changed here. Export the winner and "
            "ablate that: attnsearch export STUDY --to DIR, attnsearch ablate DIR"
        )


def _check_no_choices(space: Space) -> None:
    if space.decisions:
        raise StudyError(
            f"{space.path} has {len(space.decisions)} decisions, and an ablation needs one "
            f"network; run it first (attnsearch run {space.path}), then name the study "
            f"(attnsearch ablate {space.name}), or give a config without choices"
        )
