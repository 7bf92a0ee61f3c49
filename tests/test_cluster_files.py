"""The files of docs/cluster: they say what today's programs understand, and one of them runs."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from attnsearch.search.cli import cli
from attnsearch.spaces import load_space

FOLDER = Path(__file__).parents[1] / "docs" / "cluster"
PAGE = FOLDER.with_name("cluster.md")
FILES = sorted(FOLDER.iterdir())

# Of ray.io/v1 in KubeRay 1.5, https://docs.ray.io/en/latest/cluster/kubernetes/references/api.html,
# and of the Compose specification: the fields that may stand there, as far as these files go.
FIELDS = {
    "RayJob": {
        *("entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"),
        *("activeDeadlineSeconds", "backoffLimit", "submissionMode", "suspend", "clusterSelector"),
        *("metadata", "jobId", "runtimeEnvYAML", "entrypointNumCpus", "submitterPodTemplate"),
    },
    "rayClusterSpec": {
        *("rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs", "suspend"),
        *("enableInTreeAutoscaling", "autoscalerOptions", "headServiceAnnotations"),
    },
    "headGroupSpec": {"rayStartParams", "template", "serviceType", "enableIngress", "resources"},
    "workerGroupSpecs": {
        *("groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"),
        *("numOfHosts", "idleTimeoutSeconds", "scaleStrategy", "suspend", "resources"),
    },
    "service": {
        *("image", "command", "environment", "volumes", "ports", "depends_on", "healthcheck"),
        *("restart", "shm_size", "deploy", "build", "working_dir"),
    },
}


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def commands(program: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of a program in the files and on their page."""
    verbs = "run|check|export|clean|start"
    call = re.compile(rf"(?<![\w/.-]){program} ((?:{verbs})\b(?:[^\n`#&\"]|\"[^\"\n]*\")*)")
    for file in (*FILES, PAGE):
        # A call is one line: those of the shell and YAML's folded ones are put together.
        text = re.sub(r"\\\n\s*|\n\s+(?=--|&&)", " ", file.read_text())
        for words in map(shlex.split, call.findall(text)):
            if len(words) > 1:  # else it is named, and not called
                yield words


def parsed(group: Any, words: list[str]) -> None:
    """Read a command line as its program does, and do nothing."""
    context = click.Context(group)
    command = group.get_command(context, words[0])
    assert command is not None, words
    command.make_context(words[0], list(words[1:]), parent=context)


def test_every_command_is_one_of_attnsearchs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = list(commands("attnsearch"))
    assert {words[0] for words in asked} >= {"check", "run"} and len(asked) >= 7
    for words in asked:
        parsed(cli, words)


def test_every_call_of_ray_has_options_that_ray_has() -> None:
    from ray.scripts.scripts import cli as ray

    asked = [
        ["5" if "$" in word and "=" not in word else word for word in words]
        for words in commands("ray")
    ]
    assert len([words for words in asked if words[0] == "start"]) >= 3
    for words in asked:
        known = {name for option in ray.commands[words[0]].params for name in option.opts}
        said = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert said <= known | {"--no-include-dashboard"}, said - known


@pytest.mark.parametrize("name", ["one_box.yaml", "kuberay.yaml"])
def test_every_space_is_sound(name: str, tmp_path: Path) -> None:
    text = (FOLDER / name).read_text()
    if name == "kuberay.yaml":
        text = documents(name)[1]["data"]["space.yaml"]
    (tmp_path / "space.yaml").write_text(text)
    space = load_space(tmp_path / "space.yaml")
    assert space.decisions and space.document["resources"]["gpus"] == 1


