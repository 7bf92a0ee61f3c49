"""How numbers stand in tables."""

from attnsearch.runs.results.numbers import cost_cell


def test_a_latency_stands_with_its_quartiles() -> None:
    costs = {"latency_ms": 4.125, "latency_low_ms": 3.9, "latency_high_ms": 4.4375, "params": 1234}
    assert cost_cell("latency_ms", costs) == "4.12 (3.9 to 4.44)"
    assert cost_cell("params", costs) == "1.23 k"
    assert cost_cell("latency_ms", {"latency_ms": 4.125}) == "4.12"
    assert cost_cell("latency_ms", {}) == ""
