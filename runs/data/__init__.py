"""From a `Source` to a `DataSet`: who is in which part, and what stands in two of them.

data        A data set as training needs it: 8-bit images in memory or not, split and described
splits      Which example goes where: deterministic, stratified, and never one group in two parts
dealing     Dealing examples out to parts of given sizes: stratified by class, whole groups
            together
groups      Which examples belong together: one patient's images are one group
group_names Groups that names tell: eyes, slices, frames, visits
contents    What each example holds, and which files a change was made to
duplicates  Images that stand in two parts of a data set, exactly or nearly: what training saw is
            tested
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.data.contents import content_changes, example_contents
    from attnsearch.runs.data.data import DataSet, Split, load_data, split_source
    from attnsearch.runs.data.dealing import balance_text, class_counts
    from attnsearch.runs.data.duplicates import duplicates_in
    from attnsearch.runs.data.group_names import NamedGroups, groups_in_names
    from attnsearch.runs.data.groups import read_groups

face(__name__)
