"""The verifier: every structural invariant of a graph. This list is the specification.

Each invariant has an identifier, a sentence here, and the function that checks it; all errors are collected. What a
graph *means* (races, draining) is the business of :mod:`forerun.ir.semantics`.
"""

from __future__ import annotations

from forerun.ir.analysis import Analysis
from forerun.ir.graph import Graph
from forerun.ir.verify import field_types, flow, kernels, lifetimes, memory, nodes, parameters, structure
from forerun.support.diagnostics import Diagnostic, InvalidInput

__all__ = ["RULES", "require_valid", "verify"]

RULES = {
    # structure.py
    "G1": "names are not empty",
    "G2": "both ends of a dependency are nodes of the graph",
    "G3": "dependencies form no cycle",
    "G4": "nodes are listed in launch order: no dependency points backwards",
    "G5": "programmatic and launch-order dependencies join two kernel nodes of one device",
    "G6": "bodies of child graphs and conditionals declare no tables of their own, and are valid graphs themselves",
    # field_types.py (checked before all else)
    "G7": "values have the form that their types declare: tuples, not lists; affine expressions with sorted terms",
    # memory.py
    "M1": "an allocation has at least one byte",
    "M2": "a buffer's allocation exists",
    "M3": "a buffer's bytes lie inside its allocation",
    "M4": "a buffer begins at a multiple of its element size",
    "M5": "a buffer's extents are positive",
    "M6": "buffers overlap only if both are temporaries, or both are of one role and read-only or state",
    "M7": "a page table or index pointer is an integer buffer of the graph, and pages have at least one row",
    "M8": "value bounds belong to integer buffers, are in order and fit the element type",
    "M9": "contents fill a plain weight of at most 65,536 bytes, are within its bounds, and are no other buffer's",
    "M10": "what ascends is a plain integer buffer that the caller gives, and its contents, if declared, do so",
    # kernels.py
    "K1": "names of parameters, roles and phases are unique in a kernel",
    "K2": "an access names a buffer parameter and has no more slices than it has dimensions",
    "K3": "a region's bounds use integer scalar parameters and dimension names only",
    "K4": "a phase's scalars are scalar parameters",
    "K5": "a local is given by one phase",
    "K6": "a local is taken after it is given: by its own role, or by another with a barrier in between",
    "K7": "all roles execute the same barriers in the same order",
    "K8": "a barrier's scope is 'cta' or 'grid'",
    "K9": "a kernel with a body has at least one role",
    "K10": "a role waits at most once",
    "K11": "an alignment is a power of two from the element size to 256 bytes",
    "K12": "what is declared of launches are numbers in order, with steps of at least one",
    # nodes.py
    "N1": "a kernel node's kernel exists",
    "N2": "arguments match the kernel's parameters, in order",
    "N3": "a buffer parameter is bound to a buffer of the graph of the same element type",
    "N4": "a bound buffer's shape fits the parameter's dimensions, and equal names have equal extents",
    "N5": "a scalar parameter is bound to a number of its type, or to an element of an integer buffer",
    "N6": "a region lies inside the bound buffer for every value that its scalars can have",
    "N7": "a launch is within the limits of the hardware",
    "N8": "the warps that a kernel's roles claim fit the block",
    "N9": "a copy's ends exist, have the same element type and number of elements, and constant regions in range",
    "N10": "a fill's elements are 1, 2 or 4 bytes wide, and the value fits them",
    "N11": "a host call names module:function and touches host memory only",
    "N12": "allocation and free nodes name an allocation; each is allocated and freed at most once, in this order",
    "N13": "a conditional's kind, number of bodies and condition fit: an integer buffer of the graph",
    "N14": "bodies of conditionals hold no event, allocation or free nodes, and nothing that runs on the host",
    "N15": "a bound buffer begins at a multiple of the alignment that its parameter declares",
    "N16": "a launch is one of those that its kernel accepts, if it says which",
    # parameters.py
    "N17": "constants of one name are one value of one type in the whole graph, and no region depends on them",
    # flow.py (checked once all else holds)
    "F1": "no node writes a weight",
    "F2": "a temporary is written before it is read",
    "F3": "every output is written",
    "F5": "no node may write a buffer whose contents are declared",
    "F6": "no node may write a buffer that ascends",
    # lifetimes.py (checked then, too)
    "F4": "memory that nodes allocate and free is used in between, and holds what need not outlive it",
}
"""Invariant by identifier; tests/ir/verify has a negative test for each."""


_TABLES = {"nodes", "kernels", "buffers", "allocations"}
_memory = Analysis({"buffers", "allocations"}, lambda graph: tuple(memory.check(graph)))
_kernels = Analysis({"kernels"}, lambda graph: tuple(kernels.check(graph)))
_structure = Analysis({*_TABLES, "dependencies"}, lambda graph: tuple(structure.check(graph)))
_nodes = Analysis(_TABLES, lambda graph: tuple(nodes.check(graph)))
_parameters = Analysis({"nodes", "kernels"}, lambda graph: tuple(parameters.check(graph)))
_flow = Analysis(_TABLES, lambda graph: (*flow.check(graph), *lifetimes.check(graph)))


def verify(graph: Graph) -> list[Diagnostic]:
    """All violations of the invariants, sorted by what they are about: memory, kernels, structure, nodes.

    The graph may be broken in any way. The codes are keys of :data:`RULES`.
    """
    malformed = list(field_types.check(graph))
    if malformed:
        return malformed
    found = [d for group in (_memory, _kernels, _structure, _nodes, _parameters) for d in group(graph)]
    return found or list(_flow(graph))


def require_valid(graph: Graph) -> None:
    """Raise if the graph is not valid.

    Raises:
        InvalidInput: With all diagnostics.
    """
    found = verify(graph)
    if found:
        count = "1 error" if len(found) == 1 else f"{len(found)} errors"
        raise InvalidInput(f"graph '{graph.name}' is not valid: {count}", tuple(found))
