"""Which runs happen: proposing, scheduling, resuming, and the command line.

Names are imported when first used, so that `attnsearch --help` need not wait for Ray.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.search.ablation import ablate
    from attnsearch.search.engine import run_study

face(__name__)
