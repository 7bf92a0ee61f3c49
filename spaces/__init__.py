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
    from attnsearch.spaces.canonical_form import canonical, canonical_text
    from attnsearch.spaces.decisions import Decision
    from attnsearch.spaces.file import DecisionError, Problem, SpaceError, dump, schema, shipped
    from attnsearch.spaces.load import load_space
    from attnsearch.spaces.space import Space

face(__name__)
