"""A family of one's own on the device: sums of ragged rows, by a schedule made in the graph and a persistent kernel.

``schedule_owners.cuh`` makes the schedule of a family whose tasks are alike within an owner, and ``schedule_items.cuh``
works it off. What is written here: what is wrong with a batch, the tasks, what an item computes, how splits are merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import forerun
from forerun.ir.launches import Launches, Span
from forerun.runtime.gpu import no_gpu_reason
from forerun.schedules.capacity import Bounds, Capacity
from forerun.schedules.execution import Workspace, execute
from forerun.schedules.schedule import Item, Schedule, capacity_for, make_schedule
from forerun.schedules.status import Finding, Status
from forerun.schedules.tasks import Tasks, extents

Words = NDArray[np.int32]
Floats = NDArray[np.float32]

BLOCK = 256
"""Values between which a row may be cut."""


@dataclass(frozen=True)
class RowSums:
    """The family: a row is a task, if it has values; its axis is these."""

    most_values: int

    def check(self, batch: Words, capacity: Capacity) -> Finding:
        lengths = extents(batch, capacity.requests)
        bad = lengths < 0
        bad[0] |= batch[0] != 0
        if bad.any():
            return Finding(Status.BAD_POINTERS, int(np.argmax(bad)))
        if batch[capacity.requests] > self.most_values:
            return Finding(Status.TOO_MANY_ROWS)
        return Finding() if batch[capacity.requests] else Finding(Status.NO_REQUESTS)

    def tasks(self, batch: Words) -> Tasks:
        lengths = extents(batch, len(batch) - 1)
        rows = np.flatnonzero(lengths)
        zeros, ones = np.zeros_like(rows), np.ones_like(rows)
        return Tasks(rows, zeros, zeros, ones, lengths[rows], BLOCK * ones, ones, 4 * ones, ones, ones > 0)

    def bounds(self, capacity: Capacity) -> Bounds:
        return Bounds(tasks=capacity.requests, chains=capacity.requests, length=self.most_values)


class RowSumsRunner:
    """What an item computes, and how splits are merged, in NumPy."""

    slot_floats = 1

    def __init__(self, batch: Words, values: Floats) -> None:
        self.batch, self.values = batch, values
        self.y = np.full(len(batch) - 1, np.nan, np.float32)

    def compute(self, item: Item) -> Floats:
        first = self.batch[item.owner]
        return self.values[first + item.begin : first + item.end].sum(keepdims=True)

    def finish(self, item: Item, parts: Any) -> None:
        self.y[item.owner] = sum(part[0] for part in parts)


SCHEDULE = "status: i32[2], counts: i32[3], pointers: i32[B], items: i32[I, 8] align 16, counters: i32[K, 2]"
SCALARS = ("most_values", "partials", "ctas", "most_items", "cuts", "policy")

SCHEDULE_CUDA = """
#include "schedule_words.cuh"

constexpr int owners = Dims::R - 1, ctas = Dims::B - 1, most_items = Dims::I, axis_block = 256;

__device__ Tile tile_of(const Arguments&, int values) {
    return {1, values, (values - 1) / axis_block + 1, 1, 4};
}
__device__ Owner check_owner(const Arguments& a, int row, Fault* fault) {
    const int begin = load_global(a.row_pointers + row), end = load_global(a.row_pointers + row + 1);
    note(fault, end < begin || (row == 0 && begin != 0), fault_of(BAD_POINTERS, row));
    note(fault, row == owners - 1 && end > a.most_values(), fault_of(TOO_MANY_ROWS, nowhere));
    return {end > begin, end - begin};
}

#include "schedule_owners.cuh"
"""

SUMS_CUDA = """
#include "schedule_items.cuh"

struct Locals {};

