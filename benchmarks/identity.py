"""Passes that do not change arithmetic change no bit: random graphs on a GPU, before and after the pipeline `exact`.

Every graph runs as it was made (a stream of full dependencies) and as the passes made it, both with pseudo-random
delays in all kernels, other ones in each replay. Outputs and state after each replay are compared, bit by bit, with
each other and with the reference target. Negative control: faults are planted into some of the rewritten graphs, and
must show in some replay. A fault counts if the checker refutes it and the reference target shows it in some order of
events; whether the GPU ever meets such an order is what is counted.

On a machine with a GPU: ``python -m benchmarks.identity`` (about two minutes on 16 cores), or without one
``python -m benchmarks.identity --target reference --graphs 50``, where the other orders are drawn by the reference
target. Exit status 1: something differs, or passes or faults did not fire often enough to prove anything.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import Metric, write_result
from identity_graphs import FAULTS, Fault, Pool, kernel_pool, planted, random_graph

from forerun.ir.graph import Graph
from forerun.ir.text import print_graph
from forerun.ir.types import BufferRole
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.named_pipelines import EXACT_PIPELINE
from forerun.runtime.base import resolve_target
from forerun.testing import inputs_of, weights_of

__all__ = ["Outcome", "Task", "examine", "main", "metrics_of", "shortfalls"]

_SERIAL = "reference"
_CONTROL_SEEDS = range(6)
_CANDIDATES = 3
"""How many faults are tried in search of one that the reference target shows."""

Trace = list[tuple[str, bytes]]
"""What was seen: what it is, and its bytes."""


@dataclass(frozen=True)
class Task:
    """One random graph, and what to do with it."""

    seed: int
    target: str
    replays: int
    pool: int
    with_fault: bool


@dataclass
class Outcome:
    """What came of some graphs."""

    counts: Counter[str] = field(default_factory=Counter)
    mismatches: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.counts += other.counts
        self.mismatches += other.mismatches


@cache
def _pool(size: int) -> Pool:
    return kernel_pool(size)


def examine(task: Task) -> Outcome:
    """Make a graph, rewrite it, run both, and perhaps plant a fault."""
    chooser = Random(task.seed)
    before = random_graph(chooser, _pool(task.pool))
    result = PassManager(EXACT_PIPELINE, []).run(before)
    after = result.graph
    expected = _trace(before, _SERIAL, task.replays)
    outcome = Outcome()
    for what, graph in (("as made", before), ("rewritten", after)):
        difference = _difference(expected, _trace(graph, _with_seed(task.target, task.seed), task.replays))
        if difference:
            text = f"seed {task.seed}, {what}: {difference}\n{print_graph(graph)}"
            outcome.mismatches.append(text)
    programmatic = after.count_dependencies()["programmatic"]
    hoisted = sum(record.statistics.get("phases_hoisted", 0) for record in result.summary.passes)
    outcome.counts.update(
        graphs=1,
        programmatic_graphs=programmatic > 0,
        programmatic_dependencies=programmatic,
        hoisting_graphs=hoisted > 0,
        hoisted_phases=hoisted,
        nodes=len(after),
        replays=2 * task.replays,
    )
    if task.with_fault:
        outcome.counts += _control(task, after, expected, chooser)
    return outcome


def _control(task: Task, after: Graph, expected: Trace, chooser: Random) -> Counter[str]:
    """Plant a fault that can show, and see whether it does."""
    for _, fault in zip(range(_CANDIDATES), planted(after, chooser), strict=False):
        if _can_show(fault, expected, task.replays):
            found = _trace(fault.graph, _with_seed(task.target, task.seed + 1_000_000), task.replays)
            return Counter({f"planted: {fault.kind}": 1, f"seen: {fault.kind}": int(found != expected)})
    return Counter()


def _can_show(fault: Fault, expected: Trace, replays: int) -> bool:
    orders = (f"reference{{schedule=adversarial,seed={seed}}}" for seed in _CONTROL_SEEDS)
    return any(_trace(fault.graph, order, replays) != expected for order in orders)


def _with_seed(target: str, seed: int) -> str:
    option = "delays" if target == "cuda" else "schedule=adversarial,seed"
    return f"{target}{{{option}={seed + 1}}}"


def _trace(graph: Graph, target: str, replays: int) -> Trace:
    """Outputs and state after each replay; every replay has inputs and delays of its own."""
    state = [b.name for b in graph.buffers.values() if b.role is BufferRole.STATE and b.name[:3] in ("all", "cho")]
    program = resolve_target(target).load(graph, weights_of(graph))
    found: Trace = []
    try:
        for replay in range(replays):
            outputs = program.run(inputs_of(graph, replay))
            found += [(f"output %{name} of replay {replay}", outputs[name].tobytes()) for name in sorted(outputs)]
            found += [(f"state %{name} after replay {replay}", program.read(name).tobytes()) for name in state]
    finally:
        program.close()
    return found


def _difference(expected: Trace, found: Trace) -> str:
    pairs = zip(expected, found, strict=True)
    return next((what for (what, wanted), (_, value) in pairs if wanted != value), "")


def _run(tasks: Sequence[Task], jobs: int) -> Outcome:
    total = Outcome()
    if jobs == 1:
        return _gathered(total, map(examine, tasks), len(tasks))
    # The driver does not survive a fork.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as executor:
        return _gathered(total, executor.map(examine, tasks, chunksize=8), len(tasks))


def _gathered(total: Outcome, outcomes: Iterable[Outcome], count: int) -> Outcome:
    began = time.perf_counter()
    for done, outcome in enumerate(outcomes, 1):
        total.add(outcome)
        if done % 200 == 0 or done == count:
            seconds = time.perf_counter() - began
            print(f"{done} of {count} graphs, {len(total.mismatches)} mismatches, {seconds:.0f} s", flush=True)
    return total


def metrics_of(total: Outcome) -> dict[str, Metric]:
    """The figures, by name."""
    counts = total.counts
    graphs, replays = counts["graphs"], counts["replays"]
    metrics = {
        "identity.graphs": _count(graphs, "graphs"),
        "identity.mismatches": _count(len(total.mismatches), "graphs"),
        "identity.replays": _count(replays, "replays"),
        "identity.nodes": _count(counts["nodes"], "nodes"),
        "identity.graphs_with_programmatic": _count(counts["programmatic_graphs"], "graphs"),
        "identity.programmatic_dependencies": _count(counts["programmatic_dependencies"], "dependencies"),
        "identity.graphs_with_hoists": _count(counts["hoisting_graphs"], "graphs"),
        "identity.hoisted_phases": _count(counts["hoisted_phases"], "phases"),
    }
    sums = [(kind.replace(" ", "_"), counts[f"planted: {kind}"], counts[f"seen: {kind}"]) for kind in FAULTS]
    sums.append(("all", sum(planted for _, planted, _ in sums), sum(seen for _, _, seen in sums)))
    for name, planted_count, seen in sums:
        metrics[f"identity.faults_planted.{name}"] = _count(planted_count, "faults")
        if planted_count:
            metrics[f"identity.faults_seen.{name}"] = _share(seen, planted_count)
    return metrics


def _count(value: int, unit: str) -> Metric:
    return Metric(value, unit, value, value)


def _share(part: int, whole: int) -> Metric:
    """A proportion with its Wilson score interval (Wilson 1927)."""
    z, p = 1.96, part / whole
    middle = (p + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z / (1 + z * z / whole) * (p * (1 - p) / whole + z * z / (4 * whole * whole)) ** 0.5
    return Metric(p, "share", max(0.0, middle - half), min(1.0, middle + half))


def shortfalls(total: Outcome) -> list[str]:
    """Why the run proves nothing, or the opposite."""
    counts = total.counts
    planted_count = sum(counts[f"planted: {kind}"] for kind in FAULTS)
    seen = sum(counts[f"seen: {kind}"] for kind in FAULTS)
    checks = {
        f"{len(total.mismatches)} graphs computed something else": not total.mismatches,
        "fewer than half of the graphs got programmatic dependencies": 2 * counts["programmatic_graphs"]
        >= counts["graphs"],
        "fewer than a quarter of the graphs got hoisted phases": 4 * counts["hoisting_graphs"] >= counts["graphs"],
        f"{seen} of {planted_count} planted faults showed": 2 * seen >= planted_count > 0,
    }
    return [message for message, holds in checks.items() if not holds]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(description="Graphs before and after the passes compute the same bits.")
    parser.add_argument("--target", choices=("cuda", "reference"), default="cuda")
    parser.add_argument("--graphs", type=int, default=2_400)
    parser.add_argument("--first", type=int, default=0, help="the first graph's seed")
    parser.add_argument("--replays", type=int, default=6)
    parser.add_argument("--pool", type=int, default=160, help="how many generated kernels graphs draw from")
    parser.add_argument("--fault-every", type=int, default=4, help="plant a fault into one graph of this many")
    parser.add_argument("--jobs", type=int, default=min(12, os.cpu_count() or 1))
    parser.add_argument("--no-result", action="store_true", help="write no file")
    given = parser.parse_args(arguments)
    seeds = range(given.first, given.first + given.graphs)
    tasks = [Task(s, given.target, given.replays, given.pool, s % given.fault_every == 0) for s in seeds]
    total = _run(tasks, given.jobs)
    metrics = metrics_of(total)
    if given.no_result or given.target != "cuda":
        for name, metric in metrics.items():
            print(f"{name}: {metric}")
    else:
        write_result("identity", metrics)
    for text in total.mismatches[:3]:
        print(text)
    found = shortfalls(total)
    for message in found:
        print(f"FAILED: {message}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
