"""The tables and parts of `docs/blocks.md`, made of the blocks and the recorded trainings.

python -m benchmarks.block_page     writes it, and a picture of each block beside it.
"""

import csv
import inspect
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
from scipy.stats import t

from attnsearch.blocks import BLOCKS
from attnsearch.blocks.measure import count_macs, count_params

ROOT = Path(__file__).parents[1]
PAGE, PICTURES = ROOT / "docs" / "blocks.md", ROOT / "docs" / "images" / "blocks"
CHANNELS, SIDE = 64, 16
SEEDS = ("seed", "cpu_s")

# What happens on the side path, how it comes back, where the papers put it, and what they report.
# Figures are those of the papers' or the authors' own tables; each is of their data and schedule.
FACTS = {
    "ecrm": (
        ("attend to own regions", "compare with the bank"),
        "concat",
        "after the last stage, before the decoder",
        "whole DCRNet, Dice: EndoScene 85.41, Kvasir 90.14, PICCOLO 85.13",
    ),
    "axial": (
        ("1x1", "attend along height", "attend along width"),
        "",
        "in place of every 3x3 convolution",
        "ImageNet top-1: Axial-ResNet-26-S 75.8 % (5.9 M parameters), ResNet-26 74.5 % (13.7 M)",
    ),
    "psa": (
        ("3x3, 5x5, 7x7, 9x9", "softmax over the scales"),
        "",
        "in place of every 3x3 convolution",
        "ImageNet top-1: EPSANet-50 Small 77.49 %, Large 78.64 %",
    ),
    "gc": (
        ("attention pooling", "1x1, norm, ReLU, 1x1"),
        "+",
        "on the residual branch, stages 2 to 4",
        "ImageNet top-1: ResNet-50 76.88 %, with GC 77.70 %",
    ),
    "scconv": (
        ("pool 4x", "3x3", "enlarge", "sigmoid"),
        "x, then 3x3",
        "in place of half of every 3x3 convolution",
        "ImageNet top-1: SCNet-50 77.81 %",
    ),
    "se": (("mean", "1x1, ReLU, 1x1", "sigmoid"), "x", "on the residual branch, every block", ""),
    "eca": (
        ("mean", "1D convolution over channels", "sigmoid"),
        "x",
        "on the residual branch, every block",
        "",
    ),
    "cbam": (("channel gate", "position gate"), "x", "on the residual branch, every block", ""),
    "coordinate": (
        ("means of rows, of columns", "1x1, norm", "two 1x1, sigmoid"),
        "x",
        "in the blocks of mobile networks",
        "",
    ),
    "simam": (("distance to the mean", "sigmoid"), "x", "inside every residual block", ""),
    "nonlocal": (
        ("compare all positions", "weighted mean", "1x1, norm"),
        "+",
        "after a few blocks of the middle stages",
        "",
    ),
    "identity": ((), "", "a control: anywhere", ""),
    "conv1x1": (("1x1",), "", "a control: what a few weights alone do", ""),
    "bottleneck1x1": (
        ("1x1", "ReLU", "1x1"),
        "+",
        "a control: GCNet's transform without its context",
        "",
    ),
}
MARKS = "<!-- {}: made by benchmarks.block_page -->", "<!-- end of {} -->"
TITLES = (
    "| block | parameters | MACs | where its authors put it | they report | our trainings |\n"
    "|---|---:|---:|---|---|---|"
)


def page(text: str) -> str:
    """Return the page with the table, and the part of each block, between their marks anew."""
    gains = dict(_gains())
    rows = [TITLES]
    for name, (_, _, place, reported) in FACTS.items():
        params, macs = _cost(name)
        rows.append(
            f"| [`{name}`](#{name}) | {params:,} | {macs:,} | {place} | {reported} "
            f"| {gains.get(name, 'not trained')} |"
        )
    made = {"costs": "\n".join(rows), "blocks": "\n".join(map(_part, FACTS))}
    for what, words in made.items():
        begin, end = (mark.format(what) for mark in MARKS)
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{words}\n{end}{rest.partition(end)[2]}"
    return text


