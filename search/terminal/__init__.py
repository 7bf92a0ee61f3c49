"""Words on a terminal: what the commands print.

run         `attnsearch run` and `ablate`: one session of a study, and what is said when it is over
progress    What `attnsearch run` shows: a live table on a terminal, plain lines elsewhere
plain       Lines of a study, where no terminal draws a table
display     What the displays of a study share: counts, the time left, and the words of each event
show        What was found: `attnsearch list` and `show`, read from the ledger
written     `attnsearch export`, `report` and `optuna`: the files that a study leaves
combine     `attnsearch combine`: the same arms over several data sets, in one table
arms        What `run`, `show` and `list` say of confirm and ablations: arms, and how far a study
            is
blocks      Which blocks there are: `attnsearch blocks`
sites       Where blocks can stand: `attnsearch sites`. Needs no Torch, and so answers at once
apply       `attnsearch evaluate`, `predict` and `explain`: a trained network on a user's images
ui          `attnsearch ui`: MLflow's own server on the store that the studies are recorded in
keep        `attnsearch sync` and `clean`: MLflow made whole from the ledger, and files that may go
init        `attnsearch init`: a commented space file for the user's own data
init_masks  What `attnsearch init` finds out of masks, as keys of `data`
budget      How long what `init` proposes takes here, and epochs that keep it within some hours
asked       What the user says of the data to `attnsearch init`, and how an error asks for it
tiles       Whether `init` cuts images into tiles: where resizing would lose what is to be found
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.search.terminal.apply import evaluate_text, explain_text, predict_text
    from attnsearch.search.terminal.asked import Asked
    from attnsearch.search.terminal.blocks import block_text, blocks_text
    from attnsearch.search.terminal.combine import combine_text
    from attnsearch.search.terminal.init import write_space
    from attnsearch.search.terminal.keep import clean_text, sync_text
    from attnsearch.search.terminal.plain import PlainProgress
    from attnsearch.search.terminal.progress import open_progress
    from attnsearch.search.terminal.run import ablate_config, run_space
    from attnsearch.search.terminal.show import studies_text, study_text, trial_text
    from attnsearch.search.terminal.sites import sites_text
    from attnsearch.search.terminal.ui import serve
    from attnsearch.search.terminal.written import export_text, optuna_text, report_text

face(__name__)
