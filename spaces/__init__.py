"""Space files: parsed, checked, and resolved to configs.

    from attnsearch.spaces import load_space
    space = load_space("spaces/resnet.yaml")
    config = space.resolve(space.defaults())

The rooms: `keys` says what each key may be, `file` reads and writes a file, `space` holds what
may be searched and resolves it.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:  # `as` says to type checkers that a name is handed on
    from attnsearch.spaces.file import (
        DecisionError as DecisionError,
        Problem as Problem,
        SpaceError as SpaceError,
        dump as dump,
        shipped as shipped,
    )
    from attnsearch.spaces.keys import (
        Ablation as Ablation,
        Augment as Augment,
        Confirm as Confirm,
        Data as Data,
        Entry as Entry,
        Limits as Limits,
        Network as Network,
        Resources as Resources,
        Search as Search,
        SpaceFile as SpaceFile,
        Train as Train,
        schema as schema,
    )
    from attnsearch.spaces.space import (
        Decision as Decision,
        Space as Space,
        SpaceLike as SpaceLike,
        as_space as as_space,
        canonical as canonical,
        canonical_text as canonical_text,
        load_space as load_space,
        weights_marker as weights_marker,
    )

face(__name__)
