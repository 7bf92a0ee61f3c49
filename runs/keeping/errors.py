"""The error of data that cannot be used."""

from attnsearch.blocks.errors import AttnsearchError


class DataError(AttnsearchError, ValueError):
    """A data set cannot be read, split or used as the space file asks."""
