"""The parts of ``persistent.py`` about schedules: what they take, what batch-invariance costs, when items run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.common import Metric
from benchmarks.persistent_checks import same_schedule
from benchmarks.persistent_programs import (
    CALLS,
    CTAS,
    OURS,
    QWEN,
    VARIANTS,
    Bench,
    Bound,
    Request,
    graph_of,
    plan,
    precompile,
    skewed,
)
from forerun.kernels.persistent.ragged_attention import RaggedAttention
from forerun.measure.item_trace import trace_of_items
from forerun.schedules.attention import KV_BLOCK, TILES, Attention
from forerun.schedules.calibration import fitted_costs
from forerun.schedules.cuts import CutRule, Invariant, Shares
from forerun.schedules.item_times import ItemTimes, item_times
from forerun.schedules.schedule import capacity_for
from forerun.schedules.tasks import Costs
from forerun.support.diagnostics import InvalidInput

DECODES: dict[str, list[Request]] = {"decode": [(1, 2048)] * 128, "skewed": skewed()}

SCHEDULES: list[tuple[int, str, CutRule]] = [
    (128, "prefix-sums", Shares()),
    (1024, "prefix-sums", Shares()),
    (128, "longest-first", Invariant()),
    (1024, "longest-first", Invariant()),
    (1024, "prefix-sums", Invariant()),
]

INVARIANT: list[tuple[str, CutRule, str]] = [
    ("shares", Shares(), "prefix-sums"),
    ("invariant, prefix sums", Invariant(), "prefix-sums"),
    ("invariant, longest first", Invariant(), "longest-first"),
]
"""What the batch-invariant rule is compared with first."""

RECORDED: dict[str, list[Request]] = {
    **DECODES,
    "many": [(1, kv) for kv in np.random.default_rng(7).integers(256, 1536, 1024).tolist()],
    "prefill and decode": [(2048, 2048)] * 2 + [(1, 2048)] * 128,
    "short prefills": [(8, 2048)] * 40 + [(16, 1500)] * 20 + [(300, 4000)] * 4,
}


def schedule_plan(count: int, policy: str, cuts: CutRule) -> RaggedAttention:
    """A graph for that many requests of up to 480 positions."""
    return plan(QWEN, count, count, 30 * count, 131072, policy, cuts)


def time_schedules(bench: Bench) -> None:
    """The schedule, ten in a row, and alone: 480 positions a request, and 2,048 for 128 and 1,024 of them.

    In a row a schedule is planned while those before it are; alone there is the launch of the graph, too.
    """
    row: dict[str, Any] = {}
    alone: dict[str, Any] = {}
    cases = []
    for count, policy, cuts in SCHEDULES:
        lengths = np.random.default_rng(0).integers(1, 480, count).tolist()
        label = f"schedule of {count}: {type(cuts).__name__.lower()}, {policy}"
        cases.append((label, schedule_plan(count, policy, cuts), [(1, kv) for kv in lengths]))
    for count in (128, 1024):
        made = plan(QWEN, count, count, 128 * count, 131072)
        cases.append((f"schedule of {count} x 2,048: shares, prefix-sums", made, [(1, 2048)] * count))
    precompile(graph_of(ragged, "ss") for _, ragged, _ in cases)
    for label, ragged, requests in cases:
        bound, single = Bound(ragged, "s" * CALLS), Bound(ragged, "s")
        batch = bound.batch(requests)
        single.batch(requests)
        bound.replay()
        same_schedule(bench, bound, batch, label)
        row[label], alone[f"{label}, alone"] = bound.program, single.program
    bench.times(row, replays=20)
    bench.times(alone, calls=1, replays=20)
    for program in (*row.values(), *alone.values()):
        program.close()


def time_invariant(bench: Bench) -> None:
    """What the batch-invariant rule costs, the schedule included and not."""
    costs: dict[str, float] = {}
    for name, requests in DECODES.items():
        pages = sum(-(-kv // QWEN[3]) for _, kv in requests)
        family = Attention(*QWEN, cache_pages=pages)
        room = capacity_for(family, len(requests), len(requests), pages, CTAS, Invariant())
        room = replace(room, partials=max(room.partials, 2 * CTAS), items=room.items + CTAS)
        rules = {label: RaggedAttention(family, room, policy, cuts) for label, cuts, policy in INVARIANT}
        precompile(graph_of(ragged, "saa", VARIANTS[OURS]) for ragged in rules.values())
        programs: dict[str, Any] = {}
        caches, queries = None, None
        for label, ragged in rules.items():
            for nodes, tag in (("s" + "a" * CALLS, ""), ("sa" * CALLS, ", with the schedule")):
                bound = Bound(ragged, nodes, caches, VARIANTS[OURS])
                batch = bound.batch(requests)
                if caches is None:
                    bound.values(batch, 0)
                    caches, queries = bound.caches, bound.tensors["q"].clone()
                bound.tensors["q"].copy_(queries)
                bound.replay()
                error = bound.error(batch, range(0, 128, 16))
                bench.require(error < 0.01, f"{name}, {label}{tag}: error {error}")
                programs[f"{name}: {label}{tag}"] = bound.program
        found = bench.times(programs)
        for label in list(rules)[1:]:
            cost = found[f"{name}: {label}"] / found[f"{name}: shares"] - 1
            costs[label] = max(cost, costs.get(label, cost))
        for program in programs.values():
            program.close()
    for label, policy in zip(costs, ("prefix_sums", "longest_first"), strict=True):
        bench.metrics[f"persistent.invariant_cost.{policy}"] = Metric(costs[label], "share", costs[label], costs[label])
        bench.say(f"{label}: {100 * costs[label]:.1f} % slower at most")


DECODE_COSTS = (Costs(3, 6), Costs(12, 6), Costs(24, 6), Costs(36, 6))
"""What a task of decode may cost, and each of its blocks: the balance of many short tasks depends on the first."""


def recorded_plan(requests: Sequence[Request], costs: Costs | None = None) -> RaggedAttention:
    """Both nodes for a batch; the persistent kernel records its items."""
    rows, pages = sum(q for q, _ in requests), sum(-(-kv // QWEN[3]) for _, kv in requests)
    usual = plan(QWEN, len(requests), rows, pages, pages)
    if costs is not None:
        given = {**usual.family.costs, TILES[0]: costs}
        usual = plan(QWEN, len(requests), rows, pages, pages, costs=given)
    return replace(usual, recorded=True)


def recorded(bench: Bench, name: str, requests: Sequence[Request], costs: Costs | None = None) -> ItemTimes:
    """When the items of the third replay ran."""
    bound = Bound(recorded_plan(requests, costs), "sa", None, VARIANTS[OURS])
    batch = bound.batch(requests)
    bound.values(batch, 0)
    for _ in range(3):
        bound.replay()
    bench.require(bound.error(batch, range(0, len(requests), 16)) < 0.01, f"recorded {name}")
    found = item_times(bound.schedule(), bound.tensors["records"].cpu().numpy())
    bound.close()
    return found


def look_at_items(bench: Bench) -> None:
    """When items run: balance, idle share, the cost of the queue, and costs that are fitted to their times."""
    samples: dict[int, list[tuple[int, float]]] = {}
    worst = 1.0
    precompile(graph_of(recorded_plan(requests), "sa", VARIANTS[OURS]) for requests in RECORDED.values())
    for name, requests in RECORDED.items():
        times = recorded(bench, name, requests)
        bench.say(f"items of {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in times.summary().items()))
        if len(times.items) >= 20 * CTAS:
            worst = max(worst, times.balance)
        for tile, pairs in times.samples(KV_BLOCK).items():
            samples.setdefault(tile, []).extend(pairs)
        if bench.folder is not None:
            for suffix, told in (("items", times.to_json()), ("trace", trace_of_items(times))):
                (bench.folder / f"{name.replace(' ', '_')}.{suffix}.json").write_text(json.dumps(told))
    bench.metrics["persistent.balance"] = Metric(worst, "busiest/mean", worst, worst)
    try:
        bench.say(f"fitted costs: {fitted_costs(samples)}")
    except InvalidInput as error:
        bench.say(f"no fitted costs: {error.message}")


def look_at_costs(bench: Bench) -> None:
    """Balance and span of decodes with other costs of a task, in three orders of the requests."""
    chooser = np.random.default_rng(0)
    for name in ("many", "skewed"):
        requests = RECORDED[name]
        orders = [requests, sorted(requests), [requests[n] for n in chooser.permutation(len(requests))]]
        precompile(graph_of(recorded_plan(requests, costs), "sa", VARIANTS[OURS]) for costs in DECODE_COSTS)
        for costs in DECODE_COSTS:
            found = [recorded(bench, f"{name}, {costs}", order, costs) for order in orders]
            told = ", ".join(f"{each.balance:.3f} in {each.summary()['span (us)']:.1f} us" for each in found)
            bench.say(f"{name}, a task costs {costs.fixed} and {costs.per_block} a block: balance {told}")
