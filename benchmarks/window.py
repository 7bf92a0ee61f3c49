"""Whether TPE finds less in a long search when it is shown the best and some other trials alone.

    python -m benchmarks.window [--trials 1000] [--seeds 6]

searches a made objective over the twelve decisions of `benchmarks.scale`: each value has an
effect, the blocks have one together, the best learning rate depends on the first of them, and
every score carries noise, as seeds do. The table has, for each size of the window, the true value
of the best-scored trial, mean over the seeds, at three lengths of the search, with the difference
from all trials and its standard error; and seconds of a CPU.
"""

import argparse
import math
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from attnsearch.runs.ledger import State
from attnsearch.search.propose import ProposalResult, window
from attnsearch.search.study.exploring import make_proposals
from attnsearch.spaces import Space, load_space
from benchmarks.scale import SPACE

NOISE = 0.01
ALL = 10**9


def truth(seed: int, values: dict[str, Any]) -> float:
    """Return the value of a network that no training seed blurs."""

    def effect(*place: Any) -> float:
        return random.Random(f"{seed}/{place}").gauss(0, 1)

    blocks = [str(value) for name, value in sorted(values.items()) if name.endswith(".block")]
    total = sum(effect(name, str(value)) for name, value in values.items()) + effect(*blocks)
    best = -1.5 + 0.3 * effect("rate", blocks[0])
    return 0.01 * total - 0.05 * (math.log10(values["train.lr"]) - best) ** 2


def search(space: Space, seed: int, trials: int) -> list[float]:
    """Return, after each trial, the true value of the one that scored best so far."""
    proposals, noise = make_proposals(space, [space.baseline()]), random.Random(seed)
    best, found = (-math.inf, -math.inf), []
    for _ in range(trials):
        asked = proposals.ask()
        assert asked is not None
        value = truth(seed, asked.values)
        score = value + noise.gauss(0, NOISE)
        best = max(best, (score, value))
        proposals.tell(asked.number, ProposalResult(State.FINISHED, scores=(score,)))
        found.append(best[1])
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="TPE with fewer trials to look at")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=6)
    given = parser.parse_args()
    lengths = [given.trials // 4, given.trials // 2, given.trials]
    sizes = ((ALL, ALL), (100, 400), (50, 150))
    found: dict[tuple[int, int], list[list[float]]] = {size: [] for size in sizes}
    seconds = dict.fromkeys(sizes, 0.0)
    for seed in range(given.seeds):
        for size in sizes:
            window.BEST, window.OTHERS = size
            start = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "scale.yaml")
                text = SPACE.format(sampler="tpe", scheduler="none", trials=given.trials)
                path.write_text(
                    text.replace("trials:", f"seed: {seed}, trials:"), encoding="utf-8"
                )
                found[size].append(search(load_space(path), seed, given.trials))
            seconds[size] += time.process_time() - start
    print(f"| shown | {' | '.join(map(str, lengths))} | CPU, s |\n|---|{'---:|' * 4}")
    for size in sizes:
        cells = []
        for length in lengths:
            values = [each[length - 1] for each in found[size]]
            less = [v - a[length - 1] for v, a in zip(values, found[sizes[0]], strict=True)]
            error = statistics.stdev(less) / len(less) ** 0.5
            beside = f" ({statistics.fmean(less):+.4f} ± {error:.4f})" if any(less) else ""
            cells.append(f"{statistics.fmean(values):.4f}{beside}")
        shown = "all" if size[0] == ALL else f"{size[0]} + {size[1]}"
        print(f"| {shown} | {' | '.join(cells)} | {seconds[size]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
