"""The parts of ``persistent.py`` about rows of experts: one persistent kernel against a launch for each expert.

Shapes are those of gpt-oss-20b: 32 experts, of which each token chooses 4, 2,880 columns, bf16. The router is skewed:
the experts' weights are log-normal, and a token chooses four without putting one back. A graph with a launch for each
expert that has rows is measured as it is captured, one launch after the other, with programmatic launches, and with
those of a call side by side; each with two grids. Its kernel computes as the persistent one does, with the same bits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import forerun
from benchmarks.common import Metric, bootstrap_median_ratio
from benchmarks.persistent_programs import ARRAYS, CALLS, CTAS, Bench, reading_graph
from forerun.ir.graph import Graph
from forerun.ir.nodes import Launch
from forerun.ir.types import BufferRole, DType
from forerun.kernels.persistent import expert_tiles
from forerun.kernels.persistent.expert_rows import launch_expert
from forerun.kernels.persistent.ragged_experts import RaggedExperts
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda import CudaTarget
from forerun.schedules.cuts import CutRule
from forerun.schedules.expert_gemv import ExpertBatch, ExpertGemv
from forerun.schedules.policies import POLICIES
from forerun.schedules.schedule import POISON, Schedule, capacity_for, make_schedule
from forerun.schedules.tasks import Costs

EXPERTS, CHOSEN, WIDTH = 32, 4, 2880
SHAPES = {"down": ExpertGemv(EXPERTS, WIDTH, WIDTH), "gate and up": ExpertGemv(EXPERTS, 2 * WIDTH, WIDTH)}
MOST_ROWS = 64 * CHOSEN
TOKENS = (8, 16, 32, 64)

WARPS = (5, 8, 9, 15)
"""Warps of a CTA that are compared; of 45 steps of 64 columns, all but eight have as many each."""

COSTS = (Costs(0, 1), Costs(1, 1))
"""Other costs of a group of rows and of a block than those of the family."""

ALONE: dict[str, tuple[str, bool]] = {
    "a launch an expert": ("reduce-edges", False),
    "a launch an expert, programmatic": ("insert-pdl", False),
    "a launch an expert, side by side": ("reduce-edges", True),
}
"""Graphs with a launch for each expert: their passes, and whether launches of a call are side by side."""

GRIDS = (90, CTAS)
"""CTAs of a launch for one expert: 180 blocks of outputs are two for each of 90."""


def rows_of_experts(tokens: int, seed: int = 0) -> list[int]:
    """The number of rows of each expert."""
    chooser = np.random.default_rng(seed)
    weights = np.exp(chooser.normal(0, 1, EXPERTS))
    chosen = [chooser.choice(EXPERTS, CHOSEN, replace=False, p=weights / weights.sum()) for _ in range(tokens)]
    return np.bincount(np.concatenate(chosen), minlength=EXPERTS).tolist()


def plan_experts(
    family: ExpertGemv, policy: str = "prefix-sums", cuts: CutRule | None = None, rows: int = MOST_ROWS
) -> RaggedExperts:
    """Both nodes for that many rows."""
    return RaggedExperts(family, capacity_for(family, family.experts, rows, 0, CTAS), policy, cuts)


def experts_graph(ragged: RaggedExperts, nodes: str, warps: int = 8) -> Graph:
    """A graph of nodes in a row: ``s`` makes the schedule, ``e`` multiplies."""
    builder = forerun.GraphBuilder("experts")
    buffers = {**ragged.batch(builder), **ragged.values(builder), **ragged.workspace(builder)}
    launch = launch_with(ragged.family, CTAS, warps)
    for number, kind in enumerate(nodes):
        if kind == "s":
            ragged.schedule(builder, buffers, f"schedule{number}")
        else:
            ragged.multiply(builder, buffers, f"experts{number}", launch)
    return builder.build()


def launch_with(family: ExpertGemv, ctas: int, warps: int = 8) -> Launch:
    """The kernel's launch with another number of warps."""
    return replace(expert_tiles.launch_for(family, ctas), block=(32 * warps, 1, 1))


