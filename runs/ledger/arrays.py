"""Arrays as the ledger keeps them: a compressed ``.npz``, text and numbers only."""

import io
from collections.abc import Mapping

import numpy as np


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Turn named arrays into bytes; objects are refused."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, allow_pickle=False, **{k: np.asarray(v) for k, v in arrays.items()}
    )
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """Turn what `pack` made into arrays again."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
