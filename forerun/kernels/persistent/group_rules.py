"""The group rules of this package: attention of the groups of requests of a batch becomes persistent attention."""

from __future__ import annotations

from random import Random
from typing import Any

from forerun.ir.buffer import Buffer
from forerun.ir.builder import GraphBuilder
from forerun.ir.contents import bytes_of_integers
from forerun.ir.graph import Graph
from forerun.ir.grouping import (
    Group,
    GroupReplacement,
    GroupRule,
    GroupSettings,
    Launched,
    Preparation,
    Rejection,
    group_rule,
)
from forerun.ir.nodes import Argument, ConstantArgument, KernelNode, ScalarLoad
from forerun.ir.types import BufferRole, DType
from forerun.kernels.persistent import attention_requests, attention_rows
from forerun.kernels.persistent.ragged_attention import BATCH, RaggedAttention
from forerun.kernels.persistent.scheduled import SCHEDULE, cuts_of, makes_schedule, policy_of
from forerun.schedules.attention import Attention
from forerun.schedules.capacity import Capacity
from forerun.schedules.cuts import CutRule, Invariant, Shares, Whole
from forerun.schedules.schedule import capacity_for
from forerun.support.diagnostics import InvalidInput

__all__ = ["REQUESTS", "fuse_requests"]

_TYPES = DType.BF16, DType.F16
_BATCH = attention_requests.BATCH
_LOADED = {"begin": 0, "end": 1}


def fuse_requests(group: Group, settings: GroupSettings) -> GroupReplacement | Rejection:
    """Launches that cover requests 0 to some last one, each once, become a schedule and a persistent kernel."""
    nodes = sorted(group.nodes, key=_first)
    reason = _uncovered(nodes) or _unlike_elements(group, nodes)
    if settings.ctas < 1:
        reason = "it is not known how many CTAs the persistent kernel may have"
    if reason:
        return Rejection(reason)
    requests = _first(nodes[-1]) + _count(nodes[-1])
    try:
        ragged = _ragged(group, settings)
        made = _made(ragged)
    except InvalidInput as error:
        return Rejection(error.message)
    batch: dict[str, str | Argument] = {name: _bound(group, name) for name in _BATCH}
    schedule, attention = made.nodes["schedule"], made.nodes["attention"]
    assert isinstance(schedule, KernelNode)
    assert isinstance(attention, KernelNode)
    known = {name: a if isinstance(a, ConstantArgument) else name for name, a in schedule.arguments}
    prepared = Launched(made.kernels[schedule.kernel], schedule.launch, {**known, **batch})
    preparation = Preparation(prepared, _buffers(made, requests))
    own: dict[str, str | Argument] = {name: name for name in SCHEDULE}
    return GroupReplacement(preparation, _attend(group, attention, {**batch, **own}, requests))


def _first(node: KernelNode) -> int:
    return _constant(node, "first")


def _count(node: KernelNode) -> int:
    return _constant(node, "count")


def _constant(node: KernelNode, name: str) -> int:
    argument = node.argument(name)
    return argument.value if isinstance(argument, ConstantArgument) and isinstance(argument.value, int) else -1


def _bound(group: Group, parameter: str) -> Argument:
    argument = group.nodes[0].argument(parameter)
    assert argument is not None
    return argument


def _uncovered(nodes: list[KernelNode]) -> str:
    """Why the launches do not cover requests from the first one on, each once; empty if they do."""
    expected = 0
    for node in nodes:
        first, count = _first(node), _count(node)
        if min(first, count) < 0 or any(getattr(node.argument(n), "name", "") for n in ("first", "count")):
            return f"of '{node.name}' it is not known for which requests it is"
        if first < expected:
            return f"'{node.name}' is for request {first}, which another launch is for, too"
        if first > expected:
            return f"no launch is for request {expected}; schedules begin with the first request"
        expected = first + count
    return "" if expected else "the launches are for no requests"


def _unlike_elements(group: Group, nodes: list[KernelNode]) -> str:
    """Why the rows of a launch are not those of its requests; empty if they are."""
    pointers = group.buffer("query_pointers")
    if not pointers.ascending:
        return f"%{pointers.name} is not known to ascend"
    ends = 0, 0
    for node in nodes:
        ends = _first(node), _first(node) + _count(node)
        for name, which in _LOADED.items():
            if node.argument(name) != ScalarLoad(pointers.name, ends[which]):
                return f"'{name}' of '{node.name}' is not element {ends[which]} of %{pointers.name}"
    most = group.buffer("kv_lengths").count
    for name in ("query_pointers", "page_pointers"):
        if group.buffer(name).count < most + 1:
            return f"%{group.buffer(name).name} has too few elements for {most} requests"
    return f"there are requests behind those of %{group.buffer('kv_lengths').name}" if ends[1] > most else ""


def _cuts(settings: GroupSettings) -> CutRule:
    rules: dict[str, CutRule] = {"shares": Shares(), "whole": Whole(), "invariant": Invariant(settings.chunk)}
    return rules[settings.cuts]


