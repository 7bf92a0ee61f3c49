"""The runs of a plan: every arm with every seed and fold, no run stopped early.

Where arms stop at analyses of the plan, those up to the next one.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from attnsearch.runs.ledger import PLAN_ROLES, Place, PlanRow, Role, RunRow, State, TrialRow
from attnsearch.runs.results import ActResult, collect_plan
from attnsearch.runs.statistics import seeds_wanted
from attnsearch.search.plans import run_config
from attnsearch.search.study.alike import failed_alike
from attnsearch.search.study.records import QueuedRun, Records
from attnsearch.search.study.stage import Stage, usable
from attnsearch.search.text import plural
from attnsearch.search.workers import has_user_code

LABEL_MAX = 200  # characters of an arm's name in that of its runs

Places = Mapping[tuple[str, str | None, int], TrialRow]


def run_label(arm: str) -> str:
    """Return an arm's name as those of its runs have it."""
    return arm if len(arm) <= LABEL_MAX else f"{arm[: LABEL_MAX - 4]} ..."


class PlanRuns:
    """The runs of one plan; those that ended in earlier sessions count as done.

    A run that failed stays failed, also in later sessions: another seed in its place, or another
    attempt, would bend the comparison. One that was interrupted, or whose worker was lost, is
    begun anew: that is no result.

    Args:
        stage: The study's surroundings.
        row: The plan, stored.

    Attributes:
        act: What the act is called.
        done: How many runs need nothing more.
        left: The runs that are still to be begun.
        alike: Why the act ended since all its runs failed alike, if they did.
    """

    def __init__(self, stage: Stage, row: PlanRow) -> None:
        self.plan, self._row = row.plan, row
        self.act = row.plan.title
        self.done = 0
        self.left: list[QueuedRun] = []
        self._stage = stage
        self._records = Records(stage, "all" if row.plan.part == "test" else "none")
        self.alike: str | None = None
        self._begun: list[QueuedRun] = []
        self._before: list[State] = []  # how those ended that need nothing more
        self._plain = {
            row.plan.place(arm.label)[1] for arm in row.plan.arms if not arm.config["insert"]
        }
        self._twins: dict[str, list[str]] = defaultdict(list)  # arm -> labels of those it equals
        for arm in row.plan.arms:
            if arm.equals is not None:
                self._twins[row.plan.place(arm.equals)[1]].append(arm.label)
        past = stage.past()
        self._places: Places = {old.place: old for old in past}
        self._failed = {
            old.key: old.id
            for old in past
            if old.role in PLAN_ROLES
            and old.settled
            and old.state in (State.FAILED, State.INFEASIBLE)
        }
        for entry in self._all():
            place = entry.place
            old = self._places.get((place.role, place.arm, place.number))
            if old is not None and old.key == entry.key and self._is_settled(old):
                self.done += 1
                self._before += [old.state] if old.arm not in self._plain else []
                entry.run_id = old.id
                self._attach_twins(entry)
            else:
                self.left.append(entry)

    @property
    def runs(self) -> int:
        """How many runs the plan has, those that several arms share counted once."""
        return self.done + len(self.left)

    def entries(self) -> Iterator[QueuedRun]:
        """Yield the runs to train; where a run of the same key has failed, take that result."""
        for entry in self.left:
            if entry.key in self._failed:
                self._records.attach(entry, self._failed[entry.key])
                self._attach_twins(entry)
            else:
                self._begun.append(entry)
                yield entry
            if self.alike is not None:
                return

    def _all(self) -> Iterator[QueuedRun]:
        """Yield all runs, seed by seed, so that a stopped study has arms that can be compared.

        Where a process trains several seeds of an arm, those stand together.
        """
        arms = [arm for arm in self.plan.arms if arm.equals is None]
        runs = [self._row.runs_of(arm.label) for arm in arms]
        repeats, together = list(enumerate(self.plan.repeats())), self._stage.replicas
        for start in range(0, len(repeats), together):
            for index, number, (fold, seed) in (
                (index, *repeat)
                for index in range(len(arms))
                for repeat in repeats[start : start + together]
            ):
                arm = arms[index]
                if number >= runs[index]:
                    continue
                config = run_config(self._stage.space, arm, seed, fold)
                alone = together == 1 or has_user_code(config)
                yield QueuedRun(
                    self._place(arm.label, number, arm.changed),
                    config,
                    self._stage.key(config),
                    self._records,
                    self._settled,
                    usable=self._usable,
                    dataset=self._stage.dataset(fold),
                    predictions=("val",),
                    act=self.act,
                    shown=number * len(arms) + index,
                    group="" if alone else f"{self.act}/{arm.label}/{fold}",
                )

    def _place(self, label: str, number: int, changed: Mapping[str, Any]) -> Place:
        """Return the place of an arm's run; its name counts seeds from 1, as they are long."""
        fold, seed = self.plan.repeats()[number]
        part = "" if fold is None else f" fold {fold}"
        role, arm = self.plan.place(label)
        name = f"arm {run_label(arm)}{part} seed {self.plan.seeds.index(seed) + 1}"
        return Place(number, Role(role), arm, name, changed)

    def _settled(self, entry: QueuedRun) -> None:
        """Take in that the result of an entry is known."""
        self._attach_twins(entry)
        runs = [run for run in self._begun if run.place.arm not in self._plain]
        states = [run.result.state for run in runs if run.result is not None]
        failed = failed_alike(runs, states + self._before)
        last = failed[-1].outcome if failed else None
        if last is not None and self.alike is None:
            if last.traceback:
                self._stage.note(f"{failed[-1].place.name}:\n{last.traceback}")
            self.alike = (
                f"{self.act} ended early, since {len(failed)} of {self.runs} runs failed alike "
                f"and none trained but the baseline's: {last.error}; mend that first"
            )
            if self.plan.act == "confirm":
                self.alike += "; so there is no winner, and the test part stays closed"

    def _is_settled(self, old: TrialRow) -> bool:
        """Return whether nothing is left to do for a run of an earlier session."""
        return old.settled and (old.state != State.FINISHED or self._usable(old))

    def _usable(self, run: RunRow) -> bool:
        return usable(self._stage.ledger, self.plan, run)

    def _attach_twins(self, entry: QueuedRun) -> None:
        """Give the arms that equal an entry's their rows, unless they have them."""
        for label in self._twins[entry.place.arm or ""]:
            place = self._place(label, entry.place.number, {})
            old = self._places.get((place.role, place.arm, place.number))
            if old is None or old.id != entry.run_id:
                self._records.attach(replace(entry, place=place), entry.run_id)


