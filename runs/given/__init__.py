"""A program's own data, arrays and Datasets, to what `data.source` names.

data     What `run_study(data=...)` takes, as one array for each part and kind
masks    Arrays of images and masks to a `Source`
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.given.data import GivenData

face(__name__)
