"""The commands of `attnsearch`: their options and help. What they call loads on first use.

group     How the command line reads and prints: help as written, names suggested, readers may
          hang up
training  run, check, ablate
winner    export, evaluate, predict, explain
records   report, combine, list, show, optuna, sync, clean, ui
lookup    blocks, sites, schema, init
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.search.commands.group import Commands
    from attnsearch.search.commands.lookup import blocks, init, schema, sites
    from attnsearch.search.commands.records import (
        clean,
        combine,
        list_,
        optuna,
        report,
        show,
        sync,
        ui,
    )
    from attnsearch.search.commands.training import ablate, check, run
    from attnsearch.search.commands.winner import evaluate, explain, export, predict

face(__name__)
