"""Debug runs over captured graphs for ``external_zoo.py``: checks of every access, delays, and planted faults."""

from __future__ import annotations

import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import forerun
from forerun.external.debug import DebugReport, check_on_gpu
from forerun.external.delay_plans import fault_plans
from forerun.external.optimized import OptimizedGraph
from forerun.external.subject import Subject
from forerun.external.trials import Prepare, Trials
from forerun.ir.refinement.certificate import certify
from forerun.support.diagnostics import Unsupported
from forerun.testing.fault_runs import FaultRuns, Outcome
from forerun.testing.planted_faults import KINDS, Fault, plant

__all__ = ["debugged", "metrics", "table"]

TRIGGERS_AT_START = "infer-dependencies,reduce-edges,insert-pdl{trigger=start},hoist-loads{full_edges=false}"
"""Faults show themselves where dependents may start early, and edges of both kinds meet."""

SEEDS, NANOSECONDS = 24, 20_000
_STEP_EVERY = 10
_MOST_IDLE = 4


def debugged(
    live: Any, prepare: Prepare, *, faults: int = 100, seconds: float = 60.0, steps: int = 4, seeds: int = 8
) -> dict[str, Any]:
    """Debug a captured graph: its own code, what passes make of it, and wrong ones of that.

    Args:
        live: What a capture session's ``graph`` returned.
        prepare: Puts the inputs of a step in place.
        faults: How many faults are planted.
        seconds: After how long no further fault is run; the making of their code does not count.
        steps: How many inputs the checks and delays see.
        seeds: How many delayed replays each step has.
    """
    result: dict[str, Any] = {"nodes": len(live.graph.nodes)}
    result["own"] = _tried("its own code", lambda: _report(check_on_gpu(live, prepare, steps=1, seeds=1)))
    with forerun.optimize(live, pipeline=TRIGGERS_AT_START) as optimized:
        print(f"  {optimized}", flush=True)
        result["optimized"] = _tried(
            "optimized", lambda: _report(check_on_gpu(optimized, prepare, steps=steps, seeds=seeds))
        )
        result["faults"] = _tried("faults", lambda: _faults(optimized, prepare, faults, seconds))
    return result