def analyse(stage: Stage, row: PlanRow) -> bool:
    """Keep in the ledger what the results so far have settled, and tell it.

    It follows from the results in the order of their seeds, so drivers side by side, and a study
    that was stopped in the midst, come to the same.

    Args:
        stage: The study's surroundings.
        row: A plan with analyses, whose runs so far are scored.

    Returns:
        Whether all is settled, so that no arm goes on.
    """
    act = collect_plan(stage.ledger, row)
    analyses = [course.analysis for course in act.courses if course.analysis is not None]
    made = max(analyses, default=-1) + 1
    for number in range(len(row.analyses) + 1, made + 1):
        settled = {
            course.contrast.name: course.settled
            for course in act.courses
            if course.settled is not None and course.analysis == number - 1
        }
        seeds = seeds_wanted(row.plan, act.courses)
        stage.ledger.add_analysis(row, number, settled, seeds)
        stage.progress.note(_analysis_text(act, number, settled, seeds))
    return all(course.settled is not None for course in act.courses)


def _analysis_text(
    act: ActResult, number: int, settled: dict[str, str], seeds: dict[str, int]
) -> str:
    interim = act.plan.interim
    assert interim is not None, "the plan has analyses"
    size = interim.sizes[number - 1]
    words = "; ".join(f"{name}: {why}" for name, why in settled.items()) or "nothing settled yet"
    going = sum(count > size for count in seeds.values())
    rest = "all arms stop"
    if going:
        rest = f"{plural(going, 'arm')} of {len(seeds)} go on to {max(seeds.values())} seeds"
    return (
        f"{act.plan.title}, analysis {number} of {len(interim.sizes)} at {size} seeds: "
        f"{words}; {rest}"
    )
