"""The space file: from text to a checked document, and from a config back to text.

document        YAML text to plain data, with the place of every key and value
values          The grammar of a value that may be searched: fixed, or a choice or a range
errors          What is wrong with a space file: every problem with its place, all of them in one
                error
keys            The keys of a space file: types, bounds, defaults and what each is for
keys_data       The `data` section
keys_search     The keys of a space file that say what is done with the space: search, confirm,
                ablation
built_in        The data sets that come with attnsearch: what a space file must know of them
measures        What a run is measured by: the metrics of its predictions, and the costs of its
                network
facts           What the keys say about themselves: whose each is, when it matters
keys_weights    The `network.weights` key: a file, or a file and a key map
keys_published  The `published` section: what the authors of a network state, beside which `check`
                counts
validation        Checks a document against the model, with messages in the words of a space file
overrides       `--set KEY=VALUE`: changes to a document before it is checked
key_table       The table of all keys in `docs/space-file.md`, made of the model
json_schema     The JSON Schema of space files, for editors and for reading
writing         A config as YAML that a person can read and `load_space` loads again
shipped_files         The space files that come with attnsearch
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.spaces.file.built_in import BUILT_IN
    from attnsearch.spaces.file.document import parse, read_text
    from attnsearch.spaces.file.errors import (
        DecisionError,
        KeyPath,
        Position,
        Problem,
        Problems,
        SpaceError,
        dotted,
        shown,
    )
    from attnsearch.spaces.file.facts import DECIDING, idle, keys_of, keys_under
    from attnsearch.spaces.file.json_schema import schema
    from attnsearch.spaces.file.keys import Entry, SpaceFile, Train
    from attnsearch.spaces.file.keys_data import Augment, Data, GroupsPattern, GroupsTable
    from attnsearch.spaces.file.keys_search import Scheduler, Search, default_grace
    from attnsearch.spaces.file.measures import (
        CLASSIFICATION,
        COSTS,
        COUNTED,
        MEASURED,
        METRICS,
        PARTS,
        SEGMENTATION,
        default_objective,
        excess,
        find_metric,
        is_share,
        metric_name,
        objectives,
        primary_metrics,
    )
    from attnsearch.spaces.file.overrides import apply_overrides
    from attnsearch.spaces.file.shipped_files import find_space_file, published, shipped
    from attnsearch.spaces.file.validation import explain, locate, validate
    from attnsearch.spaces.file.values import (
        Choice,
        FloatRange,
        IntRange,
        SearchableAny,
        kind_of,
        label,
        plain,
        same,
    )
    from attnsearch.spaces.file.writing import dump

face(__name__)
