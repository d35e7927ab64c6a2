"""Mutation testing of the checker and the passes: do the tests notice a small change of the code?

A seeded sample of all mutants of ``forerun/ir/explain``, ``refinement``, ``semantics`` and of the passes is tried;
``benchmarks/mutants.py`` lists the kinds of changes that are made, and what is not changed. First all tests run once,
without a mutant, and what they execute is recorded. Then each mutant meets the tests that execute the changed
statement, cheapest first, until one fails (``benchmarks/mutation_trials.py``); a survivor has met them all. Property
tests draw 40 examples, always the same. The tests are those of the semantics and of the passes: what only another test
of this repository would notice counts as alive.

(mutmut 3 was tried first: it runs all mutants of a package or those of a name, keeps a copy of the tree, and has no
seeded sample nor a bound on the whole run.)

Run from the repository's root: ``python -m benchmarks.mutation``; needs the package ``coverage``.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import Metric, write_result

from benchmarks.mutants import Mutant, mutants_of
from benchmarks.mutation_trials import ROOT, Coverage, record, serve, try_imported

__all__ = ["GROUPS", "SURVIVORS", "modules"]

RESULT = ROOT / "benchmarks" / "results" / "mutation.json"
SURVIVORS = ROOT / "benchmarks" / "results" / "mutation_survivors.json"
GROUPS = {
    "equivalent": "no input tells the mutant from the code",
    "performance": "the same answers, more or less quickly",
    "message": "another sentence in a message",
    "gap": "a test was missing",
    "": "not looked at yet",
}
"""Why mutants live."""

ROOMS = ("explain", "refinement", "semantics")

_Key: TypeAlias = tuple[str, int, str]
_fork = get_context("fork")


def modules() -> list[Path]:
    """What is mutated: the rooms of meaning, and every pass."""
    found = sorted(path for room in ROOMS for path in (ROOT / "forerun/ir" / room).glob("[!_]*.py"))
    return found + sorted((ROOT / "forerun/passes").glob("[!_]*.py"))


def _everything() -> list[Mutant]:
    return [mutant for path in modules() for mutant in mutants_of(path, ROOT)]


def _key(mutant: Mutant) -> _Key:
    return mutant.path, mutant.number, mutant.change


def _recorded() -> dict[_Key, dict[str, str]]:
    """The recorded survivors, each with its group and the reason why it lives, as far as these are known."""
    found = json.loads(SURVIVORS.read_text()) if SURVIVORS.exists() else []
    return {(m["path"], m["number"], m["change"]): {"group": m["group"], "why": m["why"]} for m in found}


def _coverage(mutants: Sequence[Mutant]) -> Coverage:
    """Run all tests without a mutant, in a process of its own: this one must not import what will be mutated."""
    receiver, sender = _fork.Pipe(duplex=False)
    process = _fork.Process(target=lambda: record({mutant.path for mutant in mutants}, sender.send))
    process.start()
    sender.close()
    found = receiver.recv()
    process.join()
    assert isinstance(found, Coverage)
    failed = [name for name, test in found.tests.items() if not test.passed]
    if failed or not found.tests:
        raise SystemExit("\n".join(["these tests fail without a mutant:", *failed]))
    return found


def _try_all(mutants: Sequence[Mutant], coverage: Coverage, jobs: int, minutes: float) -> Iterator[tuple[Mutant, bool]]:
    """Those that were begun in time, as they are done, each with whether it was killed."""
    end = time.monotonic() + 60 * minutes
    results = _fork.SimpleQueue()
    kinds = {kind: [m for m in mutants if coverage.is_imported(m) is kind] for kind in (True, False)}
    taken = {kind: _fork.Value("i", 0) for kind in kinds}

    def take(imported: bool) -> Mutant | None:
        with taken[imported].get_lock():
            at = taken[imported].value
            taken[imported].value += 1
        return None if at >= len(kinds[imported]) or time.monotonic() > end else kinds[imported][at]

    def answer(mutant: Mutant, dead: bool, seconds: float) -> None:
        results.put((mutant, dead, seconds))

    def work() -> None:
        try:
            while (mutant := take(True)) is not None:
                start = time.monotonic()
                answer(mutant, try_imported(mutant, coverage), time.monotonic() - start)
            serve(lambda: take(False), coverage, answer)
        finally:
            results.put(None)

    workers = [_fork.Process(target=work) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    left = jobs
    while left:
        found = results.get()
        if found is None:
            left -= 1
            continue
        mutant, dead, seconds = found
        place = f"{mutant.path}:{mutant.line}  {mutant.change}"
        print(f"{'killed ' if dead else 'ALIVE  '} {seconds:5.1f} s  {place}", flush=True)
        yield mutant, dead
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0, "a worker failed"


def _share(dead: int, tried: int) -> Metric:
    """The share with its Wilson interval at 95 %."""
    z = 1.96
    share = dead / tried
    middle = (share + z * z / (2 * tried)) / (1 + z * z / tried)
    half = z * math.sqrt(share * (1 - share) / tried + z * z / (4 * tried * tried)) / (1 + z * z / tried)
    return Metric(share, "ratio", middle - half, middle + half)


def _write(total: int, alive: Sequence[Mutant], recorded: dict[_Key, dict[str, str]]) -> None:
    write_result("mutation", _metrics("", total - len(alive), total))
    survivors = []
    for m in sorted(alive, key=lambda m: (m.path, m.number)):
        known = recorded.get(_key(m), {"group": "", "why": ""})
        survivors.append({"path": m.path, "number": m.number, "line": m.line, "change": m.change, **known})
    SURVIVORS.write_text(json.dumps(survivors, indent=1) + "\n")


def _metrics(prefix: str, dead: int, tried: int) -> dict[str, Metric]:
    count = Metric(tried, "mutants", tried, tried)
    return {f"mutation.{prefix}killed_share": _share(dead, tried), f"mutation.{prefix}tried": count}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=60, help="begin no mutant after this time")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--again", action="store_true", help="only recorded gaps, for which there are tests now")
    which.add_argument("--fresh", type=int, default=0, help="how many others, for which no tests were written")
    return parser.parse_args()


def main() -> None:
    """Try a sample, and write benchmarks/results/mutation.json and the survivors beside it."""
    options = _arguments()
    everything, recorded = _everything(), _recorded()
    chosen = random.Random(options.seed).sample(everything, min(options.mutants, len(everything)))
    total, explained = len(chosen), list[Mutant]()
    if options.again:
        total = int(json.loads(RESULT.read_text())["metrics"]["mutation.tried"]["value"])
        survivors = [mutant for mutant in everything if _key(mutant) in recorded]
        explained = [mutant for mutant in survivors if recorded[_key(mutant)]["group"] not in ("", "gap")]
        chosen = [mutant for mutant in survivors if mutant not in explained]
    if options.fresh:
        others = [mutant for mutant in everything if mutant not in chosen]
        chosen = random.Random(options.seed).sample(others, options.fresh)
    start = time.monotonic()
    coverage = _coverage(everything)
    print(f"{len(chosen)} of {len(everything)} mutants; recorded in {time.monotonic() - start:.0f} s", flush=True)
    tried = list(_try_all(chosen, coverage, options.jobs, options.minutes))
    alive, missing = [mutant for mutant, dead in tried if not dead], len(chosen) - len(tried)
    if options.fresh:
        write_result("mutation_fresh", _metrics("fresh_", len(tried) - len(alive), len(tried)))
    elif missing and options.again:
        raise SystemExit("not enough time for all recorded survivors")
    else:
        _write(total - missing, [*explained, *alive], recorded)


if __name__ == "__main__":
    main()
