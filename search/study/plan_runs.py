"""The runs of a plan: every arm with every seed and fold, none stopped early."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from attnsearch.runs.ledger import PLAN_ROLES, PlanRow, Role, State, TrialRow
from attnsearch.runs.statistics import Plan
from attnsearch.search.plans import run_config
from attnsearch.search.study.records import QueuedRun, Records
from attnsearch.search.study.stage import Stage, act_name, usable

LABEL_MAX = 200  # characters of an arm's name in that of its runs

Places = Mapping[tuple[str, str | None, int], TrialRow]


class PlanRuns:
    """The runs of one plan, of which those of earlier sessions are found done.

    A run that failed stays failed, also in later sessions: another seed in its place, or another
    attempt, would bend the comparison. One that was interrupted, or whose worker was lost, is
    begun anew.

    Args:
        stage: The study's surroundings.
        row: The plan, stored.

    Attributes:
        act: What the act is called.
        done: How many runs need nothing more.
        left: The runs that are still to be begun.
    """

    def __init__(self, stage: Stage, row: PlanRow) -> None:
        self.plan = row.plan
        self.act = act_name(row.plan)
        self.done = 0
        self.left: list[QueuedRun] = []
        self._stage = stage
        self._records = Records(stage, "all" if row.plan.part == "test" else "none")
        self._twins = _twins(row.plan)
        past = stage.past()
        self._places: Places = {old.place: old for old in past}
        self._failed = {
            old.key: old.id
            for old in past
            if old.role in PLAN_ROLES and old.state in (State.FAILED, State.INFEASIBLE)
        }
        for entry in self._all():
            old = self._places.get((entry.role, entry.arm, entry.number))
            if old is not None and old.key == entry.key and self._is_settled(old):
                self.done += 1
                entry.run_id = old.id
                self._attach_twins(entry)
            else:
                self.left.append(entry)

    @property
    def runs(self) -> int:
        """How many runs the plan has, those that several arms share counted once."""
        return self.done + len(self.left)

    def entries(self) -> Iterator[QueuedRun]:
        """Yield the runs to train; one whose like has failed takes that result."""
        for entry in self.left:
            if entry.key in self._failed:
                self._records.attach(entry, self._failed[entry.key])
                self._attach_twins(entry)
            else:
                yield entry

    def _all(self) -> Iterator[QueuedRun]:
        """Yield all runs, seed by seed: what is there when a study is stopped can be compared."""
        arms = [arm for arm in self.plan.arms if arm.equals is None]
        for number, (fold, seed) in enumerate(self.plan.repeats()):
            for place, arm in enumerate(arms):
                role, name = self.plan.place(arm.label)
                config = run_config(self._stage.space, arm, seed, fold)
                yield QueuedRun(
                    number,
                    Role(role),
                    dict(arm.changed),
                    config,
                    self._stage.key(config),
                    self._records,
                    self._attach_twins,
                    usable=lambda run: usable(self.plan, run),
                    dataset=self._stage.dataset(fold),
                    predictions=("val",),
                    arm=name,
                    label=_run_name(self.plan, arm.label, number),
                    act=self.act,
                    shown=number * len(arms) + place,
                )

    def _is_settled(self, old: TrialRow) -> bool:
        """Return whether nothing is left to do for a run of an earlier session."""
        return old.state.ended and (old.state != State.FINISHED or usable(self.plan, old))

    def _attach_twins(self, entry: QueuedRun) -> None:
        """Give the arms that equal an entry's their rows, unless they have them."""
        for label in self._twins.get(entry.arm or "", ()):
            role, name = self.plan.place(label)
            old = self._places.get((role, name, entry.number))
            if old is None or old.id != entry.run_id:
                run_name = _run_name(self.plan, label, entry.number)
                twin = replace(entry, arm=name, label=run_name, values={})
                self._records.attach(twin, entry.run_id)


def _twins(plan: Plan) -> dict[str, list[str]]:
    """Return the name of an arm -> the labels of the arms that equal it."""
    equals = {arm.label: arm.equals for arm in plan.arms}
    twins: dict[str, list[str]] = {}
    for label, other in equals.items():
        if other is None:
            continue
        while (further := equals[other]) is not None:
            other = further
        twins.setdefault(plan.place(other)[1], []).append(label)
    return twins


def _run_name(plan: Plan, label: str, number: int) -> str:
    """Name a run of an arm: seeds count from 1, as the numbers themselves are long."""
    fold, seed = plan.repeats()[number]
    part = "" if fold is None else f" fold {fold}"
    arm = plan.place(label)[1]
    if len(arm) > LABEL_MAX:
        arm = f"{arm[: LABEL_MAX - 4]} ..."
    return f"arm {arm}{part} seed {plan.seeds.index(seed) + 1}"
