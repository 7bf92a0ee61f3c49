"""attnsearch.runs."""
