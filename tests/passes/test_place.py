"""``place``: patterns, what cannot go to the host, and choices of ``auto`` beside all that there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

import forerun
from forerun.frontends.decode import decode_graph
from forerun.frontends.llama_config import LlamaConfig
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import HostCallbackNode, KernelNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.types import DEVICE0, HOST, BufferRole, DType
from forerun.ir.verify import verify
from forerun.kernels import add, gemv
from forerun.passes.infra.base import PassContext
from forerun.passes.infra.manager import PassManager
from forerun.passes.place import PlaceNodes
from forerun.passes.placing.auto import Limits, chosen_places, groups_of
from forerun.passes.placing.model import Rates, Step
from forerun.passes.placing.patterns import matches, patterns_in
from forerun.passes.placing.times import measured_times
from forerun.support.diagnostics import InvalidInput, Unsupported
from forerun.testing import assert_same_outputs
from tests.passes.placed_programs import streamed_programs

RATES = Rates(host=47.0, device=3300.0, link=55.0, border=12.0)


def chain(sizes: list[int], tail: bool = True) -> Graph:
    """Products with matrices of so many rows, one after the other; every second one is followed by a sum."""
    builder = GraphBuilder("chain")
    value, columns = builder.input("x", "f32", 4), 4
    for i, rows in enumerate(sizes):
        weight = builder.weight(f"blk.{i}.w", "f32", (rows, columns))
        result = builder.temp(f"h{i}", "f32", rows)
        builder.launch(gemv.KERNEL, w=weight, x=value, y=result, node=f"times{i}")
        value, columns = result, rows
    if tail:
        builder.output("y", "f32", columns)
        builder.launch(add, a=value, b=value, y="y", node="last")
    return builder.build()


def on_host(graph: Graph) -> set[str]:
    return {node.name for node in graph if isinstance(node, KernelNode) and node.place == HOST}


def applied(graph: Graph, **options: object) -> Graph:
    subject = PlaceNodes(**options)  # type: ignore[arg-type]
    return subject.apply(graph, PassContext(subject))


def test_patterns() -> None:
    assert patterns_in(" a.*, #b\n c ,") == ("a.*", "#b", "c")
    assert patterns_in(" , ") == ()
    assert matches("blk.?.w", "blk.3.w")
    assert matches("blk.[0-2]", "blk.1.w")
    assert not matches("blk.[0-2]", "blk.10.w")
    assert not matches("", "anything")
    assert matches("x*", "x" * 1000 + ".weight")


def test_a_pattern_that_fits_nothing_is_told() -> None:
    graph = chain([4, 4])
    with pytest.raises(InvalidInput, match=r"pass 'place': host: 'blk.0.v' fits no weight") as caught:
        applied(graph, host="blk.0.v")
    assert "blk.0.w" in str(caught.value)
    with pytest.raises(InvalidInput, match=r"device: 'tims0' fits no node"):
        applied(graph, device="#tims0")
    with pytest.raises(InvalidInput, match="'h0' fits no weight"):
        applied(graph, stream="h0")


def test_what_cannot_run_on_the_host_is_told() -> None:
    graph = chain([4])
    edit = graph.edit()
    kernel = graph.kernels[gemv.KERNEL.name]
    edit.set_kernel(replace(kernel, name="opaque", roles=None, implementations=()))
    node = graph.nodes["times0"]
    assert isinstance(node, KernelNode)
    edit.replace_node(replace(node, kernel="opaque"))
    with pytest.raises(Unsupported, match="node 'times0' cannot run on the host: not every phase of kernel 'opaque'"):
        applied(edit.commit(), host="blk.0.*")


@pytest.mark.parametrize("name", ["host_gbps", "device_gbps", "link_gbps", "memory", "host_memory", "border_us"])
def test_options_are_checked(name: str) -> None:
    wrong = ("-1", "80 apples", "1e9", "MB") if "memory" in name else (-1, float("inf"))
    for value in wrong:
        with pytest.raises(InvalidInput, match=name.replace("_", "-")):
            PlaceNodes(**{name: value})  # type: ignore[arg-type]


def test_memory_has_units() -> None:
    graph = chain([1024, 1024])
    assert applied(graph, auto=True, memory="1.5 MiB") == applied(graph, auto=True, memory="1572864")
    assert on_host(applied(graph, auto=True, memory="80GB")) == set()


def test_a_rate_of_nothing_is_never_chosen() -> None:
    graph = chain([1024, 1024])
    assert on_host(applied(graph, auto=True, host_gbps=0.0)) == set()


def test_names_decide_and_exceptions_win() -> None:
    graph = chain([4, 4, 4])
    assert on_host(applied(graph, host="blk.*")) == {"times0", "times1", "times2"}
    assert on_host(applied(graph, host="blk.*", device="blk.1")) == {"times0", "times2"}
    assert on_host(applied(graph, host="#times1")) == {"times1"}
    assert on_host(applied(applied(graph, host="blk.*"), device="#times0")) == {"times1", "times2"}
    assert applied(graph) is graph


def test_what_lies_between_goes_along_through_views_of_other_shapes() -> None:
    builder = GraphBuilder("views")
    value = builder.input("x", "f32", 4)
    for i, name in enumerate(("before", "after")):
        builder.weight(f"w.{name}", "f32", (4, 4))
        if i:
            builder.launch(add, a=value, b=value, y=builder.temp("sum", "f32", 4), node="between")
            value = builder.buffer("sum.view", DType.F32, 4, BufferRole.TEMP, allocation="sum")
        result = builder.output("y", "f32", 4) if i else builder.temp("h", "f32", 4)
        builder.launch(gemv.KERNEL, w=f"w.{name}", x=value, y=result, node=name)
        value = result
    graph = builder.build()
    assert on_host(applied(graph, host="w.*")) == {"before", "between", "after"}
    assert on_host(applied(graph, host="w.*", device="#between")) == {"before", "after"}
    assert on_host(applied(graph, host="w.after")) == {"after"}


def test_host_calls_stay_where_they_are() -> None:
    builder = GraphBuilder("calls")
    builder.input("x", "f32", 4)
    builder.output("y", "f32", 4)
    builder.launch(add, a="x", b="x", y="y", node="sum")
    builder.add(HostCallbackNode("tell", "builtins:print"))
    assert applied(builder.build(), host="#tell,#sum").nodes["tell"].place == HOST


def test_memory_that_is_too_small_is_told() -> None:
    graph = chain([1024, 1024, 1024])
    with pytest.raises(InvalidInput, match=r"bytes fit neither the device nor the host") as caught:
        applied(graph, auto=True, memory="5MB", host_memory="1MB")
    assert "have to be on the device" in str(caught.value)


def test_auto_moves_what_does_not_fit_and_no_more() -> None:
    graph = chain([2048, 2048, 2048, 2048])
    assert on_host(applied(graph, auto=True, memory="1GiB")) == set()
    after = applied(graph, auto=True, memory="36MB")
    assert "times0" in on_host(after) or "times3" in on_host(after)
    assert len(on_host(after) & {f"times{i}" for i in range(1, 4)}) <= 2
    assert applied(after, auto=True, memory="36MB") == after


@settings(deadline=None)
@given(st.lists(st.sampled_from([4, 256, 1024, 1500]), min_size=8, max_size=10), st.floats(0.2, 1.5))
def test_auto_is_no_worse_than_one_place_for_all(sizes: list[int], share: float) -> None:
    """Of so many groups not all choices are compared."""
    graph = chain(sizes)
    step, groups = Step(graph, Rates(200.0, 3300.0, 55.0, 2.0)), groups_of(graph, set(graph.nodes))
    limits = Limits(int(share * sum(group.bytes for group in groups)))
    places, over = chosen_places(step, groups, {}, limits)
    assert not over
    device = sum(group.bytes for group in groups if places[group.nodes[0]] == DEVICE0)
    assert not limits.overflow(device, 0)
    for place in [HOST] if share < 1 else [HOST, DEVICE0]:
        assert step.seconds(places) <= step.seconds(dict.fromkeys(places, place))


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([4, 256, 1024, 1500]), min_size=2, max_size=5),
    st.floats(0.2, 1.0),
    st.sampled_from([0.0, 2.0, 30.0]),
)
@example([256, 4, 1024, 4, 256], 0.75, 0.0)  # neither beginning leads to the best
def test_auto_is_near_the_best_that_there_is(sizes: list[int], share: float, border: float) -> None:
    graph = chain(sizes)
    step = Step(graph, Rates(200.0, 3300.0, 55.0, border))
    groups = groups_of(graph, set(graph.nodes))
    limits = Limits(int(share * sum(group.bytes for group in groups)))
    places, over = chosen_places(step, groups, {}, limits)
    assert not over
    best = min(
        step.seconds(found)
        for bits in product((DEVICE0, HOST), repeat=len(groups))
        if not limits.overflow(sum(g.bytes for g, p in zip(groups, bits, strict=True) if p == DEVICE0), 0)
        for found in [{name: p for g, p in zip(groups, bits, strict=True) for name in g.nodes}]
    )
    event(f"on the host: {sum(place == HOST for place in places.values())} of {len(places)}")
    assert step.seconds(places) <= 1.05 * best


_MICROSECONDS = st.sampled_from([0, 1, 5, 20, 100, 400])


def timeline(host: Mapping[str, int], device: Mapping[str, int]) -> dict[str, Any]:
    """A timeline of nodes that took so many microseconds each."""
    nodes = [
        {"name": name, "start": [0, 100], "wait": [50, 150], "trigger": None, "end": [50 + 1000 * us, 50], "sm": [0, 1]}
        for name, us in device.items()
    ]
    spans = [{"name": n, "kind": "host", "work": "f", "begins": 7, "ends": 7 + 1000 * us} for n, us in host.items()]
    copies = [{"name": "elsewhere", "kind": "link", "work": "c", "begins": 0, "ends": 9}]
    return {"format": "forerun timeline 1", "nodes": nodes, "spans": [*spans, *copies]}


@settings(deadline=None)
@given(
    sizes=st.lists(st.sampled_from([4, 256, 1024]), min_size=1, max_size=4),
    share=st.floats(0.2, 1.0),
    border=st.sampled_from([0.0, 2.0, 30.0]),
    data=st.data(),
)
def test_auto_is_near_the_best_by_measured_times(sizes: list[int], share: float, border: float, data: Any) -> None:
    graph = chain(sizes)
    names = st.lists(st.sampled_from([*graph.nodes]), min_size=1, unique=True)
    host, device = ({name: data.draw(_MICROSECONDS) for name in data.draw(names)} for _ in range(2))
    groups = groups_of(graph, set(graph.nodes))
    total, movable = sum(a.size for a in graph.allocations.values()), sum(group.bytes for group in groups)
    memory = total - movable + int(share * movable)
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.json" for number in range(2)]
        files[0].write_text(json.dumps(timeline(host, {})))
        files[1].write_text(json.dumps(timeline({}, device)))
        options = {"border_us": border, "host_gbps": 200.0, "times": ", ".join(map(str, files))}
        chosen = on_host(applied(graph, auto=True, memory=str(memory), **options))
        both = {
            **{(name, "host"): us / 1e6 for name, us in host.items()},
            **{(name, "device"): us / 1e6 for name, us in device.items()},
        }
        assert measured_times(graph, options["times"]) == both
    step = Step(graph, Rates(200.0, 3300.0, 55.0, border), both)
    limits = Limits(memory - (total - movable))
    best = min(
        step.seconds({name: p for g, p in zip(groups, bits, strict=True) for name in g.nodes})
        for bits in product((DEVICE0, HOST), repeat=len(groups))
        if not limits.overflow(sum(g.bytes for g, p in zip(groups, bits, strict=True) if p == DEVICE0), 0)
    )
    assert step.seconds({name: HOST if name in chosen else DEVICE0 for name in graph.nodes}) <= 1.05 * best


def test_measured_times_win_over_rates(tmp_path: Path) -> None:
    graph = chain([1024, 1024])
    path = tmp_path / "timeline.json"
    path.write_text(json.dumps(timeline({"times0": 1}, {"times0": 5000})))
    assert on_host(applied(graph, auto=True)) == set()
    assert on_host(applied(graph, auto=True, times=str(path))) == {"times0"}
    assert on_host(applied(graph, times=str(path))) == set()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "the timeline"),
        ("{", "the timeline"),
        ('{"format": "another"}', "a timeline that can be read"),
        ('{"format": "forerun timeline 1", "nodes": []}', "has no node of graph 'chain'"),
        ('{"format": "forerun timeline 1", "nodes": [{"name": "times0", "start": "x"}]}', "start"),
    ],
)
def test_timelines_that_cannot_be_used_are_told(tmp_path: Path, text: str | None, match: str) -> None:
    path = tmp_path / "timeline.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidInput, match=match):
        applied(chain([4]), auto=True, times=str(path))


def test_nodes_that_share_a_weight_go_together() -> None:
    builder = GraphBuilder("tied")
    builder.weight("w", "f32", (4, 4))
    value = builder.input("x", "f32", 4)
    for i in range(2):
        result = builder.output("y", "f32", 4) if i else builder.temp("t", "f32", 4)
        builder.launch(gemv.KERNEL, w="w", x=value, y=result, node=f"times{i}")
        value = result
    graph = builder.build()
    assert [group.nodes for group in groups_of(graph, set(graph.nodes))] == [("times0", "times1")]
    assert groups_of(graph, {"times0"}) == []


TINY = LlamaConfig("tiny", 2, 16, 2, 1, 8, 24, 40, 32, tied=False)


@pytest.mark.parametrize("pattern", ["blk.*.ffn_*", "blk.0.attn_*", "output.weight, blk.1.*"])
def test_a_decode_step_with_layers_on_the_host(pattern: str) -> None:
    graph = decode_graph(TINY)
    subject = PlaceNodes(host=pattern)
    placed = subject.apply(graph, PassContext(subject))
    assert on_host(placed)
    result = PassManager([subject, *forerun.passes.Pipeline.parse("splits").passes]).run(graph)
    assert {record.verdict for record in result.summary.passes} <= {"proved", "unchanged"}
    assert certify(graph, result.graph).proved
    assert_same_outputs(graph, result.graph, seeds=(0, 1))


@given(streamed_programs(), st.sets(st.sampled_from(["w0", "w1", "w2", "w3"])))
def test_placed_programs_are_proved(graph: Graph, chosen: set[str]) -> None:
    used = {
        a.buffer for node in graph if isinstance(node, KernelNode) for _, a in node.arguments if hasattr(a, "buffer")
    }
    after = applied(graph, host=",".join(sorted(chosen & used)))
    assert verify(after) == []
    assert certify(graph, after).proved
    assert applied(after, host=",".join(sorted(chosen & used))) is after
    assert_same_outputs(graph, after, seeds=(0,))
