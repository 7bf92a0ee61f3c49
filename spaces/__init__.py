"""attnsearch.spaces."""
