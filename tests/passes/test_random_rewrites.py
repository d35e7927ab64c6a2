"""Random rewrites, right and wrong: certificates say what the laws say."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.edit import GraphEdit
from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.types import DependencyKind
from forerun.ir.verify import verify
from tests.passes.laws import lost_meaning
from tests.programs import Style, programs


@given(programs(Style(chain=True, most_nodes=5, events=True)), st.data())
def test_certificates_agree_with_the_laws_on_random_rewrites(graph: Graph, data: st.DataObject) -> None:
    edit = graph.edit()
    for source, target in combinations(graph, 2):
        kernels = isinstance(source, KernelNode) and isinstance(target, KernelNode)
        choices = ["keep", "keep", "drop", "full", *(["programmatic"] if kernels else [])]
        change_dependency(edit, source.name, target.name, data.draw(st.sampled_from(choices)))
    for node in graph:
        if isinstance(node, KernelNode) and graph.kernels[node.kernel].roles and data.draw(st.booleans()):
            kernel = graph.kernels[node.kernel]
            roles = tuple(replace(r, steps=tuple(data.draw(st.permutations(r.steps)))) for r in kernel.roles or ())
            edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, roles, "shuffled").name))
    after = edit.commit()
    if verify(after):
        return
    lost, verdict = lost_meaning(graph, after), certify(graph, after)
    event(f"{'wrong' if lost else 'right'}: {verdict.status}, changed: {after is not graph}")
    assert verdict.proved == (lost is None), (lost, verdict.findings)


def change_dependency(edit: GraphEdit, source: str, target: str, how: str) -> None:
    if how in ("full", "programmatic"):
        edit.set_dependency(Dependency(source, target, DependencyKind(how)))
    elif how == "drop" and edit.dependency(source, target) is not None:
        edit.remove_dependency(source, target)
