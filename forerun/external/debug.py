"""Tests on the GPU of what certificates rest on: checks of every access, and delays that show a wrong verdict."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from forerun.external.checks import Checks
from forerun.external.delay_plans import UNDELAYED, DelayedCode, delay_plans, delayed_code
from forerun.external.subject import Subject
from forerun.external.trials import Prepare, Trials
from forerun.ptx.check_table import TableReport, Wrong

__all__ = ["DebugReport", "WrongAccess", "check_on_gpu"]

_MOST_SHOWN = 10


@dataclass(frozen=True, slots=True)
class WrongAccess:
    """An access that is not where the summary says: the node, its kernel, and the access."""

    node: str
    kernel: str
    wrong: Wrong

    def __str__(self) -> str:
        return f"{self.node} ({self.kernel}): {self.wrong}"


@dataclass(frozen=True)
class DebugReport:
    """What a debug run found.

    Attributes:
        accesses_checked: Accesses of threads that were checked, in all replays.
        accesses_outside: How many of them went to bytes that the import does not say the node accesses there.
        accesses_on_wrong_side: How many were executed before the thread waited, and count as after the wait.
        instructions: The instructions that are checked, in all nodes.
        instructions_executed: How many of them some thread executed.
        instructions_unclaimed: Those of which the summary does not say which memory they access.
        nodes_checked: Kernel nodes whose accesses are checked.
        nodes_delayed: Kernel nodes that are delayed.
        delayed_replays: Replays with delays that were compared with the program's own.
        delayed_mismatches: How many of them left some byte that the program's own replay does not leave.
        control_mismatches: Steps in which the code with delays leaves other bytes in the program's own order, too: then
            it is not the order that is wrong, but the assembler made other arithmetic of that code.
        steps_without_effect: Steps in which the program's own replay changes no byte, which show nothing.
        wrong: The first wrong accesses of each node.
        kept: Why nodes are not checked, or not delayed, by name.
        changed_sources: The copies from the host whose source was not as it was recorded, in some step.
        stale_copies: Those of them that replays do not repeat: these replays used the bytes from before.
    """

    accesses_checked: int
    accesses_outside: int
    accesses_on_wrong_side: int
    instructions: int
    instructions_executed: int
    instructions_unclaimed: int
    nodes_checked: int
    nodes_delayed: int
    delayed_replays: int
    delayed_mismatches: int
    control_mismatches: int
    steps_without_effect: int
    wrong: tuple[WrongAccess, ...]
    kept: Mapping[str, str]
    changed_sources: tuple[str, ...] = ()
    stale_copies: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        wrong = self.accesses_outside or self.accesses_on_wrong_side or self.delayed_mismatches
        return not (wrong or self.stale_copies)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.accesses_checked} accesses of {self.nodes_checked} nodes: {self.accesses_outside} outside, "
                f"{self.accesses_on_wrong_side} on the wrong side of the wait",
                f"{self.instructions_executed} of {self.instructions} instructions were executed, "
                f"{self.instructions_unclaimed} access memory that is not known",
                f"{self.delayed_replays} replays with delays in {self.nodes_delayed} nodes: "
                f"{self.delayed_mismatches} differ from the program's own"
                + (f"; {self.control_mismatches} do in its own order, too" if self.control_mismatches else "")
                + (f"; {self.steps_without_effect} steps change nothing" if self.steps_without_effect else ""),
                *map(str, self.wrong[:_MOST_SHOWN]),
                *map(self._changed_line, self.changed_sources[:_MOST_SHOWN]),
            ]
        )

    def _changed_line(self, name: str) -> str:
        stale = ", and replays do not repeat the copy" if name in self.stale_copies else ""
        return f"{name}: its source on the host changed{stale}"


def check_on_gpu(
    graph: Any, prepare: Prepare | None = None, *, steps: int = 4, seeds: int = 8, nanoseconds: int = 20_000
) -> DebugReport:
    """Test on the GPU what the certificate of a captured graph rests on. It takes seconds; for tests and for doubt.

    Each access to global memory, in all kernels whose PTX is known, is checked to lie in the bytes that the import says
    (a range that is known, or else the block), on its side of the wait. Then the graph is replayed with delays before
    stores and waits and around triggers, and every byte that it can write is compared with what the program's own graph
    leaves. All runs in the program's memory, which is put back as it was. Nothing else may use it meanwhile. Sources of
    small copies from the host are compared with what was recorded, in each step.

    Args:
        graph: What :func:`forerun.optimize` returned; or a graph that it takes, whose own code is checked then.
        prepare: Puts the inputs of a step into the program's buffers, given the step's number. Without it all steps
            have the inputs that are there, and results of kernels that are read too early may well be the right ones,
            from the replay before.
        steps: How many steps.
        seeds: How many replays with other delays in each.
        nanoseconds: How long a warp sleeps at one place, about; other warps, or whole CTAs, of all or half of the nodes
            from seed to seed (:func:`~forerun.external.delay_plans.delay_plans`).

    Raises:
        InvalidInput: If it is not a graph.
        Unsupported: If its kernels were not seen, or no clone of it can be made, or it writes nothing that is known.
        CudaError: If the driver fails.
    """
    subject = Subject.of(graph)
    checks = Checks(subject)
    delays = delayed_code(subject)
    with Trials(subject.live, subject.imported, prepare) as trials, ExitStack() as stack:
        checked = checks.clone(trials)
        stack.callback(checked.close)
        control = trials.clone(subject.imported.graph, delays.codes(subject, UNDELAYED))
        stack.callback(control.close)
        plans = delay_plans(seeds, nanoseconds)
        clones = [trials.clone(subject.graph, delays.codes(subject, plan)) for plan in plans]
        for clone in clones:
            stack.callback(clone.close)
        mismatches = controls = idle = 0
        changed = dict(subject.changed_sources())
        for step in range(steps):
            idle += not trials.start(step)
            changed |= subject.changed_sources()
            trials.replay(checked)
            controls += bool(trials.differences(control))
            mismatches += sum(bool(trials.differences(clone)) for clone in clones)
        trials.synchronize()
        found = checks.reports()
    return _report(checks, delays, found, (steps * seeds, mismatches, controls, idle), changed)


def _report(
    checks: Checks,
    delays: DelayedCode,
    found: Mapping[str, TableReport],
    replays: tuple[int, int, int, int],
    changed: Mapping[str, bool],
) -> DebugReport:
    kernels = {name: one.entry for name, one in checks.subject.texts.texts.items()}
    return DebugReport(
        accesses_checked=sum(sum(one.executed) for one in found.values()),
        accesses_outside=sum(one.counted["outside"] for one in found.values()),
        accesses_on_wrong_side=sum(one.counted["wrong side"] for one in found.values()),
        instructions=sum(len(one.executed) for one in found.values()),
        instructions_executed=sum(sum(map(bool, one.executed)) for one in found.values()),
        instructions_unclaimed=sum(checks.nodes[name].instrumented.unclaimed for name in found),
        nodes_checked=len(found),
        nodes_delayed=len(delays.made),
        delayed_replays=replays[0],
        delayed_mismatches=replays[1],
        control_mismatches=replays[2],
        steps_without_effect=replays[3],
        wrong=tuple(WrongAccess(name, kernels[name], wrong) for name, one in found.items() for wrong in one.first),
        kept={**delays.kept, **checks.kept},
        changed_sources=tuple(changed),
        stale_copies=tuple(name for name, is_folded in changed.items() if is_folded),
    )
