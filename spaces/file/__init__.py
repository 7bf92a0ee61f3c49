"""The space file: from text to a checked document, and from a config back to text.

document       YAML text to plain data, with the place of every key and value
errors         What is wrong with a space file: every problem with its place, all in one error
overrides      `--set KEY=VALUE`: changes to a document before it is checked
validation     Checks a document against the model, with messages in the words of a space file
writing        A config as YAML that a person can read and `load_space` loads again
shipped_files  The space files that come with attnsearch
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.spaces.file.document import parse, read_text
    from attnsearch.spaces.file.errors import (
        DecisionError,
        KeyPath,
        Position,
        Problem,
        Problems,
        SpaceError,
        dotted,
    )
    from attnsearch.spaces.file.overrides import apply_overrides
    from attnsearch.spaces.file.shipped_files import find_space_file, published, shipped
    from attnsearch.spaces.file.validation import explain, locate, validate
    from attnsearch.spaces.file.writing import CALLED, dump, written

face(__name__)