def picture(name: str) -> str:
    """Return an SVG: the map, the steps of a side path, and how it comes back."""
    steps, join, *_ = FACTS[name]
    high, width = 90, 150 + 190 * len(steps)
    side, main = (60, 25) if join else (42, 42)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {high}" width="{width}" '
        'font-family="sans-serif" font-size="13" fill="none" stroke="#607d8b">',
        f'<path d="M35 {main}H{width - 45}"/>',
    ]
    if join:
        out.append(f'<path d="M50 {main}V{side}H{width - 70}V{main}"/>')
    for at, step in enumerate(steps):
        x = 60 + 190 * at
        out.append(
            f'<rect x="{x}" y="{side - 15}" width="175" height="30" rx="5" fill="#eceff1"/>'
        )
        out.append(_text(x + 87, side + 5, step))
    if join:
        out.append(f'<circle cx="{width - 70}" cy="{main}" r="11" fill="#ffe0b2"/>')
        out.append(_text(width - 70, main + 5, {"concat": "C"}.get(join, join[0])))
    out += [_text(22, main + 5, "in", "#607d8b"), _text(width - 25, main + 5, "out", "#607d8b")]
    return "\n".join([*out, "</svg>"]) + "\n"


def _text(x: int, y: int, words: str, fill: str = "#263238") -> str:
    words = {"x": "&#215;"}.get(words, words)
    return f'<text x="{x}" y="{y}" text-anchor="middle" stroke="none" fill="{fill}">{words}</text>'


def _part(name: str) -> str:
    block = BLOCKS[name]
    module = inspect.getmodule(block)
    about = inspect.cleandoc(f"{module.__doc__ if module else ''}").strip()
    summary = inspect.cleandoc(block.__doc__ or "").splitlines()[0]
    shown = f"![{name}](images/blocks/{name}.svg)"
    return f"## {name}\n\n{summary}\n\n{shown}\n\n```text\n{about}\n```\n"


def _cost(name: str) -> tuple[int, int]:
    block = BLOCKS[name]
    sized = {"size": (SIDE, SIDE)} if "size" in inspect.signature(block).parameters else {}
    with torch.random.fork_rng(devices=[]):
        made = block(CHANNELS, **sized)
    return count_params(made), count_macs(made, (CHANNELS, SIDE, SIDE))


def _gains() -> Iterator[tuple[str, str]]:
    """Yield each block of the recorded tables with its mean gain over what it replaces by none."""
    told = defaultdict(list)
    for table in ("search_table.csv", "search_table_2.csv"):
        networks = _networks(ROOT / "benchmarks" / table)
        for block in BLOCKS:
            gains = [
                100 * (score - networks[without])
                for network, score in networks.items()
                for at, word in enumerate(network)
                if word == block
                and (without := (*network[:at], "none", *network[at + 1 :])) in networks
            ]
            if gains:
                wide = t.ppf(0.975, len(gains) - 1) * statistics.stdev(gains) / len(gains) ** 0.5
                mean = statistics.mean(gains)
                interval = f"{mean - wide:+.1f} to {mean + wide:+.1f}"
                told[block].append(f"{mean:+.1f} ({interval}), {len(gains)} pairs")
    for block, words in told.items():
        yield block, "; ".join(words)


def _networks(table: Path) -> dict[tuple[str, ...], float]:
    """Return the mean accuracy of each network's settings, each at its best rate."""
    scores: dict[tuple[str, ...], list[float]] = defaultdict(list)
    with table.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            last = max((key for key in row if key.isdigit()), key=int)
            words = [value for key, value in row.items() if not key.isdigit() and key not in SEEDS]
            scores[tuple(words)].append(float(row[last]))
            blocks = [key for key in row if not key.isdigit() and key not in SEEDS]
    rate = blocks.index("train.lr")
    places = [at for at, key in enumerate(blocks) if key.endswith(".block")]
    best: dict[tuple[str, ...], float] = defaultdict(float)
    for words, seeds in scores.items():
        rest = words[:rate]
        best[rest] = max(best[rest], statistics.mean(seeds))
    networks: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for rest, score in best.items():
        networks[tuple(rest[at] for at in places)].append(score)
    return {network: statistics.mean(means) for network, means in networks.items()}


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    PAGE.write_text(page(PAGE.read_text("utf-8")), encoding="utf-8")
    for name in FACTS:
        (PICTURES / f"{name}.svg").write_text(picture(name), encoding="utf-8")
