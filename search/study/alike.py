"""Noticing that all runs of an act fail with the same error: so would the rest."""

import re
from collections.abc import Iterable, Sequence

from attnsearch.runs.ledger import State
from attnsearch.search.study.records import QueuedRun

ALIKE_MAX = 5  # runs that fail with the same error, while no other trains


def failed_alike(entries: Iterable[QueuedRun], others: Iterable[State]) -> Sequence[QueuedRun]:
    """Return the runs that failed alike, where so many did and nothing else has trained.

    Only what failed in this session counts: the cause may have been mended since the last.

    Args:
        entries: The act's runs, without those of the baseline, which trains where blocks fail.
        others: How those ended that are over, of earlier sessions too.
    """
    failed = [e for e in entries if e.outcome and e.outcome.state == State.FAILED]
    kinds = {re.sub(r"\d+", "0", str(e.outcome and e.outcome.error)) for e in failed}
    alike = set(others) <= {State.FAILED, State.INFEASIBLE} and len(kinds) == 1
    return failed if alike and len(failed) >= ALIKE_MAX else []