def _tried(what: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What something returns, with the seconds that it took; or why it failed."""
    begin = time.perf_counter()
    try:
        found = run()
    except Exception as error:
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}"[:4000]}
    found["seconds"] = round(time.perf_counter() - begin, 2)
    print(f"  {what}: {json.dumps(found)[:1500]}", flush=True)
    return found


def _report(report: DebugReport) -> dict[str, Any]:
    print(f"    {report}".replace("\n", "\n    "), flush=True)
    return {
        "accesses_checked": report.accesses_checked,
        "accesses_outside": report.accesses_outside,
        "accesses_on_wrong_side": report.accesses_on_wrong_side,
        "instructions": report.instructions,
        "instructions_executed": report.instructions_executed,
        "instructions_unclaimed": report.instructions_unclaimed,
        "nodes_checked": report.nodes_checked,
        "nodes_delayed": report.nodes_delayed,
        "delayed_replays": report.delayed_replays,
        "delayed_mismatches": report.delayed_mismatches,
        "control_mismatches": report.control_mismatches,
        "steps_without_effect": report.steps_without_effect,
        "wrong": [str(one) for one in report.wrong[:20]],
        "kept": dict(Counter(report.kept.values())),
    }


def _faults(optimized: OptimizedGraph, prepare: Prepare, number: int, seconds: float) -> dict[str, Any]:
    """Plant faults, and run them until the time is over, which begins when their code is made."""
    subject = Subject.of(optimized)
    begin = time.perf_counter()
    planted = plant(subject, number, kinds=KINDS[:3]) + plant(subject, max(number // 8, 1), kinds=KINDS[3:])
    # The last kind is no fault that a certificate can see, so it comes last and counts for itself.
    runs = FaultRuns(subject, planted)
    made = round(time.perf_counter() - begin, 2)
    outcomes: list[Outcome] = []
    error = ""
    try:
        with Trials(subject.live, subject.imported, prepare) as trials:
            steps = _steps(trials)
            next(steps)
            begin = time.perf_counter()
            for outcome in runs.run(trials, seeds=SEEDS, nanoseconds=NANOSECONDS):
                outcomes.append(outcome)
                if time.perf_counter() - begin > seconds:
                    break
                if len(outcomes) % _STEP_EVERY == 0:
                    next(steps)
    except forerun.ForerunError as failure:
        error = str(failure)[:2000]
    return {"planted": len(planted), "seconds_to_make": made, "error": error, **_counts(subject, outcomes)}


def _steps(trials: Trials) -> Iterator[int]:
    """Begin steps, one after the other. In one that changes nothing, a result that is read too early is the right one.

    Raises:
        Unsupported: If several steps, one after the other, change nothing.
    """
    idle = 0
    for step in count():
        idle = 0 if trials.start(step) else idle + 1
        if idle == _MOST_IDLE:
            raise Unsupported(f"{idle} steps change nothing in memory, so a fault cannot be seen")
        if not idle:
            yield step


def _counts(subject: Subject, outcomes: list[Outcome]) -> dict[str, Any]:
    kinds: dict[str, dict[str, int]] = {}
    for outcome in outcomes:
        found = kinds.setdefault(outcome.fault.kind, Counter())
        found["could not be run" if outcome.reason else "run"] += 1
        found["seen"] += bool(outcome.replays)
        found["seen at the first replay"] += outcome.replays == 1
        if outcome.fault.kind in KINDS[:3] and not outcome.reason:
            found["refuted"] += _is_refuted(subject, outcome.fault)
    run, seen, refuted = (sum(kinds.get(kind, {}).get(word, 0) for kind in KINDS[:3]) for word in
                          ("run", "seen", "refuted"))  # fmt: skip
    missed = [one for one in outcomes if _is_missed(one)]
    # After how many replays they were seen; 0 is never.
    replays = Counter(one.replays for one in outcomes if one.fault.kind in KINDS[:3] and not one.reason)
    return {
        "run": run, "seen": seen, "refuted": refuted, "share_seen": seen / run if run else None,
        "kinds": {kind: dict(found) for kind, found in kinds.items()},
        "replays": {str(number): many for number, many in sorted(replays.items())},
        "not_seen": [str(one.fault) for one in missed][:40],
        "tried_for_these": [str(plan) for plan in fault_plans(SEEDS, NANOSECONDS)] if missed else [],
        "reasons": dict(Counter(one.reason for one in outcomes if one.reason)),
    }  # fmt: skip


def _is_missed(one: Outcome) -> bool:
    return not one.replays and not one.reason and one.fault.kind in KINDS[:3]


def _is_refuted(subject: Subject, fault: Fault) -> bool:
    return not certify(subject.imported.graph, fault.graph).proved


def table(cases: dict[str, Any]) -> str:
    """What was found, a line each."""
    lines: list[str] = []
    for name, case in cases.items():
        if "error" in case:
            lines.append(f"{name}: {case['error'][-300:]}")
            continue
        lines.append(f"{name}: {case['nodes']} nodes")
        for words in ("own", "optimized"):
            one = case[words]
            if "error" in one:
                lines.append(f"  {words:10} {one['error'][:200]}")
                continue
            lines.append(
                f"  {words:10} {one['accesses_checked']} accesses in {one['nodes_checked']} nodes, "
                f"{one['accesses_outside']} outside, {one['accesses_on_wrong_side']} on the wrong side; "
                f"{one['delayed_mismatches']} of {one['delayed_replays']} delayed replays differ "
                f"(control {one['control_mismatches']}); {one['seconds']} s"
            )
        faults = case["faults"]
        seen = faults.get("seen"), faults.get("run")
        lines.append(
            f"  faults     {seen[0]} of {seen[1]} seen, {faults.get('refuted')} refuted; {faults['seconds']} s"
        )
        for kind, counts in faults.get("kinds", {}).items():
            lines.append(f"    {kind:16} {counts}")
        for words in ("error", "replays", "not_seen", "tried_for_these", "reasons"):
            if faults.get(words):
                lines.append(f"    {words}: {str(faults[words])[:400]}")
    return "\n".join(lines)


def metrics(cases: dict[str, Any]) -> dict[str, float]:
    """The metrics of all cases together."""
    checked = [case[words] for case in cases.values() for words in ("own", "optimized") if words in case]
    optimized = [case["optimized"] for case in cases.values() if "optimized" in case]
    faults = [case["faults"] for case in cases.values() if "faults" in case]
    run = sum(one.get("run", 0) for one in faults)
    return {
        "external.accesses_checked": sum(one.get("accesses_checked", 0) for one in checked),
        "external.accesses_outside": sum(
            one.get("accesses_outside", 0) + one.get("accesses_on_wrong_side", 0) for one in checked
        ),
        "external.delayed_replays": sum(one.get("delayed_replays", 0) for one in optimized),
        "external.delayed_mismatches": sum(one.get("delayed_mismatches", 0) for one in optimized),
        "external.faults_planted": run,
        "external.faults_seen": sum(one.get("seen", 0) for one in faults) / run if run else 0.0,
    }
