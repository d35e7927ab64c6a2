"""Others' attention of ragged batches, beside ours in one process: FlashInfer's persistent kernel, FlashAttention-3.

FlashInfer's ``BatchAttention`` is built ahead (``flashinfer_build.py``) and lies in ``benchmarks/.flashinfer``, or
where ``FORERUN_FLASHINFER`` says. FlashAttention-3 comes from the wheel ``tokenspeed-fa3``: installed, or unpacked into
a folder of the path, pruned or not (``prune_fatbin.py``). What is not there is left out.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.persistent_programs import CALLS, Bench, Request

__all__ = ["Paged", "TorchGraph", "flash_attention", "others", "persistent_flashinfer"]

_CAUSAL, _NHD = 1, 0
"""FlashInfer's codes of a mask and a layout."""


class TorchGraph:
    """Ten calls in a graph of torch, timed as programs of ours are."""

    def __init__(self, run: Callable[[], object], calls: int = CALLS) -> None:
        import torch

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        torch.cuda.synchronize()
        self._graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            for _ in range(calls):
                run()

    def seconds_per_replay(self, replays: int) -> float:
        """Seconds of a replay, of several in a row."""
        import torch

        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(replays):
            self._graph.replay()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3 / replays

    def close(self) -> None:
        """Give the graph back."""
        self._graph.reset()


class Paged:
    """A batch as others take it; pages are those of the cache from the first one on, in order.

    Attributes:
        shapes: Query heads, KV heads, elements of a head, positions of a page.
        requests: Query and KV lengths.
        q: Queries of all requests.
        caches: Keys and values: pages, positions, KV heads, elements.
    """

    def __init__(self, shapes: tuple[int, int, int, int], requests: Sequence[Request], q: Any, caches: Any) -> None:
        import torch

        self.shapes, self.requests, self.q, self.caches = shapes, list(requests), q, caches
        self.queries = torch.tensor([q for q, _ in requests], dtype=torch.int32)
        self.lengths = torch.tensor([kv for _, kv in requests], dtype=torch.int32)
        counts = -(-self.lengths // shapes[3])
        zero = torch.zeros(1, dtype=torch.int32)
        self.query_pointers = torch.cat((zero, self.queries.cumsum(0).int()))
        self.page_pointers = torch.cat((zero, counts.cumsum(0).int()))
        self.pages = torch.arange(int(self.page_pointers[-1]), dtype=torch.int32, device="cuda")
        self.table = torch.zeros((len(requests), int(counts.max())), dtype=torch.int32, device="cuda")
        for row, (first, stop) in enumerate(zip(self.page_pointers[:-1], self.page_pointers[1:], strict=True)):
            self.table[row, : int(stop - first)] = self.pages[int(first) : int(stop)]
        self.out = torch.empty_like(q)

    def part(self, begin: int, end: int) -> Paged:
        """Some of the requests; queries and results are parts of this batch's."""
        import torch

        first, stop = int(self.query_pointers[begin]), int(self.query_pointers[end])
        made = Paged(self.shapes, self.requests[begin:end], self.q[first:stop], self.caches)
        made.table = self.table[begin:end].contiguous()
        made.out = self.out[first:stop]
        assert made.out.dtype == torch.bfloat16
        return made


def others(bench: Bench, name: str, batch: Paged) -> dict[str, Callable[[], Any]]:
    """What can run a batch: by label, a call that returns its results; plans are made before, but where it is said."""
    found: dict[str, Callable[[], Any]] = {}
    run = persistent_flashinfer(bench, name, batch)
    if run is not None:
        found["FlashInfer BatchAttention"] = run
    if importlib.util.find_spec("flash_attn_interface"):
        found["fa3"] = flash_attention(batch, True)
        found["fa3, with its scheduler"] = flash_attention(batch, False)
        split = sum(q > 16 for q, _ in batch.requests)
        if 0 < split < len(batch.requests) and all(q > 16 for q, _ in batch.requests[:split]):
            found["fa3, two launches"] = _two_launches(batch, split, streams=False)
            found["fa3, two streams"] = _two_launches(batch, split, streams=True)
    return found


def persistent_flashinfer(bench: Bench, name: str, batch: Paged) -> Callable[[], Any] | None:
    """FlashInfer's persistent kernel after its plan, whose host time is told; ``None`` if it is not built."""
    import torch

    folder = Path(os.environ.get("FORERUN_FLASHINFER", "benchmarks/.flashinfer"))
    heads, kv_heads, size, page = batch.shapes
    library = folder / f"batch_attention_{size}.so"
    if not library.exists() or importlib.util.find_spec("tvm_ffi") is None:
        return None
    import tvm_ffi

    module = tvm_ffi.load_module(str(library))
    workspace, small = (torch.zeros(mebi << 20, dtype=torch.uint8, device="cuda") for mebi in (384, 8))
    pinned = torch.zeros(8 << 20, dtype=torch.uint8, pin_memory=True)
    pointers = (batch.query_pointers, batch.page_pointers, batch.lengths)
    plan, times = None, []
    for _ in range(9):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        with tvm_ffi.use_torch_stream():
            plan = module.plan(
                workspace, small, pinned, *pointers, len(batch.requests), heads, kv_heads, size, True
            )  # fmt: skip
        times.append(1e6 * (time.perf_counter() - begin))
    bench.say(f"{name}: FlashInfer plans for {statistics.median(times):.0f} us on the host")
    sums = torch.empty(batch.q.shape[:2], dtype=torch.float32, device="cuda")

    def run() -> Any:
        with tvm_ffi.use_torch_stream():
            module.run(
                workspace, small, plan, batch.q, *batch.caches, batch.pages, batch.out, sums, _CAUSAL, _NHD, heads,
                kv_heads, page, 1.0, size**-0.5, 0.0, None, None,
            )  # fmt: skip
        return batch.out

    return run


def flash_attention(batch: Paged, scheduled: bool) -> Callable[[], Any]:
    """FlashAttention-3 over the pages; its scheduler runs before, or in each call."""
    import flash_attn_interface as fa3

    heads, kv_heads, size, page = batch.shapes
    most_q, most_kv = (max(each) for each in zip(*batch.requests, strict=True))
    lengths = batch.lengths.cuda()
    pointers = None if most_q == 1 else batch.query_pointers.cuda()
    q = batch.q[:, None] if most_q == 1 else batch.q

    def schedule() -> Any:
        return fa3.get_scheduler_metadata(
            len(batch.requests), most_q, most_kv, heads, kv_heads, size, lengths, cu_seqlens_q=pointers,
            page_size=page, causal=True,
        )  # fmt: skip

    known = schedule() if scheduled else None

    def run() -> Any:
        out = fa3.flash_attn_with_kvcache(
            q, *batch.caches, cache_seqlens=lengths, page_table=batch.table, cu_seqlens_q=pointers,
            max_seqlen_q=most_q, causal=True, scheduler_metadata=known if scheduled else schedule(),
        )  # fmt: skip
        return out.flatten(0, 1) if most_q == 1 else out

    return run


def _two_launches(batch: Paged, split: int, *, streams: bool) -> Callable[[], Any]:
    """Prefills, then decodes; on two streams if asked."""
    import torch

    prefill, decode = (flash_attention(batch.part(*each), True) for each in ((0, split), (split, len(batch.requests))))
    side = torch.cuda.Stream()

    def run() -> Any:
        here = torch.cuda.current_stream()
        there = side if streams else here
        there.wait_stream(here)
        first = prefill()
        with torch.cuda.stream(there):
            second = decode()
        here.wait_stream(there)
        return first, second

    return run
