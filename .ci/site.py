"""The site's hook: links from docs/ to files of the repository beside it.

On the repository's pages they lead to the file; the site does not hold it, so that its name stays.
"""

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Keep the words of a link that leaves docs/."""
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", markdown)
