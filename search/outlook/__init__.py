"""What a study is going to take, and what it can find.

acts       What follows exploring: runs, time, and what their number can find
estimate   How long a study may take: a few measured training steps, multiplied out. Records
           nothing
steps      What to do after a study, by what it found: each step a reason and a command that works
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.search.outlook.acts import (
        Outlook,
        Pilot,
        cost_sentence,
        outlook,
        pilot_of,
        pilot_runs,
        reach_sentence,
    )
    from attnsearch.search.outlook.estimate import (
        budget_share,
        known_epoch,
        seconds_per_epoch,
    )
    from attnsearch.search.outlook.steps import Step, next_steps

face(__name__)
