"""A ledger with a small study, made up, for what reads studies."""

from pathlib import Path
from typing import Any

import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.requests import Ending, Place, Request


@pytest.fixture
def made_up(tmp_path: Path) -> Ledger:
    """Five trials of a study `digits`: the plain network, two of the full schedule, two others."""
    ledger = Ledger(tmp_path / "attnsearch.db")
    document = {"search": {"objectives": {"val_accuracy": "max", "val_loss": "min"}}}
    study = ledger.open_study("digits", "", document, "data", {})

    def trial(number: int, name: str, state: str, scores: list[float], **more: Any) -> None:
        run_id = ledger.claim(
            Request(str(number), config={}, seed=0, epochs=3, study_id=study.id)
        ).run_id
        ledger.attach(
            study.id,
            run_id,
            Place(
                number=number,
                name=f"{number:03d} {name}",
                role="plain" if name == "plain" else "trial",
                values=more.get("values", {}),
            ),
        )
        for epoch, score in enumerate(scores, start=1):
            ledger.record_epoch(run_id, epoch, {"val_accuracy": score, "val_loss": 1 - score})
        ledger.finish(
            run_id,
            Ending(
                state,
                metrics={"val_accuracy": scores[-1], "val_loss": 1 - scores[-1]} if scores else {},
                costs={"params": more.get("params", 1000), "macs": 5e6},
                error=more.get("error"),
                violations=more.get("violations", {}),
            ),
        )

    trial(0, "plain", "finished", [0.4, 0.5, 0.6])
    trial(1, "gc@layer4", "finished", [0.5, 0.7, 0.8], params=3000, values={"gc.ratio": 0.25})
    trial(2, "psa@layer3", "stopped", [0.9], params=2000, values={"psa.kernels": [3, 5]})
    trial(3, "ecrm@layer4", "failed", [], error="the loss is nan | at epoch 1")
    trial(4, "gc@layer3", "finished", [0.6, 0.6, 0.7], params=4000, values={"gc.ratio": 0.5})
    trial(5, "gc@layer1", "infeasible", [], violations={"limits.params": 9.0})
    ratio = {"share": 0.75, "low": 0.5, "high": 0.9, "p": 0.001}
    kernels = {"share": 0.25, "low": 0.1, "high": 0.5, "p": 0.02}
    judged = {"gc.ratio": ratio, "psa.kernels": kernels}
    ledger.set_importances(study.id, {"val_accuracy": judged})
    return ledger
