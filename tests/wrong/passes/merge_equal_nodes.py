"""Wrong passes that merge nodes: each forgets to ask one thing."""

from __future__ import annotations

from collections.abc import Callable

from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.refinement.merged import (
    TESTS,
    Merge,
    _are_read_later,
    _stay_until_read,
    _write_whole_temporaries,
    changed_input,
)
from forerun.passes.merge_equal_nodes import _apply
from tests.wrong.wrong_pass import wrong_pass

__all__: list[str] = []


def _merged(graph: Graph, forgotten: Callable[[Merge], str]) -> Graph:
    """The graph after the first merge that only the forgotten test is against; who reads what goes does so later."""
    launched = [name for name, node in graph.nodes.items() if isinstance(node, KernelNode)]
    for number, gone in enumerate(launched):
        for kept in launched[:number]:
            merge = Merge(graph, kept, gone)
            asked = [test for test in TESTS if test is not forgotten]
            is_later = all(merge.place[name] > merge.place[gone] for name in merge.readers)
            if is_later and all(not test(merge) for test in asked) and forgotten(merge):
                edit = graph.edit()
                _apply(edit, merge)
                return edit.commit()
    return graph


@wrong_pass("proved", "what is read by the same kernel is the same, whatever was written in between")
def forgets_writes_in_between(graph: Graph) -> Graph:
    return _merged(graph, changed_input)


@wrong_pass("proved", "nobody but the nodes of the graph looks at what they write")
def forgets_who_else_looks(graph: Graph) -> Graph:
    return _merged(graph, _write_whole_temporaries)


@wrong_pass("proved", "who reads a buffer reads what the last node wrote there, and nobody else writes it")
def forgets_other_uses(graph: Graph) -> Graph:
    return _merged(graph, _are_read_later)


@wrong_pass("proved", "the first result stays until all have read it")
def forgets_that_buffers_are_used_again(graph: Graph) -> Graph:
    return _merged(graph, _stay_until_read)
