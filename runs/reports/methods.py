"""The paragraph "Experimental protocol": what was done, each sentence from the ledger."""

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from attnsearch.blocks.hosts import as_size, size_name
from attnsearch.runs.ledger import Role, State, TrialRow
from attnsearch.runs.reports.tables import act_title, cases_name, scopes
from attnsearch.runs.results import ActResult, MeasuredStudy, metric_text, percent, size_text
from attnsearch.runs.statistics import Comparison
from attnsearch.runs.words import listed, plural, render
from attnsearch.spaces.keys import BUILT_IN, GIVEN, metric_name

_VERSIONED = ("attnsearch", "torch", "optuna", "ray", "scipy")
_MOST_SEEDS = 12
_MOST_NAMED = 4
HALF = {"bf16": "mixed precision with bfloat16", "fp16": "mixed precision with float16"}


def protocol(result: MeasuredStudy) -> list[str]:
    """Return protocol in sentences, in the order of the work; to be pasted as one paragraph."""
    data, network = result.setting("data") or {}, result.setting("network") or {}
    source, size = data.get("source"), data.get("image_size")
    weights = network.get("weights")
    starts = result.study.provenance
    text = render(
        "attnsearch.runs.reports",
        "methods.txt.jinja",
        act_title=act_title,
        cases_name=cases_name,
        each=_each,
        epochs=_epochs,
        metric_name=metric_name,
        metric_text=metric_text,
        percent=percent,
        runs=_runs,
        scopes=scopes,
        seeds=_seeds,
        size_text=size_text,
        states=_states,
        result=result,
        data=data,
        network=network,
        search=result.setting("search") or {},
        half_precision=HALF.get(str(result.setting("train", "precision"))),
        source=(
            BUILT_IN[source].title
            if source in BUILT_IN
            else "arrays of our own"
            if source == GIVEN
            else PurePath(str(source)).name
            if source
            else "an unnamed source"
        ),
        size=size if isinstance(size, list) else size and [size, size],
        evaluated=data.get("eval_size") and size_name(as_size(data["eval_size"])),
        weights=weights and PurePath(str(weights)).name,
        explored=[row for row in result.trials if row.role != Role.BASELINE],
        goals=[
            f"{metric_name(metric)} ({'maximised' if goal == 'max' else 'minimised'})"
            for metric, goal in result.study.objectives.items()
        ],
        tuning=_tuning(result),
        most_named=_MOST_NAMED,
        hardware=[name for name in dict.fromkeys(map(_machine, starts)) if name],
        software=_software(starts[-1]) if starts else [],
    )
    return [sentence for sentence in dict.fromkeys(text.split("\n")) if sentence]


def _states(rows: Sequence[TrialRow]) -> str:
    words = {State.FINISHED: "of the full schedule", State.STOPPED: "stopped early"}
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(s)} {words.get(s, s)}" for s in State if s in states)


def _epochs(rows: Sequence[TrialRow]) -> str:
    return plural(sum(len(row.epochs) for row in rows), "epoch")


def _seeds(seeds: Iterable[int]) -> str:
    numbers = list(seeds)
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"seeds {numbers[0]} to {numbers[-1]}"
    shown = [str(seed) for seed in numbers[:_MOST_SEEDS]]
    more = len(numbers) - len(shown)
    words = f"{', '.join(shown)} and {more} more" if more else listed(shown)
    return f"{'seed' if len(numbers) == 1 else 'seeds'} {words}"


def _each(comparisons: Sequence[Comparison], name: str, form: str) -> str:
    """Return the different values of a field."""
    values = [getattr(c, name) for c in comparisons]
    return listed(sorted({format(value, form) for value in values if value is not None}))


def _runs(act: ActResult, state: str) -> list[str]:
    return [
        f"{arm.label} seed {run.seed}"
        for arm in act.trained
        for run in arm.runs
        if run.state == state
    ]


def _tuning(result: MeasuredStudy) -> list[TrialRow]:
    """Return the trials for the settings of the tuned baseline that counts."""
    rows = result.tuning_of("tuned_baseline")
    # More exploring can lead to another winner, whose baseline is tuned anew: the last one counts.
    last = max(rows, key=lambda row: row.place_id, default=None)
    return [row for row in rows if last is not None and row.arm == last.arm]


def _machine(start: dict[str, Any]) -> str:
    parts = [", ".join(start.get("gpus") or ())]
    if start.get("cpu"):
        cores = f" ({start['cores']} cores)" if start.get("cores") else ""
        parts.append(f"{start['cpu']}{cores}")
    if start.get("memory_mb"):
        parts.append(f"{start['memory_mb'] / 1024:.0f} GiB memory")
    return ", ".join(part for part in parts if part)


def _software(start: dict[str, Any]) -> list[str]:
    packages = start.get("packages") or {}
    versions = [f"{name} {packages[name]}" for name in _VERSIONED if name in packages]
    return ([f"Python {start['python']}"] if start.get("python") else []) + versions
