"""Captured graphs whose attention is FlashInfer's: beside what ``forerun.make_persistent`` makes of them.

    python -m benchmarks.external_attention [--out FOLDER] [--layers N]

Layers of paged attention with a product after each, captured by torch: FlashInfer's decode kernel and the merge of its
splits, for equal and for skewed lengths; and its persistent kernel for decodes and prefills together. Results of each
layer are compared by ``make_persistent``; then both graphs are replayed by turns, with the batch that the program
planned for, and with another one that fits the same arrays: FlashInfer plans on the host for that, ours need not.
The modules are built ahead (``flashinfer_build.py``); ``apache-tvm-ffi`` loads them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import forerun
from benchmarks.common import Metric, bootstrap_median_ratio, write_result

PAGE = 16
ROUNDS, REPLAYS = 9, 5
DECODE = (32, 8, 64)
MIXED = (28, 4, 128)
Request = tuple[int, int]


def skewed(count: int, seed: int) -> list[Request]:
    """Decodes with lengths log-uniform from 64 to 16,384."""
    lengths = np.exp(np.random.default_rng(seed).uniform(np.log(64), np.log(16384), count)).astype(int)
    return [(1, int(length)) for length in lengths]


CASES: dict[str, tuple[tuple[int, int, int], list[Request], list[Request]]] = {
    "decode, skewed": (DECODE, skewed(128, 0), skewed(128, 1)),
    "prefill and decode": (MIXED, [(1, 2048)] * 64 + [(1024, 1024)] * 2, [(1, 1000)] * 64 + [(1024, 1536)] * 2),
    "decode of 128 x 2,048": (DECODE, [(1, 2048)] * 128, [(1, 1024)] * 128),
    "decode of 4 x 300": (DECODE, [(1, 300)] * 4, [(1, 299)] * 4),
}
"""Heads, the batch that is captured, and another one."""


class Program:
    """Layers of attention over one batch, with a product after each."""

    def __init__(self, shape: tuple[int, int, int], batches: Sequence[list[Request]], layers: int) -> None:
        import torch
        import tvm_ffi

        self.shape, (heads, kv_heads, size) = shape, shape
        self.is_mixed = shape is MIXED
        folder = Path(os.environ.get("FORERUN_FLASHINFER", "benchmarks/.flashinfer"))
        self.module = tvm_ffi.load_module(
            str(folder / ("batch_attention_128.so" if self.is_mixed else "batch_decode.so"))
        )
        device: dict[str, Any] = {"dtype": torch.bfloat16, "device": "cuda"}
        words: dict[str, Any] = {"dtype": torch.int32, "device": "cuda"}
        pages = max(sum(-(-kv // PAGE) for _, kv in batch) for batch in batches)
        rows, count = max(sum(q for q, _ in batch) for batch in batches), len(batches[0])
        torch.manual_seed(0)
        self.first = torch.randn((rows, heads, size), **device)
        self.q, self.y = torch.zeros_like(self.first), torch.zeros_like(self.first)
        cache = (pages, PAGE, kv_heads, size)
        self.caches = [[torch.randn(cache, **device) for _ in "kv"] for _ in range(layers)]
        self.w = torch.randn((heads * size, heads * size), **device) / (heads * size) ** 0.5
        self.sums = torch.zeros((rows, heads), dtype=torch.float32, device="cuda")
        self.queries, self.pointers = (torch.zeros(count + 1, **words) for _ in range(2))
        self.lengths, self.pages = torch.zeros(count, **words), torch.zeros(pages, **words)
        self.workspace, self.small = (torch.zeros(n << 20, dtype=torch.uint8, device="cuda") for n in (384, 8))
        self.pinned = torch.zeros(8 << 20, dtype=torch.uint8, pin_memory=True)
        self.plan: Any = None

    def batch(self, requests: Sequence[Request]) -> None:
        """Put another batch in place; lengths are how far last pages are filled, or all of it if prefills are there."""
        import torch

        kv = torch.tensor([kv for _, kv in requests])
        counts = (kv + PAGE - 1) // PAGE
        zero = torch.zeros(1, dtype=torch.int64)
        self.host = [
            torch.cat((zero, each.cumsum(0))).int() for each in (torch.tensor([q for q, _ in requests]), counts)
        ]
        self.kv = kv.int()
        for target, source in zip((self.queries, self.pointers), self.host, strict=True):
            target.copy_(source)
        self.lengths.copy_(self.kv if self.is_mixed else (kv - (counts - 1) * PAGE).int())
        order = torch.randperm(self.pages.numel(), generator=torch.Generator().manual_seed(0))
        self.pages[: int(counts.sum())] = order[: int(counts.sum())].int().cuda()

    def plan_batch(self) -> None:
        """What FlashInfer does on the host for each batch."""
        import torch
        import tvm_ffi

        heads, kv_heads, size = self.shape
        count = len(self.kv)
        with tvm_ffi.use_torch_stream():
            if self.is_mixed:
                self.plan = self.module.plan(
                    self.workspace, self.small, self.pinned, *self.host, self.kv, count, heads, kv_heads, size, True
                )
            else:
                empty = torch.empty(0, dtype=torch.bfloat16)
                self.plan = self.module.plan(
                    self.workspace, self.small, self.pinned, self.host[1], count, heads, kv_heads, PAGE, True, -1, 0.0,
                    size, size, empty, empty,
                )  # fmt: skip

    def step(self) -> None:
        """All layers."""
        import tvm_ffi

        heads, kv_heads, size = self.shape
        self.q.copy_(self.first)
        for k, v in self.caches:
            with tvm_ffi.use_torch_stream():
                if self.is_mixed:
                    self.module.run(
                        self.workspace, self.small, self.plan, self.q, k, v, self.pages, self.y, self.sums, 1, 0, heads,
                        kv_heads, PAGE, 1.0, size**-0.5, 0.0, None, None,
                    )  # fmt: skip
                else:
                    self.module.run(
                        self.workspace, self.small, self.plan, self.q, k, v, self.pointers, self.pages, self.lengths,
                        self.y, None, 0, -1, False, None, 0.0, size**-0.5, 1.0, 1e-4,
                    )  # fmt: skip
            self.q.copy_((self.y.flatten(1) @ self.w).view_as(self.q))

    def made(self, graph: Any, kernels: Sequence[str]) -> forerun.external.persistent.PersistentGraph:
        """What forerun makes of the captured graph."""
        queries = self.queries if self.is_mixed else None
        batch = forerun.RequestArrays(self.pointers, self.pages, self.lengths, queries, last_pages=not self.is_mixed)
        layers = [forerun.AttentionLayer(self.q, k, v, self.y) for k, v in self.caches]
        return forerun.make_persistent(graph, kernels, layers, batch, constant_batch=True)


def run_case(session: Any, name: str, layers: int, report: Callable[[str], None]) -> dict[str, Metric]:
    """Capture, replace, compare, and time by turns."""
    import torch

    shape, first, second = CASES[name]
    program = Program(shape, (first, second), layers)
    program.batch(first)
    program.plan_batch()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            program.step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    with torch.cuda.graph(graph, stream=stream):
        program.step()
    graph.instantiate()
    graph.replay()
    torch.cuda.synchronize()
    live = session.graph(graph)
    attending = {live.graph.function_of(n).name for n in live.graph.nodes if n.kind == "kernel"}
    attending = {one for one in attending if "flashinfer" in one}
    report(f"{name}: {live.graph}; attention: {len(attending)} kernels of FlashInfer")
    began = time.perf_counter()
    made = program.made(live, sorted(attending))
    nodes = sum(len(group.nodes) for group in made.groups)
    worst = max(one.error for one in made.errors)
    report(
        f"{name}: {nodes} launches of {len(made.groups)} layers replaced, {len(made.graph)} nodes left, in "
        f"{time.perf_counter() - began:.1f} s; greatest difference {worst:.4f} of {made.errors[0].rows} rows a layer"
    )
    found = {f"{name}.difference": Metric(worst, "share of the greatest", worst, worst)}
    for label, requests in (("as captured", first), ("another batch", second)):
        program.batch(requests)
        program.plan_batch()
        torch.cuda.synchronize()
        worst = max(one.error for one in made.compare())
        report(f"{name}, {label}: greatest difference {worst:.4f}")
        if not worst < 0.02:
            report(f"FAILED {name}, {label}: nothing was timed")
            continue
        samples = timed({"FlashInfer": graph.replay, "persistent": made.replay})
        ratio = bootstrap_median_ratio(samples["FlashInfer"], samples["persistent"])
        found[f"{name}, {label}.speedup"] = ratio
        medians = {key: statistics.median(each) for key, each in samples.items()}
        times = ", ".join(f"{key} {value:.1f} us" for key, value in medians.items())
        report(f"{name}, {label}: {times} a step of {layers} layers: {ratio.value:.3f} times as fast")
    made.close()
    return found


def timed(runs: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Microseconds a replay, by turns."""
    import torch

    found: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(ROUNDS + 1):
        for name in (*runs, *reversed(runs)):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(REPLAYS):
                runs[name]()
            end.record()
            torch.cuda.synchronize()
            if round_:
                found[name].append(1e3 * begin.elapsed_time(end) / REPLAYS)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where to write the JSON, instead of benchmarks/results")
    parser.add_argument("--layers", type=int, default=8)
    options = parser.parse_args()
    metrics: dict[str, Metric] = {}
    lines: list[str] = []

    def report(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    with forerun.capture() as session:
        for name in CASES:
            try:
                metrics |= run_case(session, name, options.layers, report)
            except Exception as error:
                traceback.print_exc()
                report(f"FAILED {name}: {error!r}"[:400])
    where = {} if options.out is None else {"folder": options.out}
    write_result("external_attention", metrics, details={"lines": lines}, **where)


if __name__ == "__main__":
    main()
