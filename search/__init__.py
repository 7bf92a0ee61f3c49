"""Which runs happen: proposing, scheduling, resuming, and the command line.

Names are imported when first used, so that `attnsearch --help` need not wait for Ray.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.search.study import ablate, run_study

face(__name__)
