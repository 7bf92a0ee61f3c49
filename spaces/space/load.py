"""From a checked document to a `Space`: check the rest, name the decisions."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from attnsearch.blocks.build import Site, backbone_sites, find_function
from attnsearch.blocks.hosts import BACKBONES, HEADS, find_backbone, find_stem, rename_fault
from attnsearch.blocks.imported import importable
from attnsearch.blocks.mechanisms import BLOCKS
from attnsearch.blocks.spelling import did_you_mean
from attnsearch.spaces.file import KeyPath, Problems, dotted
from attnsearch.spaces.keys import (
    DECIDING,
    MEASURED,
    OPTIONAL,
    GroupsTable,
    SpaceFile,
    default_objective,
    keys_under,
    label,
    own_names,
    same,
)
from attnsearch.spaces.space.checks import check_sections
from attnsearch.spaces.space.decisions import (
    NAME_CHARACTERS,
    Decision,
    Parents,
    decision,
    is_spec,
    members,
)
from attnsearch.spaces.space.fits import Fits, Survey
from attnsearch.spaces.space.hosts import (
    check_pretrained_safe,
    check_single_images,
    decoder_of,
    possible_hosts,
)
from attnsearch.spaces.space.insertions import Group, other_names, read_groups
from attnsearch.spaces.space.parameters import Blocks, side_loss
from attnsearch.spaces.space.paths import place_file, place_source
from attnsearch.spaces.space.placements import PUBLISHED
from attnsearch.spaces.space.rules import Rule, double_replacements, fixed_names, read_rules
from attnsearch.spaces.space.space import Setting, Space


@dataclass(frozen=True)
class LeftOut:
    """A member of a choice that an override has made useless.

    Attributes:
        path: Of the choice's list.
        value: The member.
        fault: Why it can stand nowhere.
    """

    path: KeyPath
    value: Any
    fault: str

    def __str__(self) -> str:
        return (
            f"{dotted(self.path[:-1])}: {label(self.value)} is left out, since with what --set "
            f"changes it can stand nowhere: {self.fault}"
        )

    def remove(self, document: Any) -> None:
        """Take it out of a document, with the prior that names it."""
        *above, _ = self.path
        spec = _at(document, above)
        spec["choice"] = [member for member in spec["choice"] if not same(member, self.value)]
        if "prior" in spec and same(spec["prior"], self.value):
            del spec["prior"]


def _at(document: Any, path: Sequence[str | int]) -> Any:
    """Return what stands at a path of a document."""
    return reduce(lambda node, step: node[step], path, document)


class Loading:
    """One document on its way to a space.

    Args:
        path: The file that it is of; its folder is what paths are relative to.
        text: The file's text.
        raw: What it says.
        file: The same, checked.
        problems: Where mistakes are recorded.
    """

    def __init__(
        self, path: Path, text: str, raw: dict[str, Any], file: SpaceFile, problems: Problems
    ) -> None:
        self.path, self.text, self.raw, self.file = path, text, raw, file
        self.problems = problems
        self._survey: Survey | None = None

    def useless(self) -> list[LeftOut]:
        """Return the members of the file's choices that can stand nowhere.

        None where that would leave a choice empty, or where the choice itself is an override.
        """
        members = []
        for path, fault in (self._survey.useless if self._survey else {}).items():
            *choice, index = path
            listed = _at(self.raw, choice)
            if not self.problems.place(path).overriding:
                members.append((tuple(choice), len(listed), listed[int(index)], fault))
        counts = Counter(choice for choice, *_ in members)
        return [
            LeftOut(choice, value, fault)
            for choice, size, value, fault in members
            if counts[choice] < size
        ]

    def space(self) -> Space | None:
        """Return the space, or None where problems were found."""
        problems, file = self.problems, self.file
        self._make_importable()
        check_sections(file, problems)
        document = self._document()
        for path, name in own_names(document):
            if path != ("network", "backbone"):  # which is looked up with its sites
                with problems.errors_at(path):
                    find_function(name)
        groups = read_groups(file, self._sites(), Blocks(problems), problems)
        check_pretrained_safe(groups, problems)
        sides = self._side_losses(groups)
        settings = list(self._settings(groups, sides))
        decisions = self._ordered(groups, settings)
        rules = self._rules(groups, {decision.name: decision for decision in decisions})
        fits = Fits()
        hosts = possible_hosts(file)
        survey = self._survey = Survey(fits, hosts, problems)
        if not self._host_is_wrong():
            check_single_images(hosts, problems)
            survey.run(groups)
        self._check_sampler(groups, settings, decisions)
        if problems:
            return None
        return Space(
            path=self.path,
            text=self.text,
            document=document,
            decisions=tuple(decisions),
            groups=tuple(groups),
            settings=tuple(settings),
            rules=tuple(rules),
            infeasible=tuple(survey.infeasible),
            names_scheduler="scheduler" in self.file.search.model_fields_set,
            warnings=[*problems.warnings, *fits.warnings],
            fits=fits,
        )

    def _base(self, path: KeyPath) -> Path:
        """Return what a path in the file is relative to: its folder, or ours for `--set`."""
        return Path.cwd() if self.problems.place(path).overriding else self.path.absolute().parent

    def _file(self, text: str, path: KeyPath) -> str:
        """Return the absolute path of a file that must exist."""
        return place_file(text, self._base(path), path, self.problems, exists=True)

    def _document(self) -> dict[str, Any]:
        """Return the file as a plain dict with defaults, choices still in."""
        file, problems, document = self.file, self.problems, self.file.model_dump(by_alias=True)
        data, network = document["data"], document["network"]
        data["augment"] = file.data.augment.model_dump(by_alias=True, exclude_unset=True)
        if data["source"] is not None:
            path: KeyPath = ("data", "source")
            data["source"] = place_source(data["source"], self._base(path), path, problems)
        for section, key in ((name, key) for name, keys in OPTIONAL.items() for key in keys):
            if document[section][key] is None:
                del document[section][key]
        network["weights"] = self._weights()
        data["groups"] = self._groups()
        if network["stem"] is None and network["backbone"] in BACKBONES:
            network["stem"] = find_stem(find_backbone(network["backbone"]), None)
        network["decoder"] = decoder_of(file)
        search = document["search"]
        if isinstance(search["scheduler"], dict):
            named = search["scheduler"].items()
            search["scheduler"] = {key: value for key, value in named if value is not None}
        if not search["objectives"]:
            search["objectives"] = default_objective(file.task)
        if document["primary_metric"] is None:
            document["primary_metric"] = next(iter(search["objectives"])).removeprefix(MEASURED)
        ablation, confirm = file.ablation, file.confirm
        if ablation and confirm and ablation.reuse and "seeds" not in ablation.model_fields_set:
            document["ablation"]["seeds"] = confirm.least_seeds
        for index, text in enumerate((document["confirm"] or {}).get("configs") or ()):
            document["confirm"]["configs"][index] = self._file(text, ("confirm", "configs", index))
        for index, text in enumerate(search.get("first") or ()):
            if text != PUBLISHED:
                search["first"][index] = self._file(text, ("search", "first", index))
        document["limits"] = file.limits.model_dump(exclude_none=True)
        gpus = document["resources"]["gpus"]
        if gpus != "auto" and gpus == int(gpus):
            document["resources"]["gpus"] = int(gpus)
        return document

    def _weights(self) -> str | dict[str, Any] | None:
        """Return the weights file, or the file and the key map, its path absolute."""
        weights, path = self.file.network.weights, ("network", "weights")
        if isinstance(weights, str):
            return self._file(weights, path)
        if weights is None:
            return None
        for pattern, target in weights.rename.items():
            if fault := rename_fault(pattern, target):
                self.problems.add((*path, "rename", pattern), fault, at_key=True)
        file = weights.path and self._file(weights.path, (*path, "path"))
        return {"path": file, "rename": dict(weights.rename)}

    def _groups(self) -> dict[str, str] | None:
        groups: Any = self.file.data.groups
        if isinstance(groups, GroupsTable) or str(groups).endswith(".csv"):
            return {"csv": self._file(getattr(groups, "csv", groups), ("data", "groups"))}
        return None if groups is None else {"pattern": getattr(groups, "pattern", groups)}

    def _make_importable(self) -> None:
        names = [
            *(name for _, name in own_names(self.file.model_dump())),
            *self.file.blocks,
            *(n for entry in self.file.insert for n in entry.params),
        ]
        names += [name for entry in self.file.insert for name in members(entry.block)]
        if any(":" in name for name in names):
            importable(self.path.absolute().parent)

    def _host_is_wrong(self) -> bool:
        keys = ("network", "backbone"), ("network", "stem"), ("network", "width")
        return any(map(self.problems.wrong, (*keys, ("data", "image_size"))))

    def _sites(self) -> list[Site] | None:
        network = self.file.network
        if not self.problems.wrong(("network", "backbone")):
            with self.problems.errors_at(("network", "backbone")):
                size = 224 if self._host_is_wrong() else self.file.data.image_size
                decoder = decoder_of(self.file)
                return backbone_sites(network.backbone, decoder=decoder, image_size=size)
        return None

    def _side_losses(self, groups: Sequence[Group]) -> dict[str, Parents]:
        """Return by side loss which block decisions bring it; none where it is always there."""
        sides: dict[str, list[tuple[str, frozenset[str]] | None]] = defaultdict(list)
        for group in groups:
            for block in group.options:
                if side := side_loss(block):
                    which = group.decision
                    sides[side].append((which.name, frozenset([block])) if which else None)
        return {
            side: () if None in parents else tuple(filter(None, parents))
            for side, parents in sides.items()
        }

    def _settings(
        self, groups: Sequence[Group], sides: Mapping[str, Parents]
    ) -> Iterator[Setting]:
        """Yield the searched keys outside `insert`."""
        file = self.file
        sections = (
            (("data", "augment"), file.data.augment),
            (("network",), file.network),
            (("train",), file.train),
        )
        for prefix, section in sections:
            for key, info in type(section).model_fields.items():
                value = getattr(section, key)
                if is_spec(value):
                    parents = self._parents(key) if prefix == ("train",) else ()
                    if parents is not None:
                        name = dotted((*prefix, key))
                        choice = decision(name, value, parents)
                        yield Setting((*prefix, key), choice, info.default)
        for key, weight in file.train.aux_weight.items():
            path: KeyPath = ("train", "aux_weight", key)
            if not self._aux_weight_is_known(key, sides, path) or not is_spec(weight):
                continue
            if key in sides or key == HEADS:
                yield Setting(path, decision(dotted(path), weight, sides.get(key, ())))

    def _parents(self, key: str) -> Parents | None:
        """Return what makes a training setting matter; None where nothing can."""
        train = self.file.train
        parent = next((other for other in DECIDING if key in keys_under(other)), None)
        if parent is None:
            return ()
        wanted = set(keys_under(parent)[key])
        options = set(members(getattr(train, parent)))
        if not options & wanted:
            return None
        if options <= wanted:
            return ()
        return ((f"train.{parent}", frozenset(options & wanted)),)

    def _aux_weight_is_known(self, key: str, sides: Mapping[str, Any], path: KeyPath) -> bool:
        own = (getattr(cls, "side_loss", None) for cls in BLOCKS.values())
        names = [side for side in dict.fromkeys([*sides, *own]) if side]
        if key == HEADS and self.file.network.aux_heads:
            return True
        if key not in names:
            self.problems.add(
                path,
                f"no block has a side output called {key!r}{did_you_mean(key, names)} "
                f"(there are {', '.join(names)})",
                at_key=True,
            )
            return False
        if not NAME_CHARACTERS.fullmatch(key):
            self.problems.add(path, f"{key!r} cannot be part of a decision's name", at_key=True)
            return False
        if key not in sides and not self.problems.wrong(("insert",)):
            self.problems.warn(path, f"has no effect: {key} is never inserted")
        return True

    def _ordered(self, groups: Sequence[Group], settings: Sequence[Setting]) -> list[Decision]:
        """Return all decisions in the order of the file, each after those it depends on."""
        placed: list[tuple[tuple[int, ...], Decision]] = []
        for number, group in enumerate(groups):
            order = (*self._order(group.path), number)
            placed += [(order, choice) for choice in group.decisions]
        placed += [(self._order(setting.path), setting.decision) for setting in settings]
        waiting = [choice for _, choice in sorted(placed, key=lambda item: item[0])]
        ordered: list[Decision] = []
        while waiting:
            names = {choice.name for choice in waiting}
            ready = next(c for c in waiting if names.isdisjoint(name for name, _ in c.parents))
            waiting.remove(ready)
            ordered.append(ready)
        return ordered

    def _order(self, path: KeyPath) -> tuple[int, ...]:
        order: list[int] = []
        node: Any = self.raw
        for part in path:
            order.append(part if isinstance(part, int) else list(node).index(part))
            node = node[part]
        return tuple(order)

    def _rules(self, groups: Sequence[Group], decisions: Mapping[str, Decision]) -> list[Rule]:
        rules = double_replacements(groups, self.problems)
        if self._host_is_wrong() or self.problems.wrong(("insert",)):
            return rules  # names of decisions would be missing for another reason
        constants = fixed_names(groups)
        for section in ("network", "train"):
            values = getattr(self.file, section)
            for key in type(values).model_fields:
                if f"{section}.{key}" not in decisions:
                    constants[f"{section}.{key}"] = getattr(values, key)
        together = other_names(self.file, groups) if self.file.forbid else {}
        written = read_rules(self.file.forbid, decisions, constants, together, self.problems)
        return [*written, *rules]

    def _check_sampler(
        self, groups: Sequence[Group], settings: Sequence[Setting], decisions: Sequence[Decision]
    ) -> None:
        if self.file.search.sampler == "grid":
            numbers = [(setting.path, setting.decision) for setting in settings]
            options = [option for group in groups for option in group.options.values()]
            numbers += [(o.places[key], d) for o in options for key, d in o.searched.items()]
            for path, number in numbers:
                if number.count is None:
                    self.problems.add(
                        path,
                        f"a grid needs a step for the range {number.low} to {number.high}: "
                        "write step:, or {choice: [...]}, or another search.sampler",
                    )
        others = [d.name for d in decisions if d.kind == "choice" or d.parents]
        if self.file.search.sampler == "cmaes" and others:
            self.problems.warn(
                ("search", "sampler"),
                f"cmaes proposes only numbers that always matter; {len(others)} of "
                f"{len(decisions)} decisions, such as {others[0]}, are drawn at random",
            )
