"""The paragraph "Experimental protocol": what was done, each sentence from the ledger."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from attnsearch.runs.ledger import Role, State, TrialRow
from attnsearch.runs.reports.tables import act_title, cases_name, scope_of
from attnsearch.runs.results import ActResult, MeasuredStudy, metric_text, percent, points
from attnsearch.runs.words import listed, plural
from attnsearch.spaces.keys import BUILT_IN, metric_name

_VERSIONED = ("attnsearch", "torch", "optuna", "ray", "scipy", "statsmodels")
_MOST_SEEDS = 12
_MOST_NAMED = 4


def protocol(result: MeasuredStudy) -> list[str]:
    """Return protocol in sentences, in the order of the work; to be pasted as one paragraph."""
    sentences = [*_data(result), *_exploring(result)]
    for act in result.acts:
        sentences += _act(result, act)
    if any(act.comparisons for act in result.acts):
        sentences.append(
            "A difference that is not significant is not thereby shown to be zero: not "
            "significant is not equivalent."
        )
    sentences += _machine(result)
    return [sentence for sentence in dict.fromkeys(sentences) if sentence]


def _data(result: MeasuredStudy) -> list[str]:
    data = result.setting("data") or {}
    network = result.setting("network") or {}
    source = data.get("source")
    name = PurePath(str(source)).name if source else "an unnamed source"
    segments = result.setting("task") == "segmentation"
    if source in BUILT_IN:
        name = BUILT_IN[source].title
    size = data.get("image_size")
    shape = size if isinstance(size, list) else [size, size]
    at = f" at {shape[0]} x {shape[1]} pixels" if size else ""
    sentences = [
        f"Data: {name}{at}, fingerprint {result.study.fingerprint[:12]}, with one split for all "
        f"runs (split seed {data.get('seed', 0)})."
    ]
    if segments:
        sentences.append("Masks are compared at the images' own size.")
    sized = next((act for act in result.acts if act.cases), None)
    if sized is not None:
        part = "test" if sized.plan.part == "test" else "validation"
        sentences.append(f"Scores are from {sized.cases:,} {part} images{_grouped(sized)}.")
    if data.get("groups"):
        sentences.append("Images of one group never stand in two parts of the data.")
    else:
        sentences.append(
            "Patient identity is unknown; leakage between the parts cannot be excluded."
        )
    if network.get("backbone"):
        weights = network.get("weights")
        start = f"initialised from {PurePath(str(weights)).name}" if weights else "from scratch"
        width = network.get("width", 1.0)
        wide = "" if width == 1.0 else f" of width {width:g}"
        sentences.append(f"Host network: {network['backbone']}{wide}, trained {start}.")
    return sentences


def _grouped(act: ActResult) -> str:
    return "" if act.groups is None else f" of {act.groups:,} groups (patients)"


def _exploring(result: MeasuredStudy) -> list[str]:
    trials = [row for row in result.trials if row.role != Role.BASELINE]
    search = result.setting("search") or {}
    if not trials or not search:
        return []
    goals = [
        f"{metric_name(metric)} ({'maximised' if goal == 'max' else 'minimised'})"
        for metric, goal in result.study.objectives.items()
    ]
    seeds = sorted({row.seed for row in trials})
    scheduler = search.get("scheduler", "asha")
    name = scheduler if isinstance(scheduler, str) else next(iter(scheduler))
    stopping = "without early stopping" if name == "none" else f"weak ones stopped early ({name})"
    return [
        f"Exploring: {plural(len(trials), 'trial')} ({_states(trials)}; {_epochs(trials)} in "
        f"all, {_schedule(trials)} at most each) proposed by the sampler "
        f"{search.get('sampler', 'tpe')}, {stopping}, each on {_seed_list(seeds)}, selected on "
        f"{listed(goals)}."
    ]


def _states(rows: Sequence[TrialRow]) -> str:
    words = {State.FINISHED: "of the full schedule", State.STOPPED: "stopped early"}
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(s)} {words.get(s, s)}" for s in State if s in states)


def _epochs(rows: Sequence[TrialRow]) -> str:
    return plural(sum(len(row.epochs) for row in rows), "epoch")


def _schedule(rows: Sequence[TrialRow]) -> str:
    return plural(max((row.schedule_epochs for row in rows), default=0), "epoch")


def _seed_list(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    shown = [str(seed) for seed in seeds[:_MOST_SEEDS]]
    more = len(seeds) - len(shown)
    words = f"{', '.join(shown)} and {more} more" if more else listed(shown)
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {words}"


def _of(act: ActResult) -> str:
    """Return an act within a sentence."""
    return "the confirmation" if act.plan.act == "confirm" else f"the ablation {act.name}"


def _act(result: MeasuredStudy, act: ActResult) -> list[str]:
    plan = act.plan
    sentences = (
        _confirm_arms(result, act) if plan.act == "confirm" else _ablation_arms(result, act)
    )
    kept = (
        "those of the last epoch"
        if plan.checkpoint == "last"
        else (
            "those of the epoch with the best validation score (checkpoint best_val), whose "
            "validation score is not reported"
        )
    )
    folds = "" if plan.folds == (None,) else f" in each of {plural(len(plan.folds), 'fold')}"
    sentences.append(
        f"Every arm of {_of(act)} was trained for {plural(plan.epochs, 'epoch')} without early "
        f"stopping{folds} on the same {plural(len(plan.seeds), 'seed')} "
        f"({_seed_list(plan.seeds)}), with common random numbers; scores are {kept}, for all "
        "arms alike."
    )
    if plan.folds != (None,):
        sentences.append(_nesting(act))
    sentences += _winner(act)
    sentences += _look(act)
    sentences += _tests(act)
    sentences += _troubles(act)
    return sentences


def _confirm_arms(result: MeasuredStudy, act: ActResult) -> list[str]:
    kinds = [arm.kind for arm in act.plan.arms]
    candidates = kinds.count("candidate")
    chosen = f"the best {plural(candidates, 'different architecture')} of exploring"
    sentences = [
        f"{act_title(act)}: {plural(len(kinds), 'arm')}, of which "
        f"{plural(candidates, 'candidate')} ({chosen})."
    ]
    if result.trials:
        spent = [row for row in result.trials if row.role != Role.BASELINE]
        sentences.append(
            f"Selection budget of the candidates together: {plural(len(spent), 'trial')}, "
            f"{_epochs(spent)}."
        )
    if "baseline" in kinds:
        sentences.append(
            "The baseline has nothing inserted and the candidate's training settings; no trial "
            "was spent on it."
        )
    sentences += _tuned(result, act, "tuned_baseline" in kinds)
    for arm in act.plan.arms:
        if arm.kind == "capacity":
            notes = f": {'; '.join(arm.notes)}" if arm.notes else ""
            sentences.append(f"{arm.label[:1].upper()}{arm.label[1:]}{notes}.")
    if "capacity" not in kinds:
        sentences.append("No capacity-matched control was trained.")
    return sentences


def _tuned(result: MeasuredStudy, act: ActResult, planned: bool) -> list[str]:
    if not planned:
        return ["No tuned baseline was trained."]
    arm = next(arm for arm in act.plan.arms if arm.kind == "tuned_baseline")
    if arm.equals is not None:
        return [f"The tuned baseline is the arm {arm.equals}: its settings are the same."]
    rows = [row for row in result.tuning if (row.arm or "").startswith("tuned_baseline")]
    # More exploring can lead to another winner, whose baseline is tuned anew: the last one counts.
    last = max(rows, key=lambda row: row.place_id, default=None)
    rows = [row for row in rows if last is not None and row.arm == last.arm]
    if not rows:
        return ["The tuned baseline's settings were chosen without trials in this ledger."]
    return [
        f"The tuned baseline is the baseline after {plural(len(rows), 'trial')} "
        f"({_states(rows)}; {_epochs(rows)}) for its training settings alone."
    ]


def _ablation_arms(result: MeasuredStudy, act: ActResult) -> list[str]:
    plan = act.plan
    part = "validation" if plan.part == "val" else "test"
    words = f"{act_title(act)}: {plural(len(plan.arms), 'arm')}, scored on {part} data"
    if act.reference is not None:
        words += f", compared with {act.reference}"
    rows = [row for row in result.tuning if (row.arm or "").startswith(f"{plan.name}: ")]
    spent = f" ({plural(len(rows), 'trial')}, {_epochs(rows)} in all)"
    tuned = f"the training settings of every arm were tuned with an equal budget{spent}"
    if not plan.retuned:
        tuned = "training settings are the reference's (not retuned)"
    sentences = [f"{words}; {tuned}."]
    if plan.reuses_confirm:
        sentences.append(
            "Its reference was selected on these seeds: its runs are the confirmation's."
        )
    return sentences


def _nesting(act: ActResult) -> str:
    words = {
        "development": "Exploring used a development part outside of all test folds.",
        "nested": "Exploring was nested in each outer training part.",
        "not nested": "Exploring saw data of the test folds (not nested), so there is no verdict.",
    }
    return words.get(act.plan.nesting, "")


def _winner(act: ActResult) -> list[str]:
    if act.winner is None:
        return []
    before = ", frozen before any test score was computed" if act.plan.part == "test" else ""
    return [
        f"The winner, {act.winner}, is the candidate with the best mean validation "
        f"{metric_name(act.plan.metric)} on these seeds{before}."
    ]


def _look(act: ActResult) -> list[str]:
    count = plural(len(act.plan.contrasts), "contrast")
    stored = (
        f"The plan of {_of(act)} ({count}, SHA-256 {act.hash[:12]}) was stored on {act.stored}"
    )
    if act.plan.part == "val":
        return [f"{stored}; it does not look at the test data."]
    if act.look is None:
        return [f"{stored}; the test data was not opened for it yet."]
    if act.confirmatory:
        return [
            f"{stored}, before the test data was first opened; this is look {act.look} at it, and "
            "the contrasts are confirmatory."
        ]
    return [
        f"{stored}, after the test data had been opened; this is look {act.look} at it, and the "
        "contrasts are exploratory."
    ]


def _tests(act: ActResult) -> list[str]:
    plan, tested = act.plan, [c for c in act.comparisons if c.p is not None]
    if not act.comparisons:
        return []
    paired = "seed" if plan.folds == (None,) else "fold"
    level = percent(1 - plan.alpha)
    sentences = []
    if tested:
        df = listed(sorted({f"{c.df:.3g}" for c in tested if c.df is not None}))
        ns = listed(sorted({str(c.n) for c in tested}))
        test = (
            "two-sided paired t"
            if paired == "seed"
            else (
                "two-sided t with the variance of Nadeau and Bengio, seeds averaged within a fold"
            )
        )
        families = listed([f"{name} (m = {m[0].tests})" for name, m in act.families().items()])
        sentences.append(
            f"Test in {_of(act)}: {test} over {paired}s (n = {ns}, df = {df}) on "
            f"{metric_name(act.metric)}, Holm-adjusted at alpha = {plan.alpha:g} in each family: "
            f"{families}."
        )
    else:
        sentences.append("No test was made: see the reasons at the contrasts.")
    scopes = listed(sorted({scope_of(act, c) for c in act.comparisons}))
    if any(c.low is not None for c in act.comparisons):
        sentences.append(
            f"Intervals ({level}) are not adjusted for multiplicity, those called simultaneous "
            f"are (Bonferroni); their scope is {scopes}."
        )
    new = next((c.new_patients for c in act.comparisons if c.new_patients is not None), None)
    if new is not None:
        sentences.append(
            "The intervals for new patients come from variance components of seeds and "
            f"{cases_name(act)} ({new.cases:,}), with Satterthwaite's degrees of freedom."
        )
    if plan.margin is not None:
        edge = f"{metric_text(act.metric, plan.margin)}{points(act.metric)}"
        sentences.append(f"Equivalence within ±{edge} (stored with the plan) was tested by TOST.")
    if plan.smallest_effect is not None:
        size = f"{metric_text(act.metric, plan.smallest_effect)}{points(act.metric)}"
        sentences.append(f"The smallest effect that matters was stored with the plan as {size}.")
    return [*sentences, _power(act)]


def _power(act: ActResult) -> str:
    metric = act.metric
    known = [c for c in act.comparisons if c.detectable is not None]
    if not known:
        return ""
    parts = []
    for c in known:
        alike = "" if c.correlation is None else f", correlation {c.correlation:.2f}"
        parts.append(f"{c.name} {metric_text(metric, c.detectable)}{points(metric)}{alike}")
    if len(parts) > _MOST_NAMED:
        sizes = sorted(c.detectable for c in known if c.detectable is not None)
        related = sorted(c.correlation for c in known if c.correlation is not None)
        low, high = (metric_text(metric, size) for size in (sizes[0], sizes[-1]))
        words = f"between {low} and {high}{points(metric)}"
        if related:
            words += f"; correlations of the pairs {related[0]:.2f} to {related[-1]:.2f}"
        parts = [words]
    return (
        f"Smallest difference that the tests of {_of(act)} find with a power of 80 %, given the "
        f"spread of the pairs: {'; '.join(parts)}."
    )


def _troubles(act: ActResult) -> list[str]:
    failed = [(a.label, r) for a in act.trained for r in a.runs if r.state == "failed"]
    excluded = [(a.label, r) for a in act.trained for r in a.runs if r.state == "excluded"]
    sentences = []
    for kind, runs in (("failed", failed), ("excluded", excluded)):
        if runs:
            names = listed([f"{label} seed {run.seed}" for label, run in runs])
            verb = "was" if len(runs) == 1 else "were"
            how = "failed and is not replaced" if kind == "failed" else f"{verb} excluded"
            if kind == "failed" and len(runs) > 1:
                how = "failed and are not replaced"
            sentences.append(
                f"{plural(len(runs), 'run')} {how} ({names}); such an arm has no verdict."
            )
    if act.complete and not failed and not excluded:
        sentences.append(
            f"All {plural(act.expected, 'planned run')} of {_of(act)} finished; none was excluded."
        )
    if act.added_seeds:
        sentences.append(
            f"{_seed_list(act.added_seeds).capitalize()} added after looking, which voids the "
            "verdicts."
        )
    if act.strays:
        sentences.append(
            f"Not used here: {plural(len(act.strays), 'run')} of an earlier plan of {_of(act)}."
        )
    return sentences


def _machine(result: MeasuredStudy) -> list[str]:
    entries = result.study.provenance
    if not entries:
        return []
    machines = dict.fromkeys(_machine_of(entry) for entry in entries)
    packages: dict[str, Any] = entries[-1].get("packages") or {}
    versions = [f"{name} {packages[name]}" for name in _VERSIONED if name in packages]
    if entries[-1].get("python"):
        versions.insert(0, f"Python {entries[-1]['python']}")
    sentences = []
    named = [name for name in machines if name]
    if named:
        sentences.append(f"Hardware: {'; '.join(named)}.")
    if versions:
        sentences.append(f"Software: {', '.join(versions)}.")
    return sentences


def _machine_of(entry: dict[str, Any]) -> str:
    parts = [", ".join(entry.get("gpus") or ())]
    if entry.get("cpu"):
        cores = f" ({entry['cores']} cores)" if entry.get("cores") else ""
        parts.append(f"{entry['cpu']}{cores}")
    if entry.get("memory_mb"):
        parts.append(f"{entry['memory_mb'] / 1024:.0f} GiB memory")
    return ", ".join(part for part in parts if part)
