"""What tests of data with masks share."""

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.data.data import DataSet


def whole(data: DataSet) -> dict[str, NDArray[np.uint8]]:
    """Masks at the images' own size, by the image's name, of the parts that keep them."""
    return {
        name: part.masks.original(row)
        for part in (data.val, data.test)
        for row, name in enumerate(part.names)
        if part.masks is not None
    }
