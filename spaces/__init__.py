"""Space files: parsed, checked, and resolved to configs.

    from attnsearch.spaces import load_space
    space = load_space("spaces/resnet.yaml")
    config = space.resolve(space.defaults())

The rooms: `keys` says what each key may be, `file` reads and writes a file, `space` holds what
may be searched and resolves it.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.spaces.file import DecisionError, Problem, SpaceError, dump, shipped
    from attnsearch.spaces.keys import schema
    from attnsearch.spaces.space import (
        Decision,
        Space,
        canonical,
        canonical_text,
        load_space,
        weights_marker,
    )

face(__name__)
