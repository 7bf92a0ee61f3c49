"""What the net holds fast, as texts: file name -> what stands in it today."""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from safetensors import safe_open

from tests.net import studies
from tests.net.product import (
    Ledger,
    Mirror,
    Space,
    StudyRow,
    call,
    canonical,
    dump,
    leaderboard,
    load_export,
    load_space,
    report,
    run_key,
    shipped,
)

Texts = dict[str, str]

NAMES = (studies.LABELS, studies.MASKS)
PARTS = ("ledger", "report", "export", "export-of-a-trial", "mlflow")
_FORMATS = ("report.md", "report.tex", "report.html")
_TABLES = ("report.csv", "report-arms.csv", "report-contrasts.csv")
_RUN_FIELDS = (
    *("id", "place_id", "role", "arm", "number", "name", "state", "key", "generation", "attempt"),
    *("study_id", "seed", "fold", "schedule_epochs", "metrics", "costs", "violations", "values"),
    *("proposal", "error", "traceback", "weights_path", "reused_from", "started", "ended"),
    "epochs",
)
_START = studies.START * 1000  # MLflow's times are in milliseconds
_EMPTY: tuple[Any, ...] = (None, {})
_STUDY_FIELDS = (
    *("id", "uid", "label", "state", "fingerprint", "fresh", "objectives", "importances"),
    *("created", "ended", "provenance"),
)


_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[-+]?\d+)?(?![\w.])")
_DIGITS = 8  # from so many decimals on a number is computed, and no two machines agree to the last


def steady(text: str) -> str:
    """A text whose longest numbers are cut to ten digits.

    Sums and the functions of statistics differ in their last bits between processors.
    """
    return _NUMBER.sub(
        lambda found: (
            repr(float(f"{float(found[0]):.10g}")) if _decimals(found[0]) > 11 else found[0]
        ),
        text,
    )


def settled(before: str, now: str) -> str:
    """The text as it is now, with the numbers of before where they differ by nothing that counts.

    Quantiles of Student's t differ by 1e-10 between releases of scipy. What has few digits, or
    has lost some, is compared as it is written.
    """
    lines, earlier = now.split("\n"), before.split("\n")
    if len(lines) == len(earlier):
        lines = [_settled(*pair) for pair in zip(earlier, lines, strict=True)]
    return "\n".join(lines)


def _settled(before: str, now: str) -> str:
    if before == now or _NUMBER.sub("#", before) != _NUMBER.sub("#", now):
        return now
    pairs = zip(_NUMBER.findall(before), _NUMBER.findall(now), strict=True)
    numbers = iter([_nearer(*pair) for pair in pairs])
    return _NUMBER.sub(lambda _: next(numbers), now)


def _nearer(before: str, now: str) -> str:
    computed = max(_decimals(before), _decimals(now)) >= _DIGITS
    near = math.isclose(float(before), float(now), rel_tol=1e-8, abs_tol=1e-10)
    return before if computed and near else now


def _decimals(number: str) -> int:
    return len(number.partition("e")[0].partition(".")[2])


def without_drawings(page: str) -> str:
    """A page with what is drawn left out; the words that stand for a figure are kept.

    A figure is drawn once for wide screens and once for narrow ones; that counts as one.
    """

    def words(drawing: re.Match[str]) -> str:
        label = re.search(r'aria-label="[^"]*"', drawing[1])
        return f"<svg {label[0] if label else ''}>...</svg>"

    page = re.sub(r"(?s)(<svg\b[^>]*>).*?</svg>", words, page)
    return re.sub(r"(<svg [^>]*>\.\.\.</svg>)(?:\s*\1)+", r"\1", page)


# ---- spaces ----


def assignments(space: Space) -> list[dict[str, Any]]:
    """Some values of a space's decisions: defaults, nothing inserted, and four others."""
    if not space.decisions:
        return [{}]
    found = [space.defaults()]
    plain = space.baseline()
    found += [] if plain is None or plain in found else [plain]
    for turn in range(1, 5):
        places = {decision.name: place for place, decision in enumerate(space.decisions)}

        def choose(decision: Any, turn: int = turn, places: dict[str, int] = places) -> Any:
            if decision.count is None:
                values = [decision.low, decision.default(), decision.high]
            else:
                values = list(decision.values())
            return values[(turn + places[decision.name]) % len(values)]

        values = space.ask(choose)
        found += [] if values in found else [values]
    return found


