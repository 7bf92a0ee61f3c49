"""How often what a parent run shows is renewed."""

from itertools import pairwise

import pytest

from attnsearch.runs.mirror import renewal
from attnsearch.runs.mirror.renewal import Renewal


def test_what_takes_long_is_renewed_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(renewal, "monotonic", lambda: now)
    tables = Renewal(30.0)
    seen = []
    for now in range(3600):
        if tables.due():
            seen.append(now)
            tables.took(4.0 if now > 1000 else 1.0)
    gaps = {after - before for before, after in pairwise(seen)}
    assert min(gaps) == 31  # not below what was asked for
    assert max(gaps) == 81  # 4 s of work in 80 s: a twentieth
