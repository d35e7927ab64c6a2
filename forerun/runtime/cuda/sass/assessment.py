"""What the CUDA target knows better than a pass: whether a body survives the assembler. Needs no GPU."""

from __future__ import annotations

from collections.abc import Sequence

from forerun.ir.graph import Graph
from forerun.runtime.cuda.codegen.build import build_code
from forerun.runtime.cuda.sass.inspection import prove_code
from forerun.runtime.toolchain import missing_toolchain
from forerun.support.diagnostics import ForerunError

__all__ = ["assess"]


def assess(candidates: Sequence[Graph], arch: str) -> tuple[int, str]:
    """Choose the first graph that compiles, spills no registers, and keeps the order of its bodies.

    The candidates are valid and mean the same, strongest first; the last is taken if no other is fit.

    Returns:
        Its number, and what is wrong with the one before it.
    """
    if missing_toolchain() is not None:
        return 0, "no toolchain to assess it with"
    reason = "nothing is wrong with it"
    for number, candidate in enumerate(candidates[:-1]):
        wrong = _unfitness(candidate, arch)
        if not wrong:
            return number, reason
        reason = wrong
    return len(candidates) - 1, reason


def _unfitness(graph: Graph, arch: str) -> str:
    """Why a graph's machine code is not what is wanted; empty if it is."""
    try:
        code = build_code(graph, arch)
    except ForerunError as error:
        return f"it cannot be compiled: {error.message}"
    for unit, facts in zip(code.units, code.entries, strict=True):
        if facts is not None and facts.spill_store_bytes:
            return f"'{unit.entry}' spills {facts.spill_store_bytes} bytes of registers a thread"
    for proof in prove_code(graph, code).values():
        if proof.findings:
            return f"kernel '{proof.kernel}': {proof.findings[0].message}"
    return ""
