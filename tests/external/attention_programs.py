"""A program of torch whose attention is Triton's, captured, and made persistent; prints what came of it as JSON."""

from __future__ import annotations

import json
from typing import Any

import torch
import triton
import triton.language as tl

import forerun
from forerun.support.diagnostics import InvalidInput

HEADS, KV_HEADS, SIZE, PAGE, CACHE = 8, 2, 64, 16, 200
DECODES, PREFILLS, ROWS = 5, 3, 80
NAMES = ("decode_part", "join_parts", "prefill_rows")
SHAPES = {"heads": HEADS, "kv_heads": KV_HEADS, "size": SIZE, "page": PAGE}


@triton.jit
def attend(
    q,
    k,
    v,
    pages,
    head,
    begin,
    end,
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    size: tl.constexpr,
    page: tl.constexpr,
):
    d = tl.arange(0, size)
    query = tl.load(q + d).to(tl.float32)
    top = tl.full((), -1.0e30, tl.float32)
    total = tl.full((), 0.0, tl.float32)
    found = tl.zeros((size,), tl.float32)
    for at in range(begin, end):
        row = tl.load(pages + at // page) * 2 * page + at % page
        place = (row * kv_heads + head // (heads // kv_heads)) * size + d
        score = tl.sum(query * tl.load(k + place).to(tl.float32), 0) * size**-0.5
        greatest = tl.maximum(top, score)
        kept = tl.exp(top - greatest)
        weight = tl.exp(score - greatest)
        found = found * kept + weight * tl.load(v + place).to(tl.float32)
        total = total * kept + weight
        top = greatest
    return found, total, top


@triton.jit
def decode_part(
    q,
    k,
    v,
    t,
    s,
    pointers,
    pages,
    last,
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    size: tl.constexpr,
    page: tl.constexpr,
):
    request, head, half = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    first = tl.load(pointers + request)
    length = (tl.load(pointers + request + 1) - first - 1) * page + tl.load(last + request)
    middle = (length + 1) // 2
    begin, row = half * middle, request * heads + head
    end = tl.minimum(begin + middle, length)
    found, total, top = attend(q + row * size, k, v, pages + first, head, begin, end, heads, kv_heads, size, page)
    part = row * 2 + half
    tl.store(t + part * size + tl.arange(0, size), found)
    tl.store(s + part * 2, total)
    tl.store(s + part * 2 + 1, top)


@triton.jit
def join_parts(t, s, y, size: tl.constexpr):
    row, d = tl.program_id(0), tl.arange(0, size)
    top_a, top_b = tl.load(s + row * 4 + 1), tl.load(s + row * 4 + 3)
    top = tl.maximum(top_a, top_b)
    a, b = tl.exp(top_a - top), tl.exp(top_b - top)
    total = tl.load(s + row * 4) * a + tl.load(s + row * 4 + 2) * b
    found = tl.load(t + row * 2 * size + d) * a + tl.load(t + (row * 2 + 1) * size + d) * b
    tl.store(y + row * size + d, (found / total).to(tl.bfloat16))


@triton.jit
def prefill_rows(
    q, k, v, y, queries, pointers, pages, last, count: tl.constexpr, heads: tl.constexpr, kv_heads: tl.constexpr,
    size: tl.constexpr, page: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0), tl.program_id(1)
    if row < tl.load(queries + count):
        owner = 0
        for request in range(count):
            owner = tl.where(tl.load(queries + request) <= row, request, owner)
        first = tl.load(pointers + owner)
        length = (tl.load(pointers + owner + 1) - first - 1) * page + tl.load(last + owner)
        seen = length - (tl.load(queries + owner + 1) - row) + 1
        at = (row * heads + head) * size
        found, total, _ = attend(q + at, k, v, pages + first, head, 0, seen, heads, kv_heads, size, page)
        tl.store(y + at + tl.arange(0, size), (found / total).to(tl.bfloat16))


class Program:
    """Two layers over one batch, of which the first requests have one row each."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        values: dict[str, Any] = {"dtype": torch.bfloat16, "device": "cuda"}
        words: dict[str, Any] = {"dtype": torch.int32, "device": "cuda"}
        cache = (CACHE, 2, PAGE, KV_HEADS, SIZE)
        self.q, self.y = torch.randn((ROWS, HEADS, SIZE), **values), torch.zeros((ROWS, HEADS, SIZE), **values)
        self.first = self.q.clone()
        self.caches = [torch.randn(cache, **values) for _ in range(2)]
        self.t = torch.zeros((DECODES * HEADS * 2, SIZE), device="cuda")
        self.s = torch.zeros((DECODES * HEADS * 2, 2), device="cuda")
        self.w = torch.randn((HEADS * SIZE, HEADS * SIZE), **values) / (HEADS * SIZE) ** 0.5
        self.pointers = [torch.zeros(count + 1, **words) for count in (DECODES, PREFILLS)]
        self.pages = [torch.zeros(CACHE, **words) for _ in range(2)]
        self.last = [torch.zeros(count, **words) for count in (DECODES, PREFILLS)]
        self.queries = torch.zeros(PREFILLS + 1, **words)
        self.batch(0)

    def batch(self, seed: int) -> int:
        """Another batch; returns its rows."""
        chooser = torch.Generator().manual_seed(seed)
        rows = torch.randint(1, 25, (PREFILLS,), generator=chooser)
        lengths = [torch.randint(1, 200, (DECODES,), generator=chooser), None]
        lengths[1] = rows + torch.randint(0, 90, (PREFILLS,), generator=chooser)
        free = torch.randperm(CACHE, generator=chooser).int()
        for group, kv in enumerate(lengths):
            counts = (kv + PAGE - 1) // PAGE
            total = int(counts.sum())
            self.pointers[group].copy_(torch.cat((torch.zeros(1), counts.cumsum(0))).int())
            self.pages[group][:total] = free[:total].cuda()
            self.last[group].copy_((kv - (counts - 1) * PAGE).int())
            free = free[total:]
        self.queries.copy_(torch.cat((torch.zeros(1), rows.cumsum(0))).int())
        return DECODES + int(rows.sum())

    def step(self) -> None:
        """Both layers; the second one's queries are made of the first one's results."""
        self.q.copy_(self.first)
        for number, cache in enumerate(self.caches):
            k, v = cache[:, 0], cache[:, 1]
            group = (self.pointers[0], self.pages[0], self.last[0])
            decode_part[(DECODES, HEADS, 2)](self.q, k, v, self.t, self.s, *group, **SHAPES)
            join_parts[(DECODES * HEADS,)](self.t, self.s, self.y, size=SIZE)
            group = (self.queries, self.pointers[1], self.pages[1], self.last[1])
            q, y = self.q[DECODES:], self.y[DECODES:]
            prefill_rows[(ROWS - DECODES, HEADS)](q, k, v, y, *group, count=PREFILLS, **SHAPES)
            if not number:
                self.q.copy_((self.y.flatten(1) @ self.w).view_as(self.q))

    def requests(self) -> list[forerun.RequestArrays]:
        """The arrays of both groups."""
        queries = (None, self.queries)
        arrays = zip(self.pointers, self.pages, self.last, queries, strict=True)
        return [forerun.RequestArrays(*each, last_pages=True) for each in arrays]

    def layers(self, *, wrong: bool = False) -> list[forerun.AttentionLayer]:
        """The arrays of both layers; or with queries that are not what the second one uses."""
        return [forerun.AttentionLayer(self.first if wrong else self.q, cache, None, self.y) for cache in self.caches]


def main() -> None:
    with forerun.capture() as session:
        program = Program()
        program.step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph(keep_graph=True)
        with torch.cuda.graph(graph):
            program.step()
        live = session.graph(graph)
    found: dict[str, Any] = {}
    try:
        forerun.make_persistent(live, NAMES, program.layers(wrong=True), program.requests())
    except InvalidInput as error:
        found["refused"] = str(error).partition(" of ")[0]
    with forerun.make_persistent(live, NAMES, program.layers(), program.requests()) as made:
        found["groups"] = [len(group.nodes) for group in made.groups]
        errors, same, batches = [one.error for one in made.errors], True, 0
        for seed in (1, 2, 3):
            rows = program.batch(seed)
            torch.cuda.synchronize()
            compared = made.compare()
            assert [one.rows for one in compared] == [rows, rows]
            errors += [one.error for one in compared]
            graph.replay()
            expected = program.y[:rows].clone()
            results = []
            for _ in range(2):
                program.y.fill_(float("nan"))
                made.replay()
                torch.cuda.synchronize()
                results.append(program.y.clone())
            errors.append(float((results[0][:rows] - expected).abs().max() / expected.abs().max()))
            same &= bool(torch.equal(results[0].view(torch.int16), results[1].view(torch.int16)))
            assert made.finding().status.name == "OK"
            batches += 1
        program.pages[0][0] = 10**6
        made.replay()
        torch.cuda.synchronize()
        found |= {"errors": errors, "batches": batches, "bad": made.finding().status.name, "same_bits": same}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
