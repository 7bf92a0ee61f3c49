"""Times every block, forward and backward, against a plain transcription of its formula.

    python benchmarks/blocks.py                         the whole table, compiled versions included
    python benchmarks/blocks.py --quick                 eager only, few rounds
    python benchmarks/blocks.py --block axial-gated --shape 4,16,64,64 --json out.json

The transcriptions are those of the tests, read from `tests/naive.py` and `tests/naive_hosts.py`
beside this folder: each step of a formula is one ordinary operation, as in the published listings
(MedT's patches go one after another there). Both sides get the same
weights, input and output gradient and train: batch statistics, running statistics moved, gradients
of the input and of all parameters. A step starts without gradients and has no optimiser.

All versions of a block take turns in one process, so that a ratio compares neighbours in time. A
figure is the median of the rounds; `ratio` is the median of the transcription, run eagerly on
contiguous (NCHW) tensors in the same number format, over the version's. The other columns:

* `memory`: on a CPU the highest sum of what torch's allocator handed out and has not got back
  within one step, gradients included and what lived before it (input, weights) not, from the
  profiler's memory events; scratch that a library allocates for itself is not seen. On CUDA the
  same from `torch.cuda.max_memory_allocated`.
* `operations`: what reaches a device's kernels in one eager step, forward and backward: views,
  detach and empty are left out.
* `syncs`: operations of a steady eager step that read a value back to the host. On CUDA the step
  runs again under `torch.cuda.set_sync_debug_mode("error")`.

A version that cannot be compiled has the error's name in the place of its time.

With `--clock cpu` times are the process's CPU seconds: use it, with one thread, on a machine that
others use too. It does not measure a CUDA device.
"""

import argparse
import importlib
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from attnsearch.blocks import BLOCKS, build_network
from attnsearch.blocks.mechanisms.axial import AxialAttention

NOT_COUNTED = ("aten::detach", "aten::empty", "aten::new_empty", "aten::empty_like")
READS_BACK = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "unique", "is_nonzero")


@dataclass(frozen=True)
class Case:
    """A block, what it is compared to, and the shape (B, C, H, W) it is timed at."""

    make: Callable[..., nn.Module]
    formula: str
    shape: tuple[int, int, int, int]
    keywords: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    spanned: bool = False  # whether it is built for the height of the map
    whole: bool = False  # a network: its transcription is too long to compile


def _attention(shape: tuple[int, int, int, int], **settings: Any) -> Case:
    def make(channels: int, span: int) -> nn.Module:
        return AxialAttention(channels, channels, span=span, **settings)

    return Case(make, "naive.axial_attention", shape, settings=settings, spanned=True)


def _medt(channels: int) -> nn.Module:
    config = {"task": "segmentation", "network": {"backbone": "medt"}}
    return build_network(config, in_channels=channels, classes=2, image_size=128)


CASES = {
    "axial-gated": _attention((4, 16, 64, 64), gated=True),
    "axial-position": _attention((4, 16, 64, 64)),
    "axial-plain": _attention((4, 16, 64, 64), position=False),
    "axial-gated-32": _attention((4, 32, 32, 32), gated=True),
    "axial-imagenet": _attention((4, 64, 56, 56)),
    "psa": Case(BLOCKS["psa"], "naive.psa", (8, 64, 56, 56)),
    "gc": Case(BLOCKS["gc"], "naive.gc", (8, 64, 32, 32)),
    "scconv": Case(BLOCKS["scconv"], "naive.scconv", (8, 32, 56, 56)),
    "ecrm": Case(BLOCKS["ecrm"], "naive.ecrm", (4, 512, 11, 11)),
    "se": Case(BLOCKS["se"], "naive.se", (8, 64, 56, 56)),
    "eca": Case(BLOCKS["eca"], "naive.eca", (8, 64, 56, 56)),
    "cbam": Case(BLOCKS["cbam"], "naive.cbam", (8, 64, 56, 56)),
    "coordinate": Case(BLOCKS["coordinate"], "naive.coordinate", (8, 64, 56, 56)),
    "simam": Case(BLOCKS["simam"], "naive.simam", (8, 64, 56, 56)),
    "nonlocal": Case(BLOCKS["nonlocal"], "naive.nonlocal_", (8, 64, 28, 28)),
    "bottleneck1x1": Case(BLOCKS["bottleneck1x1"], "naive.bottleneck1x1", (8, 64, 56, 56)),
    "medt": Case(_medt, "naive_hosts.segmenter", (1, 3, 128, 128), whole=True),
    "conv1x1": Case(BLOCKS["conv1x1"], "naive.conv1x1", (8, 64, 56, 56)),
}