def _spaces() -> Iterator[tuple[str, Space]]:
    files = {**shipped(), **{path.stem: path for path in sorted(studies.SPACES.glob("*.yaml"))}}
    for name, path in files.items():
        space = load_space(path)
        if space.document["data"]["source"] is not None:
            space.document["data"]["source"] = Path(space.document["data"]["source"]).name
        yield name, space


def configs() -> Texts:
    """Configs of every shipped space file, as YAML, and what of them determines a result."""
    texts = {}
    for name, space in _spaces():
        parts = []
        for values in assignments(space):
            head = f"# {json.dumps(values)}\n"
            reason = space.forbidden(values)
            if reason:
                head += f"# never tried: {reason.replace(str(space.path), name)}\n"
            config = space.resolve(values)
            parts.append(f"{head}{dump(config)}")
        first = canonical(space.resolve(assignments(space)[-1]))
        parts.append(f"# what determines the result of the last\n{dump(first)}")
        texts[f"{name}.yaml"] = "---\n".join(parts)
    return texts


def keys() -> Texts:
    """The run keys of these configs, and of one under other seeds, budgets, devices and folds."""
    lines = []
    for name, space in _spaces():
        for number, values in enumerate(assignments(space)):
            key = run_key(space.resolve(values), "data", 0, 4, "cpu", 1)
            lines.append(f"{name} {number}: {key}")
    config = load_space(studies.SPACES / "labels.yaml")
    one = config.resolve(config.defaults())
    for given in (
        ("other data", 0, 4, "cpu", 1, None),
        ("data", 1, 4, "cpu", 1, None),
        ("data", 0, 5, "cpu", 1, None),
        ("data", 0, 4, "cuda", 1, None),
        ("data", 0, 4, "cpu", 2, None),
        ("data", 0, 4, "cpu", 1, 0),
    ):
        lines.append(f"labels {given}: {run_key(one, *given)}")
    return {"keys.txt": "\n".join(lines) + "\n"}


_CHANGES = (
    (),
    ("search.trials=99",),
    ("confirm.seeds=7",),
    ("resources.cpus=3",),
    ("train.batch_size=32",),
    ("search.seed=1",),
    ("data.image_size=32",),
)


def digests(folder: Path) -> Texts:
    """What decides that a study is the same one: its number and digest, under changes."""
    path = folder / "digests.db"
    lines = []
    with Ledger(path) as ledger:
        for name, space in _spaces():
            study = ledger.open_study(space.name, space.text, space.document, "data", {})
            lines.append(f"{name}: {study.label} {_digest(ledger, study)}")
        for name in ("labels", "masks"):
            for change in _CHANGES:
                space = load_space(studies.SPACES / f"{name}.yaml", change)
                study = ledger.open_study(space.name, space.text, space.document, "data", {})
                told = " ".join(change) or "unchanged"
                lines.append(f"{name}, {told}: {study.label} {_digest(ledger, study)}")
            study = ledger.open_study(space.name, space.text, space.document, "other", {})
            lines.append(f"{name}, other data: {study.label} {_digest(ledger, study)}")
    return {"digests.txt": "\n".join(lines) + "\n"}


def _digest(ledger: Ledger, study: StudyRow) -> str:
    query = f"select digest from study where id = {study.id}"
    with ledger.database.read() as connection:
        return str(connection.exec_driver_sql(query).scalar_one())


# ---- studies ----