__device__ void add(const Arguments& a, Locals&) {
    const int thread = thread_of<Launch>();
    const auto compute = [&](const Item& item) {
        const float* row = a.values + load_global(a.row_pointers + item.owner);
        float sum = 0.0f;
        for (int i = item.begin + thread; i < item.end; i += Launch::threads) sum += load_global(row + i);
        sum = cta_sum<Launch>(sum);
        if (thread == 0) (item.slot < 0 ? a.y[item.owner] : a.partial[item.slot]) = sum;
    };
    const auto merge = [&](const Item& item, int first, int splits) {
        float sum = 0.0f;
        for (int i = 0; i < splits; ++i) sum += load_global(a.partial + first + i);
        if (thread == 0) a.y[item.owner] = sum;
    };
    run_items<Dims::B - 1>(a, compute, merge);
}
"""


def plan(row_pointers: Words, most_values: int, partials: int, ctas: int, most_items: int) -> tuple[Words, ...]:
    rows = len(row_pointers) - 1
    capacity = Capacity(rows, rows, 0, int(ctas), int(most_items), int(partials))
    found = make_schedule(RowSums(int(most_values)), row_pointers, capacity)
    counters = np.resize(found.counters, (max(1, capacity.counters), 2))
    return found.status, found.counts, found.pointers, found.items, counters


def write(plan: tuple[Words, ...]) -> tuple[Words, ...]:
    return plan


def add(
    values: Floats, row_pointers: Words, pointers: Words, items: Words, counters: Words, arrived: Words
) -> tuple[Floats, Words, Floats]:
    rows, slots = len(row_pointers) - 1, np.zeros((len(counters), 2), np.float32)
    capacity = Capacity(rows, rows, 0, len(pointers) - 1, len(items), slots.size)
    head = np.array([Status.OK, -1], np.int32), np.array([pointers[-1], 0, 0], np.int32)
    runner = RowSumsRunner(row_pointers, values)
    execute(Schedule(*head, pointers, items, counters, capacity), runner, Workspace(capacity, 1), lambda events: 0)
    return runner.y, arrived, slots


LAUNCHES = Launches(block=Span(32, 1024, 32), cluster=Span(1, 1))
MAKE = forerun.kernel(
    f"row_pointers: i32[R], {', '.join(f'{name}: scalar i32' for name in SCALARS)} -> {SCHEDULE}",
    plan,
    write,
    name="row_schedule",
    cuda=SCHEDULE_CUDA,
    launches=LAUNCHES,
)
ADD = forerun.kernel(
    "values: f32[V], row_pointers: i32[R], pointers: i32[B], items: i32[I, 8] align 16, counters: i32[K, 2], "
    "arrived: i32[K] -> y: f32[_], arrived, partial: f32[K, 2]",
    add,
    name="row_sums",
    cuda=SUMS_CUDA,
    launches=LAUNCHES,
)


def scalars_of(most_values: int, capacity: Capacity) -> dict[str, int]:
    """The scalars of the kernel that makes the schedule: equal shares of all work."""
    sizes = {"partials": capacity.partials, "ctas": capacity.ctas, "most_items": capacity.items}
    return {"most_values": most_values, **sizes, "cuts": 0, "policy": 0}


def shapes_of(most_values: int, capacity: Capacity) -> dict[str, tuple[int, ...]]:
    """The shapes of all buffers, by parameter."""
    counters = max(1, capacity.counters)
    work = {"arrived": (counters,), "partial": (counters, 2)}
    batch = {"row_pointers": (capacity.requests + 1,), "values": (most_values,), "y": (capacity.requests,)}
    return {**batch, **capacity.schedule_shapes, **work}


def row_sums(most_values: int, capacity: Capacity) -> forerun.Graph:
    """A node that makes the schedule of a batch, and one that works it off."""
    builder, shapes = forerun.GraphBuilder("row_sums"), shapes_of(most_values, capacity)
    buffers: dict[str, Any] = {
        "row_pointers": builder.input("row_pointers", "i32", shapes["row_pointers"]),
        "values": builder.input("values", "f32", shapes["values"]),
        "y": builder.output("y", "f32", shapes["y"]),
        "partial": builder.temp("partial", "f32", shapes["partial"]),
    }
    for name in ("status", "counts", "pointers", "items", "counters", "arrived"):
        buffers[name] = builder.state(name, "i32", shapes[name])
    schedule = {p.name: buffers[p.name] for p in MAKE.buffer_parameters}
    make = forerun.Launch((2, 1, 1), (256, 1, 1), 16 * (capacity.requests + 1))
    builder.launch(MAKE, node="schedule", launch=make, **schedule, **scalars_of(most_values, capacity))
    sums = {p.name: buffers[p.name] for p in ADD.buffer_parameters}
    builder.launch(ADD, node="sums", launch=forerun.Launch((capacity.ctas, 1, 1), (256, 1, 1)), **sums)
    return builder.build()


def main() -> None:
    family = RowSums(most_values=20_000)
    capacity = capacity_for(family, requests=5, rows=5, ctas=4)
    target = "reference{schedule=adversarial}" if no_gpu_reason() else "cuda"
    with forerun.compile(row_sums(family.most_values, capacity), target, "exact") as program:
        for lengths in ([3000, 1, 500, 0, 77], [1, 1, 1, 15_000, 2]):
            values = np.ones(family.most_values, np.float32)
            y = program(row_pointers=np.cumsum([0, *lengths], dtype=np.int32), values=values)["y"]
            assert all(found == length for found, length in zip(y, lengths, strict=True) if length)
            items, splits, _ = program.read("counts").tolist()
            print(f"on {target}: {items} items, {splits} of them splits")


if __name__ == "__main__":
    main()
