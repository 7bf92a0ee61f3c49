"""What is told of this machine is true, complete, and harmless where a tool is missing."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy
import psutil
import pytest
import torch

from attnsearch.runs import machine


def test_it_names_what_a_result_depends_on() -> None:
    told = machine.provenance()
    assert told["packages"]["numpy"] == numpy.__version__
    assert told["packages"]["torch"] == torch.__version__
    assert told["cpu"]
    assert told["cores"] >= 1
    assert told["memory_mb"] > 100
    assert told["folder"] == str(Path.cwd())
    assert json.loads(json.dumps(told)) == told


def test_the_commit_of_a_checkout_and_whether_it_was_changed(tmp_path: Path) -> None:
    assert machine.git_commit(tmp_path) is None

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    git("init")
    (tmp_path / "code.py").write_text("x = 1\n")
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert machine.git_commit(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "code.py").write_text("x = 2\n")
    assert machine.git_commit(tmp_path) == {"commit": commit, "dirty": True}


def test_no_more_cpus_are_used_than_there_are() -> None:
    assert 1 <= machine.available_cpus() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("files", "kills", "limit"),
    [
        ({"a": "low 0\noom 9\noom_kill 3\n", "b": "1000000\n"}, 3, 1_000_000),  # version 2
        ({"a": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "b": "max\n"}, 2, None),
        ({}, None, None),  # what the machine counts
    ],
)
def test_memory_of_the_control_group(
    files: dict[str, str],
    kills: int | None,
    limit: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert all(path.is_relative_to("/sys/fs/cgroup") for path in machine._of_group("a", "b"))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    places = {"memory.events": "a", "memory.max": "b"}
    monkeypatch.setattr(machine, "_of_group", lambda name, _: [tmp_path / places[name]])
    counted = machine.memory_kills()
    assert counted == kills if kills is not None else counted >= 0
    assert machine.memory_limit() == (limit or psutil.virtual_memory().total)


@pytest.mark.parametrize(
    ("stat", "free"),
    [
        ("total_active_file 100\ntotal_inactive_file 50\nactive_file 7\n", 350),  # version 1
        ("anon 9\nactive_file 30\ninactive_file 20\n", 250),
        ("anon 9\n", 200),
        (None, None),
    ],
)
def test_free_memory_is_that_of_the_control_group(
    stat: str | None, free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only holds pages of files is free."""
    for name, text in (("memory.max", "1000"), ("memory.current", "800"), ("memory.stat", stat)):
        if text is not None:
            (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "_of_group", lambda name, _: [tmp_path / name])
    counted = machine.free_memory()
    assert counted == free if free is not None else counted > 2**20


GROWS = """
import subprocess, sys
from attnsearch.runs.machine import memory_kills, memory_limit

before = memory_kills()
ended = subprocess.run([sys.executable, "-c", "x = bytearray(1 << 30)"]).returncode
print(ended, memory_kills() - before, memory_limit())
"""


def test_a_process_that_the_system_kills_for_its_memory_is_counted() -> None:
    """In a control group of 256 MiB, made for it."""
    for parent, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = machine.ROOT / parent / f"attnsearch-test-{os.getpid()}"
        if not os.access(group.parent / "cgroup.procs", os.W_OK):
            continue
        group.mkdir()
        try:
            (group / limit).write_text(str(256 << 20))
            enter = 'echo $$ > "$0"; exec "$@"'
            done = subprocess.run(
                ["sh", "-c", enter, group / "cgroup.procs", sys.executable, "-c", GROWS],
                capture_output=True,
                text=True,
                check=True,
            )
        except OSError:
            continue  # no memory controller in it
        finally:
            group.rmdir()
        assert done.stdout.split() == ["-9", "1", str(256 << 20)]
        return
    pytest.skip("no control group of memory can be made here")


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "300000 100000"}, 3),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({}, 8),
    ],
)
def test_a_containers_quota_limits_the_cpus(
    files: dict[str, str], cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_text(path: Path, encoding: str) -> str:
        try:
            return files[str(path).removeprefix("/sys/fs/cgroup/")]
        except KeyError:
            raise FileNotFoundError(path) from None

    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(Path, "read_text", read_text)
    assert machine.available_cpus() == cpus


def test_hidden_cards_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for visible, count in (("", 0), ("-1", 0), ("0", 1), ("0,3", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert machine.gpu_count() == count


def put_nvidia_smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the driver's tool say what a script says."""
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_gpus_are_those_that_the_driver_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_nvidia_smi(tmp_path, "echo 'NVIDIA H200, 570.10'\necho 'NVIDIA H200, 570.10'", monkeypatch)
    machine.gpu_names.cache_clear()
    assert machine.gpu_names() == ("NVIDIA H200, 570.10", "NVIDIA H200, 570.10")
    machine.gpu_names.cache_clear()


def test_a_cards_memory_is_what_its_driver_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first card that is visible, by whatever name Ray gives it."""
    says = '[ "$2" = GPU-7 ] && echo "1024, 143771" || echo "[N/A], [N/A]"'
    put_nvidia_smi(tmp_path, says, monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7,GPU-8")
    assert machine.card_memory_mb() == (1024, 143771)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(OSError, match="does not tell"):
        machine.card_memory_mb()


def test_missing_and_failing_tools_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "git"
    tool.write_text("#!/bin/sh\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    machine.gpu_names.cache_clear()
    assert machine.git_commit(Path.cwd()) is None
    assert machine.gpu_names() == ()
    machine.gpu_names.cache_clear()


def test_the_load_is_of_this_process_since_it_was_asked_before() -> None:
    load = machine.Load()
    kept = bytearray(b"x" * 2**27)  # 128 MiB that are really held
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    busy = load()
    time.sleep(0.1)
    idle = load()
    assert set(busy) == {
        "system/worker_cpus",
        "system/worker_memory_mb",
        "system/machine_memory_percent",
    }
    assert busy["system/worker_cpus"] > 2 * idle["system/worker_cpus"]
    rss = psutil.Process().memory_info().rss / 2**20
    assert busy["system/worker_memory_mb"] == pytest.approx(rss, rel=0.2)
    assert len(kept) / 2**20 < rss
    assert 0 < busy["system/machine_memory_percent"] <= 100


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        (None, "pip install 'attnsearch[onnx]'"),
        (
            {"url": "file:///home/me/my%20code", "dir_info": {"editable": True}},
            "pip install -e '/home/me/my code[onnx]'",
        ),
        ({"url": "file:///src/attnsearch", "dir_info": {}}, "pip install '/src/attnsearch[onnx]'"),
        (
            {"url": "https://me:secret@host/a.git", "vcs_info": {"vcs": "git"}},
            "pip install 'attnsearch[onnx] @ git+https://***@host/a.git'",
        ),
        (
            {"url": "https://host/attnsearch-1.whl", "archive_info": {}},
            "pip install 'attnsearch[onnx] @ https://host/attnsearch-1.whl'",
        ),
    ],
)
def test_installing_is_advised_as_it_was_done(
    origin: dict[str, object] | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = None if origin is None else json.dumps(origin)
    monkeypatch.setattr(
        machine, "distribution", lambda _: SimpleNamespace(read_text=lambda _: text)
    )
    assert machine.install_command("onnx") == told
