"""What ``persistent.py`` runs: programs over tensors of torch, variants of the kernel, and random batches."""

from __future__ import annotations

import statistics
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

import forerun
from benchmarks.common import Metric, bootstrap_median
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
from forerun.schedules.attention import Attention, AttentionBatch, attention_batch
from forerun.schedules.cuts import CutRule
from forerun.schedules.schedule import POISON, Schedule, capacity_for
from forerun.schedules.tasks import Costs

CTAS, CALLS, ROUNDS = 132, 10, 9
QWEN = (28, 4, 128, 16)
"""Query heads, KV heads, elements of a head, positions of a page."""

Request = tuple[int, int]

ARRAYS = ("status", "counts", "pointers", "items", "counters")


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
    costs: Mapping[int, Costs] | None = None,
) -> RaggedAttention:
    """Both nodes for a capacity."""
    family = Attention(*shapes, cache_pages=cache_pages)
    family = family if costs is None else replace(family, costs=costs)
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


OURS = "8 warps"
VARIANTS = {
    OURS: Variant(),
    "8 warps, 2 stages": Variant(launch=Launch((CTAS, 1, 1), (256, 1, 1), 140_000)),
    "2 CTAs an SM": Variant(2 * CTAS, Launch((2 * CTAS, 1, 1), (128, 1, 1), 110 * 1024)),
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
            kernel = variant.kernel if variant.edit[0] else None
            ragged.attend(builder, buffers, f"attention{number}", variant.launch, kernel)
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


def precompile(graphs: Iterable[Graph]) -> None:
    """Compile kernels for the GPU at hand, all processors at once."""
    CudaTarget(prove=False).precompile([PassManager("exact").run(graph).graph for graph in graphs])


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
        kinds = {DType.I32: torch.int32, DType.I64: torch.int64, DType.BF16: torch.bfloat16}
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
        for name in ARRAYS:
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
        arrays = {name: self.tensors[name].cpu().numpy() for name in ARRAYS}
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


def random_prefills(chooser: np.random.Generator, count: int, pages: int, rows: int) -> list[Request]:
    """Query lengths log-uniform from 1 to 4,096, behind as many positions at most, for as long as they fit."""
    found: list[Request] = []
    for _ in range(count):
        q = int(np.exp(chooser.uniform(0, np.log(4096))))
        kv = q + int(chooser.integers(0, 4096)) * int(chooser.integers(0, 2))
        needed = -(-kv // 16)
        if needed <= pages and q <= rows:
            pages, rows = pages - needed, rows - q
            found.append((q, kv))
    return found


class Bench:
    """Parts that go on after a failure, their lines, and the metrics; ``folder`` is for what is large."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.metrics: dict[str, Metric] = {}
        self.samples: dict[str, list[float]] = {}  # of the latest times, by program
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
        self.samples = found
        for name, samples in found.items():
            self.metrics[name] = bootstrap_median(samples, "us")
            self.say(f"{name}: {statistics.median(samples):.2f} us ({min(samples):.2f} to {max(samples):.2f})")
        return {name: statistics.median(samples) for name, samples in found.items()}
