"""Provenance: true, complete, and harmless where a tool is missing."""

import json
import subprocess
from pathlib import Path

import numpy
import pytest
import torch

from attnsearch.runs import machine as provenance


def test_it_names_what_a_result_depends_on() -> None:
    told = provenance.provenance()
    assert told["packages"]["numpy"] == numpy.__version__
    assert told["packages"]["torch"] == torch.__version__
    assert told["cpu"]
    assert told["cores"] >= 1
    assert told["memory_mb"] > 100
    assert told["folder"] == str(Path.cwd())
    assert json.loads(json.dumps(told)) == told


def test_the_commit_of_a_checkout_and_whether_it_was_changed(tmp_path: Path) -> None:
    assert provenance.git_commit(tmp_path) is None

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
    assert provenance.git_commit(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "code.py").write_text("x = 2\n")
    assert provenance.git_commit(tmp_path) == {"commit": commit, "dirty": True}


def test_gpus_are_those_that_the_driver_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 570.10'\necho 'NVIDIA H200, 570.10'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    provenance.gpu_names.cache_clear()
    assert provenance.gpu_names() == ("NVIDIA H200, 570.10", "NVIDIA H200, 570.10")
    provenance.gpu_names.cache_clear()


def test_missing_and_failing_tools_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "git"
    tool.write_text("#!/bin/sh\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    provenance.gpu_names.cache_clear()
    assert provenance.git_commit(Path.cwd()) is None
    assert provenance.gpu_names() == ()
    provenance.gpu_names.cache_clear()
