r"""A study written down, as Markdown, LaTeX, HTML and CSV.

reporting     What a study found, written down: `attnsearch report`, and the frames behind it
combining  Several data sets in one report: `attnsearch combine`
pages      What stands in a report, in its order: the sections that Markdown, LaTeX and HTML write
tables     A report's tables as a person reads them; Markdown, LaTeX and HTML write the same cells
analyses   The analyses of a plan whose arms stop at them: their boundaries, and what each has
           settled
secondary  The metrics beside the primary one: means and differences with intervals, and no p
sentences  What a study found, in sentences: each from a verdict, none beyond it
methods    The paragraph "Experimental protocol": what was done, each sentence from the ledger
html       A report as one HTML file that asks for nothing else: styles, script and figures stand
           in it
latex      A report as LaTeX: tables with booktabs, for ``\input`` or to be compiled by itself
markdown   A report as Markdown
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.reports.combining import (
        combined_fields,
        combined_text,
        write_combined,
    )
    from attnsearch.runs.reports.reporting import (
        ReportError,
        report,
        verdict_lines,
        write_report,
        write_result,
    )

face(__name__)
