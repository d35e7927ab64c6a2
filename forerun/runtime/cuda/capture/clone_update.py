"""Makes a clone of a captured graph one of another capture, in the cheapest way that is exact.

The driver's whole-graph update may keep a node's old cluster and other attributes, and report success; and functions
of other code may bring attributes that nobody can read. So where these differ nothing is updated. There are no getters
for the nodes of an executable either: the capture that a clone was last made from is the record of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from forerun.ir.graph import Graph
from forerun.ir.types import DependencyKind
from forerun.runtime.cuda.capture.clone import Clone, CloneForm, identity_of, made_graph, require_cloneable
from forerun.runtime.cuda.capture.clone_edges import without
from forerun.runtime.cuda.capture.comparison import CALL_ASPECTS, GRAPH_ASPECTS, TEXT
from forerun.runtime.cuda.capture.kernel_parameters import KernelCall
from forerun.runtime.cuda.capture.session import LiveCapture
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.driver.scope import Scope
from forerun.runtime.plans.difference import Difference
from forerun.runtime.plans.updatable import Way

__all__ = ["can_be_set", "update_clone"]

_WHOLE = "copies, fills, host functions and child graphs cannot be set one by one"


def update_clone(
    clone: Clone,
    live: LiveCapture,
    form: CloneForm,
    difference: Difference,
    parameters: Mapping[str, tuple[bytes, ...]],
) -> tuple[Way, str]:
    """Become a clone of another capture, without being instantiated again; all of it, or nothing.

    Args:
        clone: A clone that is open.
        live: The other capture.
        form: How a clone of that is to differ from it.
        difference: How the other capture differs from the clone's.
        parameters: What nodes of the clone have at present, by their names, where that is not what was captured.

    Returns:
        The way, and why it was no cheaper one. ``Way.INSTANTIATED`` says that another clone must be made.

    Raises:
        InvalidInput: If the other capture's graph was reset.
        Unsupported: If no clone of it may be made.
    """
    require_cloneable(live, form)
    identity = identity_of(live.source)
    reason = _why_anew(clone.form, form, difference)
    if reason:
        return Way.INSTANTIATED, reason
    gone = {form.names[number] for number in form.folded}
    changes = [change for change in difference.nodes if change.path not in gone and set(change.aspects) != {TEXT}]
    nodes = dict.fromkeys([change.path for change in changes if not change.is_inner])
    if any(change.is_inner or not GRAPH_ASPECTS.isdisjoint(change.aspects) for change in changes):
        found = _update_whole(clone, live, form)
    elif nodes or form.folded != clone.form.folded:
        # What the program named and set is the program's word no more: its graph changed.
        found = _update_calls(clone, live, form, dict.fromkeys([*nodes, *parameters]), parameters)
    else:
        found = Way.REUSED, ""
    if found[0] is not Way.INSTANTIATED:
        clone.live, clone.form, clone.identity = live, form, identity
        clone.is_written = clone.is_written and found[0] is Way.REUSED
    return found


def _why_anew(old: CloneForm, new: CloneForm, difference: Difference) -> str:
    """Why only a new executable is exact; empty if an update may do."""
    if difference.structure:
        return "nodes and edges are not those of the executable"
    for change in difference.nodes:
        kept = next((aspect for aspect in change.aspects if not can_be_set(aspect)), "")
        if kept:
            return f"an update could keep the old {kept} of {change.path}"
    for name in new.names:
        if old.codes.get(name) != new.codes.get(name):
            return f"{name} gets other code"
    if old.folded.keys() != new.folded.keys():
        return "other copies are left out"
    first, second = (_kinds(form) for form in (old, new))
    if first != second:
        pair = next(pair for pair in {**first, **second} if first.get(pair) is not second.get(pair))
        return f"the proof gives another edge from {pair[0]} to {pair[1]}"
    return ""


def can_be_set(aspect: str) -> bool:
    """Whether an update can set what differs of a node, as a difference of captures names it."""
    return aspect in CALL_ASPECTS or aspect in GRAPH_ASPECTS or aspect == TEXT or aspect.startswith("parameter ")


def _kinds(form: CloneForm) -> Mapping[tuple[str, str], DependencyKind]:
    """The kind of each edge of a clone."""
    after: Graph = without(form.after, [form.names[number] for number in form.folded]) if form.folded else form.after
    return {dependency.pair: dependency.kind for dependency in after.dependencies}


def _update_calls(
    clone: Clone,
    live: LiveCapture,
    form: CloneForm,
    nodes: Collection[str],
    parameters: Mapping[str, tuple[bytes, ...]],
) -> tuple[Way, str]:
    """Set what some kernel nodes launch."""
    calls: dict[str, tuple[KernelCall, KernelCall]] = {}
    for name in nodes:
        node = live.graph.nodes[form.numbers[name]]
        before = clone.call(name, parameters.get(name))
        function: Any = before.function if name in form.codes else live.handles.functions[node.function]
        calls[name] = before, KernelCall(function, node, node.parameters)
    try:
        clone.set_calls(calls)
    except CudaError as error:
        return Way.INSTANTIATED, f"the driver refused what nodes are to launch ({error.code})"
    return Way.PARAMETERS, ""


def _update_whole(clone: Clone, live: LiveCapture, form: CloneForm) -> tuple[Way, str]:
    """``cuGraphExecUpdate`` with a graph that is made for this, and not kept."""
    scope = Scope(live.driver)
    try:
        graph, _ = made_graph(live, form, clone.functions, scope)
        error, *_ = live.driver.function("cuGraphExecUpdate")(clone.executable, graph)
    finally:
        scope.release()
    if error:
        return Way.INSTANTIATED, f"the driver refused to update the graph ({getattr(error, 'name', error)})"
    return Way.WHOLE_GRAPH, _WHOLE
