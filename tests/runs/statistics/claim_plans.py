"""Made plans of a confirmation in which a claim on one candidate, `gc`, is judged."""

from collections.abc import Sequence
from typing import Any

from attnsearch.runs.statistics.plan import AGAINST_BASELINE, AGAINST_CONTROLS, Arm, Contrast, Plan

CONTROLS = {"baseline": "baseline", "tuned": "tuned_baseline", "wide": "capacity"}
"""Names of control arms, with their kinds."""


def claim_plan(controls: Sequence[str], n: int, **settings: Any) -> Plan:
    """Plan `gc` against some of `CONTROLS` on n seeds."""
    arms = [
        Arm(name, CONTROLS[name], {}, of="gc" if name == "wide" else None) for name in controls
    ]
    return Plan(
        act="confirm",
        name="confirm",
        arms=(Arm("gc", "candidate", {}), *arms),
        contrasts=tuple(
            Contrast(
                AGAINST_BASELINE if name == "baseline" else AGAINST_CONTROLS,
                f"gc - {name}",
                ("gc",),
                (name,),
            )
            for name in controls
        ),
        seeds=tuple(range(n)),
        epochs=1,
        metric="accuracy",
        direction="max",
        part="test",
        **settings,
    )
