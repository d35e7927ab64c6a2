"""A thousand random ragged batches through one executable graph, all of their results against f32.

Batches have 1 to 512 requests (log-uniform; every tenth batch has 512), query lengths log-uniform from 1 to 4,096, at
most 65,536 rows, and KV lengths log-uniform from 1 to 32,768; a query longer than its KV is cut. Requests that rows are
lacking for are decodes. Pages lie anywhere; what belongs to no request is NaN. Each batch runs by the default rule,
twice, and by the batch-invariant one, together and with some of its requests in another order without the others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.common import Metric
from benchmarks.persistent_checks import same_schedule
from benchmarks.persistent_programs import QWEN, Bench, Bound, Request, graph_of, plan, precompile, shuffled_pages
from forerun.schedules.attention import AttentionBatch
from forerun.schedules.cuts import Invariant

__all__ = ["BATCHES", "LIMIT_S", "check_thousand", "drawn_requests"]

BATCHES, LIMIT_S = 1000, 100.0
REQUESTS, ROWS, PAGES = 512, 65_536, 180_000
MOST_QUERIES, MOST_KV = 4096, 32_768
TOLERANCE = 0.01
"""Upper limit of the relative L2 error of a request. Rounding results to bf16 alone gives 0.0017."""

_CHUNK = 1 << 28
"""Scores that the reference has at once."""


def drawn_requests(chooser: np.random.Generator, count: int) -> list[Request]:
    """Query and KV lengths of that many requests."""
    kv = np.exp(chooser.uniform(0, np.log(MOST_KV + 1), count)).astype(int).clip(1, MOST_KV)
    q = np.exp(chooser.uniform(0, np.log(MOST_QUERIES + 1), count)).astype(int).clip(1, MOST_QUERIES)
    q = np.minimum(q, kv)
    q[np.cumsum(q) > ROWS - count] = 1
    order = chooser.permutation(count)
    found = list(zip(q[order].tolist(), kv[order].tolist(), strict=True))
    assert sum(-(-length // QWEN[3]) for _, length in found) <= PAGES
    return found


def check_thousand(bench: Bench, batches: int = BATCHES, limit_s: float = LIMIT_S) -> None:
    """As many of these batches as the limit allows; what was checked is counted."""
    import torch

    plans = [plan(QWEN, REQUESTS, ROWS, PAGES, PAGES)]
    plans.append(plan(QWEN, REQUESTS, ROWS, PAGES, PAGES, "prefix-sums", Invariant()))
    precompile(graph_of(ragged, "sa") for ragged in plans)
    usual = Bound(plans[0], "sa")
    invariant = Bound(plans[1], "sa", usual.caches)
    wrong, found, began = len(bench.failures), _Found(), time.perf_counter()
    for number in range(batches):
        if time.perf_counter() - began > limit_s:
            break
        chooser = np.random.default_rng((1000, number))
        count = REQUESTS if number % 10 == 9 else int(np.exp(chooser.uniform(0, np.log(REQUESTS + 1))))
        requests = drawn_requests(chooser, count)
        pages = shuffled_pages(requests, QWEN[3], PAGES, number)
        batch = usual.batch(requests, pages)
        usual.values(batch, number)
        rows = int(batch.query_pointers[batch.requests])
        expected = reference(usual, batch)
        what = f"thousand, batch {number}"
        usual.replay()
        same_schedule(bench, usual, batch, what)
        first = usual.tensors["y"].clone()
        found.add(bench, what, usual, batch, expected)
        usual.tensors["y"].fill_(float("nan"))
        usual.replay()
        same = torch.equal(bits(first[:rows]), bits(usual.tensors["y"][:rows]))
        bench.require(same, f"{what}: other bits in another replay")
        bench.require(not bool(usual.tensors["arrived"].any()), f"{what}: counters are not 0")
        _check_invariant(bench, found, invariant, usual, requests, pages, expected, chooser, what)
        found.batches += 1
        found.requests += len(requests)
        found.rows += rows
    seconds = time.perf_counter() - began
    bench.say(f"{found} in {seconds:.0f} s; {len(bench.failures) - wrong} are wrong")
    for name, value in (("batches_checked", found.batches), ("mismatches", len(bench.failures) - wrong)):
        bench.metrics[f"persistent.{name}"] = Metric(value, "count", value, value)
    usual.close()
    invariant.close()


@dataclass
class _Found:
    """What was checked, and the greatest errors of the two rules."""

    batches: int = 0
    requests: int = 0
    rows: int = 0
    invariant: int = 0
    worst: float = 0.0

    def add(self, bench: Bench, what: str, bound: Bound, batch: AttentionBatch, expected: Any) -> None:
        error = greatest_error(bound, batch, expected)
        bench.require(error < TOLERANCE, f"{what}: error {error}")
        self.worst = max(self.worst, error)

    def __str__(self) -> str:
        return (
            f"{self.batches} batches of {self.requests} requests and {self.rows} rows through one graph, greatest "
            f"relative error {self.worst:.4f}; {self.invariant} requests have their bits in another batch, too"
        )


def _check_invariant(
    bench: Bench,
    found: _Found,
    bound: Bound,
    usual: Bound,
    requests: list[Request],
    pages: list[int],
    expected: Any,
    chooser: np.random.Generator,
    what: str,
) -> None:
    """The invariant rule: right, and the same bits for some requests in another order, without the others."""
    import torch

    batch = bound.batch(requests, pages)
    bound.tensors["q"].copy_(usual.tensors["q"])
    bound.replay()
    same_schedule(bench, bound, batch, f"{what}, invariant")
    found.add(bench, f"{what}, invariant", bound, batch, expected)
    together = bound.tensors["y"].clone()
    chosen = chooser.permutation(len(requests))[: int(chooser.integers(1, 33))].tolist()
    spans = [range(*(int(x) for x in batch.query_pointers[request : request + 2])) for request in chosen]
    own = [pages[slice(*(int(x) for x in batch.page_pointers[request : request + 2]))] for request in chosen]
    bound.batch([requests[request] for request in chosen], [page for each in own for page in each])
    rows = torch.tensor([row for span in spans for row in span], device="cuda")
    bound.tensors["q"].fill_(float("nan"))
    bound.tensors["q"][: len(rows)] = usual.tensors["q"][rows]
    bound.replay()
    same = torch.equal(bits(bound.tensors["y"][: len(rows)]), bits(together[rows]))
    bench.require(same, f"{what}: the invariant rule gives other bits in another batch")
    found.invariant += len(chosen)


def bits(values: Any) -> Any:
    """A tensor of bf16 as integers, so that NaN is equal to itself."""
    import torch

    return values.view(torch.int16)


def greatest_error(bound: Bound, batch: AttentionBatch, expected: Any) -> float:
    """The greatest relative L2 error of a request; NaN if a number is missing, or one was written too many."""
    import torch

    rows = expected.shape[0]
    if not bool(torch.isnan(bound.tensors["y"][rows:]).all()):
        return float("nan")
    lengths = torch.from_numpy(np.diff(batch.query_pointers[: batch.requests + 1]).astype(np.int64)).cuda()
    owner = torch.repeat_interleave(torch.arange(batch.requests, device="cuda"), lengths)
    errors, norms = (torch.zeros(batch.requests, dtype=torch.float64, device="cuda") for _ in range(2))
    difference = (bound.tensors["y"][:rows].float() - expected).flatten(1)
    errors.index_add_(0, owner, difference.square_().sum(1, dtype=torch.float64))
    norms.index_add_(0, owner, expected.flatten(1).square().sum(1, dtype=torch.float64))
    return float((errors / norms).sqrt().max())


def reference(bound: Bound, batch: AttentionBatch) -> Any:
    """Attention of all requests in f32.

    Queries times keys are TF32 products with sums in f32, which is exact for factors of bf16; weights times values are
    f32 alone.
    """
    import torch

    family = bound.ragged.family
    rows = int(batch.query_pointers[batch.requests])
    made = torch.empty((rows, family.heads, family.head_size), dtype=torch.float32, device="cuda")
    pages = torch.from_numpy(batch.pages[: int(batch.page_pointers[batch.requests])]).cuda().long()
    for request in range(batch.requests):
        begin, end = (int(x) for x in batch.query_pointers[request : request + 2])
        first, length = int(batch.page_pointers[request]), int(batch.kv_lengths[request])
        own = pages[first : first - (-length // family.page_size)]
        k, v = (cache[own].flatten(0, 1)[:length].transpose(0, 1).float() for cache in bound.caches)
        q = bound.tensors["q"][begin:end].float().unflatten(1, (family.kv_heads, family.group))
        step = max(1, _CHUNK // (family.heads * length))
        for at in range(0, end - begin, step):
            part = q[at : at + step]
            seen = length - (end - begin) + at + len(part)
            made[begin + at : begin + at + len(part)] = _attended(part, k[:, :seen], v[:, :seen])
    return made


def _attended(q: Any, k: Any, v: Any) -> Any:
    """Causal attention of the last rows of a KV; ``q`` is rows, KV heads, group, elements."""
    import torch

    count, kv_heads, group, size = q.shape
    packed = q.transpose(0, 1).reshape(kv_heads, count * group, size)
    torch.set_float32_matmul_precision("high")
    nothing = packed.new_zeros(())
    scores = torch.baddbmm(nothing, packed, k.transpose(1, 2), beta=0, alpha=size**-0.5)
    torch.set_float32_matmul_precision("highest")
    if count > 1:
        hidden = torch.ones((count, count), dtype=torch.bool, device="cuda").triu_(1)
        scores.view(kv_heads, count, group, -1)[..., -count:].masked_fill_(hidden[:, None], float("-inf"))
    out = torch.bmm(torch.softmax(scores, -1), v)
    return out.view(kv_heads, count, group, size).transpose(0, 1).flatten(1, 2)
