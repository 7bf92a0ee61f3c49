"""Studies here train in this process, as those of `tests/search` do."""

from tests.search.conftest import in_process as in_process
