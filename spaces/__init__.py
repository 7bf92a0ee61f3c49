"""Space files: parsed, checked, and resolved to configs.

    from attnsearch.spaces import load_space
    space = load_space("spaces/resnet.yaml")
    config = space.resolve(space.defaults())

`load` reads a file, `space` holds the result, `model` documents every key, `document` is the YAML
reader, `canonical_form` says when two configs train alike, `writing` writes one.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.spaces.file import DecisionError, Problem, SpaceError, dump, schema, shipped
    from attnsearch.spaces.space import Decision, Space, canonical, canonical_text, load_space

face(__name__)
