"""What a study begins with: what its results depend on, and what is known before its first trial.

origin     What a study's results depend on beside its space file and data, and what it goes on
           from
starting   What a search begins with: configs tried first, and what earlier studies learnt
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.search.opening.origin import Inputs, changed_error, origin_notes
    from attnsearch.search.opening.starting import Beginning

face(__name__)
