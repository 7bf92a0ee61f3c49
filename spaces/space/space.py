"""A space: what may be searched, and how decision values become a config."""

import copy
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnsearch.blocks.build import DEFAULT_AUX_WEIGHT, complete
from attnsearch.blocks.hosts import HEADS, as_size, as_width
from attnsearch.blocks.naming import NONE
from attnsearch.blocks.spelling import did_you_mean
from attnsearch.spaces.file import DecisionError, KeyPath
from attnsearch.spaces.keys import DECIDING, Train, idle, plain, settled
from attnsearch.spaces.space.counting import count_architectures
from attnsearch.spaces.space.decisions import Decision
from attnsearch.spaces.space.fits import Fits, HostChoice, Infeasible
from attnsearch.spaces.space.insertions import Group
from attnsearch.spaces.space.parameters import side_loss
from attnsearch.spaces.space.rules import Rule

_SGD_LR, _ADAMW_LR = 0.1, 0.001


@dataclass(frozen=True)
class Setting:
    """A key outside `insert` that is decided.

    Attributes:
        path: The key.
        decision: Its decision.
        inactive: What the config says where the decision does not matter.
    """

    path: KeyPath
    decision: Decision
    inactive: Any = None


@dataclass(repr=False)
class Space:
    """A checked space file.

    Attributes:
        path: The file.
        text: Its text as given.
        document: All its keys with defaults, choices still in, paths absolute.
        decisions: What is decided, in the order of the file, each after those it depends on.
        groups: The sites that get one block, decided once.
        settings: The decided keys outside `insert`.
        rules: Combinations that are never tried.
        infeasible: Combinations that cannot be built, as far as they were tried.
        names_scheduler: Whether the file says how weak trials are stopped.
        warnings: What is suspicious but not wrong, with its place.
        fits: Remembers which blocks can stand where.
    """

    path: Path
    text: str
    document: dict[str, Any]
    decisions: tuple[Decision, ...]
    groups: tuple[Group, ...]
    settings: tuple[Setting, ...]
    rules: tuple[Rule, ...]
    infeasible: tuple[Infeasible, ...] = ()
    names_scheduler: bool = True
    warnings: list[str] = field(default_factory=list)
    fits: Fits = field(default_factory=Fits, repr=False)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], overrides: Sequence[str] = ()) -> "Space":
        """Check a space that is in no file; see `load_space`.

        Args:
            document: The keys of a space file.
            overrides: Texts `KEY=VALUE`.

        Raises:
            SpaceError: It holds every mistake with its key.
        """
        # The loader makes spaces, so that it is asked for here and not above.
        loaded: Space = importlib.import_module("attnsearch.spaces").load_space(
            document, overrides
        )
        return loaded

    def __repr__(self) -> str:
        network = self.document["network"]["backbone"]
        count = len(self.decisions)
        decisions = f"{count} decision{'' if count == 1 else 's'}"
        return f"<Space {self.name}: {self.task}, {network}, {decisions}>"

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.document["name"])

    @property
    def task(self) -> str:
        """`classification` or `segmentation`."""
        return str(self.document["task"])

    def settle(self, chosen: Mapping[str, Any]) -> None:
        """Close what the file leaves open of the arithmetic, for all configs from now on.

        Args:
            chosen: `precision`, `channels_last` and `compile`; what is missing is plain.
        """
        self.document["train"] = settled(self.document["train"], chosen)

    def resolve(self, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the config under values of the decisions.

        Args:
            values: A value for every active decision; those of inactive ones are ignored.

        Returns:
            A plain dict without choices. Each entry of `insert` is one group with all
            hyperparameters of its block. `forbid` is empty: its rules are about choices.
            `published` is left out: it describes the file.

        Raises:
            DecisionError: A value is missing, out of range, or of no decision of this space.
        """
        chosen = self._checked(values or {})
        config = {
            key: copy.deepcopy(value)
            for key, value in self.document.items()
            if key not in ("insert", "blocks", "forbid", "published")
        }
        for setting in self.settings:
            value = chosen.get(setting.decision.name, setting.inactive)
            _assign(config, setting.path, value, drop=setting.path[:2] == ("train", "aux_weight"))
        insert = [self._entry(group, chosen) for group in self.groups]
        config["train"] = complete_train(config["train"], insert)
        order = ("name", "task", "data", "network", "insert", "train", "search", "forbid")
        parts = {**config, "insert": insert, "forbid": []}
        return {key: parts[key] for key in (*order, *(key for key in parts if key not in order))}

    def _entry(self, group: Group, chosen: Mapping[str, Any]) -> dict[str, Any]:
        option = group.option(chosen)
        entry: dict[str, Any] = {"at": group.at, "name": group.name, "block": option.block}
        if option.block == NONE:
            return {**entry, "params": {}}
        if group.pretrained_safe:
            entry["pretrained_safe"] = True
        params = complete(option.block, option.params(chosen))
        return {**entry, "params": {option.block: copy.deepcopy(params)}}

    def _checked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        names = {decision.name for decision in self.decisions}
        faults = [
            f"no decision is called {name!r}{did_you_mean(name, names)}"
            for name in values
            if name not in names
        ]
        chosen: dict[str, Any] = {}
        for decision in self.decisions:
            if not decision.active(chosen):
                continue
            if decision.name not in values:
                faults.append(f"no value for the decision {decision.name}")
                continue
            try:
                chosen[decision.name] = decision.check(values[decision.name])
            except DecisionError as error:
                faults.append(str(error))
        if faults:
            raise DecisionError("; ".join(faults))
        return chosen

    def ask(self, choose: Callable[[Decision], Any]) -> dict[str, Any]:
        """Ask for a value of every active decision, in order.

        Args:
            choose: Gets a decision and returns its value.

        Raises:
            DecisionError: A value is none of its decision's.
        """
        values: dict[str, Any] = {}
        for decision in self.decisions:
            if decision.active(values):
                values[decision.name] = decision.check(choose(decision))
        return values

    def prior(self) -> dict[str, Any] | None:
        """Return the priors that the file declares by decision name, None if there are none."""
        priors = {d.name: d.prior for d in self.decisions if d.has_prior}
        return priors or None

    def defaults(self) -> dict[str, Any]:
        """Return values for all active decisions: priors, first members, middles of ranges."""
        return self.ask(lambda decision: decision.default())

    def baseline(self) -> dict[str, Any] | None:
        """Return values under which nothing is inserted, None where some entry forbids that."""
        if not all(group.allows_none for group in self.groups):
            return None
        empty = {group.decision.name for group in self.groups if group.decision is not None}
        values = self.ask(lambda d: NONE if d.name in empty else d.default())
        return None if self.forbidden(values) else values

    def forbidden(self, values: Mapping[str, Any]) -> str | None:
        """Return why a combination is never tried, None if it may be.

        A combination is out where a `forbid` rule holds, where two blocks would replace one
        convolution, and where a block cannot stand at one of its sites.

        Args:
            values: A value for every active decision.

        Raises:
            DecisionError: As `resolve`.
        """
        chosen = self._checked(values)
        for rule in self.rules:
            if rule.holds(chosen):
                return rule.text
        host = self.host(chosen)
        for group in self.groups:
            option = group.option(chosen)
            fault = self.fits.fault(host, group, option.block, option.params(chosen))
            if fault:
                return fault[1]
        return None

    def host(self, chosen: Mapping[str, Any]) -> HostChoice:
        """Return the network that blocks are inserted into, under values of the decisions."""
        network = self.document["network"]
        return HostChoice(
            network["backbone"],
            chosen.get("network.stem", network["stem"]),
            as_width(chosen.get("network.width", network["width"])),
            as_size(self.document["data"]["image_size"]),
            min(2, chosen.get("train.batch_size", self.document["train"]["batch_size"])),
            network["decoder"],
        )

    def architecture_count(self) -> int:
        """Return the number of different networks in the space.

        A float range without step counts once. The number is exact, with the rules and with what
        cannot be built taken off, while it takes at most 200,000 combinations to find it; beyond
        that, it is an upper bound. A network that two entries can give alike counts twice.
        """
        hosts = [s.decision for s in self.settings if s.path[0] == "network"]
        return count_architectures(self.groups, self.rules, hosts, self.host, self.fits)

    def grid(self) -> Iterator[dict[str, Any]]:
        """Go through all combinations that are not forbidden.

        Raises:
            DecisionError: A float range has no step, so that there is no end of them.
        """
        return (values for values in _combinations(self.decisions) if not self.forbidden(values))


def _combinations(decisions: Sequence[Decision]) -> Iterator[dict[str, Any]]:
    """Yield all combinations of the active decisions, the last one changing fastest."""
    # By depth: values of none, of the first, of the first two decisions, ...
    levels: list[Iterator[dict[str, Any]]] = [iter([{}])]
    while levels:
        values = next(levels[-1], None)
        if values is None:
            levels.pop()
        elif len(levels) > len(decisions):
            yield values
        else:
            levels.append(iter(_extended(values, decisions[len(levels) - 1])))


def _extended(values: dict[str, Any], decision: Decision) -> Iterable[dict[str, Any]]:
    if not decision.active(values):
        return [values]
    return ({**values, decision.name: value} for value in decision.values())


def _assign(config: dict[str, Any], path: KeyPath, value: Any, *, drop: bool) -> None:
    node: Any = config
    for part in path[:-1]:
        node = node[part]
    if value is None and drop:
        node.pop(path[-1], None)
    else:
        node[path[-1]] = plain(value)


def complete_train(train: dict[str, Any], insert: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return training settings without open ends, what has no effect at its default.

    Args:
        train: The settings; changed on the way.
        insert: The entries of the config, whose side losses need weights.
    """
    weights = {}
    for entry in insert:
        side = side_loss(entry["block"])
        if side is not None:
            weights[side] = train["aux_weight"].get(side, DEFAULT_AUX_WEIGHT)
    if HEADS in train["aux_weight"]:
        weights[HEADS] = train["aux_weight"][HEADS]
    if train["lr"] is None:
        train["lr"] = _SGD_LR if train["optimizer"] == "sgd" else _ADAMW_LR
    if train["schedule"] == "step" and train["step_epochs"] is None:
        train["step_epochs"] = max(1, train["epochs"] // 3)
    train |= {key: Train.model_fields[key].default for key in idle(train, *DECIDING)}
    return {**settled(train, {}), "aux_weight": weights}
