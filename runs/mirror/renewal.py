"""When what a study's parent run shows is renewed while the study goes on."""

from time import monotonic

SHARE = 0.05
"""Of the time, at most, is spent on it: a study of thousands of trials has large tables."""


class Renewal:
    """Says when something is to be made anew.

    Args:
        seconds: From one time to the next, at least.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.took(0.0)

    def due(self) -> bool:
        """Return whether it is time."""
        return monotonic() > self._next

    def took(self, seconds: float) -> None:
        """Hear that it was made just now, and how many seconds that took."""
        self._next = monotonic() + max(self._seconds, seconds / SHARE)
