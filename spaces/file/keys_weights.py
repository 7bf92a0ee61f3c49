"""The `network.weights` key: a file, or a file and a key map."""

from typing import Annotated, TypeAlias

from pydantic import Field, Tag

from attnsearch.spaces.file.values import Section, by_type


class WeightsFile(Section):
    """A weights file whose names differ from the network's."""

    path: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="The file; null loads none and keeps the key map for later."
    )
    rename: dict[str, str | None] = Field(
        {},
        description="Patterns of names in the file to names in the network: * is any characters "
        "but dots, ** any characters, in the same order on both sides; null drops what it fits.",
    )


Weights: TypeAlias = Annotated[
    Annotated[Annotated[str, Field(min_length=1)], Tag("<path>")]
    | Annotated[WeightsFile, Tag("<file>")],
    by_type("a path, or {path: ..., rename: {...}}", str="<path>", dict="<file>"),
]
