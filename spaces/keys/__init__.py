"""The keys of a space file: what each may be, and what is true of it.

values       The grammar of a value that may be searched: fixed, or a choice or a range
space_file   The top-level keys, and the entries of `insert`
data         The `data` section
network      The `network` section
train        The `train` section
arithmetic   How a training computes, as far as a file leaves it open: precision, layout, compiled
             or not
search       The sections that say what is done with the space: search, confirm, ablation
published    The `published` section: what the authors of a network state
facts        What the keys say about themselves: whose each is, when it matters
own          Functions and classes of the user's own that a document names as `module:name`
measures     What a run is measured by: metrics of its predictions, costs of its network
built_in     The data sets that come with attnsearch: what a space file must know of them
json_schema  The JSON Schema of space files, for editors and for reading
key_table    The table of all keys in `docs/space-file.md`, made of the model
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.spaces.keys.arithmetic import (
        OPTIONAL,
        PLAIN,
        closed_arithmetic,
        open_arithmetic,
        settled,
    )
    from attnsearch.spaces.keys.built_in import BUILT_IN, GIVEN
    from attnsearch.spaces.keys.data import OF_ANOTHER, Augment, Data, GroupsPattern, GroupsTable
    from attnsearch.spaces.keys.facts import DECIDING, idle, keys_of, keys_under, marks
    from attnsearch.spaces.keys.json_schema import schema
    from attnsearch.spaces.keys.measures import (
        CLASSIFICATION,
        COSTS,
        COUNTED,
        LATENCY_QUARTILES,
        MEASURED,
        METRICS,
        MULTILABEL,
        SEGMENTATION,
        default_objective,
        excess,
        is_share,
        metric_name,
        objectives,
        primary_metrics,
        split_part,
    )
    from attnsearch.spaces.keys.network import Network
    from attnsearch.spaces.keys.own import own_losses, own_metrics, own_names
    from attnsearch.spaces.keys.search import (
        Ablation,
        Confirm,
        Limits,
        Resources,
        Scheduler,
        Search,
        SeedRange,
        cards_of,
        default_grace,
    )
    from attnsearch.spaces.keys.space_file import NAME_MOST, Entry, SpaceFile
    from attnsearch.spaces.keys.train import LOSSES, OF_OUR_LOOP, TASK_LOSSES, Train
    from attnsearch.spaces.keys.values import (
        Choice,
        Fixed,
        FloatRange,
        IntRange,
        SearchableAny,
        kind_of,
        label,
        on_step,
        plain,
        same,
        shown,
    )

face(__name__)