def _ragged(group: Group, settings: GroupSettings) -> RaggedAttention:
    """What the nodes are made for: with room for every batch that fits the buffers."""
    rows, heads, head_size = group.buffer("q").shape
    cache_pages, page_size, kv_heads, _ = group.buffer("k_cache").shape
    if head_size % 16 or 128 % head_size:
        raise InvalidInput(f"heads of {head_size} elements are not ones of the persistent kernel: 16, 32, 64 or 128")
    family = Attention(heads, kv_heads, head_size, page_size, cache_pages)
    cuts = _cuts(settings)
    requests, pages = group.buffer("kv_lengths").shape[0], group.buffer("pages").shape[0]
    capacity = capacity_for(family, requests, rows, pages, settings.ctas, cuts)
    return RaggedAttention(family, capacity, settings.policy, cuts, group.buffer("q").dtype)


def _made(ragged: RaggedAttention) -> Graph:
    """A graph with the node that makes the schedule, and one that works it off; its buffers are called as parameters.

    Raises:
        InvalidInput: If the schedule is none that the device makes.
    """
    builder = GraphBuilder("made")
    buffers = {**ragged.batch(builder), **ragged.values(builder), **ragged.workspace(builder)}
    ragged.schedule(builder, buffers, "schedule")
    ragged.attend(builder, buffers, "attention")
    return builder.build(verify=False)


def _buffers(made: Graph, requests: int) -> tuple[Buffer, ...]:
    count = bytes_of_integers(DType.I32, [requests])
    constant = Buffer("requests", DType.I32, (1,), BufferRole.WEIGHT, "requests", contents=count)
    known = {*BATCH, *attention_requests.VALUES, "y"}
    return constant, *(buffer for name, buffer in made.buffers.items() if name not in known)


def _attend(group: Group, made: KernelNode, known: dict[str, str | Argument], requests: int) -> Launched:
    kernel = attention_rows.declare(group.buffer("q").dtype)
    pointers, slots = group.buffer("query_pointers").name, made.argument("slots")
    assert slots is not None
    values: dict[str, str | Argument] = {n: _bound(group, n) for n in (*attention_requests.VALUES, "y")}
    workspace: dict[str, str | Argument] = {name: name for name in ("arrived", "partial", "statistics")}
    ends: dict[str, str | Argument] = {"begin": ScalarLoad(pointers, 0), "end": ScalarLoad(pointers, requests)}
    return Launched(kernel, made.launch, {**known, **values, **workspace, **ends, "slots": slots})


def _settings(node: KernelNode) -> GroupSettings | None:
    if not makes_schedule(node):
        return None
    cuts = cuts_of(node)
    chunk = cuts.chunk if isinstance(cuts, Invariant) else 1
    kind = "invariant" if cuts.is_invariant else "whole"
    ctas = _constant(node, "ctas") // _constant(node, "lines")
    return GroupSettings(policy_of(node), "shares" if isinstance(cuts, Shares) else kind, chunk, ctas)


def _example(random: Random) -> Graph:
    """Groups of requests, in one or two layers."""
    family = Attention(4, 2, random.choice([16, 32]), 4, 20)
    room = Capacity(random.randint(2, 5), random.randint(5, 20), 20, 4, 1, 0)
    builder = GraphBuilder("groups")
    rows, pages = (0, room.rows), (0, room.pages)
    builder.input("query_pointers", DType.I32, room.requests + 1, bounds=rows, ascending=True)
    builder.input("kv_lengths", DType.I32, room.requests)
    builder.input("page_pointers", DType.I32, room.requests + 1, bounds=pages, ascending=True)
    builder.input("pages", DType.I32, room.pages)
    cut = random.randint(1, room.requests - 1)
    groups = [(0, cut), (cut, room.requests - cut)]
    random.shuffle(groups)
    dtype = random.choice(_TYPES)
    values, cache = (room.rows, 4, family.head_size), (20, 4, 2, family.head_size)
    for layer in range(random.randint(1, 2)):
        bound: dict[str, Any] = {name: name for name in _BATCH}
        bound["q"] = builder.input(f"q{layer}", dtype, values)
        bound |= {name: builder.state(f"{name}{layer}", dtype, cache) for name in attention_requests.VALUES[1:]}
        bound["y"] = builder.output(f"y{layer}", dtype, values)
        launch = attention_requests.launch_for(room.rows, 4)
        for number, (first, count) in enumerate(groups):
            name = f"attention{layer}.{number}"
            attention_requests.launch_requests(builder, bound, first, count, name, launch, dtype)
    return builder.build()


REQUESTS = group_rule(
    GroupRule(
        "attention-requests",
        "Attention of groups of requests becomes one persistent kernel over a schedule.",
        tuple(attention_requests.declare(dtype) for dtype in _TYPES),
        ("first", "count", "begin", "end"),
        _BATCH,
        fuse_requests,
        _settings,
        tolerance=0.02,
        example=_example,
    )
)
