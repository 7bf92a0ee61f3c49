"""What is foreseen of a study; trains nothing.

check      `attnsearch check`: the errors of a space file, or the forecast of its study in words
forecast   What a study is going to do: its networks, its data, its runs and their time
survey     What a space spans: its smallest and largest network, and what fits where. Trains
           nothing
standing   Which blocks can stand where: those of a file, and those of the table that cannot, and
           why
contract   Whether a file's own blocks, `module:Class`, keep the rules of every block
data       What a data set's parts hold of each class, and what resizing loses: for
           `attnsearch check`
published  The published networks: `attnsearch blocks --published`, and their figures beside ours
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.search.check.check import check_space, forecast_text, foreseen
    from attnsearch.search.check.contract import broken_rules
    from attnsearch.search.check.data import lost_detail
    from attnsearch.search.check.forecast import Forecast
    from attnsearch.search.check.published import networks_text

face(__name__)
