"""A schedule as a graph of tasks with flag edges, which the checker proves as any graph (docs/checker.md, H9).

Within a persistent kernel nothing but flags orders what CTAs do. So each item is a node that writes its partial result,
and each merge one that reads them and writes the result of a task. Two things order them:

- A CTA works off its items one after the other.
- An arrival releases what its CTA has stored, and whoever arrives last acquires it (H9). So all items that count down a
  counter come before the merge if arrivals release and acquire, if there are just as many as the counter waits for, and
  if it is 0 before the first one. With more arrivals the merge may begin before some of them, and nobody knows before
  which; so there is no edge then. With fewer there is no merge.

Both are full dependencies of the graph. That it is free of races says that no merge reads a slot before it is written,
or after it is written again; that its outputs are written says that each task has a result. What items cover of their
axis is for :mod:`~forerun.schedules.postcondition` to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import Access, Kernel, Phase
from forerun.ir.phases import kernel
from forerun.ir.semantics import Verdict, check
from forerun.ir.types import DType
from forerun.ir.verify import verify
from forerun.schedules.schedule import Item, Schedule
from forerun.schedules.tasks import Key, Tasks
from forerun.support.diagnostics import InvalidInput

__all__ = ["Arrivals", "prove_tasks", "task_graph"]


@dataclass(frozen=True)
class Arrivals:
    """What a kernel does where it has stored a partial result.

    Attributes:
        release: Whether it releases what its CTA has stored.
        acquire: Whether it acquires what others have released.
        reset: Whether the counter is 0 again for the next replay.
    """

    release: bool = True
    acquire: bool = True
    reset: bool = True


_STORE = kernel("store", "x: f32[1]", Phase("store", writes=(Access("x"),)))


@cache
def _merge(splits: int) -> Kernel:
    """What merges that many partial results."""
    slots = tuple(f"slot{i}" for i in range(splits))
    signature = ", ".join(f"{name}: f32[1]" for name in (*slots, "result"))
    return kernel(f"merge{splits}", signature, Phase("merge", tuple(map(Access, slots)), (Access("result"),)))


def prove_tasks(schedule: Schedule, tasks: Tasks, arrivals: Arrivals = Arrivals()) -> Verdict:
    """Whether flags order all that a schedule's items and merges do, and each task has a result.

    Args:
        schedule: The schedule, whoever made it.
        tasks: The tasks of its batch.
        arrivals: What the kernel does at a counter.

    Returns:
        The verdict on the graph of :func:`task_graph`.

    Raises:
        InvalidInput: As :func:`task_graph`.
    """
    graph = task_graph(schedule, tasks, arrivals)
    lacking = verify(graph)
    return Verdict("refuted", tuple(lacking)) if lacking else check(graph)


def task_graph(schedule: Schedule, tasks: Tasks, arrivals: Arrivals = Arrivals()) -> Graph:
    """Items and merges as nodes, flags and the order within a CTA as dependencies. It is made to be judged, not to run.

    It may lack a writer of an output, where a task has no result.

    Raises:
        InvalidInput: If the schedule's status is an error, or an item names a task, a slot or a counter that is none.
    """
    if schedule.finding.status.is_error:
        raise InvalidInput(f"a schedule with status {schedule.finding.status.name} has no tasks")
    builder = GraphBuilder("tasks")
    lengths = dict(zip(tasks.keys(), tasks.length.tolist(), strict=True))
    for key in lengths:
        builder.output(_result(key), DType.F32, 1)
    _require_known(schedule, tasks)
    for slot in range(schedule.capacity.partials):
        builder.temp(f"slot{slot}", DType.F32, 1)
    items = [(cta, item) for cta in range(schedule.capacity.ctas) for item in schedule.of_cta(cta)]
    names: dict[int, list[str]] = {}
    previous: dict[int, str] = {}
    for number, (cta, item) in enumerate(items):
        name = f"cta{cta}.item{number}"
        after = [previous[cta]] if cta in previous else []
        if item.slot < 0 and (item.begin, item.end) != (0, lengths[item[:3]]):
            builder.join(after, node=name)  # what it writes is the result of a part, which is none
        elif item.slot < 0:
            builder.launch(_STORE, node=name, x=_result(item[:3]), after=after)
        else:
            builder.launch(_STORE, node=name, x=f"slot{item.slot}", after=after)
            names.setdefault(item.counter, []).append(name)
        previous[cta] = name
    for counter, key in _merges([item for _, item in items]):
        first, splits = schedule.counters[counter].tolist()
        if not 1 <= splits <= len(names[counter]):
            continue
        exact = len(names[counter]) == splits and arrivals == Arrivals()
        node, after = f"merge{counter}.{_result(key)}", names[counter] if exact else []
        slots = [f"slot{slot}" for slot in range(first, first + splits)]
        builder.launch(_merge(splits), *slots, _result(key), node=node, after=after)
    return builder.build(verify=False)


def _merges(items: list[Item]) -> Iterator[tuple[int, Key]]:
    """The counters with the tasks that whoever arrives last there may merge."""
    yield from dict.fromkeys((item.counter, item[:3]) for item in items if item.slot >= 0)


def _has_slots(schedule: Schedule, counter: int) -> bool:
    first, splits = map(int, schedule.counters[counter])
    return 0 <= first <= schedule.capacity.partials - splits


def _result(key: Key) -> str:
    return "result.{}.{}.{}".format(*key)


def _require_known(schedule: Schedule, tasks: Tasks) -> None:
    known = {*tasks.keys()}
    for number, item in enumerate(schedule.all_items()):
        wrong = ""
        if item[:3] not in known:
            wrong = f"task {item[:3]}"
        elif item.slot >= schedule.capacity.partials:
            wrong = f"slot {item.slot}"
        elif item.slot >= 0 and not 0 <= item.counter < schedule.capacity.counters:
            wrong = f"counter {item.counter}"
        elif item.slot >= 0 and not _has_slots(schedule, item.counter):
            wrong = f"counter {item.counter} for slots"
        if wrong:
            hint = "first_violation of forerun.schedules.postcondition says more"
            raise InvalidInput(f"item {number} of the schedule has {wrong}, which is none", hint=hint)