def launches_graph(
    ragged: RaggedExperts, counts: list[int], ctas: int, side_by_side: bool = False, calls: int = CALLS
) -> Graph:
    """The same products with a launch for each expert that has rows; one call after the other."""
    builder = forerun.GraphBuilder("launches")
    shape = ragged.shapes()["row_pointers"]
    pointers = builder.input("row_pointers", DType.I32, shape, bounds=(0, ragged.capacity.rows), ascending=True)
    buffers = {"row_pointers": pointers, **ragged.values(builder)}
    launch = expert_tiles.launch_for(ragged.family, ctas)
    before = builder.join(()) if side_by_side else None
    for call in range(calls):
        nodes = [
            launch_expert(builder, buffers, expert, f"call{call}.{expert}", launch, after=before)
            for expert in np.flatnonzero(counts).tolist()
        ]
        before = builder.join(nodes) if side_by_side else None
    return builder.build()


class BoundExperts:
    """A program over tensors of torch; ``w`` are weights that others have, too."""

    def __init__(self, ragged: RaggedExperts, graph: Graph, pipeline: str = "exact", w: Any = None) -> None:
        import torch

        self.ragged = ragged
        kinds = {DType.I32: torch.int32, DType.BF16: torch.bfloat16, DType.F32: torch.float32}
        mine = (BufferRole.INPUT, BufferRole.STATE, BufferRole.OUTPUT)
        self.tensors: dict[str, Any] = {} if w is None else {"w": w}
        for buffer in graph.buffers.values():
            if buffer.role in mine and buffer.name not in self.tensors:
                self.tensors[buffer.name] = torch.zeros(buffer.shape, dtype=kinds[buffer.dtype], device="cuda")
        target = CudaTarget(prove=False)
        self.program: Any = forerun.compile(graph, target, pipeline, memory=self.tensors, tuning=None)

    def batch(self, counts: list[int], seed: int = 0, pointers: list[int] | None = None) -> ExpertBatch:
        """Random rows of the experts, NaN behind them, and poison where the schedule will be."""
        import torch

        torch.manual_seed(seed)
        found = np.cumsum([0, *counts]).astype(np.int32) if pointers is None else np.array(pointers, np.int32)
        tensors, rows = self.tensors, sum(counts)
        tensors["row_pointers"].copy_(torch.from_numpy(found))
        tensors["x"].fill_(float("nan"))
        tensors["x"][:rows] = torch.randn((rows, WIDTH), dtype=torch.float32).cuda().to(tensors["x"].dtype)
        tensors["y"].fill_(float("nan"))
        for name in ARRAYS:
            if name in tensors:
                tensors[name].fill_(POISON)
        return ExpertBatch(found)

    def replay(self) -> None:
        """One replay, to its end."""
        import torch

        torch.cuda.synchronize()
        self.program.launch()
        self.program.synchronize()

    def schedule(self) -> Schedule:
        """The schedule that the device has made."""
        arrays = {name: self.tensors[name].cpu().numpy() for name in ARRAYS}
        return Schedule(**arrays, capacity=self.ragged.capacity)

    def error(self, counts: list[int]) -> float:
        """The greatest relative L2 error of an expert against f32; NaN if a number is missing or one too many."""
        import torch

        y, begin, worst = self.tensors["y"], 0, 0.0
        if not bool(torch.isnan(y[sum(counts) :]).all()):
            return float("nan")
        for expert, count in enumerate(counts):
            if count:
                rows = slice(begin, begin + count)
                expected = self.tensors["x"][rows].double() @ self.tensors["w"][expert].double().T
                difference = float((y[rows].double() - expected).norm() / expected.norm())
                worst = max(worst, difference, key=lambda x: (x != x, x))
            begin += count
        return worst

    def close(self) -> None:
        """Give the program back."""
        self.program.close()


