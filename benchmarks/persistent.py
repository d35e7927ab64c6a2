"""Attention of ragged batches by a persistent kernel, on a GPU: right, and how fast.

    python -m benchmarks.persistent [--dry-run] [--out FOLDER] [--only PART,PART]

Checks come first: random batches through one executable graph, against f32 in torch, with NaN in everything that no
request has; schedules against those of NumPy; bits of repeated replays and of the batch-invariant rule; bad batches.
Then times, by turns, of ten calls in a graph: decode of 128 requests with 2,048 positions, decode of skewed lengths,
one request, the schedule alone, and a plain read of the same bytes; FlashInfer too, where it is installed. Each part
goes on after a failure; the table comes last. ``--dry-run`` compiles everything, and needs no GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
import traceback
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

import forerun
from benchmarks.common import Metric, bootstrap_median, write_result
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.trust import register_source
from forerun.ir.types import BufferRole, DType
from forerun.kernels import read_all
from forerun.kernels.persistent import attention
from forerun.kernels.persistent.ragged_attention import BATCH, RaggedAttention
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.cuda.codegen.specialise import units
from forerun.runtime.toolchain import compile_units
from forerun.schedules.attention import Attention, AttentionBatch, attention_batch
from forerun.schedules.cuts import CutRule, Invariant, Shares, Whole
from forerun.schedules.policies import POLICIES
from forerun.schedules.schedule import POISON, Schedule, capacity_for, make_schedule

CTAS, CALLS, ROUNDS = 132, 10, 9
QWEN = (28, 4, 128, 16)
"""Query heads, KV heads, elements of a head, positions of a page."""

Request = tuple[int, int]

_ARRAYS = ("status", "counts", "pointers", "items", "counters")


def skewed() -> list[Request]:
    """Lengths log-uniform from 64 to 16,384, 471,191 positions in all."""
    lengths = np.exp(np.random.default_rng(0).uniform(np.log(64), np.log(16384), 128)).astype(int)
    assert lengths.sum() == 471191
    return [(1, int(length)) for length in lengths]


def plan(
    shapes: tuple[int, int, int, int],
    requests: int,
    rows: int,
    pages: int,
    cache_pages: int,
    policy: str = "prefix-sums",
    cuts: CutRule | None = None,
    ctas: int = CTAS,
) -> RaggedAttention:
    """Both nodes for a capacity."""
    family = Attention(*shapes, cache_pages=cache_pages)
    return RaggedAttention(family, capacity_for(family, requests, rows, pages, ctas, cuts), policy, cuts)


@dataclass(frozen=True)
class Variant:
    """A launch of the persistent kernel, and an edit of its source: a text, and what stands instead of it."""

    ctas: int = CTAS
    launch: Launch | None = None
    edit: tuple[str, str] = ("", "")

    @property
    def kernel(self) -> Kernel:
        """The kernel, with the edit."""
        made = attention.declare()
        if not self.edit[0]:
            return made
        (ours,) = made.implementations
        text = (resources.files("forerun.kernels.cuda") / "attention_persistent.cu").read_text()
        assert self.edit[0] in text
        location = f"forerun.kernels.cuda:attention_{zlib.crc32(repr(self.edit).encode()):x}.cu"
        register_source(location, text.replace(*self.edit))
        return replace(made, implementations=(replace(ours, source=location),))


_IN_BULK = ("constexpr bool in_bulk = false;", "constexpr bool in_bulk = true;")

OURS = "4 warps"
VARIANTS = {
    OURS: Variant(),
    "4 warps, 3 stages": Variant(launch=Launch((CTAS, 1, 1), (128, 1, 1), 140_000)),
    "8 warps": Variant(launch=Launch((CTAS, 1, 1), (256, 1, 1), 225 * 1024)),
    "2 CTAs an SM": Variant(2 * CTAS, Launch((2 * CTAS, 1, 1), (128, 1, 1), 110 * 1024)),
    "in bulk": Variant(edit=_IN_BULK),
    "in bulk, 3 stages": Variant(launch=Launch((CTAS, 1, 1), (128, 1, 1), 140_000), edit=_IN_BULK),
    "in bulk, 2 CTAs an SM": Variant(2 * CTAS, Launch((2 * CTAS, 1, 1), (128, 1, 1), 110 * 1024), _IN_BULK),
    "only loads": Variant(edit=("if (first < span.end) attend_step(", "if (false) attend_step(")),
}
"""What is compared; the last one computes nothing, and shows what the loads take."""


def graph_of(ragged: RaggedAttention, nodes: str, variant: Variant | None = None) -> Graph:
    """A graph of nodes in a row: ``s`` makes the schedule, ``a`` attends."""
    variant = variant or Variant()
    builder = GraphBuilder("ragged")
    buffers = {**ragged.batch(builder), **ragged.workspace(builder)}
    buffers |= ragged.values(builder) if "a" in nodes else {}
    for number, kind in enumerate(nodes):
        if kind == "s":
            ragged.schedule(builder, buffers, f"schedule{number}")
        else:
            ragged.attend(builder, buffers, f"attention{number}", variant.launch, variant.kernel)
    return builder.build()


def reading_graph(size: int) -> Graph:
    """Ten plain reads of as many bytes."""
    words = 1 << 14
    rows = size // (4 * words)
    builder = GraphBuilder("reading")
    x, y = builder.state("x", DType.I32, (rows, words)), builder.output("y", DType.I32, (rows,))
    for number in range(CALLS):
        builder.launch(read_all.KERNEL, node=f"read{number}", x=x, y=y, launch=Launch((rows, 1, 1), (256, 1, 1)))
    return builder.build()


class Bound:
    """A program over tensors of torch, and a batch in them."""

    def __init__(
        self,
        ragged: RaggedAttention,
        nodes: str,
        caches: Any = None,
        variant: Variant | None = None,
        *,
        timeline: bool = False,
    ) -> None:
        import torch

        self.ragged = ragged
        graph = graph_of(ragged, nodes, variant)
        kinds = {DType.I32: torch.int32, DType.BF16: torch.bfloat16}
        mine = (BufferRole.INPUT, BufferRole.STATE, BufferRole.OUTPUT)
        self.tensors: dict[str, Any] = dict(zip(("k_cache", "v_cache"), caches or (), strict=False))
        for buffer in graph.buffers.values():
            if buffer.role in mine and buffer.name not in self.tensors:
                self.tensors[buffer.name] = torch.zeros(buffer.shape, dtype=kinds[buffer.dtype], device="cuda")
        target = CudaTarget(prove=False, timeline=timeline)
        self.program: Any = forerun.compile(graph, target, "exact", memory=self.tensors, tuning=None)

    @property
    def caches(self) -> tuple[Any, Any]:
        """Keys and values."""
        return self.tensors["k_cache"], self.tensors["v_cache"]

    def batch(self, requests: Sequence[Request], pages: Sequence[int] | None = None) -> AttentionBatch:
        """A batch in the program's memory, with poison behind it."""
        family, capacity = self.ragged.family, self.ragged.capacity
        found = attention_batch(family, capacity, [q for q, _ in requests], [kv for _, kv in requests], pages)
        self.write(found)
        return found

    def write(self, batch: AttentionBatch) -> None:
        """Put a batch into the program's memory, and poison where the schedule will be."""
        import torch

        self.tensors["requests"].fill_(batch.requests)
        for name in BATCH[1:]:
            self.tensors[name].copy_(torch.from_numpy(getattr(batch, name)))
        for name in _ARRAYS:
            self.tensors[name].fill_(POISON)
        if "y" in self.tensors:
            self.tensors["y"].fill_(float("nan"))

    def values(self, batch: AttentionBatch, seed: int) -> None:
        """Random queries, keys and values; NaN where no request has any."""
        import torch

        torch.manual_seed(seed)
        tensors, size = self.tensors, self.ragged.family.page_size
        listed = int(batch.page_pointers[batch.requests])
        pages = torch.from_numpy(batch.pages[:listed]).cuda().long()
        lengths = batch.kv_lengths[: batch.requests].astype(np.int64)
        within = np.arange(listed) - np.repeat(
            batch.page_pointers[: batch.requests], np.diff(batch.page_pointers[: batch.requests + 1])
        )
        left = np.repeat(lengths, np.diff(batch.page_pointers[: batch.requests + 1])) - within * size
        behind = torch.arange(size, device="cuda")[None] >= torch.from_numpy(left).cuda()[:, None]
        for cache in self.caches:
            cache.fill_(float("nan"))
            rows = torch.randn((listed, *cache.shape[1:]), dtype=cache.dtype, device="cuda")
            rows[behind] = float("nan")
            cache[pages] = rows
        tensors["q"].fill_(float("nan"))
        count = int(batch.query_pointers[batch.requests])
        tensors["q"][:count] = torch.randn((count, *tensors["q"].shape[1:]), dtype=cache.dtype, device="cuda")

    def replay(self) -> None:
        """One replay, to its end."""
        import torch

        torch.cuda.synchronize()
        self.program.launch()
        self.program.synchronize()

    def schedule(self) -> Schedule:
        """The schedule that the device has made."""
        arrays = {name: self.tensors[name].cpu().numpy() for name in _ARRAYS}
        return Schedule(**arrays, capacity=self.ragged.capacity)

    def error(self, batch: AttentionBatch, only: Sequence[int] | None = None) -> float:
        """The greatest relative L2 error of a request; NaN if a number is missing, or one was written too many."""
        import torch

        y, family = self.tensors["y"], self.ragged.family
        count = int(batch.query_pointers[batch.requests])
        worst = 0.0 if bool(torch.isnan(y[count:]).all()) else float("nan")
        for request in range(batch.requests) if only is None else only:
            begin, end = (int(x) for x in batch.query_pointers[request : request + 2])
            if begin < end:
                expected = self.reference(batch, request, begin, end)
                difference = y[begin:end].float() - expected
                worst = max(worst, float(difference.norm() / expected.norm()), key=lambda x: (x != x, x))
        assert family.heads == y.shape[1]
        return worst

    def reference(self, batch: AttentionBatch, request: int, begin: int, end: int) -> Any:
        """Attention of one request in f32."""
        import torch

        family, length = self.ragged.family, int(batch.kv_lengths[request])
        first = int(batch.page_pointers[request])
        pages = torch.from_numpy(batch.pages[first : first - (-length // family.page_size)]).cuda().long()
        k, v = (cache[pages].flatten(0, 1)[:length].float() for cache in self.caches)
        q = self.tensors["q"][begin:end].float().view(end - begin, family.kv_heads, family.group, -1)
        rows = torch.arange(length - (end - begin), length, device="cuda")
        hidden = torch.arange(length, device="cuda")[None] > rows[:, None]
        out = torch.empty_like(q)
        for head in range(family.kv_heads):
            scores = torch.einsum("qgd,kd->gqk", q[:, head], k[:, head]) * family.head_size**-0.5
            weights = scores.masked_fill_(hidden[None], float("-inf")).softmax(-1)
            out[:, head] = torch.einsum("gqk,kd->qgd", weights, v[:, head])
        return out.flatten(1, 2)

    def close(self) -> None:
        """Give the program back."""
        self.program.close()


def shuffled_pages(requests: Sequence[Request], page_size: int, cache_pages: int, seed: int) -> list[int]:
    """Pages anywhere in the cache."""
    needed = sum(-(-kv // page_size) for _, kv in requests)
    return np.random.default_rng(seed).permutation(cache_pages)[:needed].tolist()


def random_requests(chooser: np.random.Generator, count: int, pages: int, rows: int, mixed: bool) -> list[Request]:
    """Lengths log-uniform from 1 to 32,768, as many as fit; with queries of up to 200 rows among them if mixed."""
    found: list[Request] = []
    for _ in range(count):
        kv = int(np.exp(chooser.uniform(0, np.log(32768))))
        q = min(kv, int(chooser.integers(0, 200))) if mixed and chooser.random() < 0.1 else 1
        needed = -(-kv // 16)
        if needed <= pages and q <= rows:
            pages, rows = pages - needed, rows - q
            found.append((q, kv))
    return found


class Bench:
    """Parts that go on after a failure, their lines, and the metrics."""

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}
        self.lines: list[str] = []
        self.failures: list[str] = []
        self.began = time.perf_counter()

    def say(self, line: str) -> None:
        print(f"[{time.perf_counter() - self.began:5.1f}s] {line}", flush=True)
        self.lines.append(line)

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            self.failures.append(what)
            self.say(f"WRONG: {what}")

    def part(self, run: Callable[[Bench], None]) -> None:
        try:
            run(self)
        except Exception as error:
            self.failures.append(f"{run.__name__}: {error!r}"[:300])
            traceback.print_exc()

    def times(self, programs: Mapping[str, Any], calls: int = CALLS, replays: int = 5) -> dict[str, float]:
        """Microseconds a call of each program, by turns: medians of rounds."""
        found: dict[str, list[float]] = {name: [] for name in programs}
        for program in programs.values():
            program.seconds_per_replay(2)
        for _ in range(ROUNDS):
            for name in (*programs, *reversed(programs)):
                found[name].append(1e6 * programs[name].seconds_per_replay(replays) / calls)
        for name, samples in found.items():
            self.metrics[name] = bootstrap_median(samples, "us")
            self.say(f"{name}: {statistics.median(samples):.2f} us ({min(samples):.2f} to {max(samples):.2f})")
        return {name: statistics.median(samples) for name, samples in found.items()}


def same_schedule(bench: Bench, bound: Bound, batch: AttentionBatch, what: str) -> None:
    """The device's schedule is that of NumPy, bit by bit, with poison behind it."""
    ragged, given = bound.ragged, bound.schedule()
    wanted = make_schedule(ragged.family, batch, ragged.capacity, POLICIES[ragged.policy], ragged.cuts)
    for name in _ARRAYS:
        expected = getattr(wanted, name)
        found = getattr(given, name)[: len(expected)]
        bench.require(np.array_equal(found, expected), f"{what}: {name} of the schedule {wanted.finding}")


def check_batches(bench: Bench) -> None:
    """Random batches through one executable graph."""
    chooser, pages = np.random.default_rng(1), 120_000
    bound = Bound(plan(QWEN, 512, 4096, pages, pages), "sa")
    counts = [(1, False), (1, True), (2, False), (5, True), (17, False), (64, True), (128, False), (512, False)]
    counts += [(300, True), (33, True), (512, True), (3, False)]
    worst = 0.0
    for number, (count, mixed) in enumerate(counts):
        requests = random_requests(chooser, count, pages, 4096, mixed)
        batch = bound.batch(requests, shuffled_pages(requests, 16, pages, number))
        bound.values(batch, number)
        bound.replay()
        error = bound.error(batch)
        same_schedule(bench, bound, batch, f"batch {number}")
        first = bound.tensors["y"].clone()
        for _ in range(3):
            bound.tensors["y"].fill_(float("nan"))
            bound.replay()
            same = bool((first.view(dtype=_int16()) == bound.tensors["y"].view(dtype=_int16())).all())
            bench.require(same, f"batch {number}: other bits in another replay")
        bench.require(error < 0.01, f"batch {number}: error {error}")
        bench.require(not bool(bound.tensors["arrived"].any()), f"batch {number}: counters are not 0")
        worst = max(worst, error)
    bench.say(f"{len(counts)} random batches through one graph: greatest relative error {worst:.4f}")
    bound.close()


def _int16() -> Any:
    import torch

    return torch.int16


def check_bad_batches(bench: Bench) -> None:
    """Each kind of bad batch gives the status of NumPy, and nothing is written."""
    bound = Bound(plan(QWEN, 16, 64, 1000, 1000), "sa")
    requests = [(1, 100), (3, 500), (1, 1)]
    good = bound.batch(requests)
    bound.values(good, 0)
    changes = [("query_pointers", 0, 1), ("query_pointers", 2, 0), ("page_pointers", 1, -5), ("kv_lengths", 1, -1)]
    changes += [
        ("kv_lengths", 1, 2),
        ("kv_lengths", 0, 2000),
        ("pages", 3, 1000),
        ("pages", 20, -7),
        ("pages", 0, 2**31 - 1),
    ]
    for name, index, value in changes:
        batch = bound.batch(requests)
        getattr(batch, name)[index] = value
        bound.write(batch)
        bound.replay()
        same_schedule(bench, bound, batch, f"{name}[{index}] = {value}")
        bench.require(bool(bound.tensors["y"].isnan().all()), f"{name}[{index}] = {value}: something was written")
    for count in (0, -3, 17, 2**31 - 1):
        bound.batch(requests)
        bound.tensors["requests"].fill_(count)
        bound.replay()
        bench.require(bound.schedule().finding.status.is_error, f"{count} requests were scheduled")
    bound.batch(requests)
    bound.replay()
    bench.require(bound.error(good) < 0.01, "a good batch after bad ones")
    bench.say(f"{len(changes) + 4} bad batches: all refused")
    bound.close()


def check_invariance(bench: Bench) -> None:
    """A request has the same bits in any batch under the invariant rule, and shares balance it as NumPy says."""
    pages = 40_000
    for policy in ("prefix-sums", "longest-first"):
        bound = Bound(plan(QWEN, 64, 512, pages, pages, policy, Invariant(1024)), "sa")
        requests = random_requests(np.random.default_rng(3), 40, pages, 500, True)
        batch = bound.batch(requests, shuffled_pages(requests, 16, pages, 0))
        bound.values(batch, 0)
        bound.replay()
        error = bound.error(batch)
        bench.require(error < 0.01, f"invariant, {policy}: error {error}")
        same_schedule(bench, bound, batch, f"invariant, {policy}")
        together, q = bound.tensors["y"].clone(), bound.tensors["q"].clone()
        chosen = [r for r, (rows, _) in enumerate(requests) if rows][:12]
        for request in chosen:
            begin, end = (int(x) for x in batch.query_pointers[request : request + 2])
            first, stop = (int(x) for x in batch.page_pointers[request : request + 2])
            bound.batch([requests[request]], batch.pages[first:stop].tolist())
            bound.tensors["q"][: end - begin] = q[begin:end]
            bound.replay()
            alone = bound.tensors["y"][: end - begin].view(_int16())
            same = bool((alone == together[begin:end].view(_int16())).all())
            bench.require(same, f"invariant, {policy}: request {request} has other bits alone")
            bound.tensors["q"].copy_(q)
        bench.say(f"invariant, {policy}: {len(chosen)} requests have the same bits alone; error {error:.4f}")
        bound.close()


def check_shapes(bench: Bench) -> None:
    """Groups of 3, 4, 7 and 8, heads of 64 and 128, pages of 16 and 64; all policies."""
    for shapes, policy, cuts in SHAPES:
        bound = Bound(plan(shapes, 32, 512, 4000, 4000, policy, cuts), "sa")
        requests = random_requests(np.random.default_rng(5), 32, 4000, 500, True)
        batch = bound.batch(requests, shuffled_pages(requests, shapes[3], 4000, 1))
        bound.values(batch, 1)
        bound.replay()
        error = bound.error(batch)
        bench.require(error < 0.01, f"{shapes}, {policy}: error {error}")
        same_schedule(bench, bound, batch, f"{shapes}, {policy}")
        bench.say(f"heads {shapes[0]}/{shapes[1]} of {shapes[2]}, pages of {shapes[3]}, {policy}: error {error:.4f}")
        bound.close()


SHAPES: list[tuple[tuple[int, int, int, int], str, CutRule]] = [
    ((12, 4, 128, 64), "prefix-sums", Shares()),
    ((16, 4, 64, 16), "longest-first", Shares()),
    ((14, 2, 64, 64), "round-robin", Whole()),
    ((16, 2, 128, 16), "prefix-sums", Invariant(512)),
]

DECODES: dict[str, list[Request]] = {"decode": [(1, 2048)] * 128, "skewed": skewed()}


def _decode_plan(requests: Sequence[Request], cuts: CutRule | None = None, ctas: int = CTAS) -> RaggedAttention:
    pages = sum(-(-kv // QWEN[3]) for _, kv in requests)
    return plan(QWEN, len(requests), len(requests), pages, pages, "prefix-sums", cuts, ctas)


def time_decodes(bench: Bench) -> None:
    """Decode of equal and of skewed lengths, against a plain read of the same bytes."""
    import torch

    for name, requests in DECODES.items():
        variants: dict[str, Bound] = {}
        caches = None
        for label, variant in VARIANTS.items():
            bound = variants[label] = Bound(
                _decode_plan(requests, ctas=variant.ctas), "s" + "a" * CALLS, caches, variant
            )
            caches = bound.caches
        variants["with the schedule"] = Bound(_decode_plan(requests), "sa" * CALLS, caches)
        variants["invariant"] = Bound(_decode_plan(requests, Invariant(1024)), "s" + "a" * CALLS, caches)
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
    "prefill of 2 x 2,048": [(2048, 2048)] * 2,
    "prefill of 2 x 2,048, decode of 128 x 2,048": [(2048, 2048)] * 2 + [(1, 2048)] * 128,
}


def time_mixed(bench: Bench) -> None:
    """Prefill, alone and beside decodes."""
    for name, requests in MIXED.items():
        rows, pages = sum(q for q, _ in requests), 128 * len(requests)
        programs, caches = {}, None
        for label in (OURS, "8 warps"):
            ragged = plan(QWEN, len(requests), rows, pages, pages)
            bound = Bound(ragged, "s" + "a" * CALLS, caches, VARIANTS[label])
            caches = bound.caches
            batch = bound.batch(requests)
            bound.values(batch, 0)
            bound.replay()
            error = bound.error(batch, range(min(6, len(requests))))
            bench.require(error < 0.01, f"{name}, {label}: error {error}")
            programs[f"{name}: {label}"] = bound.program
        bench.times(programs)
        for program in programs.values():
            program.close()


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


SCHEDULES: list[tuple[int, str, CutRule]] = [
    (128, "prefix-sums", Shares()),
    (1024, "prefix-sums", Shares()),
    (128, "longest-first", Invariant(1024)),
    (1024, "longest-first", Invariant(1024)),
    (1024, "prefix-sums", Invariant(1024)),
]


def _schedule_plan(count: int, policy: str, cuts: CutRule) -> RaggedAttention:
    return plan(QWEN, count, count, 30 * count, 131072, policy, cuts)


def time_schedules(bench: Bench) -> None:
    """The schedule alone: ten in a row; 480 positions a request, and 2,048 for 128 of them."""
    programs: dict[str, Any] = {}
    for count, policy, cuts in SCHEDULES:
        bound = Bound(_schedule_plan(count, policy, cuts), "s" * CALLS)
        lengths = np.random.default_rng(0).integers(1, 480, count).tolist()
        batch = bound.batch([(1, kv) for kv in lengths])
        bound.replay()
        label = f"{type(cuts).__name__.lower()}, {policy}"
        same_schedule(bench, bound, batch, f"schedule of {count}, {label}")
        programs[f"schedule of {count}: {label}"] = bound.program
    for count in (128, 1024):
        requests = [(1, 2048)] * count
        long = Bound(_decode_plan(requests), "s" * CALLS)
        batch = long.batch(requests)
        long.replay()
        same_schedule(bench, long, batch, f"schedule of {count} x 2,048")
        programs[f"schedule of {count} x 2,048: shares, prefix-sums"] = long.program
    bench.times(programs, replays=20)
    for program in programs.values():
        program.close()


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
    check_bad_batches,
    check_invariance,
    check_shapes,
    time_decodes,
    time_one_head,
    time_mixed,
    time_small,
    time_schedules,
    look_inside,
)


def dry_run() -> None:
    """Compile what the parts launch, and say what the machine code needs."""
    ragged = [plan(QWEN, 512, 4096, 120_000, 120_000), *(_schedule_plan(*each) for each in SCHEDULES)]
    ragged += [plan(shapes, 32, 512, 4000, 4000, policy, cuts) for shapes, policy, cuts in SHAPES]
    ragged += [
        plan(QWEN, 64, 512, 40_000, 40_000, policy, Invariant(1024)) for policy in ("prefix-sums", "longest-first")
    ]
    graphs = [graph_of(each, "sa") for each in ragged]
    decode = DECODES["decode"]
    graphs += [graph_of(_decode_plan(decode, ctas=each.ctas), "sa", each) for each in VARIANTS.values()]
    graphs.append(reading_graph(1 << 29))
    found = {unit: None for graph in graphs for unit in units(PassManager("exact").run(graph).graph)[0]}
    for unit, cubin in zip(found, compile_units([unit.source for unit in found]), strict=True):  # type: ignore[misc]
        facts = cubin.entries[unit.entry]
        spills = f"{facts.spill_store_bytes} bytes spilled, stack of {facts.stack_bytes}"
        size = f"{len(facts.instructions)} instructions"
        print(f"{unit.entry}, {unit.launch}: {facts.registers} registers, {spills}, {size}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="only compile; needs no GPU")
    parser.add_argument("--out", type=Path, help="where to write the JSON, instead of benchmarks/results")
    parser.add_argument("--only", default="", help="parts to run, with commas between them")
    options = parser.parse_args()
    if options.dry_run:
        dry_run()
        return
    bench = Bench()
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
