"""Which release of attnsearch this is."""

from importlib.metadata import version

__version__ = version("attnsearch")
