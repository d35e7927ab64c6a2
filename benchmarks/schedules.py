"""How evenly schedules share ragged batches: the busiest CTA over the mean, in modelled cost. It needs no GPU.

    python -m benchmarks.schedules

Three batches of attention (32 query heads, 8 KV heads, head size 128, pages of 16) on 132 CTAs: decode of 128 requests
with 2,048 positions; decode of 128 with lengths log-uniform from 64 to 16,384; two prefills of 2,048 beside 128 decodes
with 2,048. Each policy with each rule of cuts, in several orders of the requests: as drawn, ascending, descending, and
shuffled. A metric is the median over the orders, with the best and the worst of them. Every schedule is checked.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Mapping

from benchmarks.common import Metric, write_result
from forerun.schedules.attention import Attention, attention_batch
from forerun.schedules.balance import imbalance
from forerun.schedules.cuts import Chunks, CutRule, Invariant, Shares, Whole
from forerun.schedules.policies import POLICIES
from forerun.schedules.postcondition import assert_postcondition
from forerun.schedules.schedule import capacity_for, make_schedule
from forerun.schedules.status import Status

CTAS = 132
SHUFFLES = 5
FAMILY = Attention(heads=32, kv_heads=8, head_size=128, page_size=16, cache_pages=2**20)
CUTS: dict[str, CutRule] = {"whole": Whole(), "shares": Shares(), "chunks": Chunks(), "invariant": Invariant()}

Request = tuple[int, int]
"""Query rows and KV positions."""


def batches() -> dict[str, list[Request]]:
    """The batches by name, in the order in which they are drawn."""
    chooser = random.Random(0)
    lengths = [round(64 * (16384 / 64) ** chooser.random()) for _ in range(128)]
    return {
        "decode": [(1, 2048)] * 128,
        "log_uniform": [(1, length) for length in lengths],
        "prefill_and_decode": [(2048, 2048)] * 2 + [(1, 2048)] * 128,
    }


def orders(requests: list[Request]) -> Iterator[list[Request]]:
    """The requests in several orders."""
    yield requests
    yield sorted(requests)
    yield sorted(requests, reverse=True)
    for seed in range(SHUFFLES):
        yield random.Random(seed).sample(requests, len(requests))


def measure() -> tuple[dict[str, Metric], dict[str, object]]:
    """The imbalance of each combination, and the items and slots of each batch as it was drawn."""
    metrics: dict[str, Metric] = {}
    sizes: dict[str, object] = {}
    for batch, requests in batches().items():
        for cut, rule in CUTS.items():
            for policy in POLICIES:
                found = [_one(order, rule, policy) for order in orders(requests)]
                ratios = [ratio for ratio, _ in found]
                key = f"{batch}.{cut}.{policy.replace('-', '_')}"
                metrics[key] = Metric(statistics.median(ratios), "busiest/mean", min(ratios), max(ratios))
            sizes[f"{batch}.{cut}"] = found[0][1]
    return metrics, {"items_and_slots": sizes}


def _one(requests: list[Request], rule: CutRule, policy: str) -> tuple[float, tuple[int, int]]:
    rows, pages = sum(q for q, _ in requests), sum(-(-kv // FAMILY.page_size) for _, kv in requests)
    capacity = capacity_for(FAMILY, len(requests), rows, pages, CTAS, rule)
    batch = attention_batch(FAMILY, capacity, [q for q, _ in requests], [kv for _, kv in requests])
    schedule, tasks = make_schedule(FAMILY, batch, capacity, POLICIES[policy], rule), FAMILY.tasks(batch)
    assert schedule.finding.status is Status.OK
    assert_postcondition(schedule, tasks, rule if rule.is_invariant else None)
    return imbalance(schedule, tasks), (int(schedule.counts[0]), int(schedule.counts[1]))


def table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """The worst order of each combination as a table of docs/schedules.md; 1.05 is the goal."""
    names = {"decode": "decode", "log_uniform": "lengths log-uniform", "prefill_and_decode": "prefill and decode"}
    lines = ["| cuts | policy | " + " | ".join(names.values()) + " |", "|---|---|" + "---:|" * len(names)]
    for cut in CUTS:
        for policy in POLICIES:
            keys = [f"{batch}.{cut}.{policy.replace('-', '_')}" for batch in names]
            figures = " | ".join(f"{metrics[key]['high']:.3f}" for key in keys)
            lines.append(f"| `{type(CUTS[cut]).__name__}` | `{policy.replace('-', '_')}` | {figures} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    metrics, details = measure()
    write_result("schedules", metrics, details=details)


if __name__ == "__main__":
    main()
