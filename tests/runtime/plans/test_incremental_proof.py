"""What an update could break is proved again, and nothing that is not right is taken for proved."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forerun
from forerun.ir.graph import Graph
from forerun.ir.kernel import Access, Implementation
from forerun.ir.nodes import BufferArgument, ChildGraphNode, KernelNode
from forerun.ir.semantics import check
from forerun.ir.verify import verify
from forerun.runtime.plans import compare
from forerun.runtime.plans.proof import Proof
from forerun.support.diagnostics import ForerunError, InvalidInput, Refuted, Unsupported
from tests.runtime.plans.samples import ROWS, N, append, chain, decode, total, with_argument, with_edge
from tests.strategies import portion


def extended(before: Graph, after: Graph) -> str:
    proof, how = Proof(before).extend(after, compare(before, after))
    assert proof.graph is after
    return how


def test_how_much_is_proved_again() -> None:
    base = chain([1, 2, 3])
    assert extended(base, chain([1, 2, 3])) == "nothing to prove"
    assert extended(base, chain([1, 9, 3])) == "scalars"
    assert extended(decode(2), decode(3)) == "incremental"
    assert extended(base, chain([1, 2, 3], names="k")) == "full"
    assert extended(base, chain([1, 2, 3, 4])) == "full"


def nested(graph: Graph) -> Graph:
    """The same with all nodes in a child graph."""
    edit = graph.edit()
    for name in graph.nodes:
        edit.remove_node(name)
    edit.add_node(ChildGraphNode("child", graph.without_tables()))
    return edit.commit()


def test_how_much_is_proved_again_of_bodies() -> None:
    base = nested(chain([1, 2, 3]))
    assert extended(base, nested(chain([1, 9, 3]))) == "scalars"
    assert extended(base, nested(chain([1, 9, 3], names="k"))) == "full"
    assert extended(nested(decode(2)), nested(decode(3))) == "full"
    with pytest.raises(InvalidInput, match="'s' is i32"):
        extended(base, nested(with_argument(chain([1, 2, 3]), "n1", "s", 1 << 40)))
    with pytest.raises(InvalidInput, match="N6"):
        extended(nested(decode(2)), nested(with_argument(decode(2), "append", "row", ROWS)))


def test_a_number_that_is_none_of_the_type() -> None:
    base = chain([1, 2, 3])
    for wrong in (1.5, 1 << 40, "two"):
        with pytest.raises(InvalidInput, match=r"N5|'s' is i32"):
            extended(base, with_argument(base, "n1", "s", wrong))  # type: ignore[arg-type]


def test_a_row_outside_of_the_buffer() -> None:
    with pytest.raises(InvalidInput, match="N6"):
        extended(decode(2), with_argument(decode(2), "append", "row", ROWS))


def test_an_edge_that_is_missing_is_a_race() -> None:
    base = chain([1, 2, 3])
    with pytest.raises(Refuted, match="race"):
        extended(base, with_edge(base, "n0", "n1", None))


def unordered_rows(first: int, second: int) -> Graph:
    """Two nodes that append to the same cache, without an order."""
    builder = forerun.GraphBuilder("rows")
    x, cache = builder.input("x", "i32", N), builder.state("cache", "i32", (ROWS, N))
    builder.launch(append, x=x, row=first, cache=cache, node="a", after=[])
    builder.launch(append, x=x, row=second, cache=cache, node="b", after=[])
    return builder.build()


def test_rows_that_come_to_overlap_are_a_race() -> None:
    assert extended(unordered_rows(0, 1), unordered_rows(3, 1)) == "incremental"
    assert extended(unordered_rows(0, 1), unordered_rows(3, 5)) == "incremental"
    with pytest.raises(Refuted):
        extended(unordered_rows(0, 1), unordered_rows(1, 1))
    proof = Proof(unordered_rows(0, 1))
    moved, _ = proof.extend(unordered_rows(5, 1), compare(proof.graph, unordered_rows(5, 1)))
    with pytest.raises(Refuted):
        moved.extend(unordered_rows(5, 5), compare(moved.graph, unordered_rows(5, 5)))
    # What failed has changed nothing, and the place that was left is free again.
    assert moved.extend(unordered_rows(5, 0), compare(moved.graph, unordered_rows(5, 0)))[1] == "incremental"


def test_another_buffer_where_a_temporary_must_be_written() -> None:
    base = chain([1, 2, 3])
    node = base.nodes["n1"]
    assert isinstance(node, KernelNode)
    edit = base.edit()
    edit.replace_node(replace(node, arguments=(("x", BufferArgument("t1")), *node.arguments[1:])))
    with pytest.raises(InvalidInput, match="F2"):
        extended(base, edit.commit())


def test_code_of_others_with_fixed_parts_takes_no_other_numbers() -> None:
    kernel = replace(append.KERNEL, name="given")
    (role,) = kernel.roles or ()
    (phase,) = role.phases
    fixed = (replace(role, steps=(replace(phase, writes=tuple(map(_first_row, phase.writes))),)),)
    given_code = replace(kernel, roles=fixed, implementations=(Implementation("ptx", "a.ptx", "e"),))

    def graph(row: int) -> Graph:
        builder = forerun.GraphBuilder("given")
        x, cache = builder.input("x", "i32", N), builder.state("cache", "i32", (ROWS, N))
        builder.launch(given_code, x=x, row=row, cache=cache, node="n")
        return builder.build()

    with pytest.raises(Unsupported, match="declares fixed parts"):
        extended(graph(0), graph(1))


def _first_row(access: Access) -> Access:
    return replace(access, region=access.region.substitute({"row": 0}))


@settings(portion(60), deadline=None)
@given(st.data())
def test_the_incremental_proof_says_what_the_whole_one_says(data: st.DataObject) -> None:
    rows = st.integers(0, 3)

    def drawn(kinds: list[int], values: list[tuple[int, int]], edges: list[int]) -> Graph:
        builder = forerun.GraphBuilder("g")
        x, cache = builder.input("x", "i32", N), builder.state("cache", "i32", (ROWS, N))
        for i, (kind, (first, length), edge) in enumerate(zip(kinds, values, edges, strict=True)):
            after = [f"n{i - 1}"] if i and edge else []
            if kind:
                builder.launch(append, x=x, row=first, cache=cache, node=f"n{i}", after=after)
            else:
                y = builder.output(f"y{i}", "i32", N)
                bounds = {"first": first, "last": first + 1 + length}
                builder.launch(total, cache=cache, **bounds, y=y, node=f"n{i}", after=after)
        return builder.build(verify=False)

    count = data.draw(st.integers(1, 4))
    kinds, edges = (data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)) for _ in range(2))
    values = st.lists(st.tuples(rows, rows), min_size=count, max_size=count)
    proof: Proof | None = None
    for _ in range(4):
        graph = drawn(kinds, data.draw(values), edges)
        right = not verify(graph) and check(graph).proved
        try:
            proof = proof.extend(graph, compare(proof.graph, graph))[0] if proof else Proof(graph)
            assert right
        except ForerunError:
            assert not right


def test_one_scalar_and_one_row_take_little_time() -> None:
    """The figures are in benchmarks/plans.py; here a generous bound keeps them from growing with the graph."""
    base = chain([1] * 300)
    proof = Proof(base)
    after = with_argument(base, "n150", "s", 7)
    difference = compare(base, after)
    began = time.perf_counter()
    for _ in range(20):
        proof.extend(after, difference)
    assert (time.perf_counter() - began) / 20 < 2e-3
