"""Groups that names tell: two eyes of a child, slices of a scan, frames of a film, visits."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

BEFORE = r"^(.+?)[ _.-]?"
VIEWS = "slice|slc|frame|frm|visit|view|timepoint|session|ses"
OWNERS = "patient|pat|pt|subject|subj|sub|case|video|vid|sequence|seq|clip"
KINDS = {
    "left and right": r"(?i)^(.*?(?:\d|(?=[ _.-])))[ _.-]?(?:left|right|od|os|l|r)(?=[ _.-])",
    "slices, frames or visits": rf"(?i){BEFORE}(?:{VIEWS})[ _-]?\d+(?!\d)",
    "numbers of patients or films": rf"(?i)(?:^|/)((?:{OWNERS})[ _-]?\d+)(?=[ _./-])",
    "numbered views of numbered things": r"^([^/]*\d[^/]*)[_-]\d{1,4}\.\w+$",
}
"""What names tell, and the pattern whose group says what belongs together."""

FITTED = 0.9  # share of the names that a pattern must fit
SHARED = 0.5  # share of the images that must be in a group of several
LEAST = 6  # groups; fewer cannot be split


@dataclass(frozen=True)
class NamedGroups:
    """Groups that names tell.

    Attributes:
        kind: What the names have, in words.
        pattern: For `data.groups`.
        groups: How many.
        images: How many are in groups.
    """

    kind: str
    pattern: str
    groups: int
    images: int


def groups_in_names(names: Sequence[str]) -> NamedGroups | None:
    """Return the coarsest groups that names tell, if they tell any.

    Args:
        names: Of images, as in `Split.names`.
    """
    files = [name.rpartition("/")[2] for name in names]
    candidates = []
    for kind, pattern in KINDS.items():
        for texts in (files, names):
            caught = [match[1] for text in texts if (match := re.search(pattern, text))]
            if caught:  # whole names count only where no file's name fits, as in `read_groups`
                break
        counts = Counter(caught)
        shared = sum(count for count in counts.values() if count > 1)
        if (
            len(caught) >= FITTED * len(names)
            and shared >= SHARED * len(names)
            and len(counts) >= LEAST
            and (kind != "numbered views of numbered things" or _are_views(texts))
        ):
            candidates.append(NamedGroups(kind, pattern, len(counts), len(caught)))
    return min(candidates, key=lambda named: named.groups, default=None)


def _are_views(files: Sequence[str]) -> bool:
    """Return whether second numbers count the same few views of each thing: not a running number.

    `2007_000129.jpg` has a year and a running number; `a91_01.jpg`, ..., `a91_16.jpg` 16 views.
    """
    pairs = {tuple(file.rpartition(".")[0].replace("-", "_").rsplit("_", 1)) for file in files}
    things = {thing for thing, *_ in pairs}
    views = {rest[0] for _, *rest in pairs if rest}
    return len(views) * len(things) <= 2 * len(files)
