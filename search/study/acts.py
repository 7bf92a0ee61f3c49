"""The acts of a study that follow exploring: tuning the baseline, confirm, ablation.

They are one generator of entries for the queue, `StudyActs.entries`. At the end of each act it
waits until all runs have ended, since what follows may depend on them. All decisions stand in the
ledger, so a study that was stopped goes through the same steps again and finds them done.

The order of confirm matters. All arms are trained and compared on validation data alone; the
winner is frozen; the plans of ablations are stored; only then is the look at the test part noted,
and after it the test part evaluated, from the stored weights. A plan whose arms stop early does so
with the seeds of its first analysis, and then goes on with the arms whose comparisons are open.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attnsearch.runs.ledger import PlanRow, PlanState, Role, TrialRow
from attnsearch.runs.statistics import Plan
from attnsearch.search.plans import (
    NothingToVary,
    PlanError,
    Ranked,
    ablation_plan,
    ablation_settings,
    baseline_config,
    confirm_plan,
    given_configs,
    needs_tuning,
    network_text,
    plan_text,
    tuning_space,
)
from attnsearch.search.study.events import ActInfo, TrialInfo
from attnsearch.search.study.exploring import Explorer, make_proposals, trial_budget
from attnsearch.search.study.learned import unlearned_note
from attnsearch.search.study.plan_runs import PlanRuns, analyse, run_label
from attnsearch.search.study.queue import ALL_ENDED, Entries
from attnsearch.search.study.records import Records
from attnsearch.search.study.stage import Stage, rank_candidates, tested
from attnsearch.search.study.test_runs import TestRuns, Turn, evaluations
from attnsearch.search.text import Letters, plural
from attnsearch.spaces import Space

TUNED_BASELINE = "tuned_baseline"


@dataclass
class StudyActs:
    """The acts of one study, in one session.

    Attributes:
        stage: What they work with.
        over: Whether all acts that were asked for are over.
        unfinished: Why an act could not be done, one sentence each.
    """

    stage: Stage
    over: bool = False
    unfinished: list[str] = field(default_factory=list)

    def entries(
        self, explorer: Explorer | None, until: str, *, confirm: bool = True
    ) -> Entries[None]:
        """Yield what all acts want to be done, in order.

        Args:
            explorer: The exploring act; None where it is left out.
            until: The last act: `explore`, `confirm` or `ablate`.
            confirm: Whether to confirm; otherwise the ablations are around what was confirmed.
        """
        document = self.stage.space.document
        if explorer is not None:
            yield from explorer.all_entries()
            if note := unlearned_note(self.stage, self.ranked()):
                self.stage.note(note)
        if explorer is not None and explorer.alike:
            self._give_up(explorer.alike)
        elif until != "explore" and (explorer is None or self.ranked()):
            try:
                plans = None
                if document.get("confirm") and confirm:
                    plans = yield from self._confirm()
                if until == "ablate" and document.get("ablation"):
                    if plans is None:
                        plans = yield from self._ablation_plans(self.winner())
                    for row in plans:
                        yield from self._ablate(row)
            except PlanError as error:
                self._give_up(str(error))
        self.over = True

    def winner(self) -> dict[str, Any] | None:
        """Return the config that confirm chose, else the best explored one; None without both."""
        frozen = self.frozen()
        if frozen is not None and frozen.winner is not None:
            return dict(frozen.plan.arm(frozen.winner).config)
        ranked = self.ranked()
        if ranked:
            return ranked[0].config
        space = self.stage.space
        return None if space.decisions else space.resolve({})

    def frozen(self) -> PlanRow | None:
        """Return the current confirm plan, if its winner is frozen."""
        plans = self.stage.ledger.plans(self.stage.study.id, superseded=False)
        return next((row for row in plans if row.plan.act == "confirm" and row.winner), None)

    def ranked(self) -> list[TrialRow]:
        """Return the finished trials of exploring that keep the limits, the best first."""
        return self.stage.ranked([row for row in self.stage.past() if row.arm is None])

    def _confirm(self) -> Entries[list[PlanRow]]:
        """Train the candidates and their controls, choose the winner, open the test part.

        Returns:
            The plans of the ablations that follow; empty where confirm had no winner.
        """
        stage, ranked = self.stage, self.ranked()
        wanted: Sequence[Ranked] = given_configs(stage.space) or ranked
        first = next(iter(wanted), None)
        tuned = None
        if first is not None and needs_tuning(stage.space):
            space = tuning_space(stage.space, baseline_config(first.config))
            if space is not None:
                tuned = yield from self._tune(space, TUNED_BASELINE)
        messages: list[str] = []
        plan = confirm_plan(stage.space, ranked, stage.images(), tuned=tuned, messages=messages)
        row = stage.ledger.store_plan(stage.study.id, plan)
        plans: list[PlanRow] | None = None
        while True:  # once, or for each analysis of a plan whose arms stop at them
            if not (yield from self._train(row, messages)):
                return []
            winner = self._freeze(row)
            if winner is None:
                return []
            if plans is None:
                plans = yield from self._ablations_of(dict(plan.arm(winner).config))
            yield from self._test(row, winner)
            before = len(row.analyses)
            row = stage.ledger.store_plan(stage.study.id, plan)
            if len(row.analyses) == before or row.state == PlanState.FINISHED:
                return plans

    def _ablations_of(self, config: dict[str, Any]) -> Entries[list[PlanRow]]:
        """Plan the ablations of a winner, if any are wanted and can be planned."""
        try:
            if self.stage.space.document.get("ablation"):
                return (yield from self._ablation_plans(config))
        except PlanError as error:
            self._give_up(str(error))
        return []

    def _ablate(self, row: PlanRow) -> Entries[None]:
        if (yield from self._train(row, [])):
            yield from self._test(row, None)

    def _ablation_plans(self, config: dict[str, Any] | None) -> Entries[list[PlanRow]]:
        """Plan the ablations around a config, and store the plans."""
        stage, rows = self.stage, []
        if config is None:
            raise PlanError("ablation: there is no finished trial to ablate")
        settings = ablation_settings(stage.space)
        for name in stage.space.document["ablation"]["plans"]:
            messages: list[str] = []
            try:
                plan = ablation_plan(
                    name, config, space=stage.space, settings=settings, messages=messages
                )
            except NothingToVary as error:
                stage.note(f"ablation {name} is left out: {error}")
                continue
            except PlanError as error:
                self._give_up(str(error))
                continue
            if plan.retuned:
                plan = yield from self._retune(plan)
            rows.append(stage.ledger.store_plan(stage.study.id, plan))
            for message in messages if rows[-1].state == PlanState.PLANNED else ():
                stage.note(f"ablation {name}: {message}")
        return rows

    def _retune(self, plan: Plan) -> Entries[Plan]:
        """Tune the training settings of each arm, every one with the budget of the search."""
        if tuning_space(self.stage.space, plan.arms[0].config) is None:
            self.stage.note(
                f"ablation {plan.name}: retune has nothing to tune, as the file decides no "
                f"training settings; all arms have the reference's"
            )
            return replace(plan, retuned=False)
        arms = []
        for arm in plan.arms:
            space = tuning_space(self.stage.space, arm.config)
            if arm.equals is None and space is not None:
                best = yield from self._tune(space, plan.place(arm.label)[1])
                if best is not None:
                    kept = {"epochs": plan.epochs, "seed": arm.config["train"]["seed"]}
                    train = {**best["train"], **kept}
                    config = {**arm.config, "train": train, "data": best["data"]}
                    arm = replace(arm, config=config)
            arms.append(arm)
        configs = {arm.label: arm.config for arm in arms}
        return replace(
            plan,
            arms=tuple(
                replace(arm, config=configs[arm.equals]) if arm.equals else arm for arm in arms
            ),
        )

    def _tune(self, space: Space, arm: str) -> Entries[dict[str, Any] | None]:
        """Search the training settings of one network; return its best config, if any."""
        stage = self.stage
        act = "tuning" if arm == TUNED_BASELINE else f"tuning {arm}"
        arm = self._tuning_arm(space, arm)

        def rows() -> list[TrialRow]:
            return [row for row in stage.past() if (row.role, row.arm) == (Role.TUNING, arm)]

        before = rows()
        trials = trial_budget(space)
        done = sum(row.settled for row in before)
        text = self._tuning_text(space, act, trials, done)
        info = ActInfo(act, trials, done, text, tuple(stage.objectives.names))
        explorer = Explorer(
            stage,
            space,
            make_proposals(space),
            Records(stage, "none"),
            before,
            arm=arm,
            act=act,
            begun=functools.cache(lambda: stage.progress.act_started(info)),  # once
        )
        yield from explorer.all_entries()
        ranked = stage.ranked(rows())
        if not ranked:
            stage.note(f"{act}: no trial finished, so its settings are those of the search")
            return None
        return ranked[0].config

    def _tuning_text(self, space: Space, act: str, trials: int, done: int) -> str:
        """Say what a tuning does and what it costs."""
        epochs = space.document["train"]["epochs"]
        seconds = self.stage.run_seconds(epochs)
        cost = ""
        if seconds is not None:
            minutes = seconds * (trials - done) / max(self.stage.workers, 1) / 60
            cost = f"; at most {minutes:.1f} min"
        return (
            f"{act}: {plural(trials, 'trial')} of up to {plural(epochs, 'epoch')}, the budget of "
            f"the search, for {', '.join(decision.name for decision in space.decisions)} of one "
            f"network{cost}{f'; {done} done' if done else ''}"
        )

    def _tuning_arm(self, space: Space, arm: str) -> str:
        """Return a tuning's arm, numbered if another network's tuning has that name."""
        network = network_text(space.resolve(space.defaults()))
        past = [row for row in self.stage.past() if row.role == Role.TUNING]
        name = arm
        for number in itertools.count(2):
            if all(network_text(row.config) == network for row in past if row.arm == name):
                break
            name = f"{arm} ({number})"
        return name

    def _train(self, row: PlanRow, messages: Sequence[str]) -> Entries[bool]:
        """Train the runs of a plan; return whether that was not given up."""
        stage, runs = self.stage, PlanRuns(self.stage, row)
        for message in messages if row.state == PlanState.PLANNED else ():
            stage.note(f"{runs.act}: {message}")
        if runs.left:
            stage.progress.act_started(self._announced(runs))
        yield from runs.entries()
        yield ALL_ENDED
        if runs.alike is not None:
            self._give_up(runs.alike)
            return False
        if row.state == PlanState.PLANNED:
            stage.ledger.set_plan_state(row.id, PlanState.MEASURED)
        return True

    def _announced(self, runs: PlanRuns) -> ActInfo:
        """Say what a plan's runs are and what they cost."""
        stage, plan, act = self.stage, runs.plan, runs.act
        names, letters = self._arm_names(plan)
        if runs.done:
            text = f"{act} continues: {runs.done} of {plural(runs.runs, 'run')} done"
            text = "\n".join([text, *letters.legend(*names).splitlines()])
        else:
            finished = stage.ledger.finished_keys(
                [entry.key for entry in runs.left],
                study_id=stage.study.id if stage.study.fresh else None,
            )
            reused = Counter(entry.place.arm for entry in runs.left if entry.key in finished)
            text = plan_text(
                plan,
                reused={arm.label: reused[plan.place(arm.label)[1]] for arm in plan.arms},
                run_seconds=stage.run_seconds(plan.epochs),
                workers=stage.workers,
                letters=letters,
            )
        return ActInfo(act, runs.runs, runs.done, text, (f"val_{plan.metric}",), names)

    def _arm_names(self, plan: Plan) -> tuple[tuple[str, ...], Letters]:
        """Return the names of all arms so far, and letters for the long ones."""
        study = self.stage.study
        plans = [row.plan for row in self.stage.ledger.plans(study.id, superseded=False)]
        names = tuple(arm.label for known in [*plans, plan] for arm in known.arms)
        return tuple(map(run_label, names)), Letters(names)

    def _freeze(self, row: PlanRow) -> str | None:
        """Choose the winner by validation means and freeze it; None if no candidate is whole."""
        stage = self.stage
        if row.winner is not None:
            return row.winner
        ranking = rank_candidates(row.plan, stage.ledger.arm_runs(row))
        if not ranking or ranking[0][1] is None:
            self._give_up(
                "confirm: no candidate has finished on all seeds, so there is no winner, and the "
                "test part stays closed"
            )
            return None
        stage.ledger.freeze_winner(row.id, ranking[0][0], ranking)
        stage.mirror.wake()
        return ranking[0][0]

    def _test(self, row: PlanRow, winner: str | None) -> Entries[None]:
        """Open the test part for a plan that asks for it, and end the plan."""
        if row.plan.part != "test":
            self.stage.ledger.set_plan_state(row.id, PlanState.FINISHED)
            return
        with (turn := Turn(self.stage, f"test:{row.id}")):
            yield turn
            yield ALL_ENDED
            yield from self._evaluate(row, winner)

    def _evaluate(self, row: PlanRow, winner: str | None) -> Entries[None]:
        """Note the look, evaluate the networks of a plan, and end it; one driver at a time."""
        stage, plan = self.stage, row.plan
        for fold in plan.folds:
            data = stage.datasets[stage.dataset(fold)]
            look = stage.ledger.open_test(data.test_fingerprint, row.id)
        wanted, without = evaluations(stage, row)
        act = "test" if plan.act == "confirm" else f"test {plan.name}"
        networks = [
            (task, TrialInfo(number, name, {}, 1, "test", act))
            for number, (task, name) in enumerate(wanted)
        ]
        jobs = [
            TestRuns(act, part, self._store_test, stage.progress)
            for start in range(stage.workers)
            if (part := networks[start :: stage.workers])
        ]
        if jobs:
            text = (
                f"{act}: the test part is opened, look {look.number} at it; "
                f"{plural(len(wanted), 'trained network')} to evaluate"
            )
            metrics = (f"test_{plan.metric}",)
            names, letters = self._arm_names(plan)
            text = "\n".join([text, *letters.legend(*(name for _, name in wanted)).splitlines()])
            stage.progress.act_started(ActInfo(act, len(wanted), 0, text, metrics, names))
            yield from jobs
            yield ALL_ENDED
        unscored = sum(len(job.failed) for job in jobs) + without
        if unscored:
            self._give_up(f"{act}: {plural(unscored, 'network')} could not be scored")
            return
        if plan.interim is None or analyse(stage, row):
            stage.ledger.set_plan_state(row.id, PlanState.FINISHED)
        self._drop_weights(row, winner)

    def _store_test(
        self, run_id: int, scores: Mapping[str, float], predictions: Mapping[str, Any]
    ) -> None:
        self.stage.ledger.add_test(run_id, scores, predictions)
        self.stage.mirror.begin()
        self.stage.mirror.wake()

    def _drop_weights(self, row: PlanRow, winner: str | None) -> None:
        """Delete the weights that only the test part needed: all but the winner's."""
        ledger, study = self.stage.ledger, self.stage.study
        every = ledger.arm_runs(row)
        kept = {run.id for run in every.get(winner or "", ()) if run is not None}
        for run in {run.id: run for runs in every.values() for run in runs if run}.values():
            own = run.weights_path is not None and ledger.run(run.id).study_id == study.id
            surplus = own and run.id not in kept and tested(run)
            if surplus and ledger.drop_file(Path(str(run.weights_path))):
                ledger.set_weights_path(run.id, None)

    def _give_up(self, why: str) -> None:
        self.unfinished.append(why)
        self.stage.note(why)
