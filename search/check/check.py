"""`attnsearch check`: the errors of a space file, or the forecast of its study in words."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from attnsearch.runs.data import DataSet
from attnsearch.runs.words import value_text
from attnsearch.search.check.contract import check_own_blocks
from attnsearch.search.check.data import data_text
from attnsearch.search.check.forecast import Forecast, foresee
from attnsearch.search.check.outlook import outlook_text
from attnsearch.search.check.published import published_text
from attnsearch.search.check.standing import barred_text, fits_text
from attnsearch.search.check.survey import values_text
from attnsearch.search.text import quantity, render, run_command, table
from attnsearch.spaces import Space, load_space

# What JSON shows of a decision as it stands.
_OF_DECISION = ("name", "kind", "choices", "low", "high", "step", "log")


def check_space(path: str, overrides: Sequence[str], *, as_json: bool = False) -> str:
    """Return the forecast of a space file, as text or JSON.

    Raises:
        SpaceError: The file has mistakes, or blocks that break a rule; the message lists them.
        DataError: The data cannot be used.
    """
    space = load_space(path, overrides)
    space.warnings += check_own_blocks(space, path, overrides)
    forecast = foresee(space)
    return forecast_json(forecast) if as_json else forecast_text(forecast, path, overrides)


def forecast_json(forecast: Forecast) -> str:
    """Return the forecast for machines."""
    space = forecast.space
    return json.dumps(
        {
            "name": space.name,
            "task": space.task,
            "file": str(space.path),
            "warnings": [*space.warnings, *([forecast.refusal] if forecast.refusal else [])],
            "data": _data_fields(forecast.data),
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
            "acts_notes": list(forecast.outlook.notes),
            "power": list(forecast.outlook.power),
            "duplicates": list(forecast.duplicates),
        },
        indent=2,
        ensure_ascii=False,
    )


def forecast_text(forecast: Forecast, path: str, overrides: Sequence[str] = ()) -> str:
    """Return the forecast for people.

    Args:
        forecast: The forecast.
        path: The file as the user named it, for the commands that are suggested.
        overrides: Texts `KEY=VALUE`, for the same.
    """
    space = forecast.space
    refusal = None
    if forecast.refusal is not None:
        where = "on this machine"
        if address := os.environ.get("RAY_ADDRESS"):
            where = f"if the machines at RAY_ADDRESS={address} have no more than this one"
        refusal = f"`run` refuses {where}: {forecast.refusal}"
    limits = [f"{name} at most {quantity(value)}" for name, value in _limits(space).items()]
    return render(
        "check",
        "forecast",
        path=path,
        space=space,
        data=data_text(forecast.images, forecast.data, forecast.data_note, forecast.duplicates),
        decisions=_decisions_text(space),
        networks=_networks_text(forecast),
        published=published_text(space.document["published"], forecast.examples[0]),
        default=forecast.examples[0],
        fits=fits_text(forecast.fits),
        barred=barred_text(forecast.barred),
        infeasible=[str(item) for item in space.infeasible],
        forbidden=[_rule(rule) for rule in space.document.get("forbid", ())],
        limits=", ".join(limits),
        runs=forecast.runs,
        refusal=refusal,
        search=space.document["search"],
        outlook=outlook_text(forecast.outlook),
        again=run_command(path, [*overrides, *_data_to_name(forecast)]),
    )


def _data_to_name(forecast: Forecast) -> list[str]:
    """Return the override without which a file that names no data cannot run."""
    return ["data.source=PATH"] if forecast.space.document["data"]["source"] is None else []


def _data_fields(data: DataSet | None) -> dict[str, Any] | None:
    if data is None:
        return None
    return {
        "classes": list(data.class_names),
        "channels": data.channels,
        "image_size": list(data.image_size),
        "images": {name: len(getattr(data, name).labels) for name in ("train", "val", "test")},
        "fingerprint": data.fingerprint,
        "notes": list(data.notes),
    }


def _decisions_text(space: Space) -> str:
    if not space.decisions:
        return "Decisions: none. This is one network, and `run` trains it once."
    rows = [
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
    headers = ["name", "first", "values", "asked"]
    return f"Decisions: {len(rows)}\n" + table(headers, rows, indent="  ")


def _networks_text(forecast: Forecast) -> str:
    rows: list[tuple[str, ...]] = [
        (
            example.which,
            quantity(example.params),
            quantity(example.macs),
            example.label,
            example.outside or "",
        )
        for example in forecast.examples
    ]
    headers = ["", "params", "MACs", "inserted", "left out because"]
    columns = len(headers) if any(row[-1] for row in rows) else len(headers) - 1
    headers, rows = headers[:columns], [row[:columns] for row in rows]
    count = forecast.space.architecture_count()
    title = f"Networks: {count:,} different ones" if count > 1 else "Network:"
    return title + "\n" + table(headers, rows, right={"params", "MACs"}, indent="  ")


def _rule(rule: Mapping[str, Any]) -> str:
    return " with ".join(f"{name}: {value_text(value)}" for name, value in rule.items())


def _limits(space: Space) -> dict[str, float]:
    limits = space.document.get("limits") or {}
    return {name: value for name, value in limits.items() if value is not None}
