"""How much memory a study takes whose examples do not fit into it.

    python benchmarks/larger_than_memory.py images --limit-gb 2
    python benchmarks/larger_than_memory.py npz --gb 8

makes a set, runs `attnsearch run` on it, and prints the most memory that driver and worker held:
their own (anonymous and shared), and with the pages of files that they had mapped, which the
system takes back when it needs them. With a limit all processes run in a control group of version
1 that is made for it, where one can be. Of the .npz a fifth is trained on and a tenth validated;
all of it is read to know it.
"""

import argparse
import io
import os
import subprocess
import sys
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

GROUPS = Path("/sys/fs/cgroup/memory")
SPACE = """\
name: large
task: classification
data: {{source: {source}, image_size: {size}{keep}}}
network: {{backbone: resnet18, stem: imagenet, width: 0.125}}
train: {{epochs: 1, batch_size: 64, speed: plain}}
search: {{trials: 1, objectives: {{val_accuracy: max}}}}
resources: {{workers: 1}}
"""


def make_images(folder: Path, count: int) -> None:
    """Write JPEG files of 24 to 512 pixels a side, in 10 classes that a patch tells."""
    random = np.random.default_rng(0)
    for number in range(count):
        label = number % 10
        side = int(24 * (512 / 24) ** random.random())
        other = int(np.clip(side * random.uniform(0.7, 1.4), 24, 512))
        base = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        base[label % 6, :, label // 6] = 255
        path = folder / f"c{label}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(base).resize((side, other), Image.Resampling.BICUBIC)
        image.save(path, quality=85)


def make_npz(path: Path, gb: float, size: int) -> None:
    """Write an .npz without compression of so many gigabytes of images, never all in memory."""
    random = np.random.default_rng(0)
    total = int(gb * 2**30 / (3 * size * size))
    patches = random.integers(0, 256, (64, size, size, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for part, share in (("train", 0.2), ("val", 0.1), ("test", 0.7)):
            count = int(total * share)
            labels = np.arange(count) % 10
            with archive.open(f"{part}_images.npy", "w", force_zip64=True) as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
                np.lib.format.write_array_header_1_0(file, header)
                for number, label in enumerate(labels.tolist()):
                    image = patches[random.integers(len(patches))].copy()
                    image[label * size // 10 : (label + 1) * size // 10] = 255
                    image[0, :4, 0] = list(number.to_bytes(4, "little"))
                    file.write(image.data)
            stream = io.BytesIO()
            np.save(stream, labels)
            archive.writestr(f"{part}_labels.npy", stream.getvalue())


@contextmanager
def limited(gb: float | None) -> Iterator[list[str]]:
    """Give the beginning of a command that runs it within so much memory."""
    if gb is None:
        yield []
        return
    group = GROUPS / f"attnsearch-benchmark-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(int(gb * 2**30)))
        yield ["sh", "-c", 'echo $$ > "$0"; exec "$@"', str(group / "cgroup.procs")]
        peak = int((group / "memory.max_usage_in_bytes").read_text())
        failures = (group / "memory.failcnt").read_text().strip()
        print(f"control group: {peak / 2**30:.2f} GB at most, pages taken back {failures} times")
    finally:
        group.rmdir()


def watched(command: list[str], folder: Path, cache: Path) -> dict[str, tuple[float, float]]:
    """Run a command, and return MB of each kind of process at most: its own, and with files."""
    peaks: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, "ATTNSEARCH_CACHE": str(cache)}
    )
    top = psutil.Process(process.pid)
    while process.poll() is None:
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for one in (top, *top.children(recursive=True)):
            try:
                title = " ".join(one.cmdline())
                status = Path(f"/proc/{one.pid}/status").read_text(encoding="utf-8")
            except (psutil.Error, OSError):
                continue
            pairs = (line.split(":") for line in status.splitlines() if line.startswith("Rss"))
            held = {key: int(value.split()[0]) / 1024 for key, value in pairs}
            kind = "driver" if one.pid == process.pid else "others"
            # Ray's own services have names too.
            trains = title.startswith("ray::") and "Agent" not in title
            kind = "worker" if trains else kind
            if kind != "others" or held:
                own = held.get("RssAnon", 0) + held.get("RssShmem", 0)
                sums[kind][0] += own
                sums[kind][1] += own + held.get("RssFile", 0)
        for kind, (own, whole) in sums.items():
            before = peaks[kind]
            peaks[kind] = (max(before[0], own), max(before[1], whole))
        time.sleep(0.5)
    if process.returncode:
        sys.exit(f"ended with {process.returncode}")
    return peaks


def main() -> None:
    """Make a set, run a study on it, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["images", "npz"])
    parser.add_argument("--work", type=Path, default=Path("larger-than-memory"))
    parser.add_argument("--count", type=int, default=60_000, help="of images")
    parser.add_argument("--gb", type=float, default=8.0, help="of an npz")
    parser.add_argument("--size", type=int, default=64, help="data.image_size")
    parser.add_argument("--keep", help="data.keep")
    parser.add_argument("--limit-gb", type=float)
    asked = parser.parse_args()
    work = asked.work.absolute()
    source = work / ("set.npz" if asked.kind == "npz" else "set")
    if not source.exists():
        if asked.kind == "npz":
            make_npz(source, asked.gb, asked.size)
        else:
            make_images(source, asked.count)
    keep = f", keep: {asked.keep}" if asked.keep else ""
    space = work / "large.yaml"
    space.write_text(SPACE.format(source=source, size=asked.size, keep=keep))
    start = time.monotonic()
    with limited(asked.limit_gb) as within:
        command = [sys.executable, "-m", "attnsearch.search.cli", "run", str(space), "--fresh"]
        peaks = watched([*within, *command], work, work / "cache")
    print(f"{time.monotonic() - start:.0f} s")
    for kind, (own, whole) in sorted(peaks.items()):
        print(f"{kind:8s} {own:6.0f} MB of its own, {whole:6.0f} MB with mapped files")


if __name__ == "__main__":
    main()
