"""The `published` section: what the authors of a network state, beside which `check` counts."""

from typing import Annotated

from pydantic import Field

from attnsearch.spaces.keys.values import Positive, Section

Line = Annotated[str, Field(min_length=1, max_length=200)]


class Published(Section):
    """A network's published facts. They change nothing that is built or trained."""

    about: Line
    """What it is, in one line."""
    paper: Line | None = None
    """Link to the paper."""
    code: Line | None = None
    """The authors' code: repository@commit, licence."""
    params: Positive | None = None
    """Number of parameters, as published."""
    macs: Positive | None = None
    """Multiply-accumulates of one image, as published (often called FLOPs)."""
    counts: str | None = None
    """Where these figures stand, and what they count that ours do not."""
    results: Line | None = None
    """Published results."""