def random_weights(family: ExpertGemv) -> Any:
    """Weights in bf16."""
    import torch

    torch.manual_seed(7)
    shape = family.experts, family.outputs, family.columns
    return torch.randn(shape, dtype=torch.bfloat16, device="cuda")


def same_experts(bench: Bench, bound: BoundExperts, batch: ExpertBatch, what: str) -> None:
    """The device's schedule is that of NumPy, bit by bit, with poison behind it."""
    ragged, given = bound.ragged, bound.schedule()
    wanted = make_schedule(ragged.family, batch, ragged.capacity, POLICIES[ragged.policy], ragged.cuts)
    for name in ARRAYS:
        expected = getattr(wanted, name)
        found = getattr(given, name)[: len(expected)]
        bench.require(np.array_equal(found, expected), f"{what}: {name} of the schedule {wanted.finding}")


def check_experts(bench: Bench) -> None:
    """Random and bad batches: errors, schedules, bits of replays, of other schedules and of launches."""
    CudaTarget(prove=False).precompile([PassManager(passes).run(graph).graph for graph, passes in dry_graphs()])
    family, worst = SHAPES["down"], 0.0
    w = random_weights(family)
    ragged = plan_experts(family)
    one = BoundExperts(ragged, experts_graph(ragged, "se"), w=w)
    turns = plan_experts(family, "round-robin")
    other = BoundExperts(turns, experts_graph(turns, "se"), w=w)
    batches = [rows_of_experts(tokens, tokens) for tokens in (1, 2, *TOKENS)]
    batches += [[0] * 31 + [1], [MOST_ROWS] + [0] * 31, [8] * EXPERTS]
    for number, counts in enumerate(batches):
        results = []
        for bound in (one, other, one):
            batch = bound.batch(counts, number)
            bound.replay()
            results.append(bound.tensors["y"][: sum(counts)].clone())
            same_experts(bench, bound, batch, f"experts, batch {number}")
            error = bound.error(counts)
            bench.require(error < 1e-4, f"experts, batch {number}: error {error}")
            worst = max(worst, error)
        many = BoundExperts(ragged, launches_graph(ragged, counts, CTAS, calls=1), "reduce-edges", w)
        many.batch(counts, number)
        many.replay()
        results.append(many.tensors["y"][: sum(counts)].clone())
        many.close()
        same = all(bool((results[0] == result).all()) for result in results[1:])
        bench.require(same, f"experts, batch {number}: bits depend on the schedule")
    bad = [[0] * 33, [1] * 33, [0, 5, 4, *[9] * 30], [*range(32), MOST_ROWS + 1], [0, -(2**31), *[9] * 31]]
    for pointers in bad:
        batch = one.batch([1] * EXPERTS, 0, pointers)
        one.replay()
        same_experts(bench, one, batch, f"experts, {pointers[:3]}")
        bench.require(one.schedule().finding.status.is_error, f"experts, {pointers[:3]}: scheduled")
        bench.require(bool(one.tensors["y"].isnan().all()), f"experts, {pointers[:3]}: something was written")
    bench.say(f"{len(batches)} batches of experts, greatest relative error {worst:.1e}; {len(bad)} bad ones refused")
    one.close()
    other.close()


def time_experts(bench: Bench) -> None:
    """Batches of 8 to 64 tokens against a launch for each expert, and a plain read of the weights that they need."""
    found: dict[str, list[Metric]] = {label: [] for label in ALONE}
    for name, family in SHAPES.items():
        w = random_weights(family)
        for tokens in TOKENS if name == "down" else TOKENS[2:3]:
            speedups = time_batch(bench, f"{name}, {tokens} tokens", plan_experts(family), rows_of_experts(tokens), w)
            for label, speedup in speedups.items():
                found[label].append(speedup)
    for label, name in zip(ALONE, ("", "_over_programmatic", "_over_side_by_side"), strict=True):
        least = min(found[label], key=lambda speedup: speedup.value)
        bench.metrics[f"persistent.experts_speedup{name}"] = least
        bench.say(f"persistent kernel over {label}, the least of {len(found[label])} batches: {least}")


