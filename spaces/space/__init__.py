"""What may be searched: from a checked document to decisions, and from their values to a config.

opening     From a space file, or what would stand in one, to a `Space`: read, override, check
load        From a checked document to a `Space`: check the rest, name the decisions
space       A space: what may be searched, and how decision values become a config
decisions   What a sampler decides: one named choice or range, active only where it matters
insertions  The entries of `insert`: which sites they name, how their decisions are called
parameters  Hyperparameters of blocks, checked against the constructors that declare them
rules       Combinations that are never tried: the `forbid` rules, and double replacements
fits        Whether blocks can stand where a space file puts them
hosts       The networks that a file can make, before anything is inserted, and what they must
            allow
counting    How many different networks a space holds
placements  Where the papers of blocks put them, as values of a space's decisions
paths       Paths in a space file, made absolute and looked for
canonical_form   What of a config determines the result of training it
checks      Keys of a space file that contradict each other, or that have no effect
data_checks The same of the `data` section
train_checks The same of the `train` section
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.spaces.space.canonical_form import canonical, canonical_text, weights_marker
    from attnsearch.spaces.space.decisions import (
        Decision,
        decision,
        is_spec,
        parameter_decision,
    )
    from attnsearch.spaces.space.fits import HostChoice
    from attnsearch.spaces.space.insertions import Group, Option, inserted_values
    from attnsearch.spaces.space.opening import SpaceLike, as_space, load_space
    from attnsearch.spaces.space.parameters import read_settings, side_loss
    from attnsearch.spaces.space.placements import PUBLISHED, published_values
    from attnsearch.spaces.space.rules import Rule
    from attnsearch.spaces.space.space import Space, complete_train

face(__name__)
