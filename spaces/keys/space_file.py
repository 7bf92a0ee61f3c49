"""The space file: its top-level keys, with types, bounds, defaults and what each is for.

`attnsearch schema` prints the models of this room as a JSON Schema, descriptions included.
What no type can say (sites, blocks, keys that contradict each other) is checked in
`spaces/space`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from attnsearch.spaces.keys.data import Data
from attnsearch.spaces.keys.network import Network
from attnsearch.spaces.keys.published import Published
from attnsearch.spaces.keys.search import Ablation, Confirm, Limits, Resources, Search
from attnsearch.spaces.keys.train import Train
from attnsearch.spaces.keys.values import Of, Positive, Searchable, Section, Text

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
NAME_MOST = 200  # characters


class Entry(Section):
    """One place, or one pattern of places, and what may stand there."""

    at: Annotated[str, Field(min_length=1, max_length=100)]
    """A site (`layer4`) or a pattern of sites (`layer[2-3].*.conv2`)."""
    name: Annotated[str, Field(pattern=NAME, max_length=NAME_MOST)] | None = None
    """Names the decisions in place of the pattern."""
    block: Searchable[Text]
    """A block of `attnsearch blocks`, none, or a `module:Class` of your own."""
    decide: Literal["together", "stage", "each"] = "together"
    """One choice for all matches, one per stage, or one each."""
    pretrained_safe: bool = False
    """Added blocks start as the identity, so that a pretrained host gives its own outputs at step
    0. In place of a convolution it has no effect."""
    params: dict[str, dict[str, Any]] = {}
    """Hyperparameters by block, over those in `blocks`."""


class SpaceFile(Section):
    """An attnsearch space file."""

    name: Annotated[Annotated[str, Field(pattern=NAME, max_length=NAME_MOST)], Of("name")]
    """Names the study and the MLflow experiment."""
    task: Literal["classification", "segmentation", "multilabel"]
    """What is learned: one class for each image, one for each pixel, or any number of classes for
    each image."""
    data: Data
    """The images; {source: digits} for the built-in ones."""
    network: Network
    """The host network; {backbone: resnet18} for instance."""
    insert: list[Entry] = []
    """Where and which blocks; empty for the baseline."""
    blocks: dict[str, dict[str, Any]] = {}
    """Hyperparameters by block, fixed or searched."""
    train: Train = Field(default_factory=Train)
    """How networks are trained."""
    search: Annotated[Search, Of("search")] = Field(default_factory=Search)
    """How the space is explored."""
    forbid: Annotated[list[dict[str, Any]], Of("limits")] = []
    """Combinations that are never tried: decision name to a value or a list of values; all of one
    rule must hold."""
    limits: Annotated[Limits, Of("limits")] = Field(default_factory=Limits)
    """Upper limits of parameters, MACs, latency and memory."""
    confirm: Annotated[Confirm | None, Of("plans")] = None
    """Retraining of the best on fresh seeds; null leaves it out."""
    ablation: Annotated[Ablation | None, Of("plans")] = None
    """What is varied around the winner; null leaves it out."""
    resources: Annotated[Resources, Of("host")] = Field(default_factory=Resources)
    """What one trial gets."""
    published: Annotated[Published | None, Of("host")] = None
    """What its authors publish of this network; `check` prints it beside the counts."""
    checkpoint: Literal["last", "best_val"] = "last"
    """Which epoch a run's scores are of."""
    primary_metric: Annotated[Text | None, Of("statistics")] = None
    """The metric whose differences are tested in confirm and ablation, without its part: accuracy.
    null takes the first objective."""
    alpha: Annotated[Annotated[float, Field(gt=0, le=0.5)], Of("statistics")] = 0.05
    """Level of every family of tests; intervals cover 1 - alpha."""
    smallest_effect: Annotated[Positive | None, Of("statistics")] = None
    """The smallest difference of the primary metric that matters, in its units (0.01 is one point
    of accuracy): for power, and for calling a gain negligible."""
    margin: Annotated[Positive | None, Of("statistics")] = None
    """Differences within +-margin count as equivalent, in units of the primary metric; null tests
    no equivalence. Stored before confirm."""
