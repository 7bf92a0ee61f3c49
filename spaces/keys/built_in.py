"""The data sets that come with attnsearch: what a space file must know of them.

What reads them is found by their names, in `runs/readers`.
"""

from dataclasses import dataclass

from attnsearch.spaces.keys.measures import CLASSIFICATION, SEGMENTATION


@dataclass(frozen=True)
class BuiltIn:
    """What is true of a built-in data set.

    Attributes:
        task: What it is for.
        side: Pixels of its images.
        title: What people are told; nobody shall take the scenes for photographs of something.
    """

    task: str
    side: int
    title: str


BUILT_IN = {
    "digits": BuiltIn(CLASSIFICATION, 8, "digits"),
    "scenes": BuiltIn(SEGMENTATION, 96, "scenes (semi-synthetic)"),
}
"""By what `data.source` calls them."""

GIVEN = "given"
"""What `data.source` is called where a program gives its own arrays."""
