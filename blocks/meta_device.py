"""Torch's arithmetic on the meta device as far as it is in Python, for who needs it.

`import torch` loads it, a quarter of its time, and also what takes operations apart. It is of use
where something is computed without numbers or compiled; networks are constructed without it.
"""

import sys
from types import ModuleType

from attnsearch.blocks.face import import_whole

_NAME = "torch._meta_registrations"


class _LeftOut(ModuleType):
    """Stands where torch looks for it."""


def leave_out() -> None:
    """Let `import torch` leave it out, unless torch has been imported.

    For a command's own process: a user's program, as a worker, has all of torch.
    """
    if "torch" not in sys.modules:
        sys.modules[_NAME] = _LeftOut(_NAME)


def load() -> None:
    """Load it where it was left out: before the meta device computes, and for a user's code."""
    if isinstance(sys.modules.get(_NAME), _LeftOut):
        del sys.modules[_NAME]
        import_whole(_NAME)
