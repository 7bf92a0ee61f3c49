"""`attnsearch combine`: the same arms over several data sets, in one table."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from attnsearch.runs.ledger import Ledger, LedgerError
from attnsearch.runs.reports import combined_fields, combined_text, write_combined
from attnsearch.runs.results import MeasuredStudy, collect_study, combine_studies
from attnsearch.search.text import paragraph, table


def combine_text(
    addresses: Sequence[str],
    *,
    ledgers: Sequence[str] = (),
    plan: str = "confirm",
    allow: Sequence[str] = (),
    folder: str | None = None,
    as_json: bool = False,
) -> str:
    """Combine studies and say what they found together.

    Args:
        addresses: `NAME` or `NAME/NUMBER`, each of another data set.
        ledgers: Where to look for them, all of them; none takes the ledger of the folder.
        plan: Which of their plans.
        allow: What may differ between them.
        folder: Where files are written; None writes none.
        as_json: As JSON.

    Raises:
        AttnsearchError: There is no such study, or they cannot be compared.
    """
    combined = combine_studies(_measured(addresses, ledgers), plan=plan, allow=allow)
    written = write_combined(combined, folder) if folder is not None else []
    if as_json:
        return json.dumps(combined_fields(combined), indent=2, ensure_ascii=False)
    pages = combined_text(combined)
    out = [paragraph(pages.facts), ""]
    for part in (chapter.tables[0] for chapter in pages.sections):
        right = {part.headers[i] for i in part.numeric}
        rows = [[cell.text for cell in row] for row in part.rows]
        out += [f"{part.title}:", table(part.headers, rows, right=right, indent="  "), ""]
    out += [paragraph(text, indent="- ", hanging="  ") for text in pages.verdicts]
    out += [paragraph(f"Note: {note}", hanging="  ") for note in combined.notes]
    if written:
        out += ["", f"Wrote {', '.join(path.name for path in written)} to {Path(folder or '.')}."]
    return "\n".join(out)


def _measured(addresses: Sequence[str], ledgers: Sequence[str]) -> list[MeasuredStudy]:
    """Read each study from the ledgers that have it."""
    with ExitStack() as stack:
        opened = [stack.enter_context(Ledger(place, create=False)) for place in ledgers or (None,)]
        studies = []
        for address in addresses:
            missing: list[LedgerError] = []
            for ledger in opened:
                try:
                    row = ledger.find_study(address)
                except LedgerError as error:
                    missing.append(error)
                    continue
                studies.append(collect_study(ledger, row.id))
            if len(missing) == len(opened):
                raise LedgerError("; ".join(map(str, missing)))
        return studies
