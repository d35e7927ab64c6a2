"""Replays of graphs with planted faults, with delays: whether a byte differs from what the program leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from forerun.external.delay_plans import UNDELAYED, DelayedCode, DelayPlan, delayed_code, fault_plans
from forerun.external.node_texts import assemble_all
from forerun.external.subject import Subject
from forerun.external.trials import Trials
from forerun.ir.graph import Graph
from forerun.ptx.delays import delayed
from forerun.testing.planted_faults import Fault

__all__ = ["FaultRuns", "Outcome"]


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


class FaultRuns:
    """Wrong graphs whose code with delays is made, once for each text.

    Args:
        subject: What they were made from.
        faults: The wrong graphs.

    Raises:
        InvalidInput: If the text of one cannot be read.
    """

    def __init__(self, subject: Subject, faults: Sequence[Fault]) -> None:
        self.subject = subject
        self.faults = faults
        self._delays = delayed_code(subject)
        texts = subject.texts.texts
        wrong = [(one.text, texts[one.target]) for one in faults if one.text is not None]
        slow = {key: delayed(*key) for key in dict.fromkeys((text, own.entry) for text, own in wrong)}
        self._codes = assemble_all([(own, slow[text, own.entry]) for text, own in wrong])

    def run(self, trials: Trials, *, seeds: int = 24, nanoseconds: int = 20_000) -> Iterator[Outcome]:
        """Replay them with delays, each until a byte differs from what the program's own replay leaves.

        Outcomes come one by one, so another step may begin in between.

        Args:
            trials: A step of which has begun. A step that changes nothing shows nothing.
            seeds: How many replays each gets at the most.
            nanoseconds: How long a warp sleeps at one place, about; longer after the first replays
                (:func:`~forerun.external.delay_plans.fault_plans`).

        Raises:
            CudaError: If the driver fails.
        """
        plans = fault_plans(seeds, nanoseconds)
        codes = iter(self._codes)
        for fault in self.faults:
            code = None if fault.text is None else next(codes)
            if isinstance(code, str):
                yield Outcome(fault, 0, code)
                continue
            made = self._delays.made if code is None else {**self._delays.made, fault.target: code}
            run = _Replays(self.subject, DelayedCode(made, self._delays.kept), trials, fault.source)
            if run.differs(self.subject.imported.graph, UNDELAYED):
                yield Outcome(fault, 0, "its code leaves other bytes in the program's own order, too")
            else:
                seen = (number for number, plan in enumerate(plans, 1) if run.differs(fault.graph, plan))
                yield Outcome(fault, next(seen, 0))


@dataclass(frozen=True)
class _Replays:
    """Replays of one fault."""

    subject: Subject
    code: DelayedCode
    trials: Trials
    source: str

    def differs(self, graph: Graph, plan: DelayPlan) -> bool:
        clone = self.trials.clone(graph, self.code.codes(self.subject, plan, self.source))
        try:
            return bool(self.trials.differences(clone))
        finally:
            clone.close()
