"""Write what the net expects from what today's code does: `python -m tests.net.write`.

With `--ledger FILE.db.gz` the made studies' ledger is kept too, as one that a release wrote.
"""

import argparse
import gzip
import shutil
import tempfile
from pathlib import Path

from tests.net import shown, studies

EXPECTED = Path(__file__).parent / "expected"


def main() -> None:
    """Write `expected/` anew."""
    parser = argparse.ArgumentParser(prog="python -m tests.net.write", description=__doc__)
    parser.add_argument("--ledger", type=Path, help="where to keep the ledger, compressed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        studies.record(folder / "attnsearch.db")
        ledger = (folder / "attnsearch.db").read_bytes()
        texts = {"configs": shown.configs(), "keys": shown.keys()}
        texts["digests"] = shown.digests(folder)
        for study, parts in shown.recorded(folder).items():
            texts |= {f"{study}/{part}": files for part, files in parts.items()}
    shutil.rmtree(EXPECTED, ignore_errors=True)
    for place, files in texts.items():
        for file, text in files.items():
            path = EXPECTED / place / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
    if given.ledger is not None:
        given.ledger.write_bytes(gzip.compress(ledger, mtime=0))


if __name__ == "__main__":
    main()
