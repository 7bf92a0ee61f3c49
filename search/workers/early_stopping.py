"""What the search needs to know of early stopping without loading Ray."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Curve = Sequence[Mapping[str, Any]]
"""The metrics of each epoch of a trial, oldest first, with its number as `epoch`."""


class EarlyStopping(Protocol):
    """What `attnsearch.search.workers.stopping.make_scheduler` makes, beside being Ray Tune's."""

    def learn(self, curve: Curve, finished: bool) -> None:
        """Take in an earlier trial, as if it had just run."""


def scheduler_name(spec: str | Mapping[str, Any]) -> str:
    """Return the name in `search.scheduler`, which may carry settings."""
    return spec if isinstance(spec, str) else next(name for name in spec if spec[name] is not None)
