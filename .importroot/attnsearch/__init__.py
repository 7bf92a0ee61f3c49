"""Which attention block, where in the network, with which hyperparameters - and is the gain real?

    import attnsearch
    result = attnsearch.run_study("my.yaml")
    result.frame()

The names below load on first use. Folder X of the repository is `attnsearch.X`; in a checkout this
file lies beside links to the four folders, which type checkers follow.
"""

from pathlib import Path
from typing import TYPE_CHECKING

_folder = Path(__file__).parent
if _folder.parent.name == ".importroot":  # a checkout: its folders themselves, and not the links
    __path__ = [str(_folder.parents[1])]

from attnsearch.blocks.face import face

if TYPE_CHECKING:  # `as` says to type checkers that a name is handed on
    from attnsearch.blocks import (
        BLOCKS as BLOCKS,
        AttnsearchError as AttnsearchError,
        build_network as build_network,
    )
    from attnsearch.blocks.release import (
        __version__ as __version__,
    )
    from attnsearch.runs import (
        Ledger as Ledger,
        export_study as export_study,
        leaderboard as leaderboard,
        load_export as load_export,
        predict_images as predict_images,
        report as report,
        trials_frame as trials_frame,
    )
    from attnsearch.search import (
        Progress as Progress,
        SessionResult as SessionResult,
        ablate as ablate,
        check_study as check_study,
        run_study as run_study,
    )
    from attnsearch.spaces import (
        Space as Space,
        SpaceError as SpaceError,
        SpaceFile as SpaceFile,
        load_space as load_space,
    )

face(__name__)
