"""The rows of the table of ragged attention: ours beside a plain read of the same bytes, and beside others.

All of a row runs in one process, by turns, on the same queries and KV. Schedules of ours and plans of others are made
before; once more with ours in each call. Others' results are checked against f32, as ours are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import forerun
from benchmarks.common import Metric, bootstrap_median_ratio
from benchmarks.persistent_batches import greatest_error, reference
from benchmarks.persistent_items import DECODES
from benchmarks.persistent_others import Paged, TorchGraph, others
from benchmarks.persistent_programs import CALLS, QWEN, Bench, Bound, Request, graph_of, plan, precompile, reading_graph
from forerun.runtime.cuda import CudaTarget
from forerun.schedules.attention import AttentionBatch

__all__ = ["ROWS", "SHAPE_ROWS", "time_beside", "time_shapes"]

Shapes = tuple[int, int, int, int]
Row = tuple[str, Shapes, list[Request]]

ROWS: list[Row] = [
    ("decode", QWEN, DECODES["decode"]),
    ("skewed", QWEN, DECODES["skewed"]),
    ("prefill", QWEN, [(2048, 2048)] * 2),
    ("hybrid", QWEN, [(2048, 2048)] * 2 + [(1, 2048)] * 128),
    ("one request of 64", QWEN, [(1, 64)]),
]
"""What the roadmap's table has."""

SHAPE_ROWS: list[Row] = [
    *(
        (f"{heads}/{kv} heads of {size}, pages of {page}: {name}", (heads, kv, size, page), requests)
        for heads, kv, size, page in ((32, 4, 128, 16), (32, 8, 128, 16), (9, 3, 64, 16), (28, 4, 128, 64))
        for name, requests in DECODES.items()
    ),
    ("9/3 heads of 64, pages of 64: decode", (9, 3, 64, 64), DECODES["decode"]),
    *((f"queries of {rows}", QWEN, [(rows, 2048)] * 128) for rows in (2, 4, 8, 16)),
    ("32/4 heads: queries of 4", (32, 4, 128, 16), [(4, 2048)] * 128),
    ("9/3 heads of 64: queries of 16", (9, 3, 64, 16), [(16, 2048)] * 128),
]
"""Other groups, heads, pages and query lengths."""

_LABELS = {
    "FlashInfer BatchAttention": "flashinfer",
    "fa3": "fa3",
    "fa3, two streams": "fa3_two_streams",
}
_OURS = "ours"


def time_beside(bench: Bench) -> None:
    """The rows of the table."""
    time_rows(bench, ROWS)


def time_shapes(bench: Bench) -> None:
    """The other shapes."""
    time_rows(bench, SHAPE_ROWS)


def time_rows(bench: Bench, rows: Sequence[Row]) -> None:
    """Each row, after all of ours are compiled."""
    precompile(graph_of(_plan(shapes, requests), nodes) for _, shapes, requests in rows for nodes in ("ss", "saa"))
    for name, shapes, requests in rows:
        try:
            time_row(bench, name, shapes, requests)
        except Exception as error:
            bench.failures.append(f"{name}: {error!r}"[:300])
            bench.say(f"FAILED: {name}: {error!r}"[:300])


def time_row(bench: Bench, name: str, shapes: Shapes, requests: list[Request]) -> None:
    """One row: checked, then timed by turns."""
    import torch

    ours = Bound(_plan(shapes, requests), "s" + "a" * CALLS)
    batch = ours.batch(requests)
    ours.values(batch, 0)
    expected = reference(ours, batch)
    each = Bound(_plan(shapes, requests), "sa" * CALLS, ours.caches)
    each.batch(requests)
    each.tensors["q"].copy_(ours.tensors["q"])
    programs: dict[str, Any] = {f"{name}: {_OURS}": ours.program, f"{name}: {_OURS}, a schedule each": each.program}
    errors = [_checked(bench, name, bound, batch, expected) for bound in (ours, each)]
    paged = Paged(shapes, requests, ours.tensors["q"], ours.caches)
    for cache in ours.caches:
        cache.nan_to_num_(0.0)
    for label, run in others(bench, name, paged).items():
        try:
            _check_other(bench, f"{name}, {label}", run(), expected)
            programs[f"{name}: {label}"] = TorchGraph(run)
        except Exception as error:
            bench.say(f"FAILED: {name}, {label}: {error!r}"[:300])
    size = sum(kv for _, kv in requests) * shapes[1] * shapes[2] * 4
    if size >= 1 << 24:
        memory = torch.ones((size // 65536, 1 << 14), dtype=torch.int32, device="cuda")
        target = CudaTarget(prove=False)
        reading = forerun.compile(reading_graph(size), target, "exact", memory={"x": memory}, tuning=None)
        programs[f"{name}: plain read"] = reading
    found = bench.times(programs)
    _say(bench, name, shapes, requests, found, max(errors))
    for program in programs.values():
        program.close()


def _plan(shapes: Shapes, requests: Sequence[Request]) -> Any:
    rows, pages = sum(q for q, _ in requests), sum(-(-kv // shapes[3]) for _, kv in requests)
    return plan(shapes, len(requests), rows, pages, pages)


def _checked(bench: Bench, name: str, bound: Bound, batch: AttentionBatch, expected: Any) -> float:
    bound.replay()
    error = greatest_error(bound, batch, expected)
    bench.require(error < 0.01, f"{name}: error {error}")
    return error


def _check_other(bench: Bench, what: str, made: Any, expected: Any) -> None:
    import torch

    torch.cuda.synchronize()
    values = torch.cat(made) if isinstance(made, tuple) else made
    error = float((values.float() - expected).norm() / expected.norm())
    bench.require(error < 0.01, f"{what}: error {error}")


def _say(
    bench: Bench, name: str, shapes: Shapes, requests: list[Request], found: dict[str, float], error: float
) -> None:
    """A line of shares and ratios, and their metrics."""
    told, key = [f"error {error:.4f}"], name.replace(": ", ".").replace("/", "_").replace(" ", "_").replace(",", "")
    ours = f"{name}: {_OURS}"
    if f"{name}: plain read" in found:
        share = found[f"{name}: plain read"] / found[ours]
        bench.metrics[f"persistent.{key}.bandwidth_share"] = Metric(share, "share", share, share)
        told.append(f"{100 * share:.1f} % of a plain read")
    operations = 2 * shapes[0] * shapes[2] * sum(q * (2 * kv - q) for q, kv in requests)
    told.append(f"{operations / found[ours] / 1e6:.0f} TFLOP/s")
    for label in found:
        other = label.removeprefix(f"{name}: ")
        if other.startswith(_OURS) or other == "plain read":
            continue
        ratio = bootstrap_median_ratio(bench.samples[label], bench.samples[ours])
        told.append(f"{ratio.value:.3f} times as fast as {other}")
        if other in _LABELS:
            bench.metrics[f"persistent.{key}.speedup_vs_{_LABELS[other]}"] = ratio
    bench.say(f"{name}: " + ", ".join(told))
