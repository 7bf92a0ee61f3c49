"""What a search tries first, see `search.first`: given configs, and the published places."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.words import listed
from attnsearch.search.plans.arms import network_text, values_of
from attnsearch.spaces import DecisionError, Space, SpaceError, load_space
from attnsearch.spaces.space import PUBLISHED, published_values

SHARE = 4  # one trial in so many is for what is tried first without being named

Start: TypeAlias = tuple[str, dict[str, Any]]
"""Where a config is from, in words, and the values of the decisions that give it."""


class StartError(AttnsearchError):
    """A search cannot begin with what it is told to."""


def starts_of(space: Space, trials: int) -> list[Start]:
    """Return the configs that `search.first` has tried first, in its order.

    Args:
        space: The space.
        trials: Of its search: published places get a quarter of them at most.

    Raises:
        StartError: A file is no config of this space.
    """
    search = space.document["search"]
    names = search.get("first")
    if not space.decisions:
        return []
    if names is None:
        # A grid has them all.
        names = [] if search["sampler"] == "grid" else [PUBLISHED]
    starts: list[Start] = []
    for name in names:
        if name != PUBLISHED:
            starts.append((Path(name).name, _file_values(space, name)))
            continue
        placed = list(published_values(space).items())[: trials // SHARE]
        starts += [(f"{words}, published", values) for words, values in placed]
    return starts


def starts_text(starts: Sequence[Start]) -> str:
    """Say what is tried first."""
    return (
        f"tried first, as far as the space has them: {'; '.join(origin for origin, _ in starts)}"
    )


def _file_values(space: Space, path: str) -> dict[str, Any]:
    try:
        file = load_space(path)
    except SpaceError as error:
        raise StartError(f"search.first: {error}") from None
    if file.decisions:
        names = listed([decision.name for decision in file.decisions[:3]])
        raise StartError(
            f"search.first: {path} has choices ({names}); fix them, or take an exported config"
        )
    values = config_values(space, file.resolve())
    if values is None:
        raise StartError(
            f"search.first: {path} is no network of this space, which does not allow one of its "
            "blocks, places, hyperparameters, or values of searched training settings; widen the "
            "space, or leave that file out"
        )
    return values


def config_values(space: Space, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the values under which a space has a config's network; None where it has not.

    Training settings that the space searches are the config's; those that it fixes are its own.
    """
    try:
        found = values_of(space, config)
        values = space.ask(lambda decision: decision.check(found[decision.name]))
        if space.forbidden(values) is not None:
            return None
        same = network_text(space.resolve(values)) == network_text(config)
    except (DecisionError, KeyError):
        return None
    return values if same else None
