"""Attention of ragged batches by a persistent kernel, on a GPU: right, and how fast.

    python -m benchmarks.persistent [--dry-run] [--out FOLDER] [--items FOLDER] [--only PART,PART]

Checks come first: random batches through one executable graph, against f32 in torch, with NaN in everything that no
request has; schedules against those of NumPy; bits of repeated replays and of the batch-invariant rule; bad batches.
Then times, by turns, of ten calls in a graph: decode of 128 requests with 2,048 positions, decode of skewed lengths,
one request, prefill alone and beside decodes, the schedule alone, the batch-invariant rule, and a plain read of as many
bytes; FlashInfer too, where it is installed. Then, when the items of a replay ran (``--items FOLDER`` keeps that).
At last, products of rows of experts, against a launch for each expert.
Each part goes on after a failure; the table comes last. ``--dry-run`` compiles everything, and needs no GPU.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import forerun
from benchmarks.common import bootstrap_median, write_result
from benchmarks.persistent_batches import check_thousand
from benchmarks.persistent_checks import (
    SHAPES,
    check_bad_batches,
    check_batches,
    check_invariance,
    check_prefills,
    check_shapes,
)
from benchmarks.persistent_experts import check_experts, dry_graphs, time_experts, time_experts_variants
from benchmarks.persistent_items import (
    DECODES,
    SCHEDULES,
    look_at_costs,
    look_at_items,
    schedule_plan,
    time_invariant,
    time_schedules,
)
from benchmarks.persistent_programs import (
    CALLS,
    CTAS,
    OURS,
    QWEN,
    ROUNDS,
    VARIANTS,
    Bench,
    Bound,
    Request,
    graph_of,
    plan,
    precompile,
    reading_graph,
)
from benchmarks.persistent_rows import time_beside, time_shapes
from forerun.kernels.persistent.ragged_attention import RaggedAttention
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.cuda.codegen.specialise import units
from forerun.runtime.toolchain import compile_units
from forerun.schedules.cuts import CutRule, Invariant


def _decode_plan(requests: Sequence[Request], cuts: CutRule | None = None, ctas: int = CTAS) -> RaggedAttention:
    pages = sum(-(-kv // QWEN[3]) for _, kv in requests)
    return plan(QWEN, len(requests), len(requests), pages, pages, "prefix-sums", cuts, ctas)


def time_decodes(bench: Bench) -> None:
    """Decode of equal and of skewed lengths, against a plain read of the same bytes."""
    import torch

    for name, requests in DECODES.items():
        variants: dict[str, Bound] = {}
        caches = None
        precompile(graph_of(_decode_plan(requests, ctas=each.ctas), "sa", each) for each in VARIANTS.values())
        for label, variant in VARIANTS.items():
            bound = variants[label] = Bound(
                _decode_plan(requests, ctas=variant.ctas), "s" + "a" * CALLS, caches, variant
            )
            caches = bound.caches
        variants["with the schedule"] = Bound(_decode_plan(requests), "sa" * CALLS, caches)
        programs, worst = {}, 0.0
        for number, (label, bound) in enumerate(variants.items()):
            batch = bound.batch(requests)
            if number == 0:
                bound.values(batch, 0)
            bound.tensors["q"].copy_(variants[OURS].tensors["q"])
            bound.replay()
            error = 0.0 if label == "only loads" else bound.error(batch, range(0, 128, 16))
            bench.require(error < 0.01, f"{name}, {label}: error {error}")
            worst = max(worst, error)
            programs[f"{name}: {label}"] = bound.program
        size = sum(kv for _, kv in requests) * QWEN[1] * QWEN[2] * 4
        memory = torch.ones((size // 65536, 1 << 14), dtype=torch.int32, device="cuda")
        reading = forerun.compile(
            reading_graph(size), CudaTarget(prove=False), "exact", memory={"x": memory}, tuning=None
        )
        programs[f"{name}: plain read"] = reading
        found = bench.times(programs)
        ours = found[f"{name}: {OURS}"]
        share = found[f"{name}: plain read"] / ours
        bench.say(f"{name}: {size / ours / 1e3:.0f} GB/s, {100 * share:.1f} % of a plain read; error {worst:.4f}")
        flashinfer(bench, name, requests, caches)
        for program in programs.values():
            program.close()


MIXED: dict[str, list[Request]] = {
    "prefill": [(2048, 2048)] * 2,
    "hybrid": [(2048, 2048)] * 2 + [(1, 2048)] * 128,
}


def time_mixed(bench: Bench) -> None:
    """Prefill of 2 x 2,048, alone and beside decodes of 128 x 2,048."""
    for name, requests in MIXED.items():
        rows, pages = sum(q for q, _ in requests), 128 * len(requests)
        bound = Bound(plan(QWEN, len(requests), rows, pages, pages), "s" + "a" * CALLS)
        batch = bound.batch(requests)
        bound.values(batch, 0)
        bound.replay()
        error = bound.error(batch, range(0, len(requests), max(1, len(requests) // 10)))
        bench.require(error < 0.01, f"{name}: error {error}")
        time = bench.times({f"{name}: us": bound.program})[f"{name}: us"]
        operations = 2 * QWEN[0] * QWEN[2] * sum(q * (2 * kv - q) for q, kv in requests)
        bench.say(f"{name}: {operations / time / 1e6:.0f} TFLOP/s; error {error:.4f}")
        bound.close()
    bench.metrics["prefill_us"] = bench.metrics.pop("prefill: us")


def time_one_head(bench: Bench) -> None:
    """As many bytes as decode has, but with one KV head, so that the rows of a page lie one behind the other."""
    requests = [(1, 8192)] * 128
    programs = {}
    for label in (OURS, "only loads"):
        bound = Bound(plan((7, 1, 128, 16), 128, 128, 65536, 65536), "s" + "a" * CALLS, None, VARIANTS[label])
        bound.values(bound.batch(requests), 0)
        bound.replay()
        programs[f"one KV head: {label}"] = bound.program
    bench.times(programs)
    for program in programs.values():
        program.close()


def flashinfer(bench: Bench, name: str, requests: Sequence[Request], caches: Any) -> None:
    """FlashInfer's persistent kernel and its decode wrapper, if it is installed."""
    try:
        import flashinfer as other
    except ImportError:
        return
    import torch

    heads, kv_heads, size, page = QWEN
    lengths = torch.tensor([kv for _, kv in requests], dtype=torch.int32)
    pages = torch.cat((torch.zeros(1), (-(-lengths // page)).cumsum(0))).int()
    rows, index = torch.arange(len(requests) + 1).int(), torch.arange(int(pages[-1]), dtype=torch.int32, device="cuda")
    q = torch.randn((len(requests), heads, size), dtype=torch.bfloat16, device="cuda")
    kinds = {"q_data_type": torch.bfloat16, "kv_data_type": torch.bfloat16}
    whole = other.BatchAttention("NHD", "cuda")
    whole.plan(rows, pages, index, lengths, heads, kv_heads, size, size, page, causal=True, **kinds)
    out, lse = torch.empty_like(q), torch.empty(q.shape[:2], dtype=torch.float32, device="cuda")
    workspace = torch.zeros(512 << 20, dtype=torch.uint8, device="cuda")
    decode = other.BatchDecodeWithPagedKVCacheWrapper(workspace, "NHD", use_tensor_cores=True, backend="fa2")
    last = (lengths - 1) % page + 1
    decode.plan(pages, index, last, heads, kv_heads, size, page, **kinds)
    runs: dict[str, Callable[[], object]] = {
        "FlashInfer BatchAttention": lambda: whole.run(q, caches, out=out, lse=lse),
        "FlashInfer decode": lambda: decode.run(q, caches, out=out),
    }
    for label, run in runs.items():
        samples = torch_times(run)
        bench.metrics[f"{name}: {label}"] = bootstrap_median(samples, "us")
        bench.say(f"{name}: {label}: {statistics.median(samples):.2f} us")


def torch_times(run: Callable[[], object]) -> list[float]:
    """Microseconds a call, of ten calls in a graph of torch."""
    import torch

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(CALLS):
            run()
    found = []
    for _ in range(3 + 2 * ROUNDS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(5):
            graph.replay()
        end.record()
        torch.cuda.synchronize()
        found.append(1e3 * begin.elapsed_time(end) / (5 * CALLS))
    return found[3:]


def time_small(bench: Bench) -> None:
    """One request of 64 positions, in graphs for 1 and for 1,024 requests."""
    programs: dict[str, Any] = {}
    for capacity in (1, 1024):
        pages = 4 if capacity == 1 else 131072
        for label, nodes in (("attention", "s" + "a" * CALLS), ("schedule and attention", "sa" * CALLS)):
            bound = Bound(plan(QWEN, capacity, capacity, pages, 131072), nodes, _shared_caches())
            batch = bound.batch([(1, 64)])
            bound.values(batch, 0)
            bound.replay()
            bench.require(bound.error(batch) < 0.01, f"one request of 64 in a graph for {capacity}")
            programs[f"one request of 64, room for {capacity}: {label}"] = bound.program
    bench.times(programs, replays=20)
    for program in programs.values():
        program.close()


_caches: list[Any] = []


def _shared_caches() -> Any:
    import torch

    if not _caches:
        shape = (131072, QWEN[3], QWEN[1], QWEN[2])
        _caches.append([torch.zeros(shape, dtype=torch.bfloat16, device="cuda") for _ in range(2)])
    return _caches[0]


def look_inside(bench: Bench) -> None:
    """When the CTAs of one replay start, go on after the wait, and end."""
    for name, requests in {**DECODES, "one request of 64": [(1, 64)]}.items():
        bound = Bound(_decode_plan(requests), "sa", timeline=True)
        batch = bound.batch(requests)
        bound.values(batch, 0)
        for _ in range(3):
            bound.replay()
        for node in bound.program.timeline().timed:
            ends = np.sort(node.end) / 1e3
            work = f"works {node.works / 1e3:.2f}, ends {ends[0]:.2f}, {ends[len(ends) // 2]:.2f}, {ends[-1]:.2f} us"
            bench.say(f"inside {name}, {node.name}: starts {node.begins / 1e3:.2f}, {work} (first, median, last)")
        bound.close()


PARTS = (
    check_batches,
    check_prefills,
    check_bad_batches,
    check_invariance,
    check_shapes,
    check_thousand,
    time_decodes,
    time_one_head,
    time_mixed,
    time_beside,
    time_shapes,
    time_small,
    time_schedules,
    time_invariant,
    look_inside,
    look_at_items,
    look_at_costs,
    check_experts,
    time_experts,
    time_experts_variants,
)


def dry_run() -> None:
    """Compile what the parts launch, and say what the machine code needs."""
    ragged = [plan(QWEN, 512, 4096, 120_000, 120_000), *(schedule_plan(*each) for each in SCHEDULES)]
    ragged += [plan(shapes, 32, 512, 4000, 4000, policy, cuts) for shapes, policy, cuts in SHAPES]
    ragged += [plan(QWEN, 64, 512, 40_000, 40_000, policy, Invariant()) for policy in ("prefix-sums", "longest-first")]
    graphs = [graph_of(each, "sa") for each in ragged]
    decode = DECODES["decode"]
    graphs += [graph_of(_decode_plan(decode, ctas=each.ctas), "sa", each) for each in VARIANTS.values()]
    graphs.append(graph_of(plan(QWEN, 130, 4224, 16640, 16640), "sa"))
    graphs.append(reading_graph(1 << 29))
    piped = [*((graph, "exact") for graph in graphs), *dry_graphs()]
    found = {unit: None for graph, passes in piped for unit in units(PassManager(passes).run(graph).graph)[0]}
    for unit, cubin in zip(found, compile_units([unit.source for unit in found]), strict=True):  # type: ignore[misc]
        facts = cubin.entries[unit.entry]
        spills = f"{facts.spill_store_bytes} bytes spilled, stack of {facts.stack_bytes}"
        size = f"{len(facts.instructions)} instructions"
        print(f"{unit.entry}, {unit.launch}: {facts.registers} registers, {spills}, {size}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="only compile; needs no GPU")
    parser.add_argument("--out", type=Path, help="where to write the JSON, instead of benchmarks/results")
    parser.add_argument("--items", type=Path, help="where to write times and traces of items")
    parser.add_argument("--only", default="", help="parts to run, with commas between them")
    options = parser.parse_args()
    if options.dry_run:
        dry_run()
        return
    bench = Bench(options.items)
    for run in PARTS:
        if not options.only or run.__name__ in options.only.split(","):
            bench.part(run)
            save(bench, options.out)
    print("\n" + "\n".join(bench.lines))
    print("FAILURES: " + ("; ".join(bench.failures) or "none"))


def save(bench: Bench, folder: Path | None) -> None:
    """Write what there is so far."""
    metrics = {name.replace(": ", ".").replace(" ", "_"): metric for name, metric in bench.metrics.items()}
    where = {} if folder is None else {"folder": folder}
    write_result("persistent", metrics, details={"failures": bench.failures, "lines": bench.lines}, **where)


if __name__ == "__main__":
    main()
