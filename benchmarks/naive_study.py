"""The study that a user writes: Ray Tune, OptunaSearch and MLflowLoggerCallback, or Optuna alone.

`study.py` runs it beside attnsearch. The network is the same, built by its own `build_network`,
and so are data, optimiser and epochs; the loop is that of `step.py`: DataLoader, NCHW, fp32 and
eager.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from attnsearch.blocks import build_network
from attnsearch.runs.data import load_data

BLOCKS = ("none", "se", "eca")
LOW, HIGH = 0.01, 0.1


def train(
    block: str, lr: float, config: Mapping[str, Any], report: Callable[[dict[str, float]], None]
) -> float:
    """Train one network as a plain script does, and return its last accuracy.

    Args:
        block: What is inserted.
        lr: The learning rate.
        config: A resolved config, for all the rest.
        report: Told the scores of each epoch.
    """
    insert = [] if block == "none" else [{"at": "layer3", "block": block, "params": {}}]
    data, size = load_data(config["data"], config["task"]), config["train"]["batch_size"]
    network = build_network(
        {**config, "insert": insert}, data.channels, data.classes, data.image_size
    )
    parts = [
        TensorDataset(
            torch.from_numpy(part.images).permute(0, 3, 1, 2).float() / 255,
            torch.from_numpy(part.labels).long(),
        )
        for part in (data.train, data.val)
    ]
    training, validation = DataLoader(parts[0], size, shuffle=True), DataLoader(parts[1], size)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    accuracy = 0.0
    for _ in range(config["train"]["epochs"]):
        network.train()
        for images, labels in training:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            right = sum(
                int((network(images).argmax(1) == labels).sum()) for images, labels in validation
            )
        accuracy = right / len(parts[1])
        report({"loss": loss.item(), "val_accuracy": accuracy})
    return accuracy


def by_optuna(config: Mapping[str, Any], trials: int, workers: int) -> None:
    """Search with Optuna alone, one trial after the other."""
    import optuna

    torch.set_num_threads(workers)

    def objective(trial: optuna.Trial) -> float:
        block = trial.suggest_categorical("block", BLOCKS)
        lr = trial.suggest_float("lr", LOW, HIGH, log=True)
        return train(block, lr, config, lambda scores: None)

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=trials)


def by_ray(config: Mapping[str, Any], trials: int, workers: int) -> None:
    """Search with Ray Tune, its OptunaSearch, and its callback for MLflow."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    def trainable(chosen: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        train(chosen["block"], chosen["lr"], config, tune.report)

    ray.init(num_cpus=workers, include_dashboard=False)
    tracking = f"sqlite:///{Path.cwd()}/mlflow.db"
    tuner = tune.Tuner(
        trainable,
        param_space={"block": tune.choice(BLOCKS), "lr": tune.loguniform(LOW, HIGH)},
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            num_samples=trials,
            search_alg=ConcurrencyLimiter(OptunaSearch(seed=0), max_concurrent=workers),
        ),
        run_config=tune.RunConfig(
            storage_path=str(Path.cwd() / "tune"),
            callbacks=[MLflowLoggerCallback(tracking_uri=tracking, experiment_name="naive")],
            verbose=0,
        ),
    )
    tuner.fit()
    ray.shutdown()
