"""Random rewrites of random graphs, right and wrong, against the second oracle (``tests/oracle``).

Run from the repository's root: ``python -m benchmarks.oracle [--pairs N] [--first SEED] [--processes P]``. What is
found is kept after every 1,000 pairs beside the result, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from multiprocessing import Pool
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import Metric, write_result

from tests.oracle.faults import FAULTS, first_unsound
from tests.oracle.trial import trial

__all__ = ["main"]

PROGRESS = Path(__file__).resolve().parent / "results" / "oracle.progress.json"
CHUNK = 1000


def _chunk(first: int) -> tuple[int, dict[str, int], list[int]]:
    """The counts of some pairs, by kind of rewrite, verdict and whether they differ; and the seeds that are unsound."""
    counts: Counter[str] = Counter()
    unsound = []
    for seed in range(first, first + CHUNK):
        found = trial(seed)
        counts[f"{found.kind}|{found.status}|{'differs' if found.differs else 'same'}"] += 1
        if found.unsound:
            unsound.append(seed)
    return first, dict(counts), unsound


def main() -> None:
    """Run what is left, and write benchmarks/results/oracle.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    done = json.loads(PROGRESS.read_text()) if PROGRESS.exists() else {}
    wanted = range(options.first, options.first + options.pairs, CHUNK)
    left = [first for first in wanted if str(first) not in done]
    with Pool(options.processes) as pool:
        for first, counts, unsound in pool.imap_unordered(_chunk, left):
            done[str(first)] = {"counts": counts, "unsound": unsound}
            PROGRESS.write_text(json.dumps(done))
            print(f"{len(done) * CHUNK} pairs, unsound: {sum(len(d['unsound']) for d in done.values())}", flush=True)
    _write([done[str(first)] for first in wanted])
    PROGRESS.unlink(missing_ok=True)


def _write(chunks: list[dict]) -> None:  # type: ignore[type-arg]
    counts: Counter[str] = Counter()
    for chunk in chunks:
        counts.update(chunk["counts"])
    pairs = sum(counts.values())
    verdicts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    proved: Counter[str] = Counter()
    imprecise = 0
    for key, number in counts.items():
        kind, status, seen = key.split("|")
        verdicts[status] += number
        kinds[kind] += number
        proved[kind] += number if status == "proved" else 0
        imprecise += number if (status, seen) == ("refuted", "same") else 0
    planted = list(FAULTS)
    found = [name for name in planted if first_unsound(name) is not None]
    numbers = {
        "oracle.pairs": pairs,
        "oracle.unsound": sum(len(chunk["unsound"]) for chunk in chunks),
        "oracle.refuted_but_same": imprecise,
        "oracle.faults_planted": len(planted),
        "oracle.faults_found": len(found),
        **{f"oracle.{status}": number for status, number in sorted(verdicts.items())},
    }
    units = {name: "wrong certificates" if "faults" in name else "pairs" for name in numbers}
    metrics = {name: Metric(number, units[name], number, number) for name, number in numbers.items()}
    for kind in sorted(kinds):
        share = proved[kind] / kinds[kind]
        metrics[f"oracle.proved_share.{kind}"] = Metric(share, "share", share, share)
    write_result("oracle", metrics)


if __name__ == "__main__":
    main()
