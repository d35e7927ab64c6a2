"""The checks of ``persistent.py``: schedules, results, bits and bad batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.persistent_programs import (
    ARRAYS,
    QWEN,
    Bench,
    Bound,
    graph_of,
    plan,
    precompile,
    random_prefills,
    random_requests,
    shuffled_pages,
)
from forerun.schedules.attention import AttentionBatch
from forerun.schedules.cuts import CutRule, Invariant, Shares, Whole
from forerun.schedules.policies import POLICIES
from forerun.schedules.schedule import make_schedule


def same_schedule(bench: Bench, bound: Bound, batch: AttentionBatch, what: str) -> None:
    """The device's schedule is that of NumPy, bit by bit, with poison behind it."""
    ragged, given = bound.ragged, bound.schedule()
    wanted = make_schedule(ragged.family, batch, ragged.capacity, POLICIES[ragged.policy], ragged.cuts)
    for name in ARRAYS:
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


def check_prefills(bench: Bench) -> None:
    """Batches of prefills of all lengths, which warpgroups compute, and their bits in another replay."""
    chooser, pages, worst = np.random.default_rng(7), 20_000, 0.0
    plans = [plan(shapes, 64, 12_288, pages, pages) for shapes in PREFILL_SHAPES]
    precompile(graph_of(ragged, "sa") for ragged in plans)
    for shapes, ragged in zip(PREFILL_SHAPES, plans, strict=True):
        bound = Bound(ragged, "sa")
        for number, count in enumerate((1, 4, 16, 64)):
            requests = random_prefills(chooser, count, pages, 12_288)
            batch = bound.batch(requests, shuffled_pages(requests, 16, pages, number))
            bound.values(batch, number)
            bound.replay()
            error = bound.error(batch)
            bench.require(error < 0.01, f"prefills, {shapes}, {number}: error {error}")
            first = bound.tensors["y"].clone()
            bound.tensors["y"].fill_(float("nan"))
            bound.replay()
            same = bool((first.view(dtype=_int16()) == bound.tensors["y"].view(dtype=_int16())).all())
            bench.require(same, f"prefills, {shapes}, {number}: other bits in another replay")
            bench.require(not bool(bound.tensors["arrived"].any()), f"prefills, {shapes}, {number}: counters are not 0")
            worst = max(worst, error)
        bound.close()
    bench.say(f"16 batches of prefills: greatest relative error {worst:.4f}")


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
        bound = Bound(plan(QWEN, 64, 512, pages, pages, policy, Invariant()), "sa")
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


PREFILL_SHAPES = (QWEN, (12, 4, 128, 16), (16, 4, 64, 16), (16, 2, 128, 16))

SHAPES: list[tuple[tuple[int, int, int, int], str, CutRule]] = [
    ((12, 4, 128, 64), "prefix-sums", Shares()),
    ((16, 4, 64, 16), "longest-first", Shares()),
    ((14, 2, 64, 64), "round-robin", Whole()),
    ((16, 2, 128, 16), "prefix-sums", Invariant(512)),
]
