"""The bridge to Optuna: what is tried next.

proposals   The bridge to Optuna: what is tried next, and what Optuna is told of it
probes      Values of training settings that are spread over their ranges
samplers    Optuna's samplers as `search.sampler` names them, and what they cannot do
window      Optuna's trials as TPE sees them: all, or of a long search some
storage     A study as an Optuna storage, for `optuna-dashboard`
objectives  What a study optimises: which values count, and which trials are best by them
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.search.propose.objectives import Objectives
    from attnsearch.search.propose.proposals import Proposal, ProposalResult, Proposals
    from attnsearch.search.propose.storage import write_storage

face(__name__)
