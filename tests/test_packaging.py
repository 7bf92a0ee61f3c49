"""What the built wheel holds, and that it works away from the checkout."""

import importlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("search", "runs", "spaces", "blocks")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that no build folder appears in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for layer in LAYERS:
        shutil.copytree(ROOT / layer, source / layer)
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip"]
    options = ["--no-deps", "--no-build-isolation", "-q", "--wheel-dir", str(out)]
    subprocess.run([*pip, "wheel", *options, str(source)], check=True)
    (path,) = out.glob("*.whl")
    return path


def test_wheel_has_one_top_level_name(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"attnsearch"}


def test_wheel_holds_every_module_space_and_type_marker(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"attnsearch/{path.relative_to(ROOT).as_posix()}"
        for layer in LAYERS
        for pattern in ("*.py", "*.yaml", "*.jinja", "py.typed")
        for path in (ROOT / layer).rglob(pattern)
    }
    assert wanted - held == set()
    assert "attnsearch/spaces/resnet.yaml" in held


def test_every_folder_with_a_module_is_a_listed_package() -> None:
    """An unlisted one works in an editable install and is missing from the wheel."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent for layer in LAYERS for path in (ROOT / layer).rglob("*.py")}
    packages = [".".join(("attnsearch", *path.relative_to(ROOT).parts)) for path in folders]
    assert sorted(listed) == sorted(packages)


def test_no_file_has_the_name_of_what_its_package_hands_on() -> None:
    """Once imported, the file would stand where the name should."""
    for layer in LAYERS:
        for init in (ROOT / layer).rglob("__init__.py"):
            package = ".".join(("attnsearch", *init.parent.relative_to(ROOT).parts))
            beside = {path.stem for path in init.parent.iterdir()}
            assert not beside & set(importlib.import_module(package).__all__), package


def test_every_room_says_what_each_of_its_files_is() -> None:
    """`blocks/mechanisms` says it by its table: a file there is a block."""
    for layer in LAYERS:
        for face in (ROOT / layer).glob("*/__init__.py"):
            listed = {line.split()[0] for line in face.read_text().splitlines() if line.strip()}
            files = {path.stem for path in face.parent.glob("*.py")} - {"__init__"}
            if face.parent.name != "mechanisms":
                assert files <= listed, f"{face} leaves out {sorted(files - listed)}"


def test_unpacked_wheel_checks_a_shipped_space(wheel: Path, tmp_path: Path) -> None:
    """Its own modules and its own space file, found from a folder with neither."""
    unpacked = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(unpacked)
    script = (
        "import sys, importlib; sys.path.insert(0, sys.argv[1])\n"
        # An editable install answers before sys.path does: take its finder away.
        "sys.meta_path = [f for f in sys.meta_path if '__editable__' not in repr(f)]\n"
        "import attnsearch.spaces as spaces\n"
        "assert spaces.__file__.startswith(sys.argv[1]), spaces.__file__\n"
        "print(spaces.load_space('spaces/resnet.yaml').name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(unpacked)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "resnet-digits"