@dataclass
class Row:
    """One version of one block."""

    block: str
    shape: tuple[int, ...]
    dtype: str
    version: str
    milliseconds: float
    ratio: float
    memory_mb: float
    memory_ratio: float
    operations: int | None
    syncs: int | None
    failed: str = ""  # why it could not be compiled; then it has no figures


class Version:
    """Something that can run a step on a fixed input."""

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        leaves: Sequence[Tensor],
        x: Tensor,
        autocast: bool,
    ) -> None:
        self.forward = forward
        self.leaves = leaves
        self.x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        self.autocast = autocast
        self.gradient: Tensor | None = None

    def step(self) -> None:
        """Forward and backward, from no gradients."""
        for leaf in (self.x, *self.leaves):
            leaf.grad = None
        device = self.x.device.type
        with torch.autocast(device, torch.bfloat16) if self.autocast else nullcontext():
            y = self.forward(self.x)
        if self.gradient is None or self.gradient.dtype != y.dtype:
            self.gradient = torch.randn_like(y)
        y.backward(self.gradient)


class Operations(TorchDispatchMode):
    """Counts operations, and those that read a value back."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Count one operation and run it."""
        name = func.name()
        self.count += not (func.is_view or name.split(".")[0] in NOT_COUNTED)
        self.reads += any(read in name for read in READS_BACK)
        return func(*args, **(kwargs or {}))


