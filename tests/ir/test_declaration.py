"""An edit cannot say of declared code that it accesses something else; the error names both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from forerun.ir.graph import Graph
from forerun.ir.kernel import Implementation, Kernel, Phase, Role, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.text import parse_graph
from forerun.ir.verify import verify
from forerun.passes import Pass, PassContext, Pipeline
from forerun.passes.infra.failure import PassFailure
from forerun.passes.infra.manager import PassManager
from forerun.support.diagnostics import InvalidInput

GRAPH = parse_graph("""\
forerun 1
graph declared
buffer %x : f32[4] input
buffer %w : f32[4] weight
buffer %y : f32[4] output
kernel @scale(x: f32[D], w: f32[D], n: scalar i32, y: f32[D]) cuda("own:scale.cu", "scale") {
  role main {
    phase load reads w defines tile
    phase fetch reads x[0:n] defines items async
    phase store writes y uses tile, items scalars n
  }
}
node #scale = @scale(x=%x, w=%w, n=4, y=%y)
""")
SCALE = GRAPH.kernels["scale"]
CUBIN = Implementation("cubin", "own:scale.cubin", "scale")
Change = Callable[[Phase], Phase]


def body(change: Change, kernel: Kernel = SCALE) -> tuple[Role, ...]:
    return tuple(replace(role, steps=tuple(map(change, role.phases))) for role in kernel.roles or ())


def only(name: str, **changes: Any) -> Change:
    """A change of one phase."""
    return lambda phase: replace(phase, **changes) if phase.name == name else phase


CONTRADICTIONS = {
    "a read dropped": (only("load", reads=()), "phase 'load' reads nothing, but is declared to read w"),
    "a read more": (
        lambda p: replace(p, reads=(*p.reads, *SCALE.phases[0].reads)) if p.name == "store" else p,
        "phase 'store' reads w, but is declared to read nothing",
    ),
    "a write dropped": (only("store", writes=()), "phase 'store' writes nothing, but is declared to write y"),
    "a scalar dropped": (only("store", scalars=()), "phase 'store' uses nothing, but is declared to use n"),
    "a wider read": (
        lambda p: replace(p, reads=tuple(replace(a, region=type(a.region)()) for a in p.reads)),
        r"phase 'fetch' reads x, but is declared to read x\[0:n\]",
    ),
    "no longer asynchronous": (
        only("fetch", asynchronous=False),
        "phase 'fetch' is declared asynchronous, and no longer is",
    ),
}


def test_the_graph_is_valid() -> None:
    assert verify(GRAPH) == []


@pytest.mark.parametrize(("change", "words"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_variant_that_contradicts_its_kernel(change: Change, words: str) -> None:
    edit = GRAPH.edit()
    with pytest.raises(InvalidInput, match=f"kernel 'scale.late', made from kernel 'scale' contradicts .*{words}"):
        edit.kernel_variant(SCALE, body(change), "late")
    assert edit.commit() is GRAPH


@pytest.mark.parametrize(("change", "words"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_definition_that_contradicts_the_one_that_it_replaces(change: Change, words: str) -> None:
    expected = f"another definition of kernel 'scale' contradicts its declaration: {words}"
    with pytest.raises(InvalidInput, match=expected):
        GRAPH.edit().set_kernel(SCALE.with_roles("scale", body(change)))


def test_another_name_for_the_same_implementation_is_found_too() -> None:
    silent = SCALE.with_roles("other", body(only("load", reads=())))
    with pytest.raises(InvalidInput, match="kernel 'other', made from kernel 'scale' contradicts"):
        GRAPH.edit().set_kernel(silent)
    edit = GRAPH.edit()
    edit.set_kernel(replace(silent, implementations=(Implementation("cuda", "own:other.cu", "other"),)))
    assert "other" in edit.commit().kernels


def test_two_declarations_of_one_code_may_each_be_kept() -> None:
    """One implementation may be declared twice, for instance for two ranges of a scalar."""
    half = SCALE.with_roles("half", body(only("load", reads=())))
    tables = GRAPH.allocations.values(), GRAPH.buffers.values(), [SCALE, half]
    graph = Graph("two", *tables, GRAPH.nodes.values())
    for kernel in (SCALE, half):
        variant = graph.edit().kernel_variant(kernel, (Role("main", (Wait(), *kernel.phases)),), "pdl")
        edit = graph.edit()
        edit.set_kernel(replace(variant, name="new"))
        assert edit.commit().kernels["new"].phases == kernel.phases


def test_order_waits_functions_and_black_boxes_are_no_contradiction() -> None:
    load, fetch, store = SCALE.phases
    edit = GRAPH.edit()
    edit.kernel_variant(SCALE, (Role("main", (fetch, Wait(), load, store)),), "late")
    edit.set_kernel(SCALE.with_roles("scale", body(lambda p: replace(p, reference=f"own:{p.name}"))))
    edit.set_kernel(replace(SCALE, roles=None))
    assert edit.commit().kernels["scale"].is_black_box


def test_a_body_that_is_declared_for_a_black_box() -> None:
    box = Graph("box", kernels=[Kernel("k")], nodes=[KernelNode("n", "k")])
    edit = box.edit()
    edit.set_kernel(Kernel("k", (), (Role("main"),)))
    assert not edit.commit().kernels["k"].is_black_box


def test_phases_with_functions_of_their_own_are_other_code() -> None:
    plain = replace(SCALE, implementations=())
    tables = GRAPH.allocations.values(), GRAPH.buffers.values(), [plain]
    edit = Graph("plain", *tables, GRAPH.nodes.values()).edit()
    edit.set_kernel(plain.with_roles("scale", body(only("load", reads=(), reference="own:zeros"))))
    assert edit.commit().kernels["scale"].phases[0].reads == ()


def test_no_step_of_given_machine_code_changes() -> None:
    foreign = replace(SCALE, implementations=(CUBIN,))
    tables = GRAPH.allocations.values(), GRAPH.buffers.values(), [foreign]
    graph = Graph("foreign", *tables, GRAPH.nodes.values())
    load, fetch, store = SCALE.phases
    words = r"made from kernel 'scale' contradicts .*\(cubin own:scale.cubin:scale\), so its steps cannot change"
    for steps in ((Wait(), load, fetch, store), (fetch, load, store), (load, fetch)):
        with pytest.raises(InvalidInput, match=words):
            graph.edit().kernel_variant(foreign, (Role("main", steps),), "late")


@dataclass(frozen=True)
class DropsReads(Pass):
    """Says that a kernel does not read what it is declared to read."""

    name: ClassVar[str] = "drops-reads"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        edit.kernel_variant(SCALE, body(only("load", reads=())), "fast")
        return edit.commit()


def test_the_manager_shows_the_pass_the_edit_and_the_declaration() -> None:
    with pytest.raises(PassFailure) as caught:
        PassManager(Pipeline([DropsReads()])).run(GRAPH)
    assert caught.value.exit_status == 2
    text = str(caught.value)
    assert "pass 1 of 1, drops-reads: edit: kernel 'scale.fast', made from kernel 'scale' contradicts" in text
    assert "error[E1]: kernel scale: phase 'load' reads nothing, but is declared to read w" in text
    assert "kernel @scale(" in text
