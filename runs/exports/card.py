"""What an export's README says as a model card: its front matter, and the report's table.

By the front matter the Hugging Face Hub files a model.

It says no licence, which is the owner's to give, and no data set of the Hub; of the data the name
alone, no path of this machine.
"""

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from attnsearch.blocks.naming import insertions
from attnsearch.runs.results import (
    ActResult,
    ArmResult,
    difference_text,
    interval_text,
    metric_text,
    p_text,
    percent,
    points,
    size_text,
    unit,
)
from attnsearch.runs.statistics import SUGGESTIVE, judge_claim, verdict_text
from attnsearch.runs.words import markdown
from attnsearch.spaces import dump
from attnsearch.spaces.keys import METRICS, MULTILABEL, metric_name, split_part


def front_matter(config: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Return YAML between two lines of dashes.

    Args:
        config: The resolved config.
        record: As for `save_export`; of its `metrics` those of the validation and the test part
            are told.
    """
    several = config["task"] == MULTILABEL
    task = "image-classification" if several else f"image-{config['task']}"
    blocks = [entry["block"] for entry in insertions(config)]
    scores = [
        {"type": split_part(name)[1], "name": metric_name(name), "value": float(value)}
        for name, value in record.get("metrics", {}).items()
        if split_part(name)[0] in ("val", "test")
        and split_part(name)[1] in METRICS
        and isinstance(value, int | float)
        and math.isfinite(value)
    ]
    tags = ["attnsearch", "multi-label"] if several else ["attnsearch"]
    card: dict[str, Any] = {
        "library_name": "attnsearch",
        "pipeline_tag": task,
        "tags": list(dict.fromkeys([*tags, config["network"]["backbone"], *blocks])),
    }
    if scores:
        data = PurePath(str(config["data"]["source"])).name
        result = {
            "task": {"type": task},
            "dataset": {"name": data, "type": data},
            "metrics": scores,
        }
        card["metrics"] = list(dict.fromkeys(score["type"] for score in scores))
        card["model-index"] = [{"name": config["name"], "results": [result]}]
    return f"---\n{dump(card)}---\n\n"


def table_record(act: ActResult) -> dict[str, Any]:
    """Return what an export records of confirm's comparison; nothing before it is complete."""
    if not act.complete or act.winner is None:
        return {}
    claim = judge_claim(act.comparisons, act.winner).sentence
    return {
        "metric": act.metric,
        "alpha": act.plan.alpha,
        "claim": f"No verdict: {act.unlearned}." if act.unlearned else claim,
        "arms": [_arm_record(act, arm) for arm in act.arms],
    }


def _arm_record(act: ActResult, arm: ArmResult) -> dict[str, Any]:
    comparison, margin = arm.comparison, act.plan.margin
    record: dict[str, Any] = {"arm": arm.label, "reference": None, "verdict": None}
    for name in ("n", "mean", "sd"):
        record[name] = getattr(arm.summary, name, None)
    for name in ("difference", "low", "high", "p_adjusted"):
        record[name] = getattr(comparison, name, None)
    if comparison is not None:
        edge = None if margin is None else size_text(act.metric, margin)
        favours = f" ({comparison.favours})" if comparison.verdict == SUGGESTIVE else ""
        record["verdict"] = verdict_text(comparison.verdict, edge) + favours
        record["reference"] = comparison.minus[0]
    return record


def confirm_table(confirm: Mapping[str, Any]) -> str:
    """Return the report's table of arms in Markdown, of what `table_record` gave; else nothing."""
    if "arms" not in confirm:
        return ""
    metric = confirm["metric"]
    name = metric_name(metric) + (f" ({unit(metric).strip()})" if unit(metric) else "")
    headers = ["arm", name, "sd", "n", f"difference{points(metric) and ' (points)'}"]
    headers += [f"{percent(1 - confirm['alpha'])} interval", "p (Holm)", "verdict"]
    lines = [headers, ["---", *["---:"] * 6, "---"]]
    for arm in confirm["arms"]:
        label = markdown(arm["arm"])
        lines.append(
            [
                f"**{label}**" if arm["arm"] == confirm["winner"] else label,
                *(metric_text(metric, arm[key]) for key in ("mean", "sd")),
                str(arm["n"] or 0),
                difference_text(metric, arm["difference"]),
                interval_text(metric, arm["low"], arm["high"]),
                p_text(arm["p_adjusted"]),
                arm["verdict"] or "",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