def transcription(name: str) -> Callable[..., Tensor]:
    """A function of `tests/naive.py` or `tests/naive_hosts.py`, as ``naive.gc``."""
    root = Path(__file__).resolve().parents[1]
    if not (root / "tests" / "naive.py").exists():
        raise SystemExit(
            f"{root}/tests is missing: this benchmark needs a checkout with its tests"
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    module, _, function = name.partition(".")
    found: Callable[..., Tensor] = getattr(importlib.import_module(f"tests.{module}"), function)
    return found


def block_versions(
    case: Case, device: torch.device, dtype: str, compiled: bool
) -> dict[str, Version]:
    """All versions of a case, the transcription's eager one first."""
    torch.manual_seed(0)
    _, C, H, _ = case.shape
    block = (case.make(C, H) if case.spanned else case.make(C, **case.keywords)).to(device)
    function = transcription(case.formula)
    x = torch.randn(case.shape, device=device)
    buffers = [name for name, _ in block.named_buffers()]
    versions: dict[str, Version] = {}
    for layout, memory_format in (
        ("", torch.contiguous_format),
        (" channels_last", torch.channels_last),
    ):
        state = {name: value.detach().clone() for name, value in block.state_dict().items()}
        state = {
            name: value.contiguous(memory_format=memory_format) if value.dim() == 4 else value
            for name, value in state.items()
        }
        ours = (case.make(C, H) if case.spanned else case.make(C, **case.keywords)).to(device)
        ours.load_state_dict(state)
        ours = ours.to(memory_format=memory_format)
        leaves = [
            state[name].requires_grad_() for name, p in block.named_parameters() if p.requires_grad
        ]

        def formula(x: Tensor, state: dict[str, Tensor] = state) -> tuple[Tensor, list[Tensor]]:
            current = dict(state)
            y = function(x, current, **case.settings, training=True)
            return y, [current[name] for name in buffers]

        def first(
            x: Tensor,
            run: Callable[[Tensor], tuple[Tensor, list[Tensor]]],
            state: dict[str, Tensor] = state,
        ) -> Tensor:
            y, moved = run(x)
            state.update(zip(buffers, (value.detach() for value in moved), strict=True))
            return y

        given = x.contiguous(memory_format=memory_format)
        autocast = dtype == "bf16"
        naive: Callable[[Tensor], Tensor] = lambda x, f=formula, g=first: g(x, f)  # noqa: E731
        versions[f"naive{layout}"] = Version(naive, leaves, given, autocast)
        trained = [p for p in ours.parameters() if p.requires_grad]

        def plain(x: Tensor, ours: nn.Module = ours, run: Callable[..., Tensor] = ours) -> Tensor:
            y = run(x)
            if hasattr(ours, "side"):  # the transcription has no side outputs to keep
                ours.side = {}
            return y

        versions[f"block{layout}"] = Version(plain, trained, given, autocast)
        if compiled and not case.whole:
            fused = torch.compile(formula)
            naive = lambda x, f=fused, g=first: g(x, f)  # noqa: E731
            versions[f"naive{layout} compiled"] = Version(naive, leaves, given, autocast)
        if compiled:
            fused = torch.compile(ours, fullgraph=True)
            ours_fused = lambda x, o=ours, f=fused, p=plain: p(x, o, f)  # noqa: E731
            versions[f"block{layout} compiled"] = Version(ours_fused, trained, given, autocast)
    return versions


def timed(versions: dict[str, Version], rounds: int, clock: str) -> dict[str, float]:
    """Median milliseconds of each version's step; the versions take turns."""
    device = next(iter(versions.values())).x.device
    now = time.process_time if clock == "cpu" else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in versions}
    for version in versions.values():
        for _ in range(3):
            version.step()
    for _ in range(rounds):
        for name, version in versions.items():
            _synchronise(device)
            start = now()
            version.step()
            _synchronise(device)
            times[name].append(1e3 * (now() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory(version: Version) -> float:
    """Peak of one step's memory in megabytes (10^6 bytes); see the module."""
    for leaf in (version.x, *version.leaves):
        leaf.grad = None
    if version.x.is_cuda:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        version.step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        version.step()
    results = profiler.profiler
    assert results is not None and results.kineto_results is not None
    held = peak = 0
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 1e6


def counted(version: Version) -> tuple[int, int]:
    """Operations of a steady step, and those that read a value back to the host."""
    version.step()
    with Operations() as operations:
        version.step()
    if version.x.is_cuda and operations.reads == 0:
        with _no_synchronisation():
            version.step()
    return operations.count, operations.reads


@contextmanager
def _no_synchronisation() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def failures(versions: dict[str, Version]) -> dict[str, str]:
    """Run each compiled version once, and name the errors of those that cannot be compiled."""
    failed = {}
    for name, version in versions.items():
        if "compiled" in name:
            try:
                version.step()
            except Exception as error:  # a compiler's errors have no common base
                failed[name] = f"not compiled: {type(error).__name__}"
    return failed


def measured(
    name: str, versions: dict[str, Version], dtype: str, rounds: int, clock: str
) -> list[Row]:
    """The rows of one block in one number format."""
    failed = failures(versions)
    shape = tuple(versions["naive"].x.shape)
    versions = {version: run for version, run in versions.items() if version not in failed}
    milliseconds = timed(versions, rounds, clock)
    memory = {version: peak_memory(versions[version]) for version in versions}
    rows = []
    for version, run in versions.items():
        eager = "compiled" not in version
        operations, syncs = counted(run) if eager else (None, None)
        rows.append(
            Row(
                name,
                tuple(run.x.shape),
                dtype,
                version,
                milliseconds[version],
                milliseconds["naive"] / milliseconds[version],
                memory[version],
                memory[version] / memory["naive"],
                operations,
                syncs,
            )
        )
    for version, why in failed.items():
        unknown = math.nan
        rows.append(
            Row(name, shape, dtype, version, unknown, unknown, unknown, unknown, None, None, why)
        )
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    lines = [
        "| block | shape | format | version | ms | ratio | peak MB | share | operations | syncs |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        shape = "x".join(map(str, row.shape))
        counts = ["" if n is None else str(n) for n in (row.operations, row.syncs)]
        figures = [
            f"{row.milliseconds:.1f}",
            f"{row.ratio:.2f}",
            f"{row.memory_mb:.1f}",
            f"{row.memory_ratio:.2f}",
        ]
        if row.failed:
            figures = [row.failed, "", "", ""]
        cells = [row.block, shape, row.dtype, row.version, *figures, *counts]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--block", action="append", help="one of the table; may be repeated")
    parser.add_argument("--shape", help="B,C,H,W instead of the table's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", action="append", choices=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=0, help="15, or 5 with --quick")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--quick", action="store_true", help="eager only, few rounds")
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    options = parser.parse_args(arguments)

    names = options.block or list(CASES)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        parser.error(f"no block {unknown[0]!r}; there are {', '.join(CASES)}")
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    formats = options.dtype or (["fp32", "bf16"] if device.type == "cuda" else ["fp32"])
    rounds = options.rounds or (5 if options.quick else 15)

    rows: list[Row] = []
    for name in names:
        case = CASES[name]
        if options.shape:
            B, C, H, W = (int(part) for part in options.shape.split(","))
            case = Case(**{**case.__dict__, "shape": (B, C, H, W)})
        for dtype in formats:
            torch.compiler.reset()
            versions = block_versions(case, device, dtype, not options.quick)
            new = measured(name, versions, dtype, rounds, options.clock)
            rows += new
            print(markdown(new) if len(rows) == len(new) else markdown(new).split("\n", 2)[2])
            sys.stdout.flush()
    if options.json:
        known = [{k: None if v != v else v for k, v in asdict(row).items()} for row in rows]
        options.json.write_text(json.dumps(known, indent=1))
    if options.markdown:
        options.markdown.write_text(markdown(rows) + "\n")


if __name__ == "__main__":
    main()