def time_batch(bench: Bench, what: str, ragged: RaggedExperts, counts: list[int], w: Any) -> dict[str, Metric]:
    """How much faster a batch is than each graph with a launch for each expert has it, with the better grid."""
    import torch

    bound = {f"{what}: persistent": BoundExperts(ragged, experts_graph(ragged, "se" * CALLS), w=w)}
    bound[f"{what}: persistent, schedule made once"] = BoundExperts(
        ragged, experts_graph(ragged, "s" + "e" * CALLS), w=w
    )
    for label, (pipeline, side_by_side) in ALONE.items():
        for ctas in GRIDS:
            graph = launches_graph(ragged, counts, ctas, side_by_side)
            bound[f"{what}: {label}, {ctas} CTAs"] = BoundExperts(ragged, graph, pipeline, w)
    for label, each in bound.items():
        each.batch(counts)
        each.replay()
        error = each.error(counts)
        bench.require(error < 1e-4, f"{label}: error {error}")
    active = int(np.count_nonzero(counts))
    size = active * ragged.family.outputs * ragged.family.columns * 2
    rows = size // 65536
    memory = torch.ones((rows, 1 << 14), dtype=torch.int32, device="cuda")
    reading = forerun.compile(
        reading_graph(rows * 65536), CudaTarget(prove=False), "exact", memory={"x": memory}, tuning=None
    )
    programs = {label: each.program for label, each in bound.items()}
    times = bench.times({**programs, f"{what}: plain read": reading})
    ours = f"{what}: persistent"
    share = times[f"{what}: plain read"] / times[ours]
    bench.say(
        f"{what}: {sum(counts)} rows of {active} experts, at most {max(counts)}; {100 * share:.1f} % of a plain read"
    )
    found = {}
    for label in ALONE:
        best = min((f"{what}: {label}, {ctas} CTAs" for ctas in GRIDS), key=lambda each: times[each])
        found[label] = bootstrap_median_ratio(bench.samples[best], bench.samples[ours])
        bench.say(f"{what}: {found[label].value:.2f} times as fast as {best.partition(': ')[2]}")
    for program in (reading, *programs.values()):
        program.close()
    return found


def time_experts_variants(bench: Bench) -> None:
    """Other numbers of warps, and other costs, for 8 and for 32 tokens."""
    family = SHAPES["down"]
    w = random_weights(family)
    for tokens in (8, 32):
        counts, programs = rows_of_experts(tokens), {}
        plans = {f"{warps} warps": (plan_experts(family), warps) for warps in WARPS}
        plans |= {f"costs {c.fixed}, {c.per_block}": (plan_experts(replace(family, costs=c)), 8) for c in COSTS}
        for label, (ragged, warps) in plans.items():
            bound = BoundExperts(ragged, experts_graph(ragged, "s" + "e" * CALLS, warps), w=w)
            bound.batch(counts)
            bound.replay()
            error = bound.error(counts)
            bench.require(error < 1e-4, f"experts, {label}: error {error}")
            programs[f"experts, {tokens} tokens: {label}"] = bound.program
        bench.times(programs)
        for program in programs.values():
            program.close()


def dry_graphs() -> list[tuple[Graph, str]]:
    """What these parts launch, with its passes."""
    found = []
    for family in SHAPES.values():
        ragged = plan_experts(family)
        found += [(experts_graph(ragged, "se", warps), "exact") for warps in WARPS]
        for pipeline, side_by_side in ALONE.values():
            found += [(launches_graph(ragged, [1] * 3 + [0] * 29, ctas, side_by_side, 1), pipeline) for ctas in GRIDS]
    return found