def rows(ledger: Ledger, study: StudyRow) -> Texts:
    """All that a ledger says of a study, and its leaderboard."""
    out = [f"study {name}: {_said(getattr(study, name))}" for name in _STUDY_FIELDS]
    out += ["", dump(study.document), study.space_text]
    seen: dict[str, int] = {}
    trials = ledger.trials(study.id)
    for row in trials:
        text = dump(row.config)
        number = seen.setdefault(text, len(seen))
        told = {name: getattr(row, name) for name in _RUN_FIELDS}
        if row.weights_path is not None:  # as the ledger names it
            told["weights_path"] = str(Path(row.weights_path).relative_to(ledger.folder))
        out += [f"{name}: {_said(value)}" for name, value in told.items() if value not in _EMPTY]
        out.append(f"config: {number}")
        for part, arrays in ledger.predictions(row.run_id).items():
            told = (f"{key} {_array(array)}" for key, array in arrays.items())
            out.append(f"predictions {part}: {', '.join(told)}")
        out.append("")
    for text, number in seen.items():
        out += [f"config {number}:", text]
    for plan in ledger.plans(study.id):
        out.append(f"plan {plan.id} {plan.plan.act} {plan.plan.name}: {plan.hash}")
        out += [f"{name}: {_said(getattr(plan, name))}" for name in ("state", "winner", "created")]
        out.append(f"ranking: {_said(plan.ranking)}, frozen: {_said(plan.frozen)}")
        out.append(f"look: {ledger.look_of(plan)}, confirmatory: {ledger.confirmatory(plan)}")
        found = ledger.arm_runs(plan)
        for label, runs in found.items():
            out.append(f"arm {label}: {[run and run.run_id for run in runs]}")
    board = leaderboard(study, trials).to_csv(index=False)
    return {"rows.txt": steady("\n".join(out) + "\n"), "leaderboard.csv": steady(board)}


def _said(value: Any) -> str:
    return json.dumps(value, default=str)


def reports(ledger: Ledger, study: StudyRow, folder: Path) -> Texts:
    """The report's four formats, what the command line says, and the frames."""
    where = folder / f"report of {study.name}"
    assert call(["report", study.label, "--to", str(where)]) == 0
    texts = {name: (where / name).read_text(encoding="utf-8") for name in (*_FORMATS, *_TABLES)}
    texts["report.html"] = without_drawings(texts["report.html"])
    frames = report(study.label, ledger)
    for name in ("secondary", "families"):  # the others are the tables above, and the leaderboard
        texts[f"report-{name}.csv"] = frames[name].to_csv(index=False)
    return {name: steady(text) for name, text in texts.items()}


def export(study: StudyRow, folder: Path, trial: int | None = None) -> Texts:
    """The files of an export: texts as they are, of the weights what each tensor holds."""
    where = folder / f"export of {study.name} {trial}"
    more = [] if trial is None else ["--trial", str(trial)]
    assert call(["export", study.label, "--to", str(where), *more]) == 0
    assert sorted(path.name for path in where.iterdir()) == [
        "README.md",
        "config.yaml",
        "metrics.json",
        "weights.safetensors",
    ]
    texts = {
        name: (where / name).read_text(encoding="utf-8")
        for name in ("config.yaml", "metrics.json", "README.md")
    }
    checksum = hashlib.sha256((where / "weights.safetensors").read_bytes()).hexdigest()
    named = f',\n  "weights_sha256": "{checksum}"'  # the order in the file's header is chance
    assert named in texts["metrics.json"]
    texts["metrics.json"] = steady(texts["metrics.json"].replace(named, ""))
    if trial is None:
        texts["weights.txt"] = _weights(where / "weights.safetensors")
        for name, tensor in load_export(where).state_dict().items():
            assert torch.equal(tensor, studies.filled(tensor)), name
    return texts


def _array(array: np.ndarray) -> str:
    """Type, shape and content of an array."""
    mark = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]
    return f"{array.dtype} {array.shape} {mark}"


def _weights(path: Path) -> str:
    """The tensors of a weights file by name; the order in its header is chance."""
    with safe_open(path, framework="np") as file:
        out = [f"{key}: {value}" for key, value in sorted(file.metadata().items())]
        for name in sorted(file.keys()):
            out.append(f"{name}: {_array(file.get_tensor(name))}")
    return "\n".join(out) + "\n"


