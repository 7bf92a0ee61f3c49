"""attnsearch.search."""
