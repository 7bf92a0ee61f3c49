"""What a Python program calls: the commands as functions, on paths, mappings and spaces alike.

studies   Running, ablating and checking a study: what `attnsearch run`, `ablate` and `check` do
watching  Who watches a study that a program runs: what is printed, and the program's callbacks
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.search.api.studies import ablate, check_study, run_study

face(__name__)
