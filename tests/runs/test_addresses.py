"""Addresses: whatever a path holds comes through a URL, and no secret comes out."""

import sys
from pathlib import Path

import pytest

from attnsearch.runs.addresses import sqlite_path, sqlite_url, without_secrets
from attnsearch.runs.machine import provenance


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://anna:s3cr3t@host:5000/x", "http://***@host:5000/x"),
        ("https://ghp_token@host/x", "https://***@host/x"),
        ("http://anna:s3/cr?3t@host:5000/x", "http://***@host:5000/x"),
        ("postgresql+psycopg://u:p@ss@host/db", "postgresql+psycopg://***@host/db"),
        (
            "postgresql://host/db?user=u&password=s3cr3t",
            "postgresql://host/db?user=u&password=***",
        ),
        ("https://host/?access_token=abc#x and more", "https://host/?access_token=*** and more"),
        ("Max retries: 'https://a:b@host', twice https://c:d@e", None),
        ("http://host:5000/me@here", "http://host:5000/me@here"),
        ("see http://host:5000, mail me@host", "see http://host:5000, mail me@host"),
        ("sqlite:////home/me@work/a.db", "sqlite:////home/me@work/a.db"),
        ("ecrm@layer4: no=1", "ecrm@layer4: no=1"),
    ],
)
def test_what_is_told_of_an_address_has_no_secret(text: str, told: str | None) -> None:
    expected = told or "Max retries: 'https://***@host', twice https://***@e"
    assert without_secrets(text) == expected
    assert without_secrets(expected) == expected


def test_what_the_environment_keeps_secret_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cr3t")
    monkeypatch.setenv("PGPASSWORD", "")
    assert without_secrets("KeyError: 's3cr3t'") == "KeyError: '***'"


def test_the_command_is_kept_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/attnsearch", "run", "https://a:s3cr3t@host/x.yaml"])
    assert provenance()["command"] == ["attnsearch", "run", "https://***@host/x.yaml"]


@pytest.mark.parametrize(
    "name", ["a b", "a%20b", "a?b=c", "a#b", "50%", "d\u00e9j\u00e0 vu", "a@b:c"]
)
def test_any_path_comes_through_a_url(name: str, tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / name / "x.db")
    assert sqlite_path(url) == tmp_path / name / "x.db"
    assert sqlite_path("http://host/x.db") is None


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sqlite_path("sqlite:///x.db") == tmp_path / "x.db"
    assert sqlite_url(Path("x.db")) == f"sqlite:///{tmp_path}/x.db"
