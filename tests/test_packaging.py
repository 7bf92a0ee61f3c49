"""What the built wheel holds, and that it works away from the checkout."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import version
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
    for folder in (*LAYERS, ".importroot/attnsearch"):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True)
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
    assert wanted | {"attnsearch/__init__.py", "attnsearch/py.typed"} <= held
    modules = [name for name in held if name.endswith(".py")]
    assert len(modules) == len({*modules}) == sum(name.endswith(".py") for name in wanted) + 1
    assert "attnsearch/spaces/resnet.yaml" in held


def test_every_folder_with_a_module_is_a_listed_package() -> None:
    """An unlisted one works in an editable install and is missing from the wheel."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent for layer in LAYERS for path in (ROOT / layer).rglob("*.py")}
    packages = [".".join(("attnsearch", *path.relative_to(ROOT).parts)) for path in folders]
    assert sorted(listed) == sorted(["attnsearch", *packages])


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
        "import attnsearch; print(attnsearch.__version__, attnsearch.run_study.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(unpacked)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["resnet-digits", version("attnsearch"), "run_study"]


def test_a_checkout_is_imported_from_its_folders_and_not_from_the_links() -> None:
    """Of an editable install: tracebacks and breakpoints name the files that people edit."""
    import attnsearch
    import attnsearch.search.study

    if not Path(attnsearch.__file__).is_relative_to(ROOT / ".importroot"):
        pytest.skip("attnsearch is installed as a wheel here")
    assert attnsearch.__version__ == version("attnsearch")
    assert attnsearch.__path__ == [str(ROOT)]
    assert Path(attnsearch.search.study.__file__).is_relative_to(ROOT / "search")


def test_the_package_loads_nothing_before_it_is_used() -> None:
    script = "import sys, attnsearch; print(*sorted({'torch', 'ray', 'click'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == ""


USER = """
import attnsearch
from attnsearch import Progress, Space, load_space, run_study
from attnsearch.search import TrialEnd, TrialInfo
from attnsearch.spaces import Data, Entry, Network, SpaceFile, Train

FILE = SpaceFile(
    name="x",
    task="classification",
    data=Data(source="digits", image_size=[8, 12]),
    network=Network(backbone="resnet20"),
    insert=[Entry(at="layer3", block={"choice": ["none", "se"]})],
    train=Train(epochs=1, lr={"float": [0.01, 0.1], "log": True}),
)

class Watch(Progress):
    def trial_ended(self, trial: TrialInfo, end: TrialEnd) -> None:
        print(trial.label, end.scores)


def run(path: str) -> float:
    space: Space = load_space(path)
    result = run_study(space, callbacks=[Watch()], progress=False)
    reveal_type(result.best_trial)
    version: str = attnsearch.__version__
    run_study(3)
    return float(result.frame()["val_accuracy"].max()) + len(version)
"""


@pytest.mark.slow  # mypy reads the whole package, though not what it rests on
def test_a_users_types_are_checked_against_the_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    for name in ("pydantic", "pydantic_core", "annotated_types", "typing_inspection"):
        origin = importlib.util.find_spec(name).origin
        (tmp_path / "site" / name).symlink_to(Path(origin).parent)
    (tmp_path / "user.py").write_text(USER)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-site-packages", "user.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("user.py")]
    revealed, wrong = lines
    assert "TrialRow | None" in revealed
    assert 'Argument 1 to "run_study" has incompatible type "int"' in wrong


@pytest.mark.slow  # pip makes an environment's worth of an install
def test_an_editable_install_has_the_package_and_its_folders(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source)
    for folder in (*LAYERS, ".importroot/attnsearch"):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True)
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), "-e", str(source)], check=True)
    script = (
        "import site, sys; site.addsitedir(sys.argv[1])\n"
        "import attnsearch, attnsearch.runs.ledger as ledger\n"
        "print(attnsearch.__version__, attnsearch.Space.__name__, ledger.__file__)\n"
    )
    done = subprocess.run(
        # Without this environment's own editable install, whose finder has the same name.
        [sys.executable, "-S", "-c", script, str(site)],
        env={**os.environ, "PYTHONPATH": f"{site}:{sysconfig.get_path('purelib')}"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.stdout.split() == [
        version("attnsearch"),
        "Space",
        str(source / "runs" / "ledger" / "__init__.py"),
    ], done.stderr
