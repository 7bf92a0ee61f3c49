"""The exploring act: proposes trials, skips configs that were tried, and takes their results.

What it knows of earlier sessions it reads from the ledger when it is made, so that a study goes on
as if it had not been interrupted.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from itertools import islice
from typing import Any

from attnsearch.runs.ledger import BASELINE_ROLES, Place, Role, State, TrialRow
from attnsearch.runs.words import value_text
from attnsearch.search.plans import baseline_config
from attnsearch.search.propose import Proposal, ProposalResult, Proposals
from attnsearch.search.study.alike import failed_alike
from attnsearch.search.study.queue import ALL_ENDED, Entries
from attnsearch.search.study.records import QueuedRun, Records
from attnsearch.search.study.stage import Stage
from attnsearch.search.workers import should_stop
from attnsearch.spaces import Space
from attnsearch.spaces.space import Decision

REPEATS_RANDOM = 10  # proposals in a row that are not new, until they are drawn at random
REPEATS_LIST = 30  # until the space is listed for what is left, if it can be
REPEATS_END = 1000  # until the search gives up
LISTED_MAX = 20_000  # combinations that are listed for that
LABEL_MAX = 200  # characters
BESIDE = "plain"  # the arm of the baseline beside a search
FORBIDDEN = ProposalResult(State.INFEASIBLE, constraints={"forbid": 1.0})


def trial_budget(space: Space) -> int:
    """Return how many distinct configs a space's search may try."""
    return int(space.document["search"]["trials"]) if space.decisions else 1


def make_proposals(space: Space, first: Sequence[dict[str, Any] | None] = ()) -> Proposals:
    """Make the bridge to Optuna, empty.

    Args:
        space: Says what is searched, and how.
        first: Values to try first, before the space's priors; None is left out.

    Raises:
        ProposalError: The sampler cannot search it.
    """
    search = space.document["search"]
    priors = [space.defaults()] if space.prior() else []
    given = [values for values in (*first, *priors) if values is not None]
    settings = list(_settings(space)) if search.get("settings") == "first" else []
    if settings and not given and space.forbidden(space.defaults()) is None:
        given = [space.defaults()]
    return Proposals(
        space.decisions,
        space.ask,
        search["objectives"],
        sampler=search["sampler"],
        seed=search["seed"],
        trials=trial_budget(space),
        first=given,
        settings=settings,
        grid=space.grid,
    )


def _settings(space: Space) -> Iterator[Decision]:
    """Yield the training settings that can be tuned on one network and had by all.

    None where nothing else is searched, as there is no other network then.
    """
    names = {s.decision.name for s in space.settings if s.path[0] != "network"}
    common = [d for d in space.decisions if d.name in names and not d.parents]
    if len(names) < len(space.decisions):
        yield from common


