"""The one base class of every error that attnsearch raises on purpose."""


class AttnsearchError(Exception):
    """Base of all errors meant for the user.

    The message names the value, the rule, the place, and what to do. The command line prints it
    without a traceback.
    """


class BlockError(AttnsearchError, ValueError):
    """A block cannot be built with these hyperparameters, or cannot run on this input."""


class SiteError(AttnsearchError, ValueError):
    """A site does not exist, or a block cannot stand there."""


class WeightsError(AttnsearchError):
    """A weights file cannot be read, or does not fit the network."""
