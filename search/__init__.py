"""Which runs happen: proposing, scheduling, resuming, and the command line.

Names are imported when first used, so that `attnsearch --help` need not wait for Ray.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:  # `as` says to type checkers that a name is handed on
    from attnsearch.search.api import (
        ablate as ablate,
        check_study as check_study,
        run_study as run_study,
    )
    from attnsearch.search.study import (
        ActInfo as ActInfo,
        Progress as Progress,
        SessionResult as SessionResult,
        StudyEnd as StudyEnd,
        StudyInfo as StudyInfo,
        TrialEnd as TrialEnd,
        TrialInfo as TrialInfo,
    )

face(__name__)