def test_the_manifest_has_kuberays_fields_and_mounts_what_it_uses() -> None:
    secret, config, job = documents("kuberay.yaml")
    assert job["apiVersion"] == "ray.io/v1" and job["kind"] == "RayJob"
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    assert set(spec) <= FIELDS["RayJob"] and set(cluster) <= FIELDS["rayClusterSpec"]
    assert set(cluster["headGroupSpec"]) <= FIELDS["headGroupSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"] == {"mode": "token"}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert "groupName" not in group or set(group) <= FIELDS["workerGroupSpecs"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
        assert mount["name"] == volume["name"]
        assert volume["configMap"]["name"] == config["metadata"]["name"]
        # A ConfigMap cannot be written, and copies of weights lie where the driver runs.
        assert f"WORKDIR {mount['mountPath']}\n" not in (FOLDER / "Dockerfile").read_text()
        assert spec["entrypoint"].endswith(f"{mount['mountPath']}/{next(iter(config['data']))}")


def test_compose_has_only_what_compose_knows() -> None:
    (file,) = documents("compose.yaml")
    services = file["services"]
    assert {key for key in file if not key.startswith("x-")} == {"services", "volumes"}
    for service in services.values():
        assert set(service) <= FIELDS["service"], set(service) - FIELDS["service"]
        assert set(service.get("depends_on", ())) <= set(services)
        named = [volume.partition(":")[0] for volume in service.get("volumes", ())]
        assert {name for name in named if not name.startswith(".")} <= set(file["volumes"])
    assert services["study"]["environment"] == services["worker"]["environment"]


def test_versions_are_those_of_the_package() -> None:
    constraints = (FOLDER.parents[1] / "constraints.txt").read_text()
    ray = re.search(r"^ray==(\S+)$", constraints, re.M)
    assert ray and documents("kuberay.yaml")[2]["spec"]["rayClusterSpec"]["rayVersion"] == ray[1]


def test_every_variable_is_one_that_is_read() -> None:
    known = {
        name
        for file in (FOLDER.parents[1] / "runs").rglob("*.py")
        for name in re.findall(r"ATTNSEARCH_[A-Z_]+", file.read_text())
    }
    said = {name for file in FILES for name in re.findall(r"ATTNSEARCH_[A-Z_]+", file.read_text())}
    assert said and said <= known


SRUN = """#!/usr/bin/env bash
# Stands for Slurm's: the node is an address of the loopback interface.
for word; do
  shift
  case $word in
    --nodelist=*) node=${word#*=} ;;
    ray) break ;;
  esac
done
export OMP_NUM_THREADS=1
exec python -c "from ray.scripts.scripts import main; main()" "$@" \\
  --node-ip-address="$node" --object-store-memory=100000000
"""

SPACE = """
name: slurm
task: classification
data: {source: digits, image_size: 8}
network: {backbone: resnet20, width: 0.25}
insert:
  - {at: layer3, block: {choice: [none, se, gc]}}
train: {epochs: 1, batch_size: 256, lr: 0.05}
search: {sampler: grid, scheduler: none, trials: 3}
resources: {cpus: 1}
"""


@pytest.mark.slow  # a Ray of two nodes
@pytest.mark.timeout(600)
def test_the_slurm_script_starts_ray_on_all_nodes_and_runs_the_study(
    tmp_path: Path, stand_ins: Callable[[dict[str, str]], str]
) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    programs = {
        "srun": SRUN,
        "scontrol": "#!/bin/sh\nprintf '127.0.0.1\\n127.0.0.2\\n'\n",
        "attnsearch": '#!/bin/sh\nexec python -m attnsearch.search.cli "$@"\n',
    }
    done = subprocess.run(
        ["bash", FOLDER / "slurm.sh", "space.yaml"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": stand_ins(programs),
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_JOB_NODELIST": "two",
            "SLURM_CPUS_PER_TASK": "1",
            "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 trials: 3 finished" in done.stdout
    said = done.stdout + done.stderr
    assert "2 trials side by side" in said or "127.0.0.2 has joined" in said, said
    assert list((tmp_path / "attnsearch-weights").glob("*.safetensors"))


@pytest.fixture
def stand_ins(tmp_path: Path) -> Callable[[dict[str, str]], str]:
    """Puts programs first in PATH, with this Python."""
    import sys

    def place(programs: dict[str, str]) -> str:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        for name, text in programs.items():
            (folder / name).write_text(text)
        for program in folder.iterdir():
            program.chmod(0o755)
        return f"{folder}:{os.environ['PATH']}"

    return place
