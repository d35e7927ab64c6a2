"""Replays of graphs with planted faults, with delays: whether a byte differs from what the program leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from forerun.external.debug import DelayedCode, delayed_code
from forerun.external.node_texts import assemble_all
from forerun.external.subject import Subject
from forerun.external.trials import Trials
from forerun.ir.graph import Graph
from forerun.ptx.delays import delayed
from forerun.testing.planted_faults import Fault

__all__ = ["Outcome", "run_faults"]


@dataclass(frozen=True)
class Outcome:
    """What became of a planted fault.

    Attributes:
        fault: The fault.
        replays: After how many replays with delays a byte differed; 0 if none did.
        reason: Why it could not be run; empty if it was.
    """

    fault: Fault
    replays: int
    reason: str = ""


def run_faults(
    subject: Subject, faults: Sequence[Fault], trials: Trials, *, seeds: int = 6, nanoseconds: int = 20_000
) -> Iterator[Outcome]:
    """Replay wrong graphs with delays, each until a byte differs from what the program's own replay leaves.

    Outcomes come one by one, so another step may begin in between.

    Args:
        subject: What they were made from.
        faults: The wrong graphs.
        trials: A step of which has begun.
        seeds: How many replays each gets at the most.
        nanoseconds: How long a warp sleeps at one place, about.

    Raises:
        CudaError: If the driver fails.
    """
    delays = delayed_code(subject)
    texts = subject.texts.texts
    changed = [(texts[one.target], delayed(one.text, texts[one.target].entry)) for one in faults if one.text]
    codes = iter(assemble_all(changed))
    for fault in faults:
        code = next(codes) if fault.text else b""
        if isinstance(code, str):
            yield Outcome(fault, 0, code)
            continue
        made = DelayedCode({**delays.made, fault.target: code} if code else delays.made, delays.kept)
        run = partial(_differs, subject, made, trials)
        if run(subject.imported.graph, 0, 0):
            yield Outcome(fault, 0, "its code leaves other bytes in the program's own order, too")
        else:
            seen = (seed + 1 for seed in range(seeds) if run(fault.graph, seed, nanoseconds))
            yield Outcome(fault, next(seen, 0))


def _differs(subject: Subject, made: DelayedCode, trials: Trials, graph: Graph, seed: int, nanoseconds: int) -> bool:
    clone = trials.clone(graph, made.codes(subject, seed, nanoseconds))
    try:
        return bool(trials.differences(clone))
    finally:
        clone.close()
