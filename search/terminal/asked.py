"""What the user says of the data to `attnsearch init`, and how an error asks for it."""

import re
from dataclasses import dataclass, fields
from typing import Any

from pydantic import ValidationError

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.search.terminal.init_masks import parse_colors
from attnsearch.spaces.keys import Data


class InitError(AttnsearchError):
    """A space file cannot be proposed for this data, or not be written there."""


@dataclass(frozen=True)
class Asked:
    """What the user says of the data, as typed; None where it is to be found out.

    Attributes:
        task: Of the space file.
        classes: Names, divided by commas.
        groups: A pattern, a .csv, or `none`.
        mask_name: `data.mask_name`.
        mask_values: Numbers, divided by commas.
        mask_colors: `name=#rrggbb`, divided by commas.
    """

    task: str | None = None
    classes: str | None = None
    groups: str | None = None
    mask_name: str | None = None
    mask_values: str | None = None
    mask_colors: str | None = None

    def keys(self) -> dict[str, Any]:
        """Return what is said as keys of `data`, without the groups.

        Raises:
            InitError: A value is none that the key can have.
        """
        try:
            colors = self.mask_colors and parse_colors(self.mask_colors)
        except ValueError as error:
            raise InitError(f"--mask-colors {self.mask_colors!r}: {error}") from None
        said = {
            "classes": self.classes and [name.strip() for name in self.classes.split(",")],
            "mask_name": self.mask_name,
            "mask_values": self.mask_values and re.split(r"[\s,]+", self.mask_values.strip("[] ")),
            "mask_colors": colors,
        }
        keys = {key: value for key, value in said.items() if value is not None}
        try:
            section = Data.model_validate({"source": None, **keys}, strict=False)
        except ValidationError as error:
            fault = error.errors()[0]
            option = f"--{fault['loc'][0]}".replace("_", "-")
            raise InitError(f"{option} {fault['input']!r}: {fault['msg']}") from None
        return {key: getattr(section, key) for key in keys}


NOTHING = Asked()


def options_for(message: str) -> str:
    """Return the options that give what an error asks for, in words."""
    options = [
        f"--{field.name.replace('_', '-')}"
        for field in fields(Asked)
        if f"data.{field.name}" in message
    ]
    return f" (for init: {', '.join(options)})" if options else ""