def mirrored(ledger: Ledger, studies_shown: list[StudyRow], uri: str) -> dict[str, Texts]:
    """What an MLflow store shows of studies: the runs with all that is written of them."""
    found = {}
    for study in studies_shown:
        outcome = Mirror(ledger, uri).sync(study.id)
        assert (outcome.problem, outcome.missing) == (None, 0)
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(study.name)
        runs = client.search_runs([experiment.experiment_id], max_results=1000)
        found[study.label] = [
            run for run in runs if run.data.tags["attnsearch.study"] == study.uid
        ]
    names = {run.info.run_id: run.info.run_name for runs in found.values() for run in runs}
    for study in studies_shown:
        names |= {study.fingerprint: "data", study.uid: "study"}
    return {label: _runs(client, runs, names) for label, runs in found.items()}


def _runs(client: MlflowClient, runs: list[Run], names: Mapping[str, str]) -> Texts:
    """The runs of a study by name; params that several runs have in common stand at the end."""
    params: dict[str, int] = {}
    out = []
    for run in sorted(runs, key=lambda run: (run.info.run_name, run.info.start_time)):
        text = "".join(f"  {key} = {value}\n" for key, value in sorted(run.data.params.items()))
        out.append(_run(client, run, names, params.setdefault(text, len(params))))
    out += [f"params {number}:\n{text}" for text, number in params.items()]
    return {"runs.txt": steady("\n".join(out))}


def _run(client: MlflowClient, run: Run, names: Mapping[str, str], params: int) -> str:
    info = run.info
    begin, end = info.start_time - _START, info.end_time - _START
    out = [f"run {info.run_name}: {info.status} from {begin} to {end}, params {params}"]
    for key in sorted(run.data.metrics):
        points = sorted(
            (point.step, point.timestamp, point.value)
            for point in client.get_metric_history(info.run_id, key)
        )
        told = ", ".join(
            f"{value!r} ({step} at {time - info.start_time})" for step, time, value in points
        )
        out.append(f"  metric {key} = {told}")
    for key, value in sorted(run.data.tags.items()):
        for mark, name in names.items():
            value = value.replace(mark, f"<{name}>")
        out.append(f"  tag {key} = {json.dumps(value)}")
    out += [f"  file {_file(client, info.run_id, path)}" for path in _files(client, info.run_id)]
    return "\n".join(out) + "\n"


def _file(client: MlflowClient, run_id: str, path: str) -> str:
    """A file's path, with a mark of what is in it where that is text that names no MLflow run."""
    if Path(path).suffix != ".yaml" and Path(path).name not in (
        "traceback.txt",
        "provenance.json",
    ):
        return path
    text = Path(client.download_artifacts(run_id, path)).read_bytes()
    return f"{path} {hashlib.sha256(text).hexdigest()[:12]}"


def _files(client: MlflowClient, run_id: str, folder: str | None = None) -> Iterator[str]:
    for item in sorted(client.list_artifacts(run_id, folder), key=lambda item: item.path):
        if item.is_dir:
            yield from _files(client, run_id, item.path)
        else:
            yield item.path


@contextmanager
def within(folder: Path) -> Iterator[None]:
    """In a folder, with its ledger, and none of the user's settings."""
    before = Path.cwd()
    own = {
        name: os.environ.pop(name, None) for name in ("ATTNSEARCH_LEDGER", "MLFLOW_TRACKING_URI")
    }
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.update({name: value for name, value in own.items() if value is not None})


def recorded(folder: Path, *, mirror: bool = True) -> dict[str, dict[str, Texts]]:
    """All of the studies in the ledger of a folder, by the studies' names and `PARTS`.

    Args:
        folder: With `attnsearch.db` and the weights beside it.
        mirror: Whether to show them in MLflow too, which takes most of the time.
    """
    texts: dict[str, dict[str, Texts]] = {}
    with within(folder), closing(Ledger("attnsearch.db", create=False)) as ledger:
        latest = [ledger.find_study(name) for name in NAMES]
        for study in latest:
            texts[study.name] = {
                "ledger": rows(ledger, study),
                "report": reports(ledger, study, folder),
                "export": export(study, folder),
                "export-of-a-trial": export(study, folder, trial=1),
            }
        if mirror:
            shown = mirrored(ledger, latest, f"sqlite:///{folder / 'mlflow.db'}")
            for study in latest:
                texts[study.name]["mlflow"] = shown[study.label]
    return texts
