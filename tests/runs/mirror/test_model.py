"""The winner as a logged model: once, whoever dies, and what MLflow loads is the export."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from attnsearch.blocks.build import build_network
from attnsearch.runs.exports.export import export_study
from attnsearch.runs.exports.pyfunc import Predictor
from attnsearch.runs.exports.weights import Interface, pack_weights
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.records import StudyRow
from attnsearch.runs.mirror import model as models, registry
from attnsearch.runs.mirror.mirror import MirrorReport
from attnsearch.runs.mirror.model import log_model, show_winner
from attnsearch.runs.mirror.positions import Positions
from attnsearch.runs.mirror.registry import RegisterError, register_model
from attnsearch.runs.mirror.store import Store
from attnsearch.runs.statistics.plan import AGAINST_BASELINE, Arm, Contrast
from attnsearch.spaces import load_space
from tests.runs import made_studies as made

SPACE = """
name: made
task: classification
data: {source: digits, image_size: 16}
network: {backbone: resnet20, width: 0.25}
insert: [{at: layer3, block: {choice: [none, se]}}]
"""
CLASSES = ("no", "yes")


def confirmed(ledger: Ledger, folder: Path) -> None:
    """Record a finished study whose winner's weights are kept."""
    (folder / "space.yaml").write_text(SPACE)
    space = load_space(folder / "space.yaml")
    block, baseline = (space.resolve({"layer3.block": name}) for name in ("se", "none"))
    arms = (Arm("se@layer3", "candidate", block), Arm("baseline", "baseline", baseline))
    contrast = Contrast(AGAINST_BASELINE, "se - baseline", ("se@layer3",), ("baseline",))
    plan = replace(
        made.confirm_plan(seeds=made.CONFIRM_SEEDS[:2]), arms=arms, contrasts=(contrast,)
    )
    study = made.open_study(ledger, **space.document)
    made.run_plan(ledger, study, plan, {"se@layer3": 0.8, "baseline": 0.7}, "se@layer3")
    network = build_network(block, 1, len(CLASSES), (16, 16), seed=1)
    interface = Interface(CLASSES, (16, 16), 1, (0.5,), (0.5,))
    weights = folder / "winner.safetensors"
    weights.write_bytes(pack_weights(network.state_dict(), interface))
    for row in ledger.trials(study.id):
        if row.arm == "se@layer3":
            ledger.set_weights_path(row.run_id, str(weights))
    ledger.set_study_state(study.id, "finished")


class Shown:
    """A made study with a confirmed winner, and its run in an MLflow store."""

    def __init__(self, folder: Path) -> None:
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.client: MlflowClient = Store(self.uri).client
        self.ledger = Ledger(folder / "attnsearch.db")
        confirmed(self.ledger, folder)
        self.experiment = self.client.create_experiment("made", (folder / "artifacts").as_uri())
        run = self.client.create_run(self.experiment)
        positions = Positions(self.ledger)
        positions.set_parent(self.study.id, self.uri, self.experiment, run.info.run_id)

    @property
    def study(self) -> StudyRow:
        return self.ledger.find_study("made")

    def logged(self) -> list[str]:
        return [m.model_id for m in self.client.search_logged_models([self.experiment])]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return Shown(tmp_path_factory.mktemp("shown"))


def test_the_winner_is_logged_once_and_predicts_as_its_export(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, study = shown.client, shown.study

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(models, "_save", killed)
        with pytest.raises(KeyboardInterrupt):
            log_model(client, shown.ledger, study)
    assert len(shown.logged()) == 1  # begun by a process that died
    plans = shown.ledger.plans(study.id)
    show_winner(client, shown.ledger, study, plans)
    (model_id,) = shown.logged()
    show_winner(client, shown.ledger, study, plans)
    assert shown.logged() == [model_id] == [log_model(client, shown.ledger, study)]
    assert client.get_logged_model(model_id).status == "READY"
    assert study.mlflow_run_id is not None
    (output,) = client.get_run(study.mlflow_run_id).outputs.model_outputs
    assert output.model_id == model_id

    monkeypatch.setenv("MLFLOW_TRACKING_URI", shown.uri)
    loaded = mlflow.pyfunc.load_model(f"models:/{model_id}")
    assert loaded.metadata.metadata == {"task": "classification", "class_names": ["no", "yes"]}
    signature = loaded.metadata.signature
    assert str(signature.inputs.inputs[0].type) == "uint8"
    assert signature.inputs.inputs[0].shape == (-1, -1, -1, 1)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), np.uint8)
    export = export_study(shown.ledger, study, tmp_path / "best")
    said = loaded.predict(images)
    np.testing.assert_array_equal(said, Predictor(export).predict(images))
    np.testing.assert_allclose(said.sum(1), 1, rtol=1e-6)
    assert loaded.predict(loaded.input_example).shape == (1, 2)


def test_what_has_not_ended_or_has_no_winner_is_not_logged(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[object] = []
    monkeypatch.setattr(models, "log_model", lambda *given: logged.append(given))
    study, plans = shown.study, shown.ledger.plans(shown.study.id)
    show_winner(shown.client, shown.ledger, study, [])
    fields = {**vars(study), "state": "running"}
    show_winner(shown.client, shown.ledger, StudyRow(fields), plans)
    assert logged == []
    show_winner(shown.client, shown.ledger, study, plans)
    assert len(logged) == 1


def test_a_model_is_registered_once_under_a_name(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Synced:
        problem: str | None = None

        def __init__(self, _ledger: Ledger) -> None: ...

        def sync(self, _study_id: int) -> MirrorReport:
            return MirrorReport(shown.uri, 3, 3 if self.problem else 0, self.problem)

    monkeypatch.setattr(registry, "Mirror", Synced)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for _ in range(2):
        assert register_model(shown.ledger, shown.study.id, "a-net") == "models:/a-net/1"
    assert register_model(shown.ledger, shown.study.id, "another") == "models:/another/1"
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", shown.uri)
        assert mlflow.pyfunc.load_model("models:/a-net/1").metadata.signature is not None
    with pytest.raises(RegisterError, match=r"--register a/b: MLflow at .* does not take it"):
        register_model(shown.ledger, shown.study.id, "a/b")
    monkeypatch.setattr(Synced, "problem", "the server does not answer")
    with pytest.raises(RegisterError, match="a-net: not registered"):
        register_model(shown.ledger, shown.study.id, "a-net")


@pytest.mark.slow  # starts MLflow's model server
def test_mlflow_serves_it(shown: Shown, tmp_path: Path) -> None:
    model_id = log_model(shown.client, shown.ledger, shown.study)
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["-m", f"models:/{model_id}", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command,
            env={**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": shown.uri},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 180
        while True:
            time.sleep(0.5)
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping")
                break
            except urllib.error.URLError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline, "it did not answer in time"
        body = json.dumps({"instances": [[[[7]] * 16] * 16] * 2}).encode()
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked) as answer:
            said = np.array(json.load(answer)["predictions"])
    finally:
        os.killpg(server.pid, signal.SIGKILL)
    assert said.shape == (2, 2)
    np.testing.assert_allclose(said.sum(1), 1, rtol=1e-5)
