"""Where examples lie that are trained on: in memory, in a file that processes map, or nowhere.

errors   The error of data that cannot be used
place    The folder of what is kept between commands, its size, and what leaves it
lazy     Arrays whose rows are made when they are asked for, used like those in memory
decoding Files decoded in parallel to facts, and facts without pixels
entry    An entry of the cache that holds decoded files, in chunks with checksums
store    Decoded files: what is known of each, and its pixels from a mapped file or from itself
archive  Arrays of an .npz file, read where they lie or from a file of the cache
choice   `data.keep`: what `auto` becomes, by measured size and free memory
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.keeping.archive import DAMAGE, Places, header, locate
    from attnsearch.runs.keeping.choice import Kept, choose, on_card
    from attnsearch.runs.keeping.decoding import in_order
    from attnsearch.runs.keeping.errors import DataError
    from attnsearch.runs.keeping.lazy import (
        Anywhere,
        Array,
        Items,
        Lazy,
        advise,
        count_values,
        is_decoded_anew,
        pieces,
        take_rows,
    )
    from attnsearch.runs.keeping.place import cache_folder, file_state, most_bytes, prune
    from attnsearch.runs.keeping.store import Mapped, survey

face(__name__)
