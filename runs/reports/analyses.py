"""The analyses of a plan whose arms stop at them: their boundaries, and what each has settled."""

import scipy

from attnsearch.runs.reports.tables import Cell, Table, act_key, act_title, table
from attnsearch.runs.results import ActResult, p_text, percent
from attnsearch.runs.words import listed


def analyses_table(act: ActResult) -> Table | None:
    """Return one row an analysis, also those that were not needed; None where none is planned."""
    plan, made = act.plan, dict(act.analyses)
    if plan.interim is None:
        return None
    families = [contrast.family for contrast in plan.contrasts]
    tests = max((families.count(family) for family in families), default=1)
    tests *= 1 if plan.margin is None else 2
    rows = []
    for size, share in zip(plan.interim.sizes, plan.interim.shares, strict=True):
        level = plan.alpha * share
        limits = [scipy.stats.t.isf(level / m / 2, size - 1) for m in (tests, 1)]
        settled = listed(made.get(size, [])) or ("nothing" if size in made else "not made")
        rows.append(
            [
                Cell(str(size), size),
                Cell(percent(round(share, 3)), share),
                Cell(p_text(level), level),
                Cell(" to ".join(dict.fromkeys(f"{limit:.2f}" for limit in limits)), limits[0]),
                Cell(settled),
            ]
        )
    headers = ("Seeds", "Share of alpha", "Level", "Boundary of |t|", "Settled")
    notes = [
        "Fixed in the plan before its first run. At its analysis a test has the level that it "
        "spends, alpha times its share; the boundaries are those of the smallest and of the "
        f"largest p of Holm's procedure (m = {tests}). A p counts as p / share.",
        f"Futile: a conditional power below {percent(plan.interim.futility)}, in both directions; "
        "non-binding.",
        "Estimates are plain means: of arms that stop early as better or worse they are on "
        "average too far from zero.",
    ]
    title = f"{act_title(act)}, analyses"
    return table(f"{act_key(act)}-analyses", title, headers, rows, notes, ("Settled",))