@dataclass
class Explorer:
    """Explores a study's space, or one network's training settings.

    Args:
        past: Its trials so far.

    Attributes:
        stage: The study's surroundings.
        space: What is explored.
        proposals: The bridge to Optuna, empty at first.
        records: Where everything is written down.
        arm: The arm whose settings are tuned; None for a study's trials.
        act: The act's name; empty for a study's exploring.
        begun: Called when a trial needs a worker.
        workers: How many trials run side by side; noted with each proposal.
        ended_before: How many trials had ended in earlier sessions.
        ended_early: Why the search ended before its budget was spent, if it did.
        alike: Why it ended since all its trials failed alike, if they did.
    """

    stage: Stage
    space: Space
    proposals: Proposals
    records: Records
    past: InitVar[Sequence[TrialRow]]
    arm: str | None = None
    act: str = ""
    begun: Callable[[], None] = lambda: None
    workers: int = field(default=1, init=False)
    ended_before: int = field(default=0, init=False)
    ended_early: str | None = field(default=None, init=False)
    alike: str | None = field(default=None, init=False)

    def __post_init__(self, past: Sequence[TrialRow]) -> None:
        self._budget = trial_budget(self.space)
        limits = self.space.document.get("limits") or {}
        self._limits = {name: float(limit) for name, limit in limits.items() if limit is not None}
        self._entries: dict[str, QueuedRun] = {}  # by key: the configs so far
        self._same: dict[str, list[int]] = defaultdict(list)  # proposals that wait for a key
        self._left: list[QueuedRun] = []  # from earlier sessions
        self._baseline: QueuedRun | None = None  # beside the search
        self._over: set[int] = set()  # places whose runs are over, by their numbers in the ledger
        self._adopt(past)
        self.ended_before = sum(entry.result is not None for entry in self._entries.values())

    @property
    def spent(self) -> bool:
        """Whether nothing more will be proposed."""
        over = self.ended_early or self.alike
        return len(self._entries) >= self._budget or over is not None

    def entries(self) -> Iterator[QueuedRun]:
        """Yield the trials to train: those left over or begun by others, then new ones."""
        while True:
            if self.stage.company.met():
                self._catch_up()
            if self._left:
                yield self._left.pop(0)
                continue
            if self.spent or (entry := self._propose()) is None:
                return
            yield entry
            if entry.taken:
                self._propose_anew(entry)

    def all_entries(self) -> Entries[None]:
        """Yield `entries` until nothing is left, also of what other drivers begin meanwhile."""
        yield from self.entries()
        yield ALL_ENDED
        while self.alike is None and self._behind():
            yield from self.entries()
            yield ALL_ENDED

    def _behind(self) -> bool:
        """Return whether other drivers have begun trials that `entries` has not yielded."""
        self._catch_up()
        return bool(self._left)

    def _adopt(self, past: Sequence[TrialRow]) -> None:
        """Take over trials that stand in the ledger, in the order of their proposals."""
        numbered = {entry.place.number: entry for entry in self._entries.values()}
        for row in past:
            if row.role == Role.BASELINE:
                continue
            for before in row.proposal.get("before", ()):
                self._adopt_known(before)
            entry = numbered.get(row.number) or self._adopt_entry(row)
            how = row.proposal.get("how", "sampler")
            entry.asked = self.proposals.adopt(row.values, entry.result, how)

    def _adopt_entry(self, row: TrialRow) -> QueuedRun:
        place = self._place(row.number, row.role, row.values, row.proposal)
        # What is trained now has the key of now: its device or source may be another.
        config = self.space.resolve(row.values)
        key = self.stage.key(config)
        entry = (
            self._entry(place, row.config, row.key)
            if row.settled
            else self._entry(place, config, key)
        )
        entry.run_id = row.id
        self._entries[row.key if key in self._entries else key] = entry
        if row.settled:
            self.records.recall(entry, row)
        else:
            self._left.append(entry)
        return entry

    def _catch_up(self) -> None:
        """Take in what other drivers have begun, and how far it has come."""
        entries = {entry.place.number: entry for entry in self._entries.values()}
        for row in self._rows():
            entry = self._baseline if row.role == Role.BASELINE else entries.get(row.number)
            if entry is None:
                self._adopt([row])
                entry = self._entry_at(row.number)
                if row.settled:
                    self.records.took_over(entry, row, elsewhere=True)
            elif entry.result is None:
                entry.curve |= self.stage.objectives.curve(row.epochs)
            if row.settled:
                self._over.add(row.place_id)

    def _rows(self) -> list[TrialRow]:
        """Return its trials as the ledger has them, but for those that are over."""
        rows = self.stage.past(self._over)
        if self.arm is None:
            return [row for row in rows if row.arm is None or row.role == Role.BASELINE]
        return [row for row in rows if (row.role, row.arm) == (Role.TUNING, self.arm)]

    def _entry_at(self, number: int) -> QueuedRun:
        return next(e for e in self._entries.values() if e.place.number == number)

    def _propose_anew(self, entry: QueuedRun) -> None:
        """Give up a proposal whose place another driver took, as if it had not been made."""
        self.stage.company.crossed()
        self._entries = {key: one for key, one in self._entries.items() if one is not entry}
        self._same.clear()
        self._over.clear()
        self.proposals.forget()
        self._adopt(self._rows())

    def _adopt_known(self, before: Mapping[str, Any]) -> None:
        """Take over an earlier proposal that was forbidden, or whose config was known."""
        result: ProposalResult | None = FORBIDDEN
        key = ""
        if "same" in before:
            same = (e for e in self._entries.values() if e.place.number == before["same"])
            entry = next(same, None)
            key, result = (entry.key, entry.result) if entry else ("", None)
        number = self.proposals.adopt(before["values"], result, before["how"])
        if result is None:
            self._same[key].append(number)

    def explore_baseline(self, past: Sequence[TrialRow]) -> None:
        """Have the baseline trained beside the search, where that does not contain it."""
        if self.space.baseline() is not None or not self.space.decisions:
            return
        config = baseline_config(self.space.resolve(self.space.defaults()))
        key = self.stage.key(config)
        self._baseline = self._entry(Place(0, Role.BASELINE, BESIDE), config, key)
        done = next((row for row in past if row.role == Role.BASELINE and row.settled), None)
        if done is not None:
            self.records.recall(self._baseline, done)
        else:
            self._left.append(self._baseline)

    def _place(
        self, number: int, role: Role, values: Mapping[str, Any], proposal: Mapping[str, Any]
    ) -> Place:
        name = None
        if self.arm is not None:
            settings = " ".join(f"{key}={value_text(value)}" for key, value in values.items())
            name = f"tuning {self.arm} {number:03d} {settings}"[:LABEL_MAX]
        return Place(number, role, self.arm, name, values, proposal)

    def _entry(self, place: Place, config: dict[str, Any], key: str) -> QueuedRun:
        return QueuedRun(
            place,
            config,
            key,
            self.records,
            self._settled,
            begun=self.begun,
            limits=self._limits,
            weak=self._is_weak,
            act=self.act,
        )

    def _settled(self, entry: QueuedRun) -> None:
        """Tell Optuna what became of an entry, and of those that waited for the same config."""
        if entry.beside:
            return
        assert entry.asked is not None and entry.result is not None
        for number in (entry.asked, *self._same.pop(entry.key, ())):
            self.proposals.tell(number, entry.result)
        if entry.result.state == State.FAILED:
            self._compare_failures()

    def _compare_failures(self) -> None:
        """End a search of whose trials all fail alike, the baseline left out."""
        entries = [e for e in self._entries.values() if e.place.role not in BASELINE_ROLES]
        failed = failed_alike(entries, [e.result.state for e in entries if e.result is not None])
        last = failed[-1].outcome if failed else None
        if last is not None and self.alike is None:
            if last.traceback:
                self.stage.note(f"trial {failed[-1].place.number:03d}:\n{last.traceback}")
            self.alike = (
                f"the search ended after {len(self._entries)} of {self._budget} trials, since "
                f"{len(failed)} failed alike and none trained: {last.error}; mend that, and "
                f"run it again to go on with the next trials"
            )

    def _is_weak(self, entry: QueuedRun) -> bool:
        """Return whether a trial is to be stopped early, by the curves of all so far."""
        objectives, document = self.stage.objectives, self.space.document
        if document["search"]["scheduler"] == "none":
            return False
        protected = entry.place.role not in (Role.TRIAL, Role.TUNING)
        protected |= entry.place.proposal.get("how") == "probe"
        if protected or objectives.followed is None or not self.space.decisions:
            return False
        if self.stage.company.met():
            self._catch_up()
        curves = {other.place.number: other.curve for other in self._entries.values()}
        if self._baseline is not None:
            curves[-1] = self._baseline.curve
        return should_stop(
            document["search"]["scheduler"],
            entry.place.number,
            curves,
            goal=objectives.directions[objectives.followed],
            epochs=document["train"]["epochs"],
        )

    def _propose(self) -> QueuedRun | None:
        """Return the next config that is new; None once there is none left."""
        before: list[dict[str, Any]] = []
        while True:
            proposal = self._ask(len(before))
            if proposal is None:
                return None
            number, values = proposal.number, proposal.values
            note: dict[str, Any] = {"how": proposal.how}
            note |= {"origin": proposal.origin} if proposal.origin else {}
            reason = self.space.forbidden(values)
            if reason is not None:
                self.proposals.tell(number, FORBIDDEN)
                before.append({**note, "values": values, "forbidden": reason})
                continue
            config = self.space.resolve(values)
            key = self.stage.key(config)
            same = self._entries.get(key)
            if same is None:
                break
            before.append({**note, "values": values, "same": same.place.number})
            if same.result is not None:
                self.proposals.tell(number, same.result)
            else:
                self._same[key].append(number)
        if before:
            note["before"] = before
        if self.workers > 1:
            note["workers"] = self.workers
        following = max((entry.place.number for entry in self._entries.values()), default=-1) + 1
        role = Role.TRIAL if self.arm is None else Role.TUNING
        if role == Role.TRIAL and following == 0 and values == self.space.baseline():
            role = Role.BASELINE_TRIAL
        entry = self._entry(self._place(following, role, values, note), config, key)
        entry.asked, entry.proposed = number, True
        self._entries[key] = entry
        return entry

    def _ask(self, repeats: int) -> Proposal | None:
        """Ask for a proposal; after many known ones draw at random, then list what is left."""
        if repeats == REPEATS_LIST and self._can_be_listed():
            left = self._untried()
            if left is not None:
                return self.proposals.give(left)
            self.ended_early = self._all_tried()
            return None
        if repeats >= REPEATS_END:
            self.ended_early = (
                f"the search ended after {len(self._entries)} of {self._budget} trials: the last "
                f"{repeats} proposals were all known or forbidden"
            )
            return None
        proposal = self.proposals.ask("random" if repeats >= REPEATS_RANDOM else "sampler")
        if proposal is None:
            self.ended_early = self._all_tried()
        return proposal

    def _all_tried(self) -> str:
        return (
            f"the space is exhausted: all {len(self._entries)} different configs that it allows "
            f"have been tried (search.trials: {self._budget})"
        )

    def _can_be_listed(self) -> bool:
        """Return whether all combinations can be gone through."""
        if any(decision.count is None for decision in self.space.decisions):
            return False
        return next(islice(self.space.grid(), LISTED_MAX, None), None) is None

    def _untried(self) -> dict[str, Any] | None:
        """Return the first combination whose config has not been tried, if one is left."""
        for values in self.space.grid():
            if self.stage.key(self.space.resolve(values)) not in self._entries:
                return values
        return None
