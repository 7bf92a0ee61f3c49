"""`attnsearch check`: the errors of a space file, or the forecast of its study in words."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from attnsearch.blocks.naming import shown_name
from attnsearch.runs.data import DataSet
from attnsearch.runs.words import value_text
from attnsearch.search.check.contract import check_own_blocks
from attnsearch.search.check.data import class_rows
from attnsearch.search.check.forecast import Forecast, foresee
from attnsearch.search.check.published import published_rows
from attnsearch.search.check.standing import fit_tables
from attnsearch.search.check.survey import Example, values_text
from attnsearch.search.text import quantity, render, run_command
from attnsearch.spaces import Space, load_space

# What JSON shows of a decision as it stands.
_OF_DECISION = ("name", "kind", "choices", "low", "high", "step", "log")


def check_space(path: str, overrides: Sequence[str], *, as_json: bool = False) -> str:
    """Return the forecast of a space file, as text or JSON.

    Raises:
        SpaceError: The file has mistakes, or blocks that break a rule; the message lists them.
        CheckError: No network of the space can be trained.
        DataError: The data cannot be used.
    """
    forecast = foreseen(load_space(path, overrides), path, overrides)
    return forecast_json(forecast) if as_json else forecast_text(forecast, path, overrides)


def foreseen(space: Space, path: str | None = None, overrides: Sequence[str] = ()) -> Forecast:
    """Return the forecast of a space, whose own blocks are tried before.

    Args:
        space: The space.
        path: The file as the user named it, for messages.
        overrides: Those that the space was loaded with.

    Raises:
        SpaceError, CheckError, DataError: As `check_space`.
    """
    space.warnings += check_own_blocks(space, path or str(space.path), overrides)
    return foresee(space)


def forecast_json(forecast: Forecast) -> str:
    """Return the forecast for machines."""
    space = forecast.space
    return json.dumps(
        {
            "name": space.name,
            "task": space.task,
            "file": str(space.path),
            "warnings": [*space.warnings, *([forecast.refusal] if forecast.refusal else [])],
            "data": _data_fields(forecast.data, forecast.kept),
            "data_note": forecast.data_note,
            "decisions": [
                {
                    **{name: getattr(decision, name) for name in _OF_DECISION},
                    "default": decision.default(),
                    "only_where": {name: sorted(values) for name, values in decision.parents},
                }
                for decision in space.decisions
            ],
            "architectures": space.architecture_count(),
            "networks": [asdict(example) for example in forecast.examples],
            "published": space.document["published"],
            "fits": [asdict(fit) for fit in forecast.fits],
            "cannot_stand": [asdict(item) for item in forecast.barred],
            "infeasible": [str(item) for item in space.infeasible],
            "forbid": space.document.get("forbid") or [],
            "limits": _limits(space),
            "runs": asdict(forecast.runs),
            "acts": [asdict(act) for act in forecast.outlook.acts],
            "all_seconds": forecast.all_seconds,
            "acts_notes": list(forecast.outlook.notes),
            "power": list(forecast.outlook.power),
            "duplicates": list(forecast.duplicates),
            "metrics_notes": list(forecast.metrics),
            **({"gpus": forecast.gpus} if forecast.gpus else {}),
            **({"cluster": forecast.cluster} if forecast.cluster else {}),
        },
        indent=2,
        ensure_ascii=False,
    )


def forecast_text(
    forecast: Forecast, path: str, overrides: Sequence[str] = (), *, program: bool = False
) -> str:
    """Return the forecast for people.

    Args:
        forecast: The forecast.
        path: The file as the user named it, for the commands that are suggested.
        overrides: Texts `KEY=VALUE`, for the same.
        program: Whether a program asks, which goes on with a call and not with a command.
    """
    space, published = forecast.space, forecast.space.document["published"]
    nameless = ["data.source=PATH"] if space.document["data"]["source"] is None else []
    return render(
        "check",
        "forecast.txt",
        path=path,
        forecast=forecast,
        space=space,
        classes=class_rows(forecast.data) if forecast.data else [],
        decisions=_decision_rows(space),
        networks=_network_rows(forecast.examples),
        published=published and published_rows(published, forecast.examples[0]),
        fits=fit_tables(forecast.fits),
        forbidden=[_rule(rule) for rule in space.document.get("forbid", ())],
        limits=_limits(space),
        again="run_study(space)" if program else run_command(path, [*overrides, *nameless]),
    )


def _data_fields(data: DataSet | None, kept: str) -> dict[str, Any] | None:
    if data is None:
        return None
    return {
        "classes": list(data.class_names),
        "channels": data.channels,
        "image_size": list(data.image_size),
        "kept": kept,
        "images": {name: len(getattr(data, name).labels) for name in ("train", "val", "test")},
        "fingerprint": data.fingerprint,
        "notes": list(data.notes),
    }


def _decision_rows(space: Space) -> list[tuple[str, ...]]:
    return [
        (
            decision.name,
            decision.label(decision.default())
            if decision.kind == "choice"
            else value_text(decision.default()),
            values_text(decision),
            " or ".join(
                f"{name} is {' or '.join(sorted(values))}" for name, values in decision.parents
            )
            or "always",
        )
        for decision in space.decisions
    ]


def _network_rows(networks: Sequence[Example]) -> list[tuple[str, ...]]:
    """Return a row for each network; why it is left out only where one is."""
    return [
        (
            example.which,
            quantity(example.params),
            quantity(example.macs),
            shown_name(example.label),
            *([example.outside or ""] if any(other.outside for other in networks) else []),
        )
        for example in networks
    ]


def _rule(rule: Mapping[str, Any]) -> str:
    return " with ".join(f"{name}: {value_text(value)}" for name, value in rule.items())


def _limits(space: Space) -> dict[str, float]:
    limits = space.document.get("limits") or {}
    return {name: value for name, value in limits.items() if value is not None}
